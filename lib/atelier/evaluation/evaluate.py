"""Measure a preset: do its pictures show what the captions state?

The pipeline draws captions that state all four attributes, and a judge classifies the pictures. The judge is a
classifier that was trained on all combinations of the painted world; it is not used in training or ranking. Held-out
captions name a combination that was held out of the pipeline's training. Shares are from 0 to 1.
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
from atelier.errors import AtelierError
from atelier.training.metrics import psnr
from atelier.weights.preset import Preset
from atelier.world import ATTRIBUTES, HELD_OUT, HeldOut, Scene, World, caption, named_world, paint

SEED = 20_000_000  # no training uses seeds near this one, so the scenes are new
CANDIDATE_COUNTS = (1, 2, 4, 9, 16)  # from how many pictures CLIP chooses the best; 1 is the baseline without a choice
MAX_RANKED_PROMPTS = 200  # captions of each kind when ranking is measured: 16 pictures each, with two sampling options
KINDS: dict[str, HeldOut] = {"seen": "never", "held_out": "only"}
UNGUIDED: SamplingOptions = {"guidance": 1.0, "temperature": 1.0}  # sample from the translator's own distribution
Report = Callable[[str, int, int], None]  # (what is measured, how much is done, of how much)


@dataclass(frozen=True)
class Shares:
    """Share of pictures in which the judge finds what the caption states.

    Attributes:
        subject, setting, colour, style: share of pictures that show this attribute.
        all: share of pictures that show all four at once.
        all_best_of_9: the same, only for the picture that CLIP ranks first among nine.
    """

    subject: float
    setting: float
    colour: float
    style: float
    all: float
    all_best_of_9: float


@dataclass(frozen=True)
class Novelty:
    """Share of pictures that show a held-out combination of a subject with a setting, colour or style.

    Attributes:
        attribute: share that show the setting, colour or style, such as the blue of the blue strawberry.
        together: share that show the subject as well.
    """

    attribute: float
    together: float


@dataclass(frozen=True)
class Retrieval:
    """Share of pictures whose own caption CLIP scores highest among 64.

    Attributes:
        seen: for scenes like those of training.
        held_out: for scenes with a held-out combination.
    """

    seen: float
    held_out: float


@dataclass(frozen=True)
class Evaluation:
    """What `atelier evaluate` reports.

    Attributes:
        seen, held_out: shares for seen and for held-out captions.
        psnr: of reconstructions, in decibels.
        codes_used: share of the codebook that reconstructions use.
        clip_retrieval: how well CLIP finds captions.
        novel: for held-out captions, by the attribute that was held out with the subject, {attribute: Novelty}.
        judge: the judge's accuracy on painted pictures, {pixels: {attribute: share}}.
        reconstructed: the judge's accuracy on reconstructions of painted pictures, {attribute: share}.
        ranking: what ranking by CLIP gains, {"seen" or "held_out": {"preset" or "free": {count: share}}}: the share of
            captions for which CLIP's first of 1, 2, 4, 9 or 16 pictures shows all four attributes. "preset" samples
            with the preset's options, "free" without guidance at temperature 1.
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
        """The evaluation as nested dictionaries of numbers, for JSON."""
        return asdict(self)


def evaluate(
    preset: Preset, pipeline: Pipeline, prompts: int = 500, pictures: int = 1000, report: Report = lambda *_: None
) -> Evaluation:
    """Measure a preset on its painted world.

    Args:
        preset: names the world, and has the judge.
        pipeline: of the same preset.
        prompts: captions of each kind, seen and held out; nine pictures are drawn for each.
        pictures: painted pictures, for reconstructions and for the judge's own accuracy.
        report: called with progress.

    Raises:
        AtelierError: the preset's judge does not fit its world.
    """
    world, judge = evaluation_world(preset), preset.load_classifier("judge").to(pipeline.device)
    psnr, codes_used, reconstructed = reconstruction(pipeline.vqgan, judge, world, pictures, report)
    seen, _ = drawing_accuracy(pipeline, judge, world, "never", prompts, report)
    held_out, novel = drawing_accuracy(pipeline, judge, world, "only", prompts, report)
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
            name: ranking(pipeline, judge, world, kind, min(prompts, MAX_RANKED_PROMPTS), report)
            for name, kind in KINDS.items()
        },
    )


