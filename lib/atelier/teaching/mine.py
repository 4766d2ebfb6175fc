"""The learner's own DALL·E Mini: the learner trains its blocks in lessons 2e, 3 and 4, and joins them in lesson 5.

The blocks are saved in runs/mine, which is a preset (see `atelier.weights.preset`). Its blocks.json records how each
block was trained and its measurements, and its README.md shows these records as a table. Each lesson replaces only its
own block.

A translator generates the codes of the VQ-GAN with which it was trained; no other VQ-GAN can decode them. Its entry in
`trained_with` is therefore the hash of that VQ-GAN, and the translator counts as missing once the VQ-GAN is replaced.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

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
from atelier.weights.fields import check_object, from_json
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
from atelier.weights.storage import PresetError, has_file, read_json, replace_file, write_lock
from atelier.weights.tokenizer import Tokenizer, words_of
from atelier.world import sprite_caption, sprite_requests, sprite_scenes, sprites

FOLDER_VARIABLE, DEFAULT_FOLDER = "ATELIER_MINE", "runs/mine"
BLOCKS_FILE, CARD_FILE = "blocks.json", "README.md"
LESSONS = {"vqgan": "2e", "bart": "3", "clip": "4"}  # the lesson in which each block is trained
PIPELINE = "pipeline"  # the entry of the joined blocks, measured in lesson 5
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
    """The record of a block in blocks.json.

    Attributes:
        lesson: the lesson in which it was trained.
        trained: which of its weights were trained: WHOLE or DECODER.
        file: the SHA-256 of its file.
        measured: the measurements by name, with 95 % intervals.
    """

    lesson: str
    trained: str
    file: str
    measured: dict[str, Estimate]


# ---------------------------------------------------------------------------------------------- the folder


def mine_folder() -> Path:
    """Return the folder of the learner's blocks: $ATELIER_MINE if it is set, else runs/mine in the checkout.

    Without a checkout (an installed package), runs/mine is in the current folder.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else _default_folder()


def _default_folder() -> Path:
    return (checkout_folder() or Path.cwd()) / DEFAULT_FOLDER


def _shown(folder: Path) -> str:
    """Write a folder as in the lessons: runs/mine for the default folder, else its path."""
    return DEFAULT_FOLDER if folder.absolute() == _default_folder() else str(folder)


def read_mine(folder: Path | None = None) -> Preset:
    """Read the preset of the learner's blocks; if no block has been saved yet, it has only the sizes.

    Args:
        folder: the folder; None: `mine_folder`.

    Raises:
        PresetError: if the folder has a damaged preset.
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
    """Load the tokenizer of the captions: that of the laptop preset."""
    return load_preset("laptop").load_tokenizer()


def vqgan_of_mine(mine: Preset) -> VQGAN | None:
    """Load the learner's VQ-GAN; None if it has not been saved yet."""
    return mine.load_vqgan() if mine.has_block("vqgan") else None


def save_block(
    mine: Preset, block: str, module: nn.Module, measured: Mapping[str, Estimate], trained: str = WHOLE
) -> str:
    """Save a block in the learner's folder and replace an earlier one.

    Args:
        mine: the preset with the blocks that this block was trained with.
        block: "vqgan", "bart" or "clip".
        module: the block.
        measured: its measurements, by name.
        trained: which of its weights were trained: WHOLE or DECODER.

    Returns:
        A sentence for the learner: where the block was saved, or why it was not saved. A second sentence follows if the
        saved translator does not fit the VQ-GAN.
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
    sentence = f"Saved as {_shown(now.folder)}/{block}.safetensors."
    if "bart.safetensors" in now.files and not now.has_block("bart"):
        sentence += (
            " The translator there was trained with another VQ-GAN, so they do not fit together: run lesson 3 again, "
            "or let lesson 5 train a new one."
        )
    return sentence


def _begin(mine: Preset) -> Preset:
    """Write the course's files to a new folder: the tokenizer, the judge and the perceptual network."""
    mine = save_preset(mine, mine.folder)
    mine = add_file(mine, TOKENIZER_FILE, course_tokenizer().content())
    for name in ("judge", "perceptual"):
        mine = save_weights(mine, name, load_sprite_model(name))
    return mine


