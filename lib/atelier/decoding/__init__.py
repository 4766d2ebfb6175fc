"""Decoding: Bart writes the codes of a picture, one after the other."""

from atelier.decoding.decode import decode
from atelier.decoding.sampling import Sampling, SamplingOptions, pick, probabilities, uniform_numbers

__all__ = ["Sampling", "SamplingOptions", "decode", "pick", "probabilities", "uniform_numbers"]