def evaluation_world(preset: Preset) -> World:
    """The painted world on which a preset is measured.

    Raises:
        AtelierError: the preset was not trained on a painted world, or its judge was trained on another vocabulary.
    """
    world = named_world(preset.world)
    judge = preset.classifier
    if judge is None or {name: tuple(values) for name, values in judge.attributes.items()} != world.attributes:
        raise AtelierError(f"The judge of {preset.name} knows other names than its world has; train the judge again.")
    return world


@torch.no_grad()
def correct_attributes(judge: PictureClassifier, world: World, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Which of the four attributes the judge classifies as the scenes have them.

    Args:
        judge: the classifier.
        world: whose names the judge knows.
        pictures: (n, 3, h, w).
        scenes: n scenes, what the pictures should show.

    Returns:
        (n, 4) bool, in the order of ATTRIBUTES.
    """
    logits = judge(pictures)
    labels = [world.labels(scene) for scene in scenes]
    columns = []
    for attribute in ATTRIBUTES:
        expected = torch.tensor([label[attribute] for label in labels], device=pictures.device)
        columns.append(logits[attribute].argmax(1) == expected)
    return torch.stack(columns, dim=1)


def drawing_accuracy(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    held_out: HeldOut,
    prompts: int,
    report: Report = lambda *_: None,
) -> tuple[Shares, dict[str, Novelty]]:
    """Draw nine pictures of each of so many complete captions, and measure what they show.

    Returns:
        The shares, and what was drawn of held-out combinations, by attribute.
    """
    scenes = world.sample(prompts, SEED, held_out=held_out, complete=True)
    what = "held-out captions" if held_out == "only" else "seen captions"
    correct = judge_drawings(pipeline, judge, world, scenes, 9, {}, lambda *done: report(what, *done))
    whole = correct.prod(2)  # (prompts, 9)
    shares = Shares(*correct.mean((0, 1)).tolist(), all=float(whole.mean()), all_best_of_9=float(whole[:, 0].mean()))
    return shares, novelty(scenes, correct)


def judge_drawings(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    scenes: Sequence[Scene],
    n: int,
    options: SamplingOptions,
    report: Callable[[int, int], None],
) -> Tensor:
    """Draw n pictures of each scene's caption, and let the judge classify them.

    Returns:
        (scenes, n, 4), 1 where the judge finds the attribute and 0 elsewhere; of the n, CLIP's best picture is first.
    """
    correct = []
    for start in range(0, len(scenes), 10):
        report(start, len(scenes))
        some = scenes[start : start + 10]
        drawings = pipeline.draw([caption(scene, complete=True) for scene in some], n=n, seed=SEED + start, **options)
        for scene, drawing in zip(some, drawings, strict=True):
            correct.append(correct_attributes(judge, world, drawing.pictures, [scene] * n).float().cpu())
    report(len(scenes), len(scenes))
    return torch.stack(correct)


def ranking(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    held_out: HeldOut,
    prompts: int,
    report: Report = lambda *_: None,
) -> dict[str, dict[str, float]]:
    """What ranking gains for so many complete captions, {"preset" or "free": {count: share}}: see `Evaluation`."""
    scenes = world.sample(prompts, SEED, held_out=held_out, complete=True)
    settings: dict[str, SamplingOptions] = {"preset": {}, "free": UNGUIDED}
    curves = {}
    for name, options in settings.items():
        what = f"ranking, {'held-out' if held_out == 'only' else 'seen'} captions, {name}"
        correct = judge_drawings(
            pipeline, judge, world, scenes, CANDIDATE_COUNTS[-1], options, lambda *done, what=what: report(what, *done)
        )
        curves[name] = best_of(correct.prod(2))
    return curves


def best_of(right: Tensor) -> dict[str, float]:
    """How often the best-ranked of k pictures is right.

    It is the mean over all subsets of k of the n pictures: the picture in place r, counted from 0, is the best of
    comb(n - 1 - r, k - 1) subsets. All k are thus measured on the same pictures, so they differ by no sampling noise.

    Args:
        right: (prompts, n), 1 or 0, the best-ranked picture first; n is at least the largest of CANDIDATE_COUNTS.

    Returns:
        {k: share} for each k of CANDIDATE_COUNTS.
    """
    n, shares = right.shape[1], right.cpu().double().mean(0)  # (n,)
    weights = {k: [comb(n - 1 - place, k - 1) / comb(n, k) for place in range(n)] for k in CANDIDATE_COUNTS}
    return {str(k): float(shares @ shares.new_tensor(row)) for k, row in weights.items()}


def novelty(scenes: Sequence[Scene], correct: Tensor) -> dict[str, Novelty]:
    """What was drawn of held-out combinations, by the attribute that was held out with the subject.

    Args:
        scenes: n scenes, of which those with a held-out combination count.
        correct: (n, pictures, 4), of `judge_drawings`.
    """
    held_out = [(i, a) for i, s in enumerate(scenes) for t, a, v in HELD_OUT if t == s.subject and getattr(s, a) == v]
    result = {}
    for number, attribute in enumerate(ATTRIBUTES):
        rows = [row for row, name in held_out if name == attribute]
        if rows:
            shown = correct[rows][..., number]
            result[attribute] = Novelty(float(shown.mean()), float((shown * correct[rows][..., 0]).mean()))
    return result


@torch.no_grad()
def reconstruction(
    vqgan: VQGAN, judge: PictureClassifier, world: World, pictures: int, report: Report = lambda *_: None
) -> tuple[float, float, dict[str, float]]:
    """Measure reconstructions of new painted pictures.

    Returns:
        Their mean PSNR in decibels, the share of codes in use, and the judge's accuracy on them by attribute.
    """
    device = next(vqgan.parameters()).device
    scenes = world.sample(pictures, SEED + 1, held_out="allowed", complete=True)
    decibels, used, correct = [], torch.zeros(vqgan.config.codes, dtype=torch.bool, device=device), []
    for start in range(0, pictures, 50):
        report("reconstructions", start, pictures)
        some = scenes[start : start + 50]
        painted = paint(some, vqgan.config.resolution, device)
        output, quantized = vqgan(painted)
        output = output.float().clamp(0, 1)
        used[quantized.indices.flatten()] = True
        decibels.append(psnr(painted, output))
        correct.append(correct_attributes(judge, world, output, some))
    report("reconstructions", pictures, pictures)
    shares = torch.cat(correct).float().mean(0).tolist()
    return float(torch.cat(decibels).mean()), float(used.float().mean()), dict(zip(ATTRIBUTES, shares, strict=True))


@torch.no_grad()
def judge_accuracy(judge: PictureClassifier, world: World, size: int, pictures: int) -> dict[str, float]:
    """The judge's accuracy on new painted pictures of all combinations, {attribute: share}."""
    device = next(judge.parameters()).device
    scenes = world.sample(pictures, SEED + 2, held_out="allowed", complete=True)
    groups = [scenes[start : start + 100] for start in range(0, pictures, 100)]
    correct = [correct_attributes(judge, world, paint(group, size, device), group) for group in groups]
    return dict(zip(ATTRIBUTES, torch.cat(correct).float().mean(0).tolist(), strict=True))


@torch.no_grad()
def retrieval(
    pipeline: Pipeline,
    world: World,
    held_out: HeldOut,
    choices: int = 64,
    draws: int = 20,
    report: Report = lambda *_: None,
) -> float:
    """Share of painted pictures whose own caption CLIP scores highest among the captions of different scenes.

    Args:
        pipeline: has the CLIP.
        world: whose scenes are painted.
        held_out: which scenes, as in `World.sample`.
        choices: captions to choose from.
        draws: how often to repeat it with new scenes.
        report: called with progress.

    Raises:
        AtelierError: the pipeline has no CLIP.
    """
    clip = pipeline.clip
    if clip is None:
        raise AtelierError("This pipeline has no CLIP, so retrieval cannot be measured.")
    found = []
    for draw in range(draws):
        report("CLIP retrieval", draw, draws)
        scenes = distinct_scenes(world.sample(20 * choices, SEED + 3 + draw, held_out=held_out, complete=True))[
            :choices
        ]
        captions = [caption(scene, complete=True) for scene in scenes]
        text = pipeline.clip_tokenizer.encode(captions, clip.config.context_length)
        painted = paint(scenes, clip.config.image_size, pipeline.device)
        scores = clip.encode_image(painted) @ clip.encode_text(text.to(pipeline.device)).T  # (choices, choices)
        found.append((scores.argmax(1) == torch.arange(len(scenes), device=scores.device)).float().mean())
    return float(torch.stack(found).mean())


def distinct_scenes(scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes without those whose four attributes are all the same as an earlier scene's."""
    return list({(s.subject, s.setting, s.colour, s.style): s for s in reversed(scenes)}.values())[::-1]
