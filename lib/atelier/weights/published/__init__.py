"""The published weights, each format read by a module of its own, strictly: every number finds its place, or none."""
