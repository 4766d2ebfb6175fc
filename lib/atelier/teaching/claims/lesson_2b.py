"""The claims that lesson 2b measures, with their rules."""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "ae-loss": Claim(
        "loss = ‖x − x̂‖₂ = ‖x − d_φ(e_θ(x))‖₂",
        source="A definition: the three expressions are one number written in three ways. Deep autoencoders were "
        "trained with a reconstruction loss by Hinton and Salakhutdinov (2006), doi.org/10.1126/science.1127647.",
    ),
    # A point is in a gap if it is further from every sprite's latent than 99 % of the latents are from their nearest
    # neighbour. The control has as many points as there are latents, from a normal distribution with their mean and
    # covariance: the same spread without gaps.
    "ae-gaps": Claim(
        "The latent space is discontinuous and has significant “gaps”.",
        rules=(
            Rule.of_difference("random points that lie in a gap, sprites' latents minus normal control", 0.25),
            Rule.of_difference(
                "straight lines between two latents that cross a gap, sprites' latents minus normal control", 0.5
            ),
            Rule.of_difference("decoded random points recognised by the judge, outside gaps minus in gaps", 0.25),
        ),
    ),
}
