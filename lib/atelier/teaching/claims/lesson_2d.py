"""The claims that lesson 2d measures, with their rules."""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "vq-discrete": Claim(
        "The latent space is discrete.",
        source="True by construction: the layer outputs nothing but rows of the codebook (van den Oord et al. 2017, "
        "arXiv:1711.00937, section 3.1).",
    ),
    "vq-no-morphs": Claim(
        "No “morphed” outputs.",
        rules=(
            Rule(
                "frames between two sprites (25 to 75 % of the way) that the judge calls none, VQ-VAE with 384 bits",
                0.05,
                above=False,
            ),
            Rule.of_difference("frames called none, VQ-VAE minus VAE, both with 384 bits", above=False),
            Rule.of_difference("frames called none, VQ-VAE minus VAE, both with 96 bits", above=False),
        ),
    ),
    "vq-dimensions": Claim(
        "Latent space has same dimensions as codebook.",
        source="True by construction for each cell: its vector is a row of the codebook (van den Oord et al. 2017, "
        "arXiv:1711.00937, section 3.1). The latent of a picture is a grid of such vectors.",
    ),
    "vq-posterior": Claim(
        "q(z = e_k | x) = 1 if k = arg min_i ‖z_e(x) − e_i‖₂, else 0",
        source="A definition, not a finding: equation 1 of van den Oord et al. 2017 (arXiv:1711.00937).",
    ),
    "vq-prior": Claim(
        "With a prior over its codes, a VQ-VAE generates pictures.",
        rules=(
            Rule("samples of the prior in which the judge recognises a subject", 0.5),
            Rule.of_difference("samples recognised, the prior minus each cell's own frequencies of codes"),
            Rule("effective number of the six kinds among the recognised samples", 5, unit="kinds", least=1, most=6),
        ),
    ),
    "vq-collapse": Claim(
        "Without normalisation of z_e, a codebook uses only a few of its dimensions.",
        rules=(
            Rule(
                "effective dimensions of a codebook of width 16, z_e as it is",
                8,
                above=False,
                unit="",
                least=1,
                most=16,
            ),
            Rule.of_number("effective dimensions, z_e as it is minus z_e whitened", 0, above=False, least=-15),
        ),
    ),
}
