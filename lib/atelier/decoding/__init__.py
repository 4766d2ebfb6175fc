"""Decoding: a translator writes the codes of a picture, one after the other."""

from atelier.decoding.decode import decode
from atelier.decoding.sampling import Sampling, SamplingOptions, dice, pick, probabilities

__all__ = ["Sampling", "SamplingOptions", "decode", "dice", "pick", "probabilities"]
