"""Decoding: temperature, top-k and top-p, random numbers, the cache, guidance, prefixes."""

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from atelier.blocks.bart import Bart, BartConfig, FeedForward
from atelier.decoding import Sampling, decode, probabilities, sample_codes, uniform_numbers
from atelier.decoding.cache import StaticCache
from atelier.decoding.graphs import CapturedStep, DecodingSteps, as_cuda_graph, captured
from atelier.decoding.step import DecodingStep, encode_prompts
from atelier.errors import AtelierError
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
    distribution = probabilities(logits, Sampling(temperature=0))
    assert torch.equal(distribution.argmax(1), logits.argmax(1))
    assert torch.equal(distribution.sum(1), torch.ones(5))


def test_top_k_keeps_k_and_their_proportions() -> None:
    logits = torch.randn(5, 24)
    distribution = probabilities(logits, Sampling(top_k=3))
    assert ((distribution > 0).sum(1) == 3).all()
    best = logits.topk(3)
    assert torch.allclose(distribution.gather(1, best.indices), best.values.softmax(1))
    assert torch.allclose(probabilities(logits, Sampling(top_k=999)), logits.softmax(1))


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert torch.allclose(probabilities(logits, Sampling(top_p=0.6)), torch.tensor([[0.625, 0.375, 0, 0]]))
    assert torch.allclose(probabilities(logits, Sampling(top_p=0.01)), torch.tensor([[1.0, 0, 0, 0]]))
    assert torch.allclose(probabilities(logits, Sampling(top_p=1.0)), logits.exp())


@pytest.mark.parametrize("top_p", [1e-40, 1e-46, 5e-324])
def test_a_top_p_too_small_for_float32_keeps_the_most_likely_code(top_p: float) -> None:
    logits = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]).log()
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert torch.equal(probabilities(logits, Sampling(top_p=top_p)), expected)


