"""The claims that lesson 2a measures, with their rules.

The units of the intervals are trainings with different seeds. A generator draws what the judge recognises in at least
half of its pictures; a kind is drawn if at least 1 % of the pictures are recognised as it.
"""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "gan-sharpens": Claim(
        "Vanilla GAN: the two networks' game teaches the generator to draw.",
        (Rule.of_difference("pictures recognised, after the game minus with a discriminator that never learns", 0.5),),
    ),
    "gan-collapses": Claim(
        "A vanilla GAN may draw only some of what it was shown (mode collapse).",
        (
            Rule("pictures recognised, without spectral normalisation", 0.5),
            Rule.of_number("kinds drawn, with spectral normalisation minus without", 0.5, unit="kinds"),
        ),
    ),
}
