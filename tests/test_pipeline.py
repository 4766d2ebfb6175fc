"""The pipeline on a tiny preset with random weights: properties that hold for any weights."""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atelier import Drawing, Pipeline
from atelier.blocks.clip import CLIP
from atelier.decoding import Sampling, SamplingOptions, uniform_numbers
from atelier.decoding.sampling import probabilities
from atelier.drawing.pipeline import PromptError
from atelier.drawing.prompts import similar_words, unknown_words
from atelier.errors import AtelierError, FileError
from atelier.pictures import seen_by_clip
from atelier.weights.preset import load_preset
from atelier.weights.storage import PresetError
from atelier.weights.tokenizer import train_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_preset import filled_preset

PROMPT = "a red cat on the moon"
OPTIONS = ("guidance", "temperature", "top_k", "top_p")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_preset(tmp_path_factory.mktemp("presets") / "tiny").folder


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder, device="cpu")


def same(a: Drawing, b: Drawing) -> bool:
    return torch.equal(a.codes, b.codes) and torch.allclose(a.pictures, b.pictures, atol=1e-5) and a.prompt == b.prompt


def test_a_drawing_has_pictures_codes_and_scores(pipe: Pipeline) -> None:
    drawing = pipe.draw(PROMPT, n=5, seed=0)
    assert drawing.pictures.shape == (5, 3, 16, 16)
    assert drawing.codes.shape == (5, 4, 4)
    assert len(drawing.images) == 5
    assert drawing.images[0].size == (16, 16)
    assert drawing.seed == 0
    assert drawing.progress == 1
    assert drawing.scores == sorted(drawing.scores or [], reverse=True)
    assert all(-100 <= score <= 100 for score in drawing.scores or [])
    assert torch.allclose(pipe.decode(drawing.codes), drawing.pictures, atol=1e-5)
    assert torch.allclose(torch.tensor(pipe.score(PROMPT, drawing.pictures)), torch.tensor(drawing.scores), atol=1e-3)


def test_a_seed_repeats_a_drawing_and_zero_is_a_seed(pipe: Pipeline) -> None:
    assert same(pipe.draw(PROMPT, n=3, seed=0), pipe.draw(PROMPT, n=3, seed=0))
    assert not same(pipe.draw(PROMPT, n=3, seed=0), pipe.draw(PROMPT, n=3, seed=1))
    assert same(pipe.draw(PROMPT, n=3, seed=2**64), pipe.draw(PROMPT, n=3, seed=2**64))
    random = pipe.draw(PROMPT, n=3)
    assert not same(random, pipe.draw(PROMPT, n=3))
    assert same(random, pipe.draw(PROMPT, n=3, seed=random.seed))


def test_seeds_of_any_size_and_integer_type_give_different_pictures(pipe: Pipeline) -> None:
    seeds = [0, 1, 2**32, 2**32 + 1, 2**64, -1, -(2**32)]
    numbers = [uniform_numbers(seed, 2, 16) for seed in seeds]
    assert all(not torch.equal(a, b) for place, a in enumerate(numbers) for b in numbers[:place])
    assert all((number >= 0).all() and (number < 1).all() for number in numbers)
    assert same(pipe.draw(PROMPT, n=2, seed=np.int64(5)), pipe.draw(PROMPT, n=2, seed=5))
    with pytest.raises(AtelierError, match=r"The seed is 1\.5; give a whole number"):
        pipe.draw(PROMPT, seed=1.5)  # ty: ignore[no-matching-overload]


