"""Measure a preset: do its pictures show what the captions state?

The pipeline draws captions that state all four attributes, and a judge classifies the pictures. The judge is a
classifier that was trained on all combinations of the painted world; it is not used in training or ranking. Held-out
captions name a combination that was held out of the pipeline's training. Shares are from 0 to 1.

The captions are a random sample, and so are the pictures of each caption. Shares therefore have 95 % intervals. These
are computed over captions, because nine pictures of one caption are not independent.
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
from atelier.evaluation.intervals import Estimate, difference, mean, share
from atelier.training.metrics import psnr
from atelier.weights.preset import Preset
from atelier.world import ATTRIBUTES, HELD_OUT, HeldOut, Scene, World, caption, named_world, paint

SEED = 20_000_000  # training runs sample their scenes with hashed seeds, so these scenes are new
CANDIDATE_COUNTS = (1, 2, 4, 9, 16)  # from how many pictures CLIP chooses the best; 1 is the baseline without a choice
MAX_RANKED_PROMPTS = 200  # captions of each kind for `ranking`, which draws 32 pictures of each
KINDS: dict[str, HeldOut] = {
    "seen": "never",
    "held_out": "only",
}  # kind of captions → argument `held_out` of `World.sample`
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
    """The measurements of `atelier evaluate`.

    Attributes:
        seen, held_out: shares for seen and for held-out captions.
        intervals: the 95 % intervals of these shares over captions, {"seen" or "held_out": {share: (low, high)}}.
        psnr: of reconstructions, in decibels.
        codes_used: share of the codebook that reconstructions use.
        clip_retrieval: how often CLIP finds the caption of a picture.
        novel: for held-out captions, by the attribute that was held out with the subject, {attribute: Novelty}.
        judge: the judge's accuracy on painted pictures, {pixels: {attribute: share}}.
        reconstructed: the judge's accuracy on reconstructions of painted pictures, {attribute: share}.
        ranking: the share of captions for which CLIP's first of 1, 2, 4, 9 or 16 pictures shows all four attributes,
            {"seen" or "held_out": {"preset" or "free": {count: share}}}. "preset" samples with the preset's options,
            "free" without guidance at temperature 1.
        gains: the share of `ranking` for the best of 9 pictures minus the share for 1 random picture of the same
            captions, with its interval, {"seen" or "held_out": {"preset" or "free": Estimate}}.
    """

    seen: Shares
    held_out: Shares
    intervals: dict[str, dict[str, tuple[float, float]]]
    psnr: float
    codes_used: float
    clip_retrieval: Retrieval
    novel: dict[str, Novelty]
    judge: dict[str, dict[str, float]]
    reconstructed: dict[str, float]
    ranking: dict[str, dict[str, dict[str, float]]]
    gains: dict[str, dict[str, Estimate]]

    def as_dict(self) -> dict:
        """The evaluation as nested dictionaries of numbers, for JSON."""
        return asdict(self)


def evaluate(
    preset: Preset, pipeline: Pipeline, prompts: int = 500, pictures: int = 1000, report: Report = lambda *_: None
) -> Evaluation:
    """Measure a preset on its painted world.

    Args:
        preset: names the world, and has the judge.
        pipeline: the pipeline of the same preset.
        prompts: captions of each kind, seen and held out; nine pictures are drawn for each.
        pictures: painted pictures, for reconstructions and for the judge's own accuracy. CLIP's retrieval, with 64 new
            pictures each time, is repeated once for every 50 of them, from 1 to 20 times.
        report: called with progress.

    Raises:
        AtelierError: if there are fewer than two prompts, the preset has no CLIP, or its judge does not fit its world.
    """
    if prompts < 2:
        raise AtelierError(f"prompts is {prompts}; an interval over captions needs at least two of them.")
    if pipeline.clip is None:
        raise AtelierError(f"The preset {preset.name} has no CLIP, so its ranking cannot be measured.")
    world, judge = evaluation_world(preset), preset.load_classifier("judge").to(pipeline.device)
    decibels, codes_used, reconstructed = reconstruction(pipeline.vqgan, judge, world, pictures, report)
    drawn = {name: drawing_accuracy(pipeline, judge, world, kind, prompts, report) for name, kind in KINDS.items()}
    draws = max(1, min(20, pictures // 50))
    retrieved = {name: retrieval(pipeline, world, kind, draws=draws, report=report) for name, kind in KINDS.items()}
    ranked = {
        name: ranking(pipeline, judge, world, kind, min(prompts, MAX_RANKED_PROMPTS), report)
        for name, kind in KINDS.items()
    }
    return Evaluation(
        seen=drawn["seen"].shares,
        held_out=drawn["held_out"].shares,
        intervals={name: each.intervals for name, each in drawn.items()},
        psnr=decibels,
        codes_used=codes_used,
        clip_retrieval=Retrieval(**retrieved),
        novel=drawn["held_out"].novel,
        judge={str(size): judge_accuracy(judge, world, size, pictures) for size in (64, 128)},
        reconstructed=reconstructed,
        ranking={name: curves for name, (curves, _) in ranked.items()},
        gains={name: gains for name, (_, gains) in ranked.items()},
    )


def evaluation_world(preset: Preset) -> World:
    """Return the painted world on which a preset is measured.

    Raises:
        AtelierError: if the preset was not trained on a painted world, or its judge was trained on another vocabulary.
    """
    if not preset.world:
        raise AtelierError(f"The preset {preset.name} was not trained on a painted world, so it cannot be measured.")
    world = named_world(preset.world)
    judge = preset.classifier
    if judge is None or {name: tuple(values) for name, values in judge.attributes.items()} != world.attributes:
        raise AtelierError(
            f"The preset {preset.name} has no judge, or one of other subjects, settings, colours or styles than its "
            f"world {preset.world} has; train the judge: atelier train judge."
        )
    return world


@torch.no_grad()
def correct_attributes(judge: PictureClassifier, world: World, pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """Determine, for each of the four attributes, whether the judge finds the value that the scene has.

    Args:
        judge: the classifier.
        world: the world whose attributes the judge classifies.
        pictures: (n, 3, h, w).
        scenes: the n scenes that the pictures should show.

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