@given(st.floats(0, 1, exclude_max=True, width=32), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_pick_never_takes_an_impossible_code(uniform: float, seed: int) -> None:
    distribution = torch.rand(3, 9, generator=torch.Generator().manual_seed(seed)).relu()
    distribution[:, ::2] = 0
    distribution = distribution / distribution.sum(1, keepdim=True)
    assert (distribution.gather(1, sample_codes(distribution, torch.full((3,), uniform))[:, None]) > 0).all()


def test_samples_follow_the_distribution() -> None:
    distribution = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    drawn = sample_codes(
        distribution.expand(20_000, -1), torch.rand(20_000, generator=torch.Generator().manual_seed(1))
    )
    assert torch.allclose(drawn.bincount(minlength=4) / 20_000, distribution[0], atol=0.015)


def test_a_pictures_random_numbers_do_not_depend_on_the_others() -> None:
    assert torch.equal(uniform_numbers(0, 9, 64)[:4], uniform_numbers(0, 4, 64))
    assert not torch.equal(uniform_numbers(0, 4, 64), uniform_numbers(1, 4, 64))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_cache_changes_no_code(bart: Bart, guidance: float) -> None:
    """Codes with the cache and shared text keys and values, against a loop that recomputes everything per picture."""
    sampling, uniforms = Sampling(guidance=guidance, top_k=8), uniform_numbers(3, 3, 12)
    fast = last(decode(bart, TEXT, EMPTY, sampling, uniforms.repeat(2, 1)))
    assert fast.shape == (6, 12)
    with torch.no_grad():
        for row in range(6):
            text, written = TEXT[row // 3][None], torch.empty(1, 0, dtype=torch.long)
            for step in range(12):
                tokens = torch.cat([torch.tensor([[CONFIG.decoder_start]]), written], 1)
                logits = bart.decode(tokens, bart.encode(text), bart.text_mask(text))[:, -1, :24]
                blank = bart.decode(tokens, bart.encode(EMPTY[None]), bart.text_mask(EMPTY[None]))[:, -1, :24]
                logits = blank + guidance * (logits - blank)
                code = sample_codes(probabilities(logits, sampling), uniforms[row % 3, step][None])
                written = torch.cat([written, code[None]], 1)
            assert torch.equal(written[0], fast[row]), f"row {row}"


def test_a_prefix_is_kept_and_continued_as_if_it_had_been_drawn(bart: Bart) -> None:
    uniforms = uniform_numbers(4, 3, 12)
    whole = last(decode(bart, TEXT[:1], EMPTY, Sampling(), uniforms))
    steps = list(decode(bart, TEXT[:1], EMPTY, Sampling(), uniforms, prefix=whole[:, :5]))
    assert [step.shape[1] for step in steps] == list(range(6, 13))
    assert torch.equal(steps[-1], whole)


def test_codes_are_never_the_start_token(bart: Bart) -> None:
    codes = last(decode(bart, TEXT, EMPTY, Sampling(temperature=50), uniform_numbers(5, 40, 12).repeat(2, 1)))
    assert codes.max() < CONFIG.target_vocabulary
    assert len(codes.unique()) == CONFIG.target_vocabulary


def test_the_cache_masks_a_prefix_causally(bart: Bart) -> None:
    cache = StaticCache(bart, 2, torch.device("cpu"), torch.float32)
    cache.set_positions(cache.all_positions[:3], length=3)
    positions, mask = cache.positions_and_mask(3)
    assert positions.tolist() == [0, 1, 2]
    assert mask is not None
    assert mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    cache.set_positions(cache.all_positions[3:4], length=4)
    positions, mask = cache.positions_and_mask(1)
    assert positions.tolist() == [3]
    assert mask is None


def test_attention_reads_only_the_filled_part_of_the_cache(bart: Bart) -> None:
    cache = StaticCache(bart, 2, torch.device("cpu"), torch.float32)
    cache.set_positions(cache.all_positions[:2], length=2)
    new = torch.randn(2, 2, CONFIG.heads, 2, 8).unbind()
    seen = cache.layers[1].extend(*new)
    for found, written, held in zip(seen, new, (cache.layers[1].keys, cache.layers[1].values), strict=True):
        assert torch.equal(found, written)
        assert found.data_ptr() == held.data_ptr()  # nothing was copied
    cache.set_positions(cache.all_positions[2:3], length=None)
    seen = cache.layers[1].extend(new[0][:, :, :1], new[1][:, :, :1])
    assert seen[0].shape[2] == CONFIG.target_length
    _, mask = cache.positions_and_mask(1)
    assert mask is not None
    assert mask.tolist() == [[True] * 3 + [False] * 9]


def replayed(function: Callable[..., torch.Tensor], own: tuple[torch.Tensor, ...]) -> Callable[..., torch.Tensor]:
    """Do what torch.cuda.make_graphed_callables does, without a GPU: run the function a few times with these tensors;
    afterwards each call copies its arguments into them and runs the function again, into the same result tensor."""
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
def test_a_step_as_a_cuda_graph_writes_the_same_codes(bart: Bart, monkeypatch, guidance: float, given: int) -> None:
    """The step that a GPU launches as a graph has fixed shapes and attends to the whole cache."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", replayed)
    sampling, uniforms = Sampling(guidance=guidance, top_k=8), uniform_numbers(3, 3, 12).repeat(2, 1)
    expected = last(decode(bart, TEXT, EMPTY, sampling, uniforms))
    with torch.no_grad():
        prompts = encode_prompts(bart, TEXT, EMPTY, sampling.guided)
        step = DecodingStep(bart, prompts, 6, sampling, CONFIG.target_vocabulary)
        positions, written = step.cache.all_positions.clone(), expected[:, :given]
        tokens = torch.cat([torch.full((6, 1), CONFIG.decoder_start), written], dim=1)
        tokens = step(tokens, positions[: given + 1], uniforms[:, given], given + 1)
        launch = as_cuda_graph(step, tokens, step.cache.all_positions[given + 1 : given + 2], uniforms[:, given + 1])
        for at in range(given + 1, 12):
            written = torch.cat([written, tokens], dim=1)
            tokens = launch(tokens, positions[at : at + 1], uniforms[:, at], at + 1)
    assert torch.equal(torch.cat([written, tokens], dim=1), expected)
    assert torch.equal(step.cache.all_positions, positions)


def test_bfloat16_writes_codes_too(bart: Bart) -> None:
    half = copy.deepcopy(bart).bfloat16()
    codes = last(decode(half, TEXT, EMPTY, Sampling(temperature=0), uniform_numbers(0, 2, 12).repeat(2, 1)))
    exact = last(decode(bart, TEXT, EMPTY, Sampling(temperature=0), uniform_numbers(0, 2, 12).repeat(2, 1)))
    assert torch.equal(codes[:, 0], exact[:, 0])
    assert 0 <= codes.min() <= codes.max() < CONFIG.target_vocabulary


@pytest.mark.parametrize(
    "wrong", [{"guidance": -1}, {"temperature": -0.1}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.5}, {"guidance": 1e9}]
)
def test_settings_out_of_range_are_refused_in_a_sentence(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; "):
        Sampling(**wrong)


def test_rows_of_the_output_layer_that_stand_for_no_code_are_never_drawn(bart: Bart) -> None:
    drawn = last(decode(bart, TEXT, EMPTY, Sampling(), uniform_numbers(0, 2, 12).repeat(2, 1), code_count=5))
    assert 0 <= drawn.min() <= drawn.max() < 5
    assert last(decode(bart, TEXT, EMPTY, Sampling(), uniform_numbers(0, 2, 12).repeat(2, 1))).max() >= 5


def test_the_cache_is_freed_with_its_last_reference(bart: Bart) -> None:
    """Without waiting for the garbage collector, since a published model's cache holds 100 MB."""
    gc.disable()
    try:
        cache = StaticCache(bart, 2, torch.device("cpu"), torch.float32)
        cache.set_positions(cache.all_positions[:1], length=1)
        alive = [weakref.ref(cache.layers[0].keys), weakref.ref(cache)]
        del cache
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()


def test_a_step_that_cannot_be_captured_runs_as_it_is(
    bart: Bart, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no room for the graph")

    monkeypatch.setattr("torch.cuda.make_graphed_callables", fail)
    step = DecodingStep(bart, encode_prompts(bart, TEXT, EMPTY, guided=True), 2, Sampling(), 24)
    tokens, uniforms = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2)
    assert captured(step, tokens, step.cache.all_positions[:1], uniforms) is step
    (record,) = caplog.records
    assert "no room for the graph" in record.getMessage()


class Captures:
    """Counts captures, which need no GPU here: see `replayed`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr("atelier.decoding.graphs.can_be_captured", lambda text: True)
        monkeypatch.setattr(torch.cuda, "make_graphed_callables", self.capture)

    def capture(self, function: Callable[..., torch.Tensor], own: tuple[torch.Tensor, ...]) -> object:
        self.count += 1
        return replayed(function, own)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Captures:
    return Captures(monkeypatch)


def drawn(bart: Bart, steps: DecodingSteps | None = None, text: torch.Tensor = TEXT, seed: int = 0, **how: Any) -> list:
    device = bart.text_embedding.weight.device
    uniforms = uniform_numbers(seed, 2, 12).repeat(len(text), 1).to(device)
    return last(decode(bart, text.to(device), EMPTY.to(device), Sampling(**how), uniforms, steps=steps)).tolist()


DRAWINGS: list[dict[str, Any]] = [
    {"seed": 0},
    {"seed": 1, "text": TEXT.flip(0)},
    {"seed": 2, "guidance": 7.5},
    {"seed": 3, "guidance": 0.0, "temperature": 0.3},
    {"seed": 0},
]


def test_a_captured_step_is_used_again_by_later_drawings(bart: Bart, captures: Captures) -> None:
    steps = DecodingSteps()
    found = [drawn(bart, steps, **how) for how in DRAWINGS]
    assert captures.count == 1
    captures.count = 0
    assert found == [drawn(bart, **how) for how in DRAWINGS]  # each with a step of its own
    assert captures.count == len(DRAWINGS)


def test_a_captured_step_writes_the_codes_of_a_plain_one(bart: Bart, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [drawn(bart, **how) for how in DRAWINGS]
    Captures(monkeypatch)
    steps = DecodingSteps()
    assert [drawn(bart, steps, **how) for how in DRAWINGS] == plain


@pytest.mark.parametrize(
    "other",
    [{"guidance": 1.0}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.5}, {"text": TEXT[:1]}],
    ids=lambda value: next(iter(value)),
)
def test_a_drawing_that_needs_another_graph_captures_it(bart: Bart, captures: Captures, other: dict[str, Any]) -> None:
    steps = DecodingSteps()
    found = drawn(bart, steps), drawn(bart, steps, **other), drawn(bart, steps), drawn(bart, steps, **other)
    assert captures.count == 2
    assert found == (drawn(bart), drawn(bart, **other), drawn(bart), drawn(bart, **other))


def test_the_step_that_was_not_used_for_the_longest_time_is_deleted(bart: Bart, captures: Captures) -> None:
    steps = DecodingSteps(most=2)
    for top_k in (1, 2, 1, 3, 1):  # 3 replaces 2
        drawn(bart, steps, top_k=top_k)
    assert captures.count == 3
    drawn(bart, steps, top_k=2)
    assert captures.count == 4


def test_a_drawing_that_was_stopped_gives_its_step_back_and_a_second_one_has_its_own(
    bart: Bart, captures: Captures
) -> None:
    steps = DecodingSteps()
    uniforms = uniform_numbers(0, 2, 12).repeat(len(TEXT), 1)
    begun = [decode(bart, TEXT, EMPTY, Sampling(), uniforms, steps=steps) for _ in range(2)]
    halves = [[next(stream) for _ in range(6)][-1] for stream in begun]  # both at once
    assert captures.count == 2
    assert torch.equal(*halves)
    begun.clear()  # closes both
    assert drawn(bart, steps) == drawn(bart)
    assert captures.count == 3  # the last drawing had no store


def test_steps_are_freed_with_their_pipeline(bart: Bart, captures: Captures) -> None:
    steps = DecodingSteps()
    drawn(bart, steps)
    gc.disable()
    try:
        (step,) = steps._kept.values()
        assert isinstance(step, CapturedStep)
        alive = weakref.ref(step.step.cache)
        del step, steps
        assert alive() is None
    finally:
        gc.enable()


def test_a_failed_capture_is_reported_once(
    bart: Bart, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [drawn(bart, **how) for how in DRAWINGS]

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no room for the graph")

    monkeypatch.setattr("atelier.decoding.graphs.can_be_captured", lambda text: True)
    monkeypatch.setattr("torch.cuda.make_graphed_callables", fail)
    steps = DecodingSteps()
    assert [drawn(bart, steps, **how) for how in DRAWINGS] == expected
    assert len(caplog.records) == 1


def gated_layers(bart: Bart) -> list[FeedForward]:
    return [module for module in bart.modules() if isinstance(module, FeedForward)]


def with_larger_products(bart: Bart, factor: float) -> Bart:
    """A translator whose gated layers multiply larger numbers; the norm behind them makes the results equal."""
    larger = copy.deepcopy(bart)
    with torch.no_grad():
        for layer in gated_layers(larger):
            layer.fc1.weight *= factor
    return larger


def largest_product(bart: Bart) -> float:
    """The largest number before the norms of the feed-forward layers, in float32."""
    seen: list[float] = []
    hooks = [
        layer.ln1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].abs().max().item()))
        for layer in gated_layers(bart)
    ]
    drawn(bart, temperature=0.0)
    for hook in hooks:
        hook.remove()
    return max(seen)


def test_float16_gives_the_codes_of_float32_up_to_its_largest_number_and_an_error_beyond(bart: Bart) -> None:
    """The products of the gated layers are the largest numbers of the published translators' architecture."""
    unit = largest_product(bart)
    for size in (1e2, 1e3, 1e4, 6e4):
        large = with_larger_products(bart, size / unit)
        assert largest_product(large) == pytest.approx(size, rel=0.01)
        same = torch.tensor(drawn(copy.deepcopy(large).half(), temperature=0.0)) == torch.tensor(
            drawn(large, temperature=0.0)
        )
        assert same[:, 0].all()  # later codes follow from earlier ones, so rounding spreads
        assert same.float().mean() >= 0.75
    for size in (7e4, 1e6):
        too_large = with_larger_products(bart, size / unit)
        assert drawn(too_large, temperature=0.0)  # in float32
        with pytest.raises(AtelierError, match="too large for float16, so the codes are meaningless"):
            drawn(too_large.half(), temperature=0.0)


def test_a_captured_step_that_overflowed_can_be_used_again(bart: Bart, captures: Captures) -> None:
    steps, half = DecodingSteps(), copy.deepcopy(bart).half()
    expected = drawn(half, steps)
    (step,) = steps._kept.values()
    step.step.finite.fill_(False)
    with pytest.raises(AtelierError, match="too large for float16"):
        step.check()
    assert drawn(half, steps) == expected
    assert captures.count == 1


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_captures_a_step_once_and_launches_it_as_a_whole(bart: Bart) -> None:
    expected = [drawn(bart, **how) for how in DRAWINGS]
    on_gpu, steps = copy.deepcopy(bart).cuda(), DecodingSteps()
    assert [drawn(on_gpu, steps, **how) for how in DRAWINGS] == expected
    (step,) = steps._kept.values()
    assert step.graph is not step.step, "capturing failed"
    with torch.profiler.profile() as profiler:
        drawn(on_gpu, steps)
    counts = {event.key: event.count for event in profiler.key_averages()}
    assert counts["cudaGraphLaunch"] == CONFIG.target_length
    assert counts["cudaLaunchKernel"] / CONFIG.target_length < 20  # copies into the graph's tensors, and the encoder
