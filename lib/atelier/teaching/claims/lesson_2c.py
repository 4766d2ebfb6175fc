"""The claims that lesson 2c measures, with their rules."""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    # Two latent numbers cannot answer the question: any 27 combinations that share a plane leave few gaps in it.
    "vae-unit-normal": Claim(
        "The latent space is more cohesive – resembles the unit norm.",
        rules=(
            Rule(
                "latents of 16 numbers told from random points of N(0, I) by a classifier (50 % is chance)",
                0.75,
                above=False,
            ),
            Rule.of_difference(
                "random points recognised with 16 numbers, VAE from N(0, I) minus autoencoder from its own normal fit",
                0.1,
            ),
            Rule.of_number("kinds kept of six, VAE minus autoencoder", -0.5, least=-6.0),
        ),
    ),
    # A point is in an overlap if no kind has more than 90 % of the density of the clouds there; otherwise it is clear.
    # "Between two kinds": 10 to 90 % of the way from the mean picture of one kind whose clouds reach the point to that
    # of the other.
    "vae-morphs": Claim(
        "Overlapping regions produce “morphed” images.",
        rules=(
            Rule.of_difference("random points recognised by the judge, clear points minus overlaps", 0.25),
            Rule.of_difference("decoded pictures between two kinds, overlaps minus clear points", 0.5),
        ),
    ),
}
