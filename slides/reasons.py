"""One line for each plate that does not say "holds": why a claim does not hold, is undecided, or cannot be tested here.

A reason is written for one verdict. If the lessons measure another one, the plate shows the bare numbers instead, and a
test asks for a new reason. Numbers are not typed: {value0} is the value of the claim's first rule, {low0} and {high0}
are the ends of its interval, {limit0} is its threshold and {sampled0} what was sampled, as in notebooks/CLAIMS.md.
"""

from __future__ import annotations

import re

from atelier.teaching.claims import HOLDS

REASONS: dict[str, tuple[str, str]] = {  # key of a claim → the verdict, and the reason for it
    "blocks-vqgan": ("does not hold", "It decodes rows of its own codebook and never sees the caption."),
    "gan-sharpens": (
        "undecided",
        "The game adds {value0}, but the interval begins at {low0}, below the limit of {limit0}.",
    ),
    "ae-loss": ("not testable here", "A definition: one number, written in three ways."),
    "vq-posterior": ("not testable here", "A definition: equation 1 of the VQ-VAE paper."),
    "vq-dimensions": ("not testable here", "True by construction: a cell’s vector is a row of the codebook."),
    "vq-discrete": ("not testable here", "True by construction: only rows of the codebook come out."),
    "vq-no-morphs": (
        "does not hold",
        "In {value0} of the frames half-way the judge sees no sprite; the limit is {limit0}.",
    ),
    "clip-pairs": ("not testable here", "This is how the published CLIP was trained; it is cited."),
    "clip-gpt": ("not testable here", "A comparison by CLIP’s authors; no GPT is measured here."),
    "clip-resnet50": ("not testable here", "Their result on ImageNet, with their largest CLIP; it is cited."),
    "clip-downstream": (
        "does not hold",
        "Only for subjects that the captions name; for others the gain is {value1}.",
    ),
    "any-prompt": ("does not hold", "Of prompts from a world twice as large, {value0} are drawn as asked."),
}
MEASURED = re.compile(
    r"(?P<value>-?[\d.]+(?: [^\d;]+?)?); the interval from (?P<low>.+?) to (?P<high>.+?) \((?P<sampled>.+?)\) lies "
    r"(?:above|below|on both sides of) (?P<limit>.+?)\.(?= |$)"
)


def numbers_of(measurement: str) -> dict[str, str]:
    """The numbers of a claim's measurement in CLAIMS.md: value0, low0, high0, sampled0, limit0, value1, …"""
    found = {}
    for place, rule in enumerate(MEASURED.finditer(measurement)):
        found |= {f"{name}{place}": text.replace("-", "−") for name, text in rule.groupdict().items()}
    return found


def reason(key: str, measurement: str, verdict: str) -> str:
    """The line for a plate.

    Args:
        key: of the claim.
        measurement, verdict: of it, as in CLAIMS.md.

    Returns:
        "" if the claim holds. If the reason was written for another verdict, the numbers of the first rule.
    """
    if verdict == HOLDS:
        return ""
    numbers = numbers_of(measurement)
    written_for, words = REASONS.get(key, ("", ""))
    if written_for == verdict:
        return words.format(**numbers)
    if "value0" in numbers:
        return "Measured: {value0} ({low0} to {high0}); the limit is {limit0}.".format(**numbers)
    return ""