# ---------------------------------------------------------------------------------------------- the card


def entries(mine: Preset) -> dict[str, Entry]:
    """Read the entries of the current blocks, and the entry of the pipeline if it was measured with these blocks.

    An entry is left out if its block was replaced or does not fit the other blocks.

    Raises:
        PresetError: if blocks.json cannot be read or is damaged.
    """
    if not has_file(mine.folder, BLOCKS_FILE):
        return {}
    path = mine.folder / BLOCKS_FILE
    values = read_json(path)
    try:
        check_object(values, BLOCKS_FILE)
        known = {name: from_json(Entry, entry, name) for name, entry in values.items()}
    except ValueError as fault:
        raise PresetError(f"{path} is damaged: {fault} Restore it, or remove it and run the lessons again.") from fault
    now = {block: mine.files.get(f"{block}.safetensors") for block in LESSONS if mine.has_block(block)}
    now[PIPELINE] = _pipeline_hash(mine)
    return {name: known[name] for name in (*LESSONS, PIPELINE) if name in known and known[name].file == now.get(name)}


def record_pipeline(mine: Preset, measured: Mapping[str, Estimate]) -> None:
    """Add the measurements of the joined blocks to blocks.json and to the card."""
    _record(mine, PIPELINE, Entry("lesson 5", "the blocks joined", _pipeline_hash(mine), dict(measured)))


def _pipeline_hash(mine: Preset) -> str:
    return " ".join(mine.files.get(f"{block}.safetensors", "") for block in LESSONS)