@pytest.mark.parametrize("temperature", [0.0, 1e-7, 1e-38, 1e-320])
def test_a_tiny_temperature_takes_the_likeliest_code(temperature: float) -> None:
    logits = torch.tensor([[0.1, 3.0, -2.0], [5.0, 4.999, 0.0]])
    assert probabilities(logits, Sampling(temperature=temperature)).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_global_switches_of_torch_do_not_change_a_drawing(pipe: Pipeline) -> None:
    plain = pipe.draw(PROMPT, n=2, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(plain, pipe.draw(PROMPT, n=2, seed=3))
    torch.set_default_dtype(torch.float64)
    try:
        assert same(plain, pipe.draw(PROMPT, n=2, seed=3))
        with torch.autocast("cpu", torch.bfloat16):
            assert same(plain, pipe.draw(PROMPT, n=2, seed=3))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), r"of type torch\.uint8"),
        (255 * torch.ones(2, 3, 16, 16), "run from 255 to 255; they should be from 0 to 1"),
        (torch.full((2, 3, 16, 16), torch.nan), "run from nan to nan"),
        (torch.zeros(3, 16, 16), r"the shape \(3, 16, 16\)"),
        (np.zeros((2, 3, 16, 16)), "of type ndarray"),
    ],
)
def test_pixels_that_are_no_pictures_are_refused(pipe: Pipeline, pictures: Any, words: str) -> None:
    with pytest.raises(AtelierError, match=words):
        pipe.score(PROMPT, pictures)


def test_complete_says_what_it_takes(pipe: Pipeline) -> None:
    with pytest.raises(AtelierError, match="The picture is a str; give a PIL image"):
        pipe.complete("x.png", PROMPT)  # ty: ignore[invalid-argument-type]
    with pytest.raises(AtelierError, match="should be from 0 to 1"):
        pipe.complete(255 * torch.ones(3, 16, 16), PROMPT)


def test_drawings_are_equal_if_their_values_are_and_can_be_kept_in_sets(pipe: Pipeline) -> None:
    drawing = pipe.draw(PROMPT, n=2, seed=0)
    assert drawing == pipe.draw(PROMPT, n=2, seed=0)
    assert drawing != pipe.draw(PROMPT, n=2, seed=1)
    assert drawing != pipe.draw(PROMPT, n=2, seed=0, rank=False)
    assert drawing != PROMPT
    assert len({drawing, pipe.draw(PROMPT, n=2, seed=0), pipe.draw(PROMPT, n=1, seed=0)}) == 2


@pytest.mark.parametrize("rank", [True, False])
def test_each_picture_can_be_drawn_again_alone_from_its_file(pipe: Pipeline, tmp_path: Path, rank: bool) -> None:
    drawing = pipe.draw(PROMPT, n=6, seed=3, rank=rank, guidance=2.0)
    assert sorted(drawing.places) == [1, 2, 3, 4, 5, 6]
    assert (drawing.places == (1, 2, 3, 4, 5, 6)) is not rank
    for number, image in enumerate(drawing.images):
        image.save(tmp_path / "one.png")
        with Image.open(tmp_path / "one.png") as opened:
            record = json.loads(opened.info["atelier"])
        assert record.pop("preset") == "tiny"
        again = pipe.draw(**record)
        assert again.places == (drawing.places[number],)
        assert torch.equal(again.codes[0], drawing.codes[number])
    drawing.save(tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as opened:
        assert json.loads(opened.info["atelier"])["places"] == list(drawing.places)


def test_one_picture_of_a_completion_can_be_drawn_alone(pipe: Pipeline) -> None:
    picture = pipe.draw(PROMPT, n=1, seed=0).images[0]
    drawing = pipe.complete(picture, PROMPT, rows=2, n=3, seed=1)
    again = pipe.complete(picture, PROMPT, rows=2, seed=1, place=drawing.places[1])
    assert torch.equal(again.codes[0], drawing.codes[1])
    assert again.record()["kept_rows"] == 2
    assert again.record()["kept_codes"] == 8


@given(value=st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.binary(max_size=2), st.just([])))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_argument_of_any_wrong_type_gets_one_sentence(pipe: Pipeline, value: Any) -> None:
    wrong: list[dict[str, Any]] = [{"n": 1, name: value} for name in ("n", "seed", "place", *OPTIONS)]
    calls: list[Callable[[], Any]] = [
        lambda: pipe.draw(value, n=1),
        lambda: pipe.draw([value], n=1),
        *(lambda given=given: pipe.draw(PROMPT, **given) for given in wrong),
        lambda: pipe.complete(value, PROMPT, n=1),
        lambda: pipe.complete(Image.new("RGB", (9, 9)), PROMPT, rows=value, n=1),
        lambda: pipe.score(PROMPT, value),
        lambda: pipe.decode(value),
        lambda: pipe.draw(PROMPT, n=1, seed=0).grid(columns=value, zoom=value),
        lambda: pipe.draw(PROMPT, n=1, seed=0).save(value),
        lambda: Pipeline.from_pretrained(value if value is not None else "no"),
        lambda: next(pipe.stream(PROMPT, n=1, every=value)),
    ]
    for call in calls:
        with suppress(AtelierError):
            call()