@dataclass(frozen=True)
class DrawingAccuracy:
    """What the pictures of one kind of captions show; for the attributes see `Evaluation`."""

    shares: Shares
    intervals: dict[str, tuple[float, float]]
    novel: dict[str, Novelty]


def drawing_accuracy(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    held_out: HeldOut,
    prompts: int,
    report: Report = lambda *_: None,
) -> DrawingAccuracy:
    """Draw nine pictures of each of `prompts` complete captions, and measure what they show."""
    scenes = world.sample(prompts, SEED, held_out=held_out, complete=True)
    what = "held-out captions" if held_out == "only" else "seen captions"
    correct = judge_drawings(pipeline, judge, world, scenes, 9, {}, lambda *done: report(what, *done))
    all_correct = correct.prod(2)  # (prompts, 9)
    by_prompt = {
        **dict(zip(ATTRIBUTES, correct.mean(1).T, strict=True)),  # (prompts,) each
        "all": all_correct.mean(1),
        "all_best_of_9": all_correct[:, 0],
    }
    return DrawingAccuracy(
        shares=Shares(**{name: float(values.mean()) for name, values in by_prompt.items()}),
        intervals={name: interval(values) for name, values in by_prompt.items()},
        novel=novelty(scenes, correct),
    )


def interval(values: Tensor) -> tuple[float, float]:
    """Compute the 95 % interval of a mean share.

    Args:
        values: (prompts,), the share of each prompt's pictures; at least two prompts.
    """
    # If all values are 0 or 1, use the exact interval: a bootstrap interval of equal values would be a single point.
    binary = bool(((values == 0) | (values == 1)).all())
    estimate = (share if binary else mean)(values.tolist(), "captions")
    return estimate.low, estimate.high


def judge_drawings(
    pipeline: Pipeline,
    judge: PictureClassifier,
    world: World,
    scenes: Sequence[Scene],
    n: int,
    options: SamplingOptions,
    report: Callable[[int, int], None] = lambda *_: None,
    seed: int = SEED,
) -> Tensor:
    """Draw n pictures of each scene's caption, and let the judge classify them.

    Args:
        pipeline: draws the pictures.
        judge: the classifier.
        world: the world whose attributes the judge classifies.
        scenes: the scenes whose complete captions are drawn.
        n: the number of pictures of each caption.
        options: the sampling options.
        report: called with progress.
        seed: the seed of the pictures of the first ten captions; each further group of ten has another seed.

    Returns:
        (scenes, n, 4), 1 where the judge finds the attribute, else 0; the n pictures are ranked by CLIP, best first.
    """
    correct = []
    for start in range(0, len(scenes), 10):
        report(start, len(scenes))
        some = scenes[start : start + 10]
        drawings = pipeline.draw([caption(scene, complete=True) for scene in some], n=n, seed=seed + start, **options)
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
) -> tuple[dict[str, dict[str, float]], dict[str, Estimate]]:
    """Measure what ranking gains for `prompts` complete captions.

    Returns:
        The curves, {"preset" or "free": {count: share}}, and the gains, {"preset" or "free": Estimate}: see
        `Evaluation`.
    """
    scenes = world.sample(prompts, SEED, held_out=held_out, complete=True)
    settings: dict[str, SamplingOptions] = {"preset": {}, "free": UNGUIDED}
    curves, gains = {}, {}
    for name, options in settings.items():
        what = f"ranking, {'held-out' if held_out == 'only' else 'seen'} captions, {name}"
        correct = judge_drawings(
            pipeline, judge, world, scenes, CANDIDATE_COUNTS[-1], options, lambda *done, what=what: report(what, *done)
        )
        all_correct = correct.prod(2)  # (prompts, 16)
        curves[name] = best_of(all_correct)
        chosen = best_of_each(all_correct)
        gains[name] = difference(chosen[9].tolist(), chosen[1].tolist(), "captions")
    return curves, gains


