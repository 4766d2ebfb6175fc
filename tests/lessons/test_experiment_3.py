"""Lesson 3's experiments: text infilling, and the small translator of sprites."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from atelier.blocks.bart import Bart
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.teaching.experiments import lesson_3
from atelier.teaching.experiments.lesson_3 import infill
from atelier.teaching.sprite_translator import (
    coded_sprites,
    draw_sprites,
    train_translator,
    translator_config,
)
from atelier.weights.sprites import load_sprite_model
from atelier.weights.tokenizer import UNKNOWN, Tokenizer, train_tokenizer
from atelier.world import (
    HELD_OUT_SPRITES,
    SPRITE_COLOURS,
    SPRITE_WORDINGS,
    SPRITES,
    is_held_out,
    sprite_requests,
    sprite_scene,
)

# ---------------------------------------------------------------------------------------------- text infilling


@pytest.mark.parametrize("length", [3, 8, 14, 30])
def test_infilling_keeps_seventy_per_cent_of_the_tokens_in_their_order(length: int) -> None:
    dice, tokens = np.random.default_rng(0), list(range(10, 10 + length))
    for _ in range(200):
        kept = [token for token in infill(tokens, dice) if token != UNKNOWN]
        assert len(kept) == length - round(0.3 * length)
        assert kept == sorted(kept)
        assert set(kept) <= set(tokens)
    assert tokens == list(range(10, 10 + length))


def test_the_spans_of_infilling_have_the_lengths_of_a_poisson_distribution() -> None:
    dice, lengths = np.random.default_rng(0), Counter()
    for _ in range(100):
        ends = [9, *infill(list(range(10, 1010)), dice), 1010]
        for before, token, after in zip(ends, ends[1:], ends[2:], strict=False):
            if token == UNKNOWN and UNKNOWN not in (before, after):  # between two masks nothing tells the spans apart
                lengths[after - before - 1] += 1
    total = sum(lengths.values())
    assert total > 6000
    for length, share in enumerate(np.exp(-3) * np.array([1, 3, 9 / 2, 27 / 6, 81 / 24])):
        assert lengths[length] / total == pytest.approx(share, abs=0.02)


# ---------------------------------------------------------------------------------------------- the translator


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    _, captions = sprite_requests(300, 0, held_out=False)
    return train_tokenizer([*captions, *sprite_requests(30, 0, held_out=True)[1]], 400)


@pytest.fixture
def vqgan() -> VQGAN:
    torch.manual_seed(0)
    sizes = VQGANConfig(
        resolution=32, channels=8, multipliers=(1, 1, 1, 1), residual_blocks=1, attention_resolutions=(), z_channels=8,
        codes=16, code_width=4, group_norm_groups=4,
    )  # fmt: skip
    return VQGAN(sizes).eval()


def test_what_is_held_out_of_the_translator_is_known_to_the_vqgan_and_each_value_stays_frequent() -> None:
    assert not any(is_held_out(sprite_scene(*pair)) for pair in HELD_OUT_SPRITES)
    assert {subject for subject, _ in HELD_OUT_SPRITES} == set(SPRITES)
    assert {colour for _, colour in HELD_OUT_SPRITES} == set(SPRITE_COLOURS)
    pairs = [
        pair
        for pair in itertools.product(SPRITES, SPRITE_COLOURS)
        if pair not in HELD_OUT_SPRITES and not is_held_out(sprite_scene(*pair))
    ]
    assert min(Counter(subject for subject, _ in pairs).values()) >= 3
    assert min(Counter(colour for _, colour in pairs).values()) >= 4


def test_requests_take_turns_and_are_held_out_or_seen() -> None:
    for held_out in (True, False):
        scenes, captions = sprite_requests(60, 5, held_out)
        assert all(((scene.subject, scene.colour) in HELD_OUT_SPRITES) == held_out for scene in scenes)
        assert set(Counter(scene.subject for scene in scenes).values()) == {10}
        assert len({(scene.subject, wording // 6 % 5) for wording, scene in enumerate(scenes)}) == 30
        for scene, words in zip(scenes, captions, strict=True):
            assert {str(scene.subject), scene.colour} <= set(words.split())


def test_training_has_no_held_out_sprite_and_codes_belong_to_their_captions(tokenizer: Tokenizer) -> None:
    vqgan = load_sprite_model("vqgan")
    data = coded_sprites(vqgan, tokenizer, n=60, seed=1)
    assert data.texts.shape == (len(SPRITE_WORDINGS), 60, 16)
    assert data.codes.shape == (60, vqgan.config.grid**2)
    for rows in zip(*(tokenizer.decode(texts) for texts in data.texts), strict=True):
        found = {(s, c) for s in SPRITES for c in SPRITE_COLOURS if {s, c} <= set(rows[0].split())}
        assert len(found) == 1
        assert not found & set(HELD_OUT_SPRITES)
        assert all(set(next(iter(found))) <= set(row.split()) for row in rows)


def test_training_lowers_the_loss_and_can_be_repeated(vqgan: VQGAN, tokenizer: Tokenizer) -> None:
    data = coded_sprites(vqgan, tokenizer, n=120)
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        bart = Bart(translator_config(vqgan.config, tokenizer))
        runs.append(train_translator(bart, data, steps=30))
    assert runs[0] == runs[1]
    assert sum(runs[0][-5:]) < 0.9 * sum(runs[0][:5])


def test_the_decoder_reads_damaged_codes_and_some_empty_captions(
    vqgan: VQGAN, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read = coded_sprites(vqgan, tokenizer, n=120), []
    data = data._replace(codes=torch.arange(120)[:, None].expand(-1, 16) % 16)  # all codes of a sprite are equal
    bart = Bart(translator_config(vqgan.config, tokenizer))
    decode = bart.decode
    monkeypatch.setattr(bart, "decode", lambda *given: read.append((given[0], given[2])) or decode(*given))
    for dropped, swapped in ((0.0, 0.0), (0.25, 0.5), (1.0, 0.0)):
        read.clear()
        train_translator(bart, data, steps=10, dropped=dropped, swapped=swapped)
        tokens, mask = (torch.cat(part) for part in zip(*read, strict=True))
        assert (tokens[:, 0] == bart.config.decoder_start).all()
        assert (mask.sum(1) == 2).float().mean().item() == pytest.approx(dropped, abs=0.05)
        if swapped == 0:
            assert (tokens[:, 1:] == tokens[:, 1:2]).all()
        else:
            most = tokens[:, 1:].mode(1).values[:, None]
            assert 0.3 < (tokens[:, 1:] != most).float().mean() < 0.5  # a half, less those swapped for an equal code


def test_drawings_depend_on_caption_and_seed_but_not_on_the_other_captions(vqgan: VQGAN, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    bart = Bart(translator_config(vqgan.config, tokenizer)).eval()
    for parameter in bart.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    captions = ["a red car", "a blue star", "a red car"]
    pictures = draw_sprites(bart, vqgan, tokenizer, captions, guidance=2.0, seed=3)
    assert pictures.shape == (3, 3, 32, 32)
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert torch.equal(pictures, draw_sprites(bart, vqgan, tokenizer, captions, guidance=2.0, seed=3))
    alone = draw_sprites(bart, vqgan, tokenizer, captions[:1], guidance=2.0, seed=3)
    torch.testing.assert_close(pictures[:1], alone, rtol=1e-4, atol=1e-4)
    for changed in ({"seed": 4}, {"guidance": 8.0}):
        options: dict[str, Any] = {"guidance": 2.0, "seed": 3, **changed}
        other = draw_sprites(bart, vqgan, tokenizer, captions, **options)
        assert not torch.equal(pictures, other)
    other = draw_sprites(bart, vqgan, tokenizer, ["a green house", *captions[1:]], guidance=2.0, seed=3)
    assert not torch.equal(pictures[0], other[0])


def test_the_experiment_measures_each_arm_with_its_training(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    real = train_translator

    def short(*given: Any, **named: Any) -> list[float]:
        trained.append((named["dropped"], named["swapped"]))
        return real(*given, steps=2, **named)

    monkeypatch.setattr(lesson_3, "train_translator", short)
    monkeypatch.setattr(lesson_3, "coded_sprites", lambda vqgan, tokenizer, seed: coded_sprites(vqgan, tokenizer, 12))
    monkeypatch.setattr(lesson_3, "DRAWN", 6)
    for arm in lesson_3.TRANSLATING.arms:
        result = lesson_3.translate_sprites(arm, 0)
        shares = [f"{name} {guidance:g}" for name in ("seen", "held out") for guidance in lesson_3.GUIDANCE]
        assert result.keys() == {"loss", *shares}
        assert all(0 <= result[share] <= 1 for share in shares)
    assert trained == [(0.15, 0.5), (0.0, 0.5), (0.15, 0.0)]
