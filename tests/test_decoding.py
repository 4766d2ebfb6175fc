"""Decoding: filters, dice, the memory, guidance, prefixes."""

import copy
from collections.abc import Callable

import pytest
import torch
from atelier.blocks.bart import Bart, BartConfig
from atelier.decoding import Sampling, decode, dice, pick, probabilities
from atelier.decoding.decode import Step, recorded
from atelier.decoding.memory import Memory
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIG = BartConfig(
    text_vocabulary=40,
    target_vocabulary=24,
    text_length=10,
    target_length=12,
    width=16,
    heads=2,
    inner_width=24,
    encoder_layers=1,
    decoder_layers=2,
    initial_std=0.4,
)


@pytest.fixture(scope="module")
def bart() -> Bart:
    torch.manual_seed(0)
    return Bart(CONFIG).eval()


TEXT = torch.tensor([[0, 9, 8, 7, 2, 1, 1, 1, 1, 1], [0, 5, 2, 1, 1, 1, 1, 1, 1, 1]])
EMPTY = torch.tensor([0, 2, 1, 1, 1, 1, 1, 1, 1, 1])


def last(steps) -> torch.Tensor:
    *_, codes = steps
    return codes


def test_probabilities_are_a_softmax_by_default() -> None:
    logits = torch.randn(5, 24)
    assert torch.allclose(probabilities(logits, Sampling()), logits.softmax(1))
    assert torch.allclose(probabilities(logits, Sampling(temperature=2)), (logits / 2).softmax(1))


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(5, 24)
    share = probabilities(logits, Sampling(temperature=0))
    assert torch.equal(share.argmax(1), logits.argmax(1))
    assert torch.equal(share.sum(1), torch.ones(5))


def test_top_k_keeps_k_and_their_proportions() -> None:
    logits = torch.randn(5, 24)
    share = probabilities(logits, Sampling(top_k=3))
    assert ((share > 0).sum(1) == 3).all()
    best = logits.topk(3)
    assert torch.allclose(share.gather(1, best.indices), best.values.softmax(1))
    assert torch.allclose(probabilities(logits, Sampling(top_k=999)), logits.softmax(1))


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert torch.allclose(probabilities(logits, Sampling(top_p=0.6)), torch.tensor([[0.625, 0.375, 0, 0]]))
    assert torch.allclose(probabilities(logits, Sampling(top_p=0.01)), torch.tensor([[1.0, 0, 0, 0]]))
    assert torch.allclose(probabilities(logits, Sampling(top_p=1.0)), logits.exp())


