"""The claims that lesson 4 measures, with their rules."""

from __future__ import annotations

from atelier.teaching.claims.claim import Claim, Rule

CLAIMS: dict[str, Claim] = {
    "clip-pairs": Claim(
        "CLIP is a neural network trained on a variety of (image, text) pairs",
        source="How the published CLIP was trained: on 400 million pairs from the web (Radford and others, 2021, "
        "“Learning transferable visual models from natural language supervision”, section 2.2).",
    ),
    "clip-instructed": Claim(
        "It can be instructed in natural language to predict the most relevant text snippet, given an image "
        "(and vice versa), without directly optimizing for the task",
        rules=(
            Rule.of_difference(
                "held-out pictures whose caption is found among 64, trained minus untrained CLIP", threshold=0.5
            ),
            Rule.of_difference(
                "held-out captions whose picture is found among 64, trained minus untrained CLIP", threshold=0.5
            ),
        ),
    ),
    "clip-gpt": Claim(
        "CLIP is thus similar to the zero-shot capabilities of GPT-2 and 3",
        source="A comparison by CLIP's authors (Radford and others, 2021, section 1) with GPT-2 (Radford and others, "
        "2019) and GPT-3 (Brown and others, 2020); no GPT is measured here.",
    ),
    "clip-resnet50": Claim(
        "CLIP matches the performance of the original ResNet50 on ImageNet “zero-shot” without using any of "
        "the original 1.28M labeled examples",
        source="A result on ImageNet, which is not part of the course: 76.2 % for both (Radford and others, 2021, "
        "section 3.1.3).",
    ),
    "clip-downstream": Claim(
        "Contrastive pre-training is a type of self-supervised learning technique to learn representations of"
        " data that are useful for downstream tasks, such as image classification or natural language "
        "processing.",
        rules=(
            Rule.of_difference(
                "subjects that its captions name, recognised by a probe on 64 pictures of each, CLIP's features minus "
                "those of random weights",
                threshold=0.05,
            ),
            Rule.of_difference("the same for subjects that its captions never name", threshold=0.05),
        ),
    ),
    "clip-ranks": Claim(
        "CLIP to Rank Images by Relevance",
        rules=(
            Rule.of_difference(
                "held-out captions with all four facts in the picture, CLIP's best of nine minus a random one, drawn "
                "as the preset does"
            ),
            Rule.of_difference("the same, drawn without guidance at temperature 1"),
        ),
    ),
    "clip-scores": Claim(
        "Relevance Scores: sunset over a lake in the mountains, 31.59, 31.45, 30.44",
        rules=(
            Rule.of_difference(
                "drawings that score higher with their own caption than with one changed fact, trained minus untrained "
                "CLIP",
                threshold=0.25,
            ),
        ),
    ),
}
