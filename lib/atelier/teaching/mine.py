"""A DALL·E Mini of the learner's own: the blocks that are trained in lessons 2e, 3 and 4, and joined in lesson 5.

They are saved in runs/mine, as a preset like every other (see `atelier.weights.preset`), with a blocks.json that says
how each block was trained and what was measured, and a README.md made from it. A lesson replaces only its own block.

A translator writes the codes of the VQ-GAN with which it was trained; no other VQ-GAN can decode them. So its entry in
`trained_with` has the hash of that VQ-GAN, and after the VQ-GAN was trained again, the translator counts as missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from atelier.blocks.bart import Bart
from atelier.blocks.clip import CLIP
from atelier.blocks.vqgan import VQGAN
from atelier.evaluation.intervals import Estimate, mean, share
from atelier.evaluation.sprites import correct_sprites
from atelier.folders import checkout_folder
from atelier.teaching.experiments.lesson_2e import prepare, sharpen, study
from atelier.teaching.sprite_ranker import finds_captions, ranker_config, sprite_pairs, train_clip
from atelier.teaching.sprite_translator import coded_sprites, draw_sprites, train_translator, translator_config
from atelier.training.metrics import psnr
from atelier.training.sprites import JUDGE_CONFIG, VQGAN_CONFIG, SpriteRequest, train_sprites
from atelier.weights.preset import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    VQGAN_FILE,
    Preset,
    add_file,
    load_preset,
    read_preset,
    save_preset,
    save_weights,
)
from atelier.weights.sprites import load_sprite_model, read_sprite_models, save_sprite_model
from atelier.weights.storage import has_file, read_json, replace_file, write_lock
from atelier.weights.tokenizer import Tokenizer, words_of
from atelier.world import sprite_caption, sprite_requests, sprite_scenes, sprites

FOLDER_VARIABLE = "ATELIER_MINE"
BLOCKS_FILE, CARD_FILE = "blocks.json", "README.md"
LESSONS = {"vqgan": "2e", "bart": "3", "clip": "4"}  # where each block is trained
PIPELINE = "pipeline"  # the entry for the joined blocks, measured in lesson 5
GUIDANCE = 4.0
RECIPES = {  # for `atelier train all --preset runs/mine --data FOLDER`
    "vqgan": {
        "batch_size": 32,
        "learning_rate": 2e-3,
        "betas": [0.9, 0.99],
        "discriminator_start": 0.7,
        "discriminator_weight": 0.8,
        "discriminator_layers": 1,
    },
    "bart": {"batch_size": 64, "learning_rate": 2e-3, "warmup_steps": 100},
    "clip": {"batch_size": 64, "learning_rate": 2e-3, "warmup_steps": 30},
    "all": {"vqgan": 8, "bart": 3, "clip": 1},
}
WHOLE = "every weight, from random ones"
DECODER = "the decoder; the encoder and the codebook are the course’s"


@dataclass(frozen=True)
class Entry:
    """What blocks.json says of a block.

    Attributes:
        lesson: where it was trained.
        trained: what was trained of it: WHOLE or DECODER.
        file: the SHA-256 of its weights.
        measured: what was measured → its value with a 95 % interval.
    """

    lesson: str
    trained: str
    file: str
    measured: dict[str, Estimate]


# ---------------------------------------------------------------------------------------------- the folder


def mine_folder() -> Path:
    """Return the folder of the learner's blocks: $ATELIER_MINE if it is set, else runs/mine in the checkout.

    For an installed package, which has no checkout, runs/mine is in the current folder.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else (checkout_folder() or Path.cwd()) / "runs" / "mine"


def read_mine(folder: Path | None = None) -> Preset:
    """Read the preset of the learner's blocks; without any block it has only the sizes.

    Args:
        folder: None for `mine_folder`.

    Raises:
        PresetError: if the folder holds a damaged preset.
    """
    folder = folder or mine_folder()
    return read_preset(folder) if has_file(folder, CONFIG_FILE) else _new_preset(folder)


def _new_preset(folder: Path) -> Preset:
    tokenizer = course_tokenizer()
    captions = [sprite_caption(scene, wording) for wording in range(5) for scene in sprite_scenes(300, 0)]
    return Preset(
        name="mine",
        world="",
        picture_size=VQGAN_CONFIG.resolution,
        vqgan=VQGAN_CONFIG,
        bart=translator_config(VQGAN_CONFIG, tokenizer),
        clip=ranker_config(tokenizer),
        classifier=JUDGE_CONFIG,
        recipes=RECIPES,
        sampling={"guidance": GUIDANCE},
        words=tuple(sorted({word for text in captions for word in words_of(text)})),
        folder=folder,
    )


def course_tokenizer() -> Tokenizer:
    """Load the tokenizer of the captions, which is that of the laptop preset; it has no weights."""
    return load_preset("laptop").load_tokenizer()


def vqgan_of_mine(mine: Preset) -> VQGAN | None:
    """Load the learner's VQ-GAN; None if there is none yet."""
    return mine.load_vqgan() if mine.has_block("vqgan") else None


