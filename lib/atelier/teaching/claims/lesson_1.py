"""The claims that lesson 1 measures, with their rules.

Prompts that name four things, held-out combinations among them, are drawn with one seed and one way of sampling; one
block is removed at a time, and nothing else changes. A picture is right if the judge finds all four things in it. The
units of the intervals are the prompts, with nine pictures each.
"""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

NEEDED = 0.5  # a block is needed if without it most pictures are no longer right
PAINTER = Rule.of_difference("right, the whole machine minus the machine without the VQ-GAN's painter", NEEDED)

CLAIMS: dict[str, Claim] = {
    "blocks-three": Claim(
        "Building Blocks of Dall.E Mini: BART-based Encoder-Decoder, VQ-GAN, CLIP",
        (
            Rule.of_difference("right, the whole machine minus the machine whose BART reads nothing", NEEDED),
            PAINTER,
            Rule.of_difference("right, the picture that CLIP chooses among nine minus a random one of the nine"),
        ),
    ),
    "blocks-vqgan": Claim(
        "VQ-GAN: Decodes caption embeddings into Images",
        (PAINTER, Rule("prompts whose painter gets vectors that are not rows of its own codebook", 0.5)),
    ),
    "blocks-clip": Claim(
        "CLIP: Evaluates caption-image relevance",
        (
            Rule("a right picture gets a higher score than a wrong one of the same prompt (by chance 50 %)", 0.75),
            Rule.of_difference("the same share, scored with the prompt minus scored with another prompt"),
        ),
    ),
}
