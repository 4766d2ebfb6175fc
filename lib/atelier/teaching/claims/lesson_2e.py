"""The claims that lesson 2e measures, with their rules."""

from __future__ import annotations

import math

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "vqgan-used": Claim(
        "Dall.E Mini uses a variant of GANs called VQ-GANs.",
        source="Published: Dayma et al. 2021, “DALL·E Mini” (doi:10.5281/zenodo.5146400), whose decoder is the VQ-GAN "
        "of Esser, Rombach and Ommer 2021 (arXiv:2012.09841).",
    ),
    "vqgan-sharper": Claim(
        "At the same rate and after the same training, the discriminator makes the pictures sharper.",
        rules=(
            Rule(
                "distance of the fine energy from that of painted pictures, with the discriminator (weight 0.8) minus "
                "without", 0,
                above=False, unit="points", least=-math.inf, most=math.inf,
            ),
            Rule.of_number(
                "Fréchet distance to painted pictures, with the discriminator divided by without", 1, above=False,
                least=0,
            ),
        ),
    ),
}  # fmt: skip
