"""The claims of the slides, and the verdicts of the lessons on them.

`CLAIMS` has every claim of the session's slides, word for word. A cell of a lesson measures a claim and ends in a call
of `verdict`; `make notebooks` collects the verdicts in notebooks/CLAIMS.md.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from IPython.display import display

HOLDS, NOT_QUITE, FAILS = "holds", "not quite", "does not hold"
METADATA = "atelier_claim"  # the key of a verdict in the metadata of a cell's output


@dataclass(frozen=True)
class Claim:
    """A claim that a lesson measures.

    Attributes:
        words: the sentence of the slides, or of the course about them.
        lesson: key of the lesson that measures it.
    """

    words: str
    lesson: str


CLAIMS: dict[str, Claim] = {
    "blocks-three": Claim("Building Blocks of Dall.E Mini: BART-based Encoder-Decoder, VQ-GAN, CLIP", "1"),
    "blocks-vqgan": Claim("VQ-GAN: Decodes caption embeddings into Images", "1"),
    "blocks-clip": Claim("CLIP: Evaluates caption-image relevance", "1"),
    "gan-sharpens": Claim("Vanilla GAN: the two networks' game teaches the generator to draw.", "2a"),
    "gan-collapses": Claim("A vanilla GAN may draw only some of what it was shown (mode collapse).", "2a"),
    "ae-loss": Claim("loss = ‖x − x̂‖₂ = ‖x − d_φ(e_θ(x))‖₂", "2b"),
    "ae-gaps": Claim("The latent space is discontinuous and has significant “gaps”.", "2b"),
    "vae-unit-normal": Claim("The latent space is more cohesive – resembles the unit norm.", "2c"),
    "vae-morphs": Claim("Overlapping regions produce “morphed” images.", "2c"),
    "vq-discrete": Claim("The latent space is discrete.", "2d"),
    "vq-no-morphs": Claim("No “morphed” outputs.", "2d"),
    "vq-dimensions": Claim("Latent space has same dimensions as codebook.", "2d"),
    "vq-posterior": Claim("q(z = e_k | x) = 1 if k = arg min_i ‖z_e(x) − e_i‖₂, else 0", "2d"),
    "vqgan-sharper": Claim("Dall.E Mini uses a variant of GANs called VQ-GANs.", "2e"),
    "bart-cleans": Claim("A BART model is pre-trained to “clean” text captions.", "3"),
    "bart-embeds": Claim("BART-based Encoder-Decoder: Encodes captions as embedding vectors", "3"),
    "bart-translates": Claim("For Dall.E Mini, the BART model translates captions into the codebook vocabulary.", "3"),
    "bart-codebook-maps": Claim("The codebook of VQ-GAN, in effect, maps text embeddings to image embeddings.", "3"),
    "clip-pairs": Claim("CLIP is a neural network trained on a variety of (image, text) pairs", "4"),
    "clip-instructed": Claim(
        "It can be instructed in natural language to predict the most relevant text snippet, given an image (and vice "
        "versa), without directly optimizing for the task",
        "4",
    ),
    "clip-gpt": Claim("CLIP is thus similar to the zero-shot capabilities of GPT-2 and 3", "4"),
    "clip-resnet50": Claim(
        "CLIP matches the performance of the original ResNet50 on ImageNet “zero-shot” without using any of the "
        "original 1.28M labeled examples",
        "4",
    ),
    "clip-downstream": Claim(
        "Contrastive pre-training is a type of self-supervised learning technique to learn representations of data "
        "that are useful for downstream tasks, such as image classification or natural language processing.",
        "4",
    ),
    "clip-ranks": Claim("CLIP to Rank Images by Relevance", "4"),
    "clip-scores": Claim("Relevance Scores: sunset over a lake in the mountains, 31.59, 31.45, 30.44", "4"),
    "pipeline-joined": Claim("Piecing the blocks together. The Dall.E Mini Text-to-Image Pipeline.", "5"),
    "any-prompt": Claim("AI model drawing images from any prompt!", "5"),
}


class MeasuredClaim:
    """A claim with its measurement and verdict, as the output of a notebook's cell.

    Args:
        key: of CLAIMS.
        outcome: HOLDS, NOT_QUITE or FAILS.
        figures: the numbers, in a sentence or two.
    """

    def __init__(self, key: str, outcome: str, figures: str):
        self.key, self.outcome, self.figures = key, outcome, figures

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        words = CLAIMS[self.key].words
        colour = {HOLDS: "#00704F", NOT_QUITE: "#8A5A00", FAILS: "#B42318"}[self.outcome]
        markup = (
            f'<div style="border-left: 4px solid {colour}; padding: .4em .8em; margin: .4em 0">'
            f"<i>{html.escape(words)}</i><br>{html.escape(self.figures)}<br>"
            f'<b style="color: {colour}">{self.outcome}</b></div>'
        )
        plain = f"{words}\n{self.figures}\n→ {self.outcome}"
        facts = {"claim": self.key, "outcome": self.outcome, "figures": self.figures}
        return {"text/html": markup, "text/plain": plain}, {METADATA: facts}


def verdict(key: str, outcome: str, figures: str) -> None:
    """Display a claim with its measurement.

    Args:
        key: of CLAIMS.
        outcome: "holds", "not quite" or "does not hold", as the numbers of the cell show.
        figures: the numbers, with their units, in a sentence or two.

    Raises:
        ValueError: there is no such claim or no such outcome.
    """
    if key not in CLAIMS:
        raise ValueError(f"There is no claim {key!r}; there are {', '.join(CLAIMS)}.")
    if outcome not in (HOLDS, NOT_QUITE, FAILS):
        raise ValueError(f"The outcome is {outcome!r}; it must be {HOLDS!r}, {NOT_QUITE!r} or {FAILS!r}.")
    display(MeasuredClaim(key, outcome, figures))
