"""Measure a preset: does the picture show what the prompt says?

A judge, a classifier that knows every combination of the painted world, looks at what the pipeline draws for captions
that state all four attributes. It takes no part in training or ranking. Held-out captions name a combination that the
pipeline has never seen. Shares are from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import comb

import torch
from torch import Tensor

from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.vqgan import VQGAN
from atelier.decoding import SamplingOptions
from atelier.drawing.pipeline import Pipeline
from atelier.training.metrics import psnr
from atelier.weights.presets import Preset
from atelier.world import HELD_OUT, HeldOut, Scene, World, caption, named_world, paint

ATTRIBUTES = ("subject", "setting", "colour", "style")
SEED = 20_000_000  # far from the seeds of training: scenes of their own
CHOICES = (1, 2, 4, 9, 16)  # pictures among which CLIP chooses the best; one is no choice
RANKED = 200  # most captions of each kind for the worth of ranking: sixteen pictures each, drawn in two ways
KINDS: dict[str, HeldOut] = {"seen": "never", "held_out": "only"}
FREE: SamplingOptions = {"guidance": 1.0, "temperature": 1.0}  # the translator's own distribution, errors and all
Report = Callable[[str, int, int], None]  # (what is measured, how much is done, of how much)


@dataclass(frozen=True)
class Shares:
    """How often the judge finds what the caption says: each attribute, and all four at once.

    The first five are for one picture, `all_best_of_9` is for the one of nine that CLIP puts first.
    """

    subject: float
    setting: float
    colour: float
    style: float
    all: float
    all_best_of_9: float


@dataclass(frozen=True)
class Novelty:
    """Captions whose one combination, subject with setting, colour or style, was held out of training.

    attribute: how often one picture shows what was held out with the subject (the blue of the blue strawberry).
    together: how often it shows the subject as well.
    """

    attribute: float
    together: float


@dataclass(frozen=True)
class Retrieval:
    """Share of pictures whose own caption CLIP finds among 64, for scenes like those of training and held-out ones."""

    seen: float
    held_out: float


@dataclass(frozen=True)
class Evaluation:
    """What `atelier evaluate` reports; psnr in decibels, codes_used as a share of the codebook.

    ranking: what choosing by CLIP is worth, {"seen" or "held_out": {"preset" or "free": {choices: share}}}: how often
    all four attributes are there in a picture picked by chance (choices "1"), and in CLIP's first of 2, 4, 9 and 16.
    The pictures are sampled as the preset does, or freely, from the translator's own distribution.
    novel: held-out captions by the attribute whose combination with the subject is new, {attribute: Novelty}.
    judge: the judge's own accuracy on painted pictures, {pixels: {attribute: share}}; reconstructed: on
    reconstructions of painted pictures, {attribute: share}.
    """

    seen: Shares
    held_out: Shares
    psnr: float
    codes_used: float
    clip_retrieval: Retrieval
    novel: dict[str, Novelty]
    judge: dict[str, dict[str, float]]
    reconstructed: dict[str, float]
    ranking: dict[str, dict[str, dict[str, float]]]

    def as_dict(self) -> dict:
        """As plain numbers, for JSON."""
        return asdict(self)


def evaluate(
    preset: Preset, pipeline: Pipeline, prompts: int = 500, pictures: int = 1000, report: Report = lambda *_: None
) -> Evaluation:
    """Measure a preset on its painted world.

    Args:
        preset: says which world, and has the judge.
        pipeline: of the same preset.
        prompts: captions of each kind, seen and held out, nine pictures each.
        pictures: painted pictures for reconstruction and for the judge itself.
        report: called with progress.
    """
    world, judge = judged_world(preset), preset.load_classifier("judge").to(pipeline.device)
    psnr, codes_used, reconstructed = reconstruction(pipeline.vqgan, judge, world, pictures, report)
    seen, _ = drawn(pipeline, judge, world, "never", prompts, report)
    held_out, novel = drawn(pipeline, judge, world, "only", prompts, report)
    found = (retrieval(pipeline, world, kind, report=report) for kind in ("never", "only"))
    return Evaluation(
        seen=seen,
        held_out=held_out,
        psnr=psnr,
        codes_used=codes_used,
        clip_retrieval=Retrieval(*found),
        novel=novel,
        judge={str(size): judge_accuracy(judge, world, size, pictures) for size in (64, 128)},
        reconstructed=reconstructed,
        ranking={
            name: ranking(pipeline, judge, world, kind, min(prompts, RANKED), report) for name, kind in KINDS.items()
        },
    )


def judged_world(preset: Preset) -> World:
    """The painted world that a preset is measured on.

    Raises:
        ValueError: the preset was not trained on a painted world, or its judge knows other names than that world has.
    """
    world = named_world(preset.world)
    judge = preset.classifier
    if judge is None or {name: tuple(values) for name, values in judge.attributes.items()} != world.attributes:
        raise ValueError(f"The judge of {preset.name} knows other names than its world has; train it again.")
    return world


@torch.no_grad()
def told(judge: PictureClassifier, world: World, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Which attributes the judge finds as the scenes have them: pictures (n, 3, h, w) → (n, 4) bool."""
    logits = judge(pictures)
    labels = [world.labels(scene) for scene in scenes]
    columns = []
    for attribute in ATTRIBUTES:
        expected = torch.tensor([label[attribute] for label in labels], device=pictures.device)
        columns.append(logits[attribute].argmax(1) == expected)
    return torch.stack(columns, dim=1)