@given(st.floats(0, 1, exclude_max=True, width=32), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_pick_never_takes_an_impossible_code(throw: float, seed: int) -> None:
    share = torch.rand(3, 9, generator=torch.Generator().manual_seed(seed)).relu()
    share[:, ::2] = 0
    share = share / share.sum(1, keepdim=True)
    assert (share.gather(1, pick(share, torch.full((3,), throw))[:, None]) > 0).all()


def test_pick_follows_the_distribution() -> None:
    share = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    drawn = pick(share.expand(20_000, -1), torch.rand(20_000, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(drawn.bincount(minlength=4) / 20_000, share[0], atol=0.015)


def test_a_pictures_dice_do_not_depend_on_the_others() -> None:
    assert torch.equal(dice(0, 9, 64)[:4], dice(0, 4, 64))
    assert not torch.equal(dice(0, 4, 64), dice(1, 4, 64))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_memory_changes_nothing(bart: Bart, guidance: float) -> None:
    """Codes with memory and shared text against a loop that computes everything anew for every picture alone."""
    sampling, throws = Sampling(guidance=guidance, top_k=8), dice(3, 3, 12)
    fast = last(decode(bart, TEXT, EMPTY, sampling, throws.repeat(2, 1)))
    assert fast.shape == (6, 12)
    with torch.no_grad():
        for row in range(6):
            text, written = TEXT[row // 3][None], torch.empty(1, 0, dtype=torch.long)
            for step in range(12):
                tokens = torch.cat([torch.tensor([[CONFIG.decoder_start]]), written], 1)
                logits = bart.decode(tokens, bart.encode(text), bart.text_mask(text))[:, -1, :24]
                blank = bart.decode(tokens, bart.encode(EMPTY[None]), bart.text_mask(EMPTY[None]))[:, -1, :24]
                logits = blank + guidance * (logits - blank)
                code = pick(probabilities(logits, sampling), throws[row % 3, step][None])
                written = torch.cat([written, code[None]], 1)
            assert torch.equal(written[0], fast[row]), f"row {row}"


def test_a_prefix_is_kept_and_continued_as_if_it_had_been_drawn(bart: Bart) -> None:
    throws = dice(4, 3, 12)
    whole = last(decode(bart, TEXT[:1], EMPTY, Sampling(), throws))
    steps = list(decode(bart, TEXT[:1], EMPTY, Sampling(), throws, prefix=whole[:, :5]))
    assert [step.shape[1] for step in steps] == list(range(6, 13))
    assert torch.equal(steps[-1], whole)


def test_codes_are_never_the_start_token(bart: Bart) -> None:
    codes = last(decode(bart, TEXT, EMPTY, Sampling(temperature=50), dice(5, 40, 12).repeat(2, 1)))
    assert codes.max() < CONFIG.target_vocabulary
    assert len(codes.unique()) == CONFIG.target_vocabulary


def test_memory_masks_a_prefix_causally(bart: Bart) -> None:
    memory = Memory(bart, 2, torch.device("cpu"), torch.float32)
    memory.look_at(memory.places[:3], shown=3)
    positions, mask = memory.place(3)
    assert positions.tolist() == [0, 1, 2]
    assert mask is not None
    assert mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    memory.look_at(memory.places[3:4], shown=4)
    positions, mask = memory.place(1)
    assert positions.tolist() == [3]
    assert mask is None


def test_only_the_filled_part_of_the_memory_is_looked_at(bart: Bart) -> None:
    memory = Memory(bart, 2, torch.device("cpu"), torch.float32)
    memory.look_at(memory.places[:2], shown=2)
    new = torch.randn(2, 2, CONFIG.heads, 2, 8).unbind()
    seen = memory.layers[1].extend(*new)
    for found, written, held in zip(seen, new, (memory.layers[1].keys, memory.layers[1].values), strict=True):
        assert torch.equal(found, written)
        assert found.data_ptr() == held.data_ptr()  # nothing was copied
    memory.look_at(memory.places[2:3], shown=None)
    seen = memory.layers[1].extend(new[0][:, :, :1], new[1][:, :, :1])
    assert seen[0].shape[2] == CONFIG.target_length
    _, mask = memory.place(1)
    assert mask is not None
    assert mask.tolist() == [[True] * 3 + [False] * 9]


def replayed(function: Callable[..., torch.Tensor], own: tuple[torch.Tensor, ...]) -> Callable[..., torch.Tensor]:
    """What torch.cuda.make_graphed_callables does, without a GPU: it runs the function a few times with these tensors;
    afterwards each call copies its arguments into them and does the same again, into the same result."""
    for _ in range(4):
        result = function(*own)

    def replay(*arguments: torch.Tensor) -> torch.Tensor:
        for mine, new in zip(own, arguments, strict=True):
            assert mine.shape == new.shape
            mine.copy_(new)
        return result.copy_(function(*own))

    return replay


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("given", [0, 5])
def test_a_recorded_step_writes_the_same_codes(bart: Bart, monkeypatch, guidance: float, given: int) -> None:
    """The step that a GPU launches as a graph: its shapes are always the same, and it looks at all places."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", replayed)
    sampling, throws = Sampling(guidance=guidance, top_k=8), dice(3, 3, 12).repeat(2, 1)
    expected = last(decode(bart, TEXT, EMPTY, sampling, throws))
    with torch.no_grad():
        step = Step(bart, TEXT, EMPTY, 6, sampling, CONFIG.target_vocabulary)
        places, written = step.memory.places.clone(), expected[:, :given]
        tokens = torch.cat([torch.full((6, 1), CONFIG.decoder_start), written], dim=1)
        tokens = step(tokens, places[: given + 1], throws[:, given], given + 1)
        launch = recorded(step, tokens, step.memory.places[given + 1 : given + 2], throws[:, given + 1])
        for at in range(given + 1, 12):
            written = torch.cat([written, tokens], dim=1)
            tokens = launch(tokens, places[at : at + 1], throws[:, at], at + 1)
    assert torch.equal(torch.cat([written, tokens], dim=1), expected)
    assert torch.equal(step.memory.places, places)


def test_bfloat16_writes_codes_too(bart: Bart) -> None:
    half = copy.deepcopy(bart).bfloat16()
    codes = last(decode(half, TEXT, EMPTY, Sampling(temperature=0), dice(0, 2, 12).repeat(2, 1)))
    exact = last(decode(bart, TEXT, EMPTY, Sampling(temperature=0), dice(0, 2, 12).repeat(2, 1)))
    assert torch.equal(codes[:, 0], exact[:, 0])
    assert 0 <= codes.min() <= codes.max() < CONFIG.target_vocabulary


@pytest.mark.parametrize(
    "wrong", [{"guidance": -1}, {"temperature": -0.1}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.5}, {"guidance": 1e9}]
)
def test_settings_out_of_range_are_refused_in_a_sentence(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; "):
        Sampling(**wrong)


def test_rows_of_the_tables_that_are_no_codes_are_never_drawn(bart: Bart) -> None:
    drawn = last(decode(bart, TEXT, EMPTY, Sampling(), dice(0, 2, 12).repeat(2, 1), codes=5))
    assert 0 <= drawn.min() <= drawn.max() < 5
    assert last(decode(bart, TEXT, EMPTY, Sampling(), dice(0, 2, 12).repeat(2, 1))).max() >= 5
