"""Readers of the published weights, one module for each format; a file must fill its model exactly or is refused."""