def test_a_damaged_or_empty_image_gets_one_sentence(pipe: Pipeline, tmp_path: Path) -> None:
    Image.effect_noise((50, 50), 90).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:900])
    with pytest.raises(AtelierError, match="The image cannot be read"), Image.open(tmp_path / "x.png") as opened:
        pipe.complete(opened, PROMPT)
    with pytest.raises(AtelierError, match="has 3 × 0 pixels"):
        pipe.complete(Image.new("RGB", (3, 0)), PROMPT)


def test_a_sheet_that_would_be_huge_is_refused(pipe: Pipeline) -> None:
    with pytest.raises(AtelierError, match="at most 16000 on a side"):
        pipe.draw(PROMPT, n=2, seed=0).grid(zoom=1000)


def test_a_picture_that_cannot_be_written_leaves_the_old_file_and_no_other(
    pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = pipe.draw(PROMPT, n=1, seed=0)
    path = drawing.save(tmp_path / "x.png")
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=rf"{path} cannot be read or written: No space left"):
        drawing.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_tilde_is_the_users_folder(pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert pipe.draw(PROMPT, n=1, seed=0).save("~/a/x.png") == tmp_path / "a" / "x.png"
    filled_preset(tmp_path / "own")
    assert load_preset("~/own").folder == tmp_path / "own"


def test_a_picture_does_not_depend_on_how_many_are_drawn(pipe: Pipeline) -> None:
    many, few = (pipe.draw(PROMPT, n=n, seed=2, rank=False).codes for n in (9, 4))
    assert torch.equal(many[:4], few)


def test_a_list_gives_the_drawings_of_each_prompt_alone(pipe: Pipeline) -> None:
    prompts = [PROMPT, "a house", "a stained glass window with an image of a blue strawberry"]
    together = pipe.draw(prompts, n=3, seed=3)
    assert all(same(drawing, pipe.draw(prompt, n=3, seed=3)) for drawing, prompt in zip(together, prompts, strict=True))


def test_a_clip_of_another_size_and_tokenizer_ranks_as_well(pipe: Pipeline) -> None:
    assert pipe.clip is not None
    torch.manual_seed(0)
    clip = CLIP(replace(pipe.clip.config, image_size=32, vocabulary=300))
    tokenizer = train_tokenizer(["a cat", "a cat on the moon"] * 3, vocabulary=300)
    other = Pipeline(pipe.vqgan, pipe.bart, clip, pipe.tokenizer, clip_tokenizer=tokenizer)
    drawing = other.draw(PROMPT, n=4, seed=0)
    assert torch.equal(
        drawing.codes.flatten(1).sort(0).values, pipe.draw(PROMPT, n=4, seed=0).codes.flatten(1).sort(0)[0]
    )
    larger = seen_by_clip(drawing.pictures, 32)
    assert larger.shape[-2:] == (32, 32)
    with torch.no_grad():
        text = clip.encode_text(tokenizer.encode([PROMPT], clip.config.context_length))
        expected = 100 * clip.encode_image(larger) @ text[0]
    assert torch.allclose(torch.tensor(drawing.scores), expected, atol=1e-4)


def test_without_rank_nothing_is_scored_or_reordered(pipe: Pipeline) -> None:
    plain, ranked = pipe.draw(PROMPT, n=6, seed=4, rank=False), pipe.draw(PROMPT, n=6, seed=4)
    assert plain.scores is None
    order = torch.tensor(pipe.score(PROMPT, plain.pictures)).argsort(descending=True, stable=True)
    assert torch.equal(plain.codes[order], ranked.codes)


def test_guidance_and_sampling_reach_the_codes(pipe: Pipeline) -> None:
    base = pipe.draw(PROMPT, n=4, seed=5, rank=False)
    ways: list[SamplingOptions] = [{"guidance": 1.0}, {"temperature": 0.2}, {"top_k": 2}, {"top_p": 0.2}]
    for how in ways:
        assert not torch.equal(base.codes, pipe.draw(PROMPT, n=4, seed=5, rank=False, **how).codes), how
    greedy = pipe.draw(PROMPT, n=4, seed=5, rank=False, temperature=0.0)
    assert (greedy.codes == greedy.codes[:1]).all()


def test_stream_shows_rows_and_ends_with_the_drawing(pipe: Pipeline) -> None:
    steps = list(pipe.stream(PROMPT, n=4, seed=6))
    assert [step.progress for step in steps] == [0.25, 0.5, 0.75, 1.0]
    assert same(steps[-1], pipe.draw(PROMPT, n=4, seed=6))
    first = steps[0].pictures
    assert (first[:, :, 4:] == first[0, 0, -1, -1]).all(), "rows that are not drawn yet are grey"
    assert first[:, :, :4].std() > 0
    assert len(list(pipe.stream(PROMPT, n=2, seed=6, every=1))) == 16


def test_complete_keeps_the_upper_rows(pipe: Pipeline) -> None:
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    codes = pipe.encode(picture)[0]
    drawing = pipe.complete(picture, PROMPT, rows=3, n=4, seed=7)
    assert (drawing.codes[:, :3] == codes[:3]).all()
    assert len(drawing.codes[:, 3].unique(dim=0)) > 1
    assert same(pipe.complete(picture, PROMPT, rows=0, n=4, seed=7), pipe.draw(PROMPT, n=4, seed=7))
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).resize((64, 48))
    assert len(pipe.complete(image, PROMPT, n=2).images) == 2
    with pytest.raises(ValueError, match=r"shape \(3, 32, 32\); this preset takes \(3, 16, 16\)"):
        pipe.complete(torch.rand(3, 32, 32), PROMPT)
    with pytest.raises(ValueError, match="n is -1"):
        pipe.complete(picture, PROMPT, n=-1)
    with pytest.raises(ValueError, match="rows is 4; give a whole number, from 0 to 3"):
        pipe.complete(picture, PROMPT, rows=4)