def best_of(all_correct: Tensor) -> dict[str, float]:
    """Average `best_of_each` over prompts: the share of prompts whose best-ranked of k pictures is correct, by k."""
    return {str(k): float(values.mean()) for k, values in best_of_each(all_correct).items()}


def best_of_each(all_correct: Tensor) -> dict[int, Tensor]:
    """Compute for each prompt the probability that the best-ranked of k pictures is correct.

    It is averaged over all subsets of k pictures. The picture in place r, counted from 0, is the best one in
    comb(n - 1 - r, k - 1) of these subsets. So every k is measured on the same n pictures. They are still a sample, so
    a difference between two values of k needs an interval over prompts.

    Args:
        all_correct: (prompts, n), 1 if a picture shows all attributes, else 0; the best-ranked picture first. n is at
            least the largest of CANDIDATE_COUNTS.

    Returns:
        {k: (prompts,) float64, on the CPU} for each k of CANDIDATE_COUNTS.
    """
    n, all_correct = all_correct.shape[1], all_correct.cpu().double()
    weights = {k: [comb(n - 1 - place, k - 1) / comb(n, k) for place in range(n)] for k in CANDIDATE_COUNTS}
    return {k: all_correct @ all_correct.new_tensor(row) for k, row in weights.items()}


def novelty(scenes: Sequence[Scene], correct: Tensor) -> dict[str, Novelty]:
    """Measure how often held-out combinations are drawn, by the attribute that was held out with the subject.

    Args:
        scenes: n scenes, of which those with a held-out combination count.
        correct: (n, pictures, 4), from `judge_drawings`.
    """
    result = {}
    for number, attribute in enumerate(ATTRIBUTES):
        held_out = {(subject, value) for subject, name, value in HELD_OUT if name == attribute}
        rows = [row for row, scene in enumerate(scenes) if (scene.subject, getattr(scene, attribute)) in held_out]
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
    """Measure the judge's accuracy on new painted pictures of all combinations, {attribute: share}."""
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
    """Measure the share of painted pictures whose own caption CLIP scores highest among captions of distinct scenes.

    Args:
        pipeline: the pipeline with the CLIP.
        world: the world whose scenes are painted.
        held_out: as for `World.sample`.
        choices: the number of captions to choose from.
        draws: how often to repeat the measurement with newly drawn scenes.
        report: called with progress.

    Raises:
        AtelierError: if the pipeline has no CLIP.
    """
    clip = pipeline.clip
    if clip is None:
        raise AtelierError("This pipeline has no CLIP, so retrieval cannot be measured.")
    found = []
    for draw in range(draws):
        report("CLIP retrieval", draw, draws)
        candidates = world.sample(20 * choices, SEED + 3 + draw, held_out=held_out, complete=True)
        scenes = distinct_scenes(candidates)[:choices]
        captions = [caption(scene, complete=True) for scene in scenes]
        text = pipeline.clip_tokenizer.encode(captions, clip.config.context_length)
        painted = paint(scenes, clip.config.image_size, pipeline.device)
        scores = clip.encode_image(painted) @ clip.encode_text(text.to(pipeline.device)).T  # (choices, choices)
        found.append((scores.argmax(1) == torch.arange(len(scenes), device=scores.device)).float().mean())
    return float(torch.stack(found).mean())


def distinct_scenes(scenes: Sequence[Scene]) -> list[Scene]:
    """Drop each scene that has the same four attributes as an earlier one."""
    return list({(s.subject, s.setting, s.colour, s.style): s for s in reversed(scenes)}.values())[::-1]
