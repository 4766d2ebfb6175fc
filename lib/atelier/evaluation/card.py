"""The model card: a preset's evaluation as text, with the curves of its training."""

from __future__ import annotations

import json
from pathlib import Path

from atelier.evaluation.evaluate import Evaluation
from atelier.training.history import read_history
from atelier.weights.preset import HISTORY_FILE, Preset
from atelier.weights.storage import replace_file
from atelier.world import ATTRIBUTES, HELD_OUT, named_world

CARD_FILE, CURVES_FILE, EVALUATION_FILE = "README.md", "curves.png", "evaluation.json"
CURVES = (
    ("vqgan", "psnr", "VQ-GAN: PSNR in dB"),
    ("bart", "loss", "Bart: nats per code"),
    ("clip", "loss", "CLIP: contrastive loss"),
)

LABELS = {  # keys of `Evaluation.ranking` → words
    "seen": "seen",
    "held_out": "held-out",
    "preset": "sampled as the preset does",
    "free": "sampled without guidance at temperature 1",
}


def table(evaluation: Evaluation) -> str:
    """The evaluation as a Markdown table and a list, with 95 % intervals over captions in brackets."""
    seen, held_out, found = evaluation.seen, evaluation.held_out, evaluation.clip_retrieval
    names = {
        **{name: name for name in ATTRIBUTES},
        "all": "all four at once",
        "all_best_of_9": "all four, best of nine",
    }
    rows = [("what the judge finds", "seen captions", "held-out captions")]
    bounds = evaluation.intervals
    rows += [
        (
            label,
            _with_interval(getattr(seen, name), bounds["seen"][name]),
            _with_interval(getattr(held_out, name), bounds["held_out"][name]),
        )
        for name, label in names.items()
    ]
    rows.append(("CLIP finds the caption among 64", percent(found.seen), percent(found.held_out)))
    new = [
        f"{name} {percent(share.attribute)}, with its subject {percent(share.together)}"
        for name, share in evaluation.novel.items()
    ]
    judge = "; ".join(f"{pixels} px: {_shares(shares)}" for pixels, shares in evaluation.judge.items())
    lines = [_row(rows[0]), "|---|---|---|", *map(_row, rows[1:])]
    lines += ["", f"- what is new in the held-out captions, in one picture: {'; '.join(new)}"]
    lines += [f"- reconstruction {evaluation.psnr:.1f} dB, {percent(evaluation.codes_used)} of the codes in use"]
    lines += [f"- the judge on reconstructions: {_shares(evaluation.reconstructed)}"]
    lines += [f"- the judge on painted pictures: {judge}"]
    for kind, ways in evaluation.ranking.items():
        for way, curve in ways.items():
            steps = ", ".join(f"{k}: {percent(share)}" for k, share in curve.items())
            gain = evaluation.gains[kind][way]
            lines.append(
                f"- all four in CLIP's first of so many pictures, {LABELS[kind]} captions, {LABELS[way]}: {steps}; the "
                f"first of nine minus a random one: {100 * gain.value:+.1f} points "
                f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
            )
    return "\n".join(lines)


def write_card(preset: Preset, evaluation: Evaluation, prompts: int, pictures: int) -> None:
    """Write README.md, evaluation.json and curves.png into the preset's folder.

    Args:
        preset: the preset that was measured.
        evaluation: its evaluation.
        prompts: captions of each kind, as given to `evaluate`.
        pictures: painted pictures, as given to `evaluate`.
    """
    replace_file(preset.folder / EVALUATION_FILE, (json.dumps(evaluation.as_dict(), indent=2) + "\n").encode())
    history = read_history(preset.folder / HISTORY_FILE)
    draw_curves(history, preset.folder / CURVES_FILE)
    replace_file(preset.folder / CARD_FILE, card(preset, evaluation, history, prompts, pictures).encode())


def card(preset: Preset, evaluation: Evaluation, history: dict, prompts: int, pictures: int) -> str:
    """The text of the model card."""
    world = named_world(preset.world)
    sizes = {name: len(values) for name, values in world.attributes.items()}
    held_out = [f"{s} × {v}" for s, a, v in HELD_OUT if s in world.subjects and v in world.attributes[a]]
    ends = {name: lines[-1] for name, lines in history.items() if lines}
    trained = [f"| {name} | {end['step']:.0f} | {end['seconds'] / 60:.0f} |" for name, end in ends.items()]
    c = preset.vqgan
    return f"""# {preset.name}

Draws {preset.picture_size}×{preset.picture_size} pictures of the painted world's prompts \
({sizes["subject"]} subjects, {sizes["setting"]} settings, {sizes["colour"]} colours, {sizes["style"]} styles). \
A prompt becomes {c.grid}×{c.grid} codes of {c.codes}, a code stands for {c.factor}×{c.factor} pixels. \
All weights were trained from scratch, on pictures that `atelier.world` paints; nothing was downloaded. \
Licence: MIT, as the code.

## What was measured

By `atelier evaluate --preset {preset.name} --prompts {prompts} --pictures {pictures} --card`: {prompts} captions of \
each kind, nine pictures each, that state subject, setting, colour and style. A judge, a classifier trained on painted \
pictures of all combinations and used for nothing else, looks whether they are there. *Held-out* captions name a \
combination that no training but the judge's has seen: {", ".join(held_out)}. In brackets are 95 % intervals over \
captions: other captions would give other shares.

{table(evaluation)}

## How it was trained

| block | steps | minutes |
|---|---|---|
{chr(10).join(trained)}

![Curves of the training: reconstruction quality of the VQ-GAN, loss of Bart, loss of CLIP, over minutes]({CURVES_FILE})

The same numbers, line by line, are in `{HISTORY_FILE}`: compare your own training with them.

## What it cannot do

It knows only the words of `atelier words --preset {preset.name}`. It has seen no photograph: “a photo” is a style of \
the painter's. Small parts blur: one of {c.codes} codes has to say what {c.factor}×{c.factor} pixels show.
"""


def draw_curves(history: dict, path: Path) -> None:
    """Plot the metrics of each block over training minutes, a panel for each, into an image file.

    Args:
        history: as from `read_history`.
        path: the file to write.
    """
    from matplotlib.figure import Figure

    curves = {(block, key): [line for line in history.get(block, []) if key in line] for block, key, _ in CURVES}
    panels = [(curves[block, key], key, title) for block, key, title in CURVES if curves[block, key]]
    columns = max(1, len(panels))
    figure = Figure(figsize=(4 * columns, 2.8), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)
    for axis, (lines, key, title) in zip(axes[0], panels, strict=False):
        minutes, values = [line["seconds"] / 60 for line in lines], [line[key] for line in lines]
        axis.plot(minutes, values, color="#0072B2", linewidth=1.6)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("minutes")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def percent(share: float) -> str:
    """A share from 0 to 1 as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def _with_interval(share: float, bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{percent(share)} ({100 * low:.1f} to {100 * high:.1f})"


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in shares.items())


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
