"""Evaluation: what trained models can do, in numbers, and the model cards that state it."""
