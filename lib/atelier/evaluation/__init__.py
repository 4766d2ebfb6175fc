"""Evaluation: measurements of trained models, and the model cards that report them."""
