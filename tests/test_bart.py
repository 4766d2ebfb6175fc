"""The translator: what it may look at, what its caches must not change, and that it learns."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from atelier.blocks.bart import Bart, BartConfig
from atelier.weights.sizes import check_sizes
from torch import Tensor

DALLE = BartConfig(
    text_vocabulary=40,
    target_vocabulary=32,
    text_length=8,
    target_length=12,
    width=32,
    heads=4,
    inner_width=44,
    encoder_layers=2,
    decoder_layers=2,
)
CLASSIC = replace(
    DALLE,
    target_vocabulary=40,
    start_token=2,
    normformer=False,
    glu=False,
    bias=True,
    shared_embedding=True,
    final_logits_bias=True,
    position_offset=2,
)
both = pytest.mark.parametrize("config", [DALLE, CLASSIC], ids=["dalle", "classic"])


def random_bart(config: BartConfig) -> Bart:
    """A Bart in which no parameter is at its special first value."""
    torch.manual_seed(0)
    bart = Bart(config).eval()
    for parameter in bart.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return bart


def texts(rows: int = 2, length: int = 8, padding: int = 3) -> Tensor:
    ids = torch.randint(4, 40, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[0, length - padding :] = 1
    return ids


def targets(rows: int = 2, length: int = 12) -> Tensor:
    return torch.randint(32, (rows, length), generator=torch.Generator().manual_seed(2))


class GrowingLayer:
    def __init__(self):
        self.seen = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.stack([keys, values])
        self.seen = new if self.seen is None else torch.cat([self.seen, new], dim=3)
        return self.seen[0], self.seen[1]


class GrowingCache:
    """Keys and values by concatenation, with a mask whenever several tokens come at once."""

    def __init__(self, layers: int):
        self.layers = [GrowingLayer() for _ in range(layers)]
        self.length = 0

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor | None]:
        positions = torch.arange(self.length, self.length + count)
        self.length += count
        mask = torch.arange(self.length) <= positions[:, None]
        return positions, (mask if count > 1 else None)


class FixedLayer:
    def __init__(self, cache: "FixedCache", shape: tuple[int, ...]):
        self.cache, self.keys, self.values = cache, torch.full(shape, 9.0), torch.full(shape, 9.0)

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.keys[:, :, self.cache.positions] = keys
        self.values[:, :, self.cache.positions] = values
        return self.keys, self.values


class FixedCache:
    """Keys and values in tensors of full length, as captured graphs want them; empty places hold rubbish."""

    def __init__(self, rows: int, config: BartConfig):
        shape = (rows, config.heads, config.target_length, config.width // config.heads)
        self.layers = [FixedLayer(self, shape) for _ in range(config.decoder_layers)]
        self.positions = torch.arange(0)
        self.all = torch.arange(config.target_length)

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor]:
        start = int(self.positions[-1]) + 1 if len(self.positions) else 0
        self.positions = torch.arange(start, start + count)
        return self.positions, self.all <= self.positions[:, None]


@both
def test_logits_have_one_row_per_target_and_the_width_of_the_vocabulary(config):
    assert random_bart(config)(texts(), targets()).shape == (2, 12, config.target_rows)


@both
def test_a_code_sees_no_later_code(config):
    bart, changed = random_bart(config), targets()
    changed[:, 6] = (changed[:, 6] + 1) % 32
    with torch.no_grad():
        before, after = bart(texts(), targets()), bart(texts(), changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(dim=-1).all()


@both
def test_padding_has_no_influence(config):
    bart = random_bart(config)
    with torch.no_grad():
        padded = bart(texts()[:1], targets(1))
        cut = bart(texts()[:1, :5], targets(1))
    torch.testing.assert_close(padded, cut)


@both
def test_every_word_has_influence(config):
    bart = random_bart(config)
    with torch.no_grad():
        before = bart(texts()[:1], targets(1))
        for place in range(5):
            changed = texts()[:1]
            changed[0, place] = 4 + (changed[0, place] - 3) % 36
            assert not torch.allclose(before, bart(changed, targets(1)))


@both
def test_an_explicit_mask_replaces_the_padding(config):
    bart, text = random_bart(config), texts()[1:]
    mask = torch.arange(8)[None] < 5
    with torch.no_grad():
        masked = bart.encode(text, mask)[:, :5]
        torch.testing.assert_close(masked, bart.encode(text[:, :5]))
        assert not torch.allclose(masked, bart.encode(text)[:, :5])


@both
def test_teacher_forcing_shows_the_decoder_the_start_token_and_all_codes_but_the_last(config):
    bart, text, codes = random_bart(config), texts(), targets()
    shifted = bart.shift(codes)
    assert (shifted[:, 0] == config.decoder_start).all()
    assert torch.equal(shifted[:, 1:], codes[:, :-1])
    with torch.no_grad():
        expected = bart.decode(shifted, bart.encode(text), bart.text_mask(text))
        assert torch.equal(bart(text, codes), expected)


@both
def test_pictures_of_one_prompt_share_its_keys(config):
    bart, text, codes = random_bart(config), texts(), bart_tokens(config, rows=6)
    with torch.no_grad():
        state, mask = bart.encode(text), bart.text_mask(text)
        shared = bart.decode(codes, state, mask)
        copied = bart.decode(codes, state.repeat_interleave(3, 0), mask.repeat_interleave(3, 0))
    torch.testing.assert_close(shared, copied)


@both
@pytest.mark.parametrize("cuts", [[1] * 12, [5, 1, 4, 2]], ids=["one by one", "in pieces"])
@pytest.mark.parametrize("fixed", [False, True], ids=["growing", "fixed"])
def test_a_cache_changes_nothing(config, cuts, fixed):
    bart, text, codes = random_bart(config), texts(), bart_tokens(config, rows=4)
    cache = FixedCache(4, config) if fixed else GrowingCache(config.decoder_layers)
    with torch.no_grad():
        state, mask = bart.encode(text), bart.text_mask(text)
        whole = bart.decode(codes, state, mask)
        projected = bart.project(state)
        parts = [bart.decode(part, projected, mask, cache) for part in codes.split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def bart_tokens(config: BartConfig, rows: int) -> Tensor:
    return F.pad(targets(rows)[:, :-1], (1, 0), value=config.decoder_start)


@both
def test_the_gradient_reaches_every_parameter(config):
    bart = random_bart(config)
    bart(texts(), targets()).square().mean().backward()
    without = [
        name for name, parameter in bart.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    # Softmax does not change when all keys shift by the same vector, so BART's key biases have a gradient of 0.
    assert [name for name in without if not name.endswith("k_proj.bias")] == []


@both
def test_mixed_precision_gives_nearly_the_same_gradient(config):
    gradients = []
    for mixed in (False, True):
        torch.manual_seed(0)
        bart = Bart(config)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = bart(texts(), targets())
        F.cross_entropy(logits.float().flatten(0, 1), targets().flatten()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in bart.parameters() if p.grad is not None]))
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.99


@both
def test_no_tensor_is_stored_twice_and_loading_is_strict(config):
    bart = random_bart(config)
    state = bart.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    with torch.device("meta"):
        other = Bart(config).eval()
    other.load_state_dict(state, assign=True)
    with torch.no_grad():
        assert torch.equal(other(texts(), targets()), bart(texts(), targets()))


def test_norms_without_scale_have_only_a_shift():
    names = set(Bart(DALLE).state_dict())
    for norm in ("encoder.final_ln", "decoder.layers.1.pre_encoder_attn_layer_norm", "encoder.layers.0.ffn.ln1"):
        assert f"{norm}.bias" in names
        assert f"{norm}.weight" not in names
    assert "encoder.layers.0.self_attn_layer_norm.weight" in names


def test_dropout_is_for_training_only():
    bart = random_bart(replace(DALLE, dropout=0.5))
    with torch.no_grad():
        assert torch.equal(bart(texts(), targets()), bart(texts(), targets()))
        bart.train()
        assert not torch.equal(bart(texts(), targets()), bart(texts(), targets()))


def test_it_learns_to_write_a_text_down_backwards():
    torch.manual_seed(0)
    bart = Bart(replace(DALLE, target_length=8, text_length=5, inner_width=64))
    optimiser = torch.optim.AdamW(bart.parameters(), lr=3e-3)

    def batch(rows: int) -> tuple[Tensor, Tensor]:
        text = torch.randint(4, 32, (rows, 5))
        return text, text.flip(1)

    for _ in range(200):
        text, backwards = batch(32)
        loss = F.cross_entropy(bart(text, backwards).flatten(0, 1), backwards.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    text, backwards = batch(100)
    written = bart(text, backwards).argmax(dim=-1)
    assert (written == backwards).float().mean() > 0.98


@pytest.mark.parametrize(
    ("name", "millions"), [("dalle_mini", 437.834), ("dalle_mega", 2587.521), ("bart_base", 139.420)]
)
def test_the_published_sizes(name, millions):
    with torch.device("meta"):
        bart = Bart(getattr(BartConfig, name)())
    assert sum(parameter.numel() for parameter in bart.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)


def test_start_tokens():
    assert BartConfig.dalle_mini().decoder_start == BartConfig.dalle_mega().decoder_start == 16384
    assert BartConfig.dalle_mini().target_rows == 16385
    assert BartConfig.dalle_mega().target_rows == 16416
    assert BartConfig.bart_base().decoder_start == 2
    assert BartConfig.bart_base().target_rows == 50265


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "width 30 cannot be split into 4 heads"),
        ({"decoder_layers": 0}, "decoder_layers is 0"),
        ({"shared_embedding": True}, "text_vocabulary is 40 and target_vocabulary 32"),
        ({"start_token": 33}, "start_token 33 is not a row"),
        ({"start_token": -1}, "start_token -1"),
        ({"pad_token": 40}, "pad_token 40"),
        ({"position_offset": -1}, "position_offset is -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_sizes(replace(DALLE, **change))


def test_ids_of_a_wrong_shape_are_refused():
    bart, text = random_bart(DALLE), texts()
    mask = bart.text_mask(text)
    state = bart.encode(text)
    with pytest.raises(ValueError, match=r"text has 9 tokens a row; this model takes 1 to 8"):
        bart.encode(texts(length=9))
    with pytest.raises(ValueError, match=r"text has shape \(8,\)"):
        bart.encode(text[0])
    with pytest.raises(ValueError, match=r"tokens has 13 tokens a row; this model takes 1 to 12"):
        bart.decode(targets(length=13), state, mask)
    with pytest.raises(ValueError, match=r"3 target rows do not divide among 2 prompts"):
        bart.decode(targets(3), state, mask)
