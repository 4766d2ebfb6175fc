"""Weights and what belongs to them: presets, tokenizers, loading and saving, converters of the published formats."""
