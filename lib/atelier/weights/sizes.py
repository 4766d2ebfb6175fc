"""Checks of the blocks' configs: whether the sizes are possible and fit together.

The blocks themselves check only what would otherwise cause a confusing error. Configs from a file or from a user are
checked here, before a block is built.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import singledispatch
from typing import Any

from atelier.arguments import shown
from atelier.blocks.autoencoder import ConvConfig
from atelier.blocks.bart import BartConfig
from atelier.blocks.classifier import ClassifierConfig
from atelier.blocks.clip import CLIPConfig
from atelier.blocks.gan import GANConfig
from atelier.blocks.vqgan import PIXEL_RANGES, VQGANConfig

BLOCKS = (ConvConfig, GANConfig, VQGANConfig, BartConfig, CLIPConfig, ClassifierConfig)
MOST = 2**18  # of any size; no published model has a larger one
MOST_LAYERS, MOST_LEVELS = 512, 16
LAYERS = ("encoder_layers", "decoder_layers", "vision_layers", "text_layers", "residual_blocks", "depth", "levels")


def check_sizes(config: object) -> None:
    """Checks the config of a block; a config of any other kind is accepted as it is.

    Args:
        config: a ConvConfig, GANConfig, VQGANConfig, BartConfig or CLIPConfig, or one of a subclass.

    Raises:
        ValueError: if a size is out of range, or sizes do not fit together. The message names the field.
    """
    if isinstance(config, BLOCKS):
        _check_limits(config)
    _check_block(config)


def _check_limits(config: Any) -> None:
    """Raises ValueError if a size is so large that building the block would not end, or would fill the memory."""
    for name, value in vars(config).items():
        numbers = value if isinstance(value, tuple) else (value,)
        most = MOST_LAYERS if name in LAYERS else MOST
        if len(numbers) > MOST_LAYERS or any(isinstance(number, int) and abs(number) > most for number in numbers):
            raise ValueError(f"{name} is {shown(value)}: give numbers up to {most}.")


@singledispatch
def _check_block(config: object) -> None:
    """Checks the sizes of one kind of block."""


@_check_block.register
def _(config: ConvConfig) -> None:
    if min(vars(config).values()) < 1:
        raise ValueError(f"{config} has a number below 1: give whole numbers from 1.")


@_check_block.register
def _(config: GANConfig) -> None:
    if config.latent < 1 or config.width < 2 or config.width % 2:
        raise ValueError(f"latent is {config.latent}, width {config.width}: give at least 1, and an even number.")


@_check_block.register
def _(config: VQGANConfig) -> None:
    if not config.multipliers or min(config.multipliers) < 1:
        raise ValueError(f"multipliers is {config.multipliers}: give at least one level, and whole numbers from 1.")
    for name in ("resolution", "channels", "residual_blocks", "z_channels", "codes", "code_width"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}: give a whole number from 1.")
    if max(config.widths) > MOST or len(config.multipliers) > MOST_LEVELS:
        raise ValueError(f"multipliers is {shown(config.multipliers)}: give fewer or smaller numbers.")
    if config.resolution % config.factor:
        raise ValueError(
            f"A picture of {config.resolution} pixels cannot be halved {len(config.multipliers) - 1} times: "
            f"give a resolution that {config.factor} divides, or fewer multipliers."
        )
    if config.group_norm_groups < 1 or config.channels % config.group_norm_groups:
        raise ValueError(
            f"{config.group_norm_groups} groups of GroupNorm do not divide {config.channels} channels: "
            "give a group_norm_groups that does."
        )
    if config.pixel_range not in PIXEL_RANGES:
        raise ValueError(f"pixel_range is {config.pixel_range!r}: give one of {', '.join(PIXEL_RANGES)}.")
    check_codebook(config.codes, config.code_width, config.beta, config.decay, config.restart_below)


def check_codebook(
    codes: int, width: int, beta: float = 0.25, decay: float | None = 0.99, restart_below: float = 0.05
) -> None:
    """Checks the arguments of a VectorQuantizer (decay None) or a MovingAverageQuantizer.

    Args:
        codes: the number of codes.
        width: the length of a code.
        beta: weight of the commitment term.
        decay: the decay of the moving averages; None for a codebook that is learned by gradient.
        restart_below: the share of the mean count below which a code is restarted.

    Raises:
        ValueError: if an argument is out of range.
    """
    if codes < 1 or width < 1:
        raise ValueError(f"A codebook needs at least one code of at least one number, not {codes} of {width}.")
    if beta < 0:
        raise ValueError(f"beta is {beta}: give 0 or more.")
    if decay is not None and not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}: give a number from 0 to below 1, or None to learn by gradient.")
    if not 0 <= restart_below < 1:
        raise ValueError(f"restart_below is {restart_below}: give a share of the mean count from 0 to below 1.")


@_check_block.register
def _(config: BartConfig) -> None:
    _check_positive(config, "a Bart")
    if config.shared_embedding and config.text_vocabulary != config.target_vocabulary:
        raise ValueError(
            f"With shared_embedding text and target have one vocabulary, but text_vocabulary is "
            f"{config.text_vocabulary} and target_vocabulary {config.target_vocabulary}; make them equal."
        )
    if not 0 <= config.decoder_start < config.target_rows:
        raise ValueError(
            f"start_token {config.start_token} is not a row of the target embedding, which has {config.target_rows}."
        )
    if not 0 <= config.pad_token < config.text_vocabulary:
        raise ValueError(f"pad_token {config.pad_token} is not among the {config.text_vocabulary} text tokens.")
    if config.position_offset < 0:
        raise ValueError(f"position_offset is {config.position_offset}; it is a number of rows, so give 0 or more.")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout is {config.dropout}; it is a share, so give at least 0 and less than 1.")


@_check_block.register
def _(config: CLIPConfig) -> None:
    _check_positive(config, "a CLIP")
    if config.image_size % config.patch_size:
        raise ValueError(
            f"Pictures of {config.image_size} pixels cannot be cut into patches of {config.patch_size}; "
            "choose a patch_size that divides image_size."
        )
    if config.mlp_ratio <= 0:
        raise ValueError(f"mlp_ratio is {config.mlp_ratio}; give a number above 0.")
    if config.end_token is not None and not 0 <= config.end_token < config.vocabulary:
        raise ValueError(f"end_token {config.end_token} is not among the {config.vocabulary} text tokens.")


def _check_positive(config: Any, block: str) -> None:
    """Raises ValueError if a field without a default, all of which are sizes, is below 1."""
    for name in (field.name for field in fields(config) if field.default is MISSING):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; {block} needs at least 1.")