def save_block(
    mine: Preset, block: str, module: nn.Module, measured: Mapping[str, Estimate], trained: str = WHOLE
) -> str:
    """Save a block in the learner's folder, in place of an earlier one.

    Args:
        mine: the preset from which the blocks were read that this one was trained with.
        block: "vqgan", "bart" or "clip".
        module: the block.
        measured: what was measured → its value.
        trained: what was trained of it.

    Returns:
        A sentence that says what was saved, or why not, and what does not fit any more.
    """
    if block == "bart" and VQGAN_FILE not in mine.files:
        return (
            "This translator is not saved, because it writes the codes of the course’s VQ-GAN and not of yours. "
            "Save yours at the end of section 4 of lesson 2e, and run this lesson again; or let lesson 5 train both."
        )
    if not has_file(mine.folder, CONFIG_FILE):
        mine = _begin(mine)
    trained_with = {TOKENIZER_FILE: mine.files[TOKENIZER_FILE]} if block != "vqgan" else {}
    if block == "bart":
        trained_with[VQGAN_FILE] = mine.files[VQGAN_FILE]
    now = save_weights(mine, block, module, trained_with)
    _record(now, block, Entry(f"lesson {LESSONS[block]}", trained, now.files[f"{block}.safetensors"], dict(measured)))
    sentence = f"Saved as runs/{now.folder.name}/{block}.safetensors."
    if "bart.safetensors" in now.files and not now.has_block("bart"):
        sentence += (
            " The translator there was trained with another VQ-GAN, so they do not fit together: run lesson 3 again, "
            "or let lesson 5 train a new one."
        )
    return sentence


def _begin(mine: Preset) -> Preset:
    """Write the files with which every folder of the learner's blocks begins: tokenizer, judge, perceptual network."""
    mine = save_preset(mine, mine.folder)
    mine = add_file(mine, TOKENIZER_FILE, course_tokenizer().content())
    for name in ("judge", "perceptual"):
        mine = save_weights(mine, name, load_sprite_model(name))
    return mine


# ---------------------------------------------------------------------------------------------- the card


def entries(mine: Preset) -> dict[str, Entry]:
    """Read the entries of the blocks that are present and fit, and that of the pipeline if it was measured with them.

    Raises:
        PresetError: if blocks.json cannot be read.
    """
    if not has_file(mine.folder, BLOCKS_FILE):
        return {}
    known = {name: _entry(values) for name, values in read_json(mine.folder / BLOCKS_FILE).items()}
    now = {block: mine.files.get(f"{block}.safetensors") for block in LESSONS if mine.has_block(block)}
    now[PIPELINE] = _pipeline_hash(mine)
    return {name: known[name] for name in (*LESSONS, PIPELINE) if name in known and known[name].file == now.get(name)}


def _entry(values: dict[str, Any]) -> Entry:
    measured = {name: Estimate(**found) for name, found in values["measured"].items()}
    return Entry(values["lesson"], values["trained"], values["file"], measured)


def record_pipeline(mine: Preset, measured: Mapping[str, Estimate]) -> None:
    """Add the measurements of the joined blocks to the card."""
    _record(mine, PIPELINE, Entry("lesson 5", "the blocks joined", _pipeline_hash(mine), dict(measured)))


def _pipeline_hash(mine: Preset) -> str:
    return " ".join(mine.files.get(f"{block}.safetensors", "") for block in LESSONS)