def drawn(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    held_out: HeldOut,
    prompts: int,
    report: Report = lambda *_: None,
) -> tuple[Shares, dict[str, Novelty]]:
    """Shares for nine pictures of each of so many complete captions, and what was drawn of held-out combinations."""
    scenes = world.sample(prompts, SEED, held_out=held_out, complete=True)
    what = "held-out captions" if held_out == "only" else "seen captions"
    found = looked_at(pipeline, judge, world, scenes, 9, {}, lambda *done: report(what, *done))
    whole = found.prod(2)  # (prompts, 9)
    shares = Shares(*found.mean((0, 1)).tolist(), all=float(whole.mean()), all_best_of_9=float(whole[:, 0].mean()))
    return shares, novelty(scenes, found)


def looked_at(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    scenes: Sequence[Scene],
    n: int,
    how: SamplingOptions,
    report: Callable[[int, int], None],
) -> Tensor:
    """What the judge finds in n pictures of each scene's caption: (scenes, n, 4), 1 or 0, CLIP's first one first."""
    right = []
    for start in range(0, len(scenes), 10):
        report(start, len(scenes))
        some = scenes[start : start + 10]
        drawings = pipeline.draw([caption(scene, complete=True) for scene in some], n=n, seed=SEED + start, **how)
        groups = zip(some, drawings, strict=True)
        right += [told(judge, world, drawing.pictures, [scene] * n).float().cpu() for scene, drawing in groups]
    report(len(scenes), len(scenes))
    return torch.stack(right)


def ranking(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    held_out: HeldOut,
    prompts: int,
    report: Report = lambda *_: None,
) -> dict[str, dict[str, float]]:
    """What ranking is worth for so many complete captions, {"preset" or "free": {choices: share}}: see `Evaluation`."""
    scenes = world.sample(prompts, SEED, held_out=held_out, complete=True)
    ways: dict[str, SamplingOptions] = {"preset": {}, "free": FREE}
    curves = {}
    for name, how in ways.items():
        what = f"ranking, {'held-out' if held_out == 'only' else 'seen'} captions, {name}"
        found = looked_at(
            pipeline, judge, world, scenes, CHOICES[-1], how, lambda *done, what=what: report(what, *done)
        )
        curves[name] = best_of(found.prod(2))
    return curves


def best_of(right: Tensor) -> dict[str, float]:
    """How often the best-ranked picture of k is right, {k: share} for k of CHOICES.

    The mean over all choices of k pictures out of those drawn: the picture in place r is the best of comb(n - 1 - r,
    k - 1) of them. So the same pictures serve every k, and none of the difference between two k is chance.

    right: (prompts, n), 1 or 0, the best-ranked picture first, n at least the largest of CHOICES.
    """
    n, shares = right.shape[1], right.double().mean(0)  # (n,)
    weights = {k: [comb(n - 1 - place, k - 1) / comb(n, k) for place in range(n)] for k in CHOICES}
    return {str(k): float(shares @ shares.new_tensor(row)) for k, row in weights.items()}


