"""The pipeline on a tiny preset with random weights: what must hold whatever the weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from atelier import Drawing, Pipeline
from atelier.blocks.clip import CLIP
from atelier.decoding import SamplingOptions
from atelier.drawing.pipeline import PromptError, nearest_words, unknown_words
from atelier.pictures import seen_by_clip
from atelier.weights.presets import PresetError
from atelier.weights.tokenizer import train_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_preset import filled_preset

PROMPT = "a red cat on the moon"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_preset(tmp_path_factory.mktemp("presets") / "tiny").folder


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder, device="cpu")


def same(a: Drawing, b: Drawing) -> bool:
    return torch.equal(a.codes, b.codes) and torch.allclose(a.pictures, b.pictures, atol=1e-5) and a.prompt == b.prompt


def test_a_drawing_has_everything(pipe: Pipeline) -> None:
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


def test_a_seed_is_a_seed_and_zero_is_one(pipe: Pipeline) -> None:
    assert same(pipe.draw(PROMPT, n=3, seed=0), pipe.draw(PROMPT, n=3, seed=0))
    assert not same(pipe.draw(PROMPT, n=3, seed=0), pipe.draw(PROMPT, n=3, seed=1))
    assert same(pipe.draw(PROMPT, n=3, seed=2**64), pipe.draw(PROMPT, n=3, seed=2**64))
    thrown = pipe.draw(PROMPT, n=3)
    assert not same(thrown, pipe.draw(PROMPT, n=3))
    assert same(thrown, pipe.draw(PROMPT, n=3, seed=thrown.seed))


def test_a_picture_does_not_depend_on_how_many_are_drawn(pipe: Pipeline) -> None:
    many, few = (pipe.draw(PROMPT, n=n, seed=2, rank=False).codes for n in (9, 4))
    assert torch.equal(many[:4], few)


def test_a_list_gives_what_each_prompt_gives_alone(pipe: Pipeline) -> None:
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
    with pytest.raises(ValueError, match="rows is 4; a picture has 4 rows"):
        pipe.complete(picture, PROMPT, rows=4)


def test_a_drawing_is_saved_as_a_grid(pipe: Pipeline, tmp_path: Path) -> None:
    drawing = pipe.draw(PROMPT, n=9, seed=8)
    sheet = Image.open(drawing.save(tmp_path / "new" / "drawing.png"))
    assert sheet.size == (3 * 262 + 6, 3 * 262 + 6)
    assert drawing.grid(columns=9, zoom=1, gap=2).size == (9 * 18 + 2, 20)


def test_unknown_words_are_named_with_their_neighbours(pipe: Pipeline) -> None:
    assert pipe.draw(PROMPT, n=1).remarks == []
    (remark,) = pipe.draw("a giraffe on the moon", n=1).remarks
    assert "“giraffe”" in remark
    assert "moon”" not in remark
    assert unknown_words("A RED Catt! catt", ("a", "red", "cat")) == ["catt"]
    assert nearest_words("catt", ("a", "red", "cat")) == ["cat", "a", "red"]
    assert unknown_words("anything", ()) == []
    (remark,) = pipe.draw("z" * 9000, n=1).remarks[:1]
    assert len(remark) < 300
    (remark,) = pipe.draw("🗼", n=1).remarks
    assert "no word in this prompt" in remark
    long = pipe.draw("a red cat " * 1000, n=1).remarks
    assert any("cut off" in remark for remark in long)


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


def test_a_damaged_stranger_does_not_stop_a_sound_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atelier.weights.presets.preset_folders", lambda: [tmp_path])
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
