"""A preset that is small enough to be trained in seconds."""

from dataclasses import replace
from pathlib import Path

import torch
from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.classifier import ClassifierConfig, PictureClassifier
from atelier.blocks.clip import CLIP, CLIPConfig
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.preset import Preset, add_file, save_preset, save_weights
from atelier.weights.tokenizer import train_tokenizer
from atelier.world import caption, small_world


def tiny_preset(folder: Path) -> Preset:
    """Write the preset's config.json to a folder, without weights."""
    preset = Preset(
        name="tiny",
        world="small_world",
        picture_size=16,
        vqgan=VQGANConfig(
            resolution=16,
            channels=4,
            multipliers=(1, 1, 2),
            residual_blocks=1,
            attention_resolutions=(),
            z_channels=4,
            codes=16,
            code_width=4,
            group_norm_groups=2,
        ),
        bart=BartConfig(
            text_vocabulary=280,
            target_vocabulary=16,
            text_length=24,
            target_length=16,
            width=16,
            heads=2,
            inner_width=16,
            encoder_layers=1,
            decoder_layers=1,
            dropout=0.1,
        ),
        clip=CLIPConfig(
            embed_dim=8,
            image_size=16,
            patch_size=8,
            vision_width=16,
            vision_layers=1,
            vision_heads=2,
            vocabulary=280,
            context_length=24,
            text_width=16,
            text_layers=1,
            text_heads=2,
            end_token=2,
        ),
        classifier=ClassifierConfig(small_world().attributes, resolution=16, widths=(4, 4)),
        recipes={
            "vqgan": {"batch_size": 4, "warmup_steps": 2, "discriminator_width": 4, "discriminator_layers": 1},
            "bart": {"batch_size": 4, "warmup_steps": 2, "distinct": 40},
            "clip": {"batch_size": 4, "warmup_steps": 2},
            "classifier": {"batch_size": 4, "warmup_steps": 2},
            "judge": {"batch_size": 4, "warmup_steps": 2},
        },
    )
    return save_preset(preset, folder)


def filled_preset(folder: Path) -> Preset:
    """Write the preset with random weights and a trained tokenizer, so that it can draw."""
    captions = [caption(scene) for scene in small_world().sample(500, seed=0)]
    words = tuple(sorted({word for text in captions for word in text.lower().split()}))
    preset = save_preset(replace(tiny_preset(folder), words=words), folder)
    torch.manual_seed(0)
    bart = replace(preset.bart, initial_std=0.3)
    blocks = {
        "vqgan": VQGAN(preset.vqgan),
        "bart": Bart(bart),
        "clip": CLIP(preset.clip_config),
        "judge": PictureClassifier(preset.classifier_config),
    }
    torch.nn.init.normal_(blocks["vqgan"].quantize.embedding.weight)
    for name, block in blocks.items():
        preset = save_weights(preset, name, block)
    path = folder / "tokenizer.json"
    train_tokenizer(captions, preset.bart.text_vocabulary).save(path)
    return add_file(preset, path.name, path.read_bytes())