def novelty(scenes: Sequence[Scene], found: Tensor) -> dict[str, Novelty]:
    """What was drawn of held-out combinations, by attribute; found is (prompts, pictures, 4)."""
    news = [(i, a) for i, s in enumerate(scenes) for t, a, v in HELD_OUT if t == s.subject and getattr(s, a) == v]
    result = {}
    for number, attribute in enumerate(ATTRIBUTES):
        rows = [row for row, name in news if name == attribute]
        if rows:
            new = found[rows][..., number]
            result[attribute] = Novelty(float(new.mean()), float((new * found[rows][..., 0]).mean()))
    return result


@torch.no_grad()
def reconstruction(
    vqgan: VQGAN, judge: PictureClassifier, world: World, pictures: int, report: Report = lambda *_: None
) -> tuple[float, float, dict[str, float]]:
    """Mean PSNR in decibels, share of codes used, and what the judge still finds, on fresh pictures."""
    device = next(vqgan.parameters()).device
    scenes = world.sample(pictures, SEED + 1, held_out="allowed", complete=True)
    decibels, used, right = [], torch.zeros(vqgan.config.codes, dtype=torch.bool, device=device), []
    for start in range(0, pictures, 50):
        report("reconstructions", start, pictures)
        some = scenes[start : start + 50]
        painted = paint(some, vqgan.config.resolution, device)
        output, quantized = vqgan(painted)
        output = output.float().clamp(0, 1)
        used[quantized.indices.flatten()] = True
        decibels.append(psnr(painted, output))
        right.append(told(judge, world, output, some))
    report("reconstructions", pictures, pictures)
    shares = torch.cat(right).float().mean(0).tolist()
    return float(torch.cat(decibels).mean()), float(used.float().mean()), dict(zip(ATTRIBUTES, shares, strict=True))


@torch.no_grad()
def judge_accuracy(judge: PictureClassifier, world: World, size: int, pictures: int) -> dict[str, float]:
    """The judge's accuracy on painted pictures of all combinations, for each attribute."""
    device = next(judge.parameters()).device
    scenes = world.sample(pictures, SEED + 2, held_out="allowed", complete=True)
    groups = [scenes[start : start + 100] for start in range(0, pictures, 100)]
    right = [told(judge, world, paint(group, size, device), group) for group in groups]
    return dict(zip(ATTRIBUTES, torch.cat(right).float().mean(0).tolist(), strict=True))


@torch.no_grad()
def retrieval(
    pipeline: Pipeline,
    world: World,
    held_out: HeldOut,
    choices: int = 64,
    draws: int = 20,
    report: Report = lambda *_: None,
) -> float:
    """Share of painted pictures whose caption scores highest among `choices` captions of pairwise different scenes."""
    clip = pipeline.clip
    if clip is None:
        raise ValueError("This pipeline has no CLIP, so there is nothing to retrieve with.")
    found = []
    for draw in range(draws):
        report("CLIP retrieval", draw, draws)
        scenes = different(world.sample(20 * choices, SEED + 3 + draw, held_out=held_out, complete=True))[:choices]
        captions = [caption(scene, complete=True) for scene in scenes]
        text = pipeline.clip_tokenizer.encode(captions, clip.config.context_length)
        painted = paint(scenes, clip.config.image_size, pipeline.device)
        scores = clip.encode_image(painted) @ clip.encode_text(text.to(pipeline.device)).T  # (choices, choices)
        found.append((scores.argmax(1) == torch.arange(len(scenes), device=scores.device)).float().mean())
    return float(torch.stack(found).mean())


def different(scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes that differ from all before them in at least one of the four attributes."""
    return list({(s.subject, s.setting, s.colour, s.style): s for s in reversed(scenes)}.values())[::-1]