def test_a_drawing_is_saved_as_a_grid(pipe: Pipeline, tmp_path: Path) -> None:
    drawing = pipe.draw(PROMPT, n=9, seed=8)
    sheet = Image.open(drawing.save(tmp_path / "new" / "drawing.png"))
    assert sheet.size == (3 * 262 + 6, 3 * 262 + 6)
    assert drawing.grid(columns=9, zoom=1, gap=2).size == (9 * 18 + 2, 20)


def test_pictures_can_begin_with_the_codes_of_another(pipe: Pipeline) -> None:
    kept = pipe.draw(PROMPT, n=1, seed=3).codes.flatten().tolist()[:8]
    *_, completed = pipe.stream(PROMPT, n=3, seed=4, first_codes=kept)
    assert completed.codes.flatten(1)[:, :8].tolist() == [kept] * 3
    *_, alone = pipe.stream(PROMPT, n=1, seed=4, rank=False, first_codes=kept)
    assert alone.codes[0].tolist() in completed.codes.tolist()
    *_, uneven = pipe.stream(PROMPT, n=1, seed=4, first_codes=tuple(kept[:7]))
    assert uneven.record()["kept_codes"] == 7
    assert "kept_rows" not in uneven.record()


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        ([0] * 16, r"There are 16 first codes; give fewer than 16\."),
        ([16], r"One of the first codes is 16; give a whole number, from 0 to 15\."),
        ([3, -1], r"One of the first codes is -1; give a whole number, from 0 to 15\."),
        ([1.5], r"One of the first codes is 1\.5; give a whole number\."),
        (["1"], r"One of the first codes is '1'; give a whole number\."),
    ],
)
def test_first_codes_that_are_not_codes_are_refused(pipe: Pipeline, codes: Any, sentence: str) -> None:
    with pytest.raises(AtelierError, match=sentence):
        next(pipe.stream(PROMPT, first_codes=codes))


def test_a_lone_surrogate_is_no_part_of_the_prompt(pipe: Pipeline) -> None:
    assert pipe.draw("a red\ud800 cat", n=1).prompt == "a red cat"