def _record(mine: Preset, name: str, entry: Entry) -> None:
    with write_lock(mine.folder):
        kept = {**entries(mine), name: entry}
        values = {key: asdict(kept[key]) for key in kept}
        replace_file(mine.folder / BLOCKS_FILE, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
        replace_file(mine.folder / CARD_FILE, card_text(kept).encode())


def card_text(kept: Mapping[str, Entry]) -> str:
    """Write the card of the learner's blocks."""
    rows = [
        f"| {name} | {entry.lesson} | {entry.trained} | {what} | {in_words(found)} | {found.sampled} |"
        for name, entry in kept.items()
        for what, found in entry.measured.items()
    ]
    return "\n".join(
        [
            "# A DALL·E Mini of one’s own",
            "",
            "Trained in the lessons, on sprites of 32 × 32 pixels: six subjects in five colours. The tokenizer, and",
            "the two classifiers that were used in training and measuring, are the course’s. Draw with it:",
            '`atelier draw --preset runs/mine "a blue car"`.',
            "",
            "| block | trained in | trained | measured | value, with its 95 % interval | over |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def in_words(found: Estimate) -> str:
    """Write an estimate with its interval, rounded to one decimal."""
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


# ---------------------------------------------------------------------------------------------- measuring


@torch.no_grad()
def measure_vqgan(vqgan: nn.Module, n: int = 300) -> dict[str, Estimate]:
    """Measure a VQ-GAN of sprites on n new ones: the PSNR, and the share that is still right after the codes."""
    device = next(vqgan.parameters()).device
    scenes = sprite_scenes(n, 1_000_000)
    painted, _ = sprites(n, 1_000_000, device=device)
    drawn = vqgan(painted)[0].clamp(0, 1)
    right = correct_sprites(load_sprite_model("judge").to(device), drawn, scenes).all(1)
    return {
        "PSNR of reconstructions, dB": mean(psnr(painted, drawn).cpu(), "sprites"),
        "right after the codes, %": per_cent(share(right.tolist(), "sprites")),
    }


def measure_translator(bart: Bart, vqgan: VQGAN, n: int = 120) -> dict[str, Estimate]:
    """Measure a translator: the shares of right drawings of n captions of seen and of held-out combinations."""
    device, found = next(bart.parameters()).device, {}
    judge = load_sprite_model("judge").to(device)
    for name, held_out in (("seen", False), ("held-out", True)):
        scenes, captions = sprite_requests(n, 1, held_out)
        right = correct_sprites(judge, draw_sprites(bart, vqgan, course_tokenizer(), captions, GUIDANCE), scenes)
        found[f"right drawings of {name} combinations, %"] = per_cent(share(right.all(1).tolist(), "drawings"))
    return found


def measure_ranker(clip: nn.Module, n: int = 180) -> dict[str, Estimate]:
    """Measure a ranker: for how many of n painted sprites it finds the caption among those of all combinations."""
    return {
        f"captions found among 30, {name} combinations, %": per_cent(
            share(finds_captions(clip, course_tokenizer(), sprite_requests(n, 3, held_out)[0]), "sprites")
        )
        for name, held_out in (("seen", False), ("held-out", True))
    }


def per_cent(found: Estimate) -> Estimate:
    """Convert an estimate of a share, from 0 to 1, to per cent."""
    return Estimate(100 * found.value, 100 * found.low, 100 * found.high, found.sampled)


# ---------------------------------------------------------------------------------------------- what is missing


@dataclass(frozen=True)
class Lengths:
    """How long the blocks are trained that lesson 5 does not find: numbers of steps and of sprites."""

    study: int = 60
    sharpen: int = 120
    translator: int = 400
    ranker: int = 120
    sprites: int = 2048


def train_whole_vqgan(minutes: float) -> VQGAN:
    """Train every weight of a VQ-GAN from random ones: half of the time without discriminator, half of it with one.

    Args:
        minutes: of training; eight give about the quality of the course's.

    Returns:
        The VQ-GAN, in evaluation mode.
    """
    with TemporaryDirectory() as folder:
        out, shipped = Path(folder) / "models", read_sprite_models()
        for name in ("judge", "perceptual"):
            save_sprite_model(out, name, load_sprite_model(name), shipped[name])
        request = SpriteRequest(only="vqgan", out=out, run_dir=Path(folder) / "run", minutes=minutes / 2)
        train_sprites(request)
        return load_sprite_model("vqgan", out)


def complete_mine(
    minutes: float = 0.0,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    lengths: Lengths = Lengths(),
    say: Callable[[str], None] = print,
) -> Preset:
    """Train the blocks that the learner's folder lacks, and say which.

    Args:
        minutes: 0: if the VQ-GAN is missing, only a decoder is trained, for the course's encoder and codebook, as in
            lesson 2e. Above 0: every weight of a VQ-GAN is trained for so many minutes, unless the one there was.
        folder: None for `mine_folder`.
        device: where to train.
        lengths: of the other trainings.
        say: called with a sentence for each block.

    Returns:
        The complete preset.
    """
    tokenizer = course_tokenizer()
    known = entries(read_mine(folder)).get("vqgan")
    for block in LESSONS:
        mine = read_mine(folder)
        again = block == "vqgan" and (known is None or (minutes > 0 and known.trained != WHOLE))
        if mine.has_block(block) and not again:
            say(f"{block}: found in runs/{mine.folder.name}")
            continue
        say(f"{block}: trained now")
        if block == "vqgan":
            vqgan = train_whole_vqgan(minutes) if minutes > 0 else _sharpened(lengths)
            save_block(mine, block, vqgan, measure_vqgan(vqgan), WHOLE if minutes > 0 else DECODER)
            continue
        torch.manual_seed(0)
        if block == "bart":
            vqgan = mine.load_vqgan().to(device)
            bart = Bart(translator_config(vqgan.config, tokenizer)).to(device)
            train_translator(bart, coded_sprites(vqgan, tokenizer, lengths.sprites), lengths.translator)
            save_block(mine, block, bart, measure_translator(bart.eval(), vqgan))
        else:
            clip = CLIP(ranker_config(tokenizer)).to(device)
            train_clip(clip, sprite_pairs(tokenizer, lengths.sprites, device=device), lengths.ranker)
            save_block(mine, block, clip, measure_ranker(clip))
    return read_mine(folder)


def _sharpened(lengths: Lengths) -> VQGAN:
    """Train the decoder of the course's blurred network against a discriminator, as lesson 2e does."""
    setting = prepare(0)
    return sharpen(setting, study(setting, lengths.study), 0.8, lengths.sharpen).model
