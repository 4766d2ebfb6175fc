"""Decoding: Bart generates the codes of a picture one after the other."""

from atelier.decoding.decode import decode
from atelier.decoding.graphs import DecodingSteps
from atelier.decoding.sampling import Sampling, SamplingOptions, probabilities, sample_codes, uniform_numbers

__all__ = ["DecodingSteps", "Sampling", "SamplingOptions", "decode", "probabilities", "sample_codes", "uniform_numbers"]