def test_unknown_words_are_named(pipe: Pipeline) -> None:
    assert pipe.draw(PROMPT, n=1).remarks == []
    (remark,) = pipe.draw("a giraffe on the moon", n=1).remarks
    assert "“giraffe”" in remark
    assert "moon”" not in remark
    assert remark.endswith("“giraffe”, so its pictures cannot show that.")
    (remark,) = pipe.draw("a strawbery and a buterfly", n=1).remarks
    assert "did you mean strawberry or butterfly?" in remark
    assert unknown_words("A RED Catt! catt", ("a", "red", "cat")) == ["catt"]
    assert similar_words("catt", ("a", "red", "cat")) == ["cat"]
    assert similar_words("pikachu", ("beach", "with", "watercolour", "a")) == []
    assert unknown_words("anything", ()) == []
    known = ("a", "red", "cat", "hot-air")
    assert unknown_words("'a red cat' “red-cat”, a cat’s hot-air", known) == []
    assert unknown_words("a red 🐱 🐱, red-dog", known) == ["🐱", "dog"]
    (remark,) = pipe.draw("z" * 9000, n=1).remarks[:1]
    assert len(remark) < 300
    (remark,) = pipe.draw("🗼", n=1).remarks
    assert remark == "The tiny preset never saw “🗼”, so its pictures cannot show that."
    (remark,) = pipe.draw("…!", n=1).remarks
    assert remark == "The prompt has no word that the tiny preset knows, so its pictures cannot show it."


def test_a_prompt_that_is_cut_off_is_named_with_its_length(pipe: Pipeline) -> None:
    room = pipe.bart.config.text_length - 2
    word = "a"
    assert len(pipe.tokenizer.pieces(word)) == 1
    for count in (room, room + 1):
        remarks = pipe.remarks(" ".join([word] * count))
        ids = pipe.tokenizer.encode([" ".join([word] * count)], 999)
        assert (ids != pipe.bart.config.pad_token).sum() == count + 2  # with the start and the end token
        cut = f"The prompt has {count} tokens, but the model reads only the first {room}; the rest is cut off."
        assert remarks == ([cut] if count > room else [])
    assert any("cut off" in remark for remark in pipe.draw("a red cat " * 1000, n=1).remarks)


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "\x00\x01", "\u200b"])
def test_an_empty_prompt_gets_a_sentence(pipe: Pipeline, prompt: str) -> None:
    with pytest.raises(PromptError, match="The prompt is empty"):
        pipe.draw(prompt)


@given(st.text(max_size=60) | st.sampled_from(["埃菲尔铁塔", "🗼🌙", "x" * 10_000, "\ud800", "</s>", "a\x07b"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_prompt_gives_a_picture_or_a_sentence(pipe: Pipeline, prompt: str) -> None:
    if pipe.tokenizer.pieces(prompt):
        assert torch.isfinite(pipe.draw(prompt, n=1, seed=0).pictures).all()
    else:
        with pytest.raises(PromptError, match=r"\.$"):
            pipe.draw(prompt, n=1, seed=0)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": -1}, {"guidance": -1.0}, {"top_p": 2.0}])
def test_numbers_out_of_range_are_refused(pipe: Pipeline, wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"\."):
        pipe.draw(PROMPT, **wrong)


def test_from_pretrained_finds_presets_by_name_and_by_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_DATA", str(folder.parent))
    assert Pipeline.from_pretrained("tiny").name == "tiny"
    with pytest.raises(PresetError, match="There is no preset 'dali'"):
        Pipeline.from_pretrained("dali")


def test_a_damaged_preset_does_not_stop_a_sound_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atelier.weights.preset.preset_folders", lambda: [tmp_path])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(PresetError, match="No preset with weights"):
        Pipeline.from_pretrained()
    filled_preset(tmp_path / "tiny")
    assert Pipeline.from_pretrained().name == "tiny"


@pytest.mark.parametrize("file", ["vqgan.safetensors", "bart.safetensors", "clip.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damaged_weights_are_named(tmp_path: Path, file: str, damage: str) -> None:
    preset = filled_preset(tmp_path / "tiny")
    path = preset.folder / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            content[:-7] if damage == "truncated" else content[:90] + bytes([content[90] ^ 1]) + content[91:]
        )
    with pytest.raises(PresetError, match=file):
        Pipeline.from_pretrained(preset.folder)
