"""Presets, tokenizers, stored weights, and the conversion of the published models."""