def _record(mine: Preset, name: str, entry: Entry) -> None:
    with write_lock(mine.folder):
        kept = {**entries(mine), name: entry}
        values = {key: asdict(kept[key]) for key in kept}
        replace_file(mine.folder / BLOCKS_FILE, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
        replace_file(mine.folder / CARD_FILE, card_text(kept, mine.folder).encode())


def card_text(kept: Mapping[str, Entry], folder: Path) -> str:
    """Write the card of the learner's blocks.

    Args:
        kept: their entries, by name.
        folder: the folder of the blocks, for the command that draws with them.
    """
    rows = [
        f"| {name} | {entry.lesson} | {entry.trained} | {what} | {in_words(found)} | {found.sampled} |"
        for name, entry in kept.items()
        for what, found in entry.measured.items()
    ]
    return "\n".join(
        [
            "# Your own DALL·E Mini",
            "",
            "Trained in the lessons, on sprites of 32 × 32 pixels: six subjects in five colours. The tokenizer, and",
            "the two classifiers that were used in training and measuring, are the course’s. Draw with it:",
            f'`atelier draw --preset {shlex.quote(_shown(folder))} "a blue car"`.',
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
    """Measure a VQ-GAN on n new sprites: the PSNR, and the share of reconstructions that show the right sprite."""
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
    """Measure a translator: the share of right drawings for n captions of seen and n of held-out combinations."""
    device, tokenizer, found = next(bart.parameters()).device, course_tokenizer(), {}
    judge = load_sprite_model("judge").to(device)
    for name, held_out in (("seen", False), ("held-out", True)):
        scenes, captions = sprite_requests(n, 1, held_out)
        right = correct_sprites(judge, draw_sprites(bart, vqgan, tokenizer, captions, GUIDANCE), scenes)
        found[f"right drawings of {name} combinations, %"] = per_cent(share(right.all(1).tolist(), "drawings"))
    return found


def measure_ranker(clip: nn.Module, n: int = 180) -> dict[str, Estimate]:
    """Measure a ranker: the share of n sprites whose caption it finds among the captions of all combinations."""
    tokenizer = course_tokenizer()
    return {
        f"captions found among 30, {name} combinations, %": per_cent(
            share(finds_captions(clip, tokenizer, sprite_requests(n, 3, held_out)[0]), "sprites")
        )
        for name, held_out in (("seen", False), ("held-out", True))
    }


def per_cent(found: Estimate) -> Estimate:
    """Convert an estimate of a share, from 0 to 1, to per cent."""
    return Estimate(100 * found.value, 100 * found.low, 100 * found.high, found.sampled)


# ---------------------------------------------------------------------------------------------- missing blocks


@dataclass(frozen=True)
class Lengths:
    """The lengths of the training runs with which lesson 5 completes the learner's blocks.

    Attributes:
        study: steps of the discriminator alone, for `lesson_2e.study`.
        sharpen: steps of the decoder, for `lesson_2e.sharpen`.
        translator: steps of the translator.
        ranker: steps of the ranker.
        sprites: sprites to train the translator and the ranker on.
    """

    study: int = 60
    sharpen: int = 120
    translator: int = 400
    ranker: int = 120
    sprites: int = 2048


def train_whole_vqgan(minutes: float) -> VQGAN:
    """Train all weights of a VQ-GAN from a random initialisation, the second half of the time with a discriminator.

    Args:
        minutes: minutes of training; after eight, it is about as good as the course's VQ-GAN.

    Returns:
        The VQ-GAN on the CPU, in evaluation mode. It is trained on a GPU if there is one.
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
    """Train the blocks that are missing in the learner's folder, and report each block.

    Args:
        minutes: the minutes of training for the VQ-GAN. 0: a missing VQ-GAN gets the course's encoder and codebook, and
            only its decoder is trained, as in lesson 2e. Above 0: all weights are trained (see `train_whole_vqgan`),
            also if the folder has a VQ-GAN of which only the decoder was trained.
        folder: the folder; None: `mine_folder`.
        device: the device to train on; `train_whole_vqgan` chooses its device itself.
        lengths: the lengths of the other training runs.
        say: called with a sentence about each block.

    Returns:
        The complete preset.
    """
    known = entries(read_mine(folder)).get("vqgan")
    again = known is None or (minutes > 0 and known.trained != WHOLE)
    for block in LESSONS:
        mine = read_mine(folder)
        if mine.has_block(block) and not (block == "vqgan" and again):
            say(f"{block}: found in {_shown(mine.folder)}")
            continue
        say(f"{block}: trained now")
        if block == "vqgan":
            _complete_vqgan(mine, minutes, lengths, device)
        elif block == "bart":
            _complete_translator(mine, lengths, device)
        else:
            _complete_ranker(mine, lengths, device)
    return read_mine(folder)


def _complete_vqgan(mine: Preset, minutes: float, lengths: Lengths, device: torch.device | str) -> None:
    vqgan = train_whole_vqgan(minutes).to(device) if minutes > 0 else _sharpened(lengths, device)
    save_block(mine, "vqgan", vqgan, measure_vqgan(vqgan), WHOLE if minutes > 0 else DECODER)


def _complete_translator(mine: Preset, lengths: Lengths, device: torch.device | str) -> None:
    tokenizer, vqgan = course_tokenizer(), mine.load_vqgan().to(device)
    torch.manual_seed(0)
    bart = Bart(translator_config(vqgan.config, tokenizer)).to(device)
    train_translator(bart, coded_sprites(vqgan, tokenizer, lengths.sprites), lengths.translator)
    save_block(mine, "bart", bart, measure_translator(bart.eval(), vqgan))


def _complete_ranker(mine: Preset, lengths: Lengths, device: torch.device | str) -> None:
    tokenizer = course_tokenizer()
    torch.manual_seed(0)
    clip = CLIP(ranker_config(tokenizer)).to(device)
    train_clip(clip, sprite_pairs(tokenizer, lengths.sprites, device=device), lengths.ranker)
    save_block(mine, "clip", clip, measure_ranker(clip))


def _sharpened(lengths: Lengths, device: torch.device | str) -> VQGAN:
    """Train the decoder of the course's VQ-GAN without adversary against a discriminator, as in lesson 2e."""
    setting = prepare(0)
    setting = setting._replace(**{name: part.to(device) for name, part in setting._asdict().items()})
    return sharpen(setting, study(setting, lengths.study), 0.8, lengths.sharpen).model
