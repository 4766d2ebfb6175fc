"""The learner's own DALL·E Mini: its folder, blocks that do not fit together, the card, and the way through lessons."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from atelier.blocks.bart import Bart
from atelier.blocks.clip import CLIP
from atelier.blocks.vqgan import VQGAN
from atelier.cli import app
from atelier.drawing.pipeline import Pipeline
from atelier.evaluation.intervals import Estimate
from atelier.evaluation.sprite_drawings import lost, measure_drawings, reproduced, right_drawings
from atelier.teaching import mine as module
from atelier.teaching.mine import (
    DECODER,
    FOLDER_VARIABLE,
    WHOLE,
    Lengths,
    card_text,
    complete_mine,
    course_tokenizer,
    entries,
    measure_ranker,
    measure_translator,
    measure_vqgan,
    mine_folder,
    read_mine,
    record_pipeline,
    save_block,
    train_whole_vqgan,
    vqgan_of_mine,
)
from atelier.teaching.sprite_ranker import finds_captions, ranker_config, sprite_pairs, train_clip
from atelier.teaching.sprite_translator import coded_sprites, train_translator, translator_config
from atelier.training.everything import missing_blocks
from atelier.weights.preset import load_preset
from atelier.weights.sprites import load_sprite_model
from atelier.weights.storage import PresetError
from atelier.world import (
    HELD_OUT_SPRITES,
    SPRITE_COLOURS,
    SPRITES,
    is_held_out,
    sprite_caption,
    sprite_scene,
    varied_sprites,
)
from typer.testing import CliRunner

BRIEF = Lengths(study=1, sharpen=1, translator=2, ranker=2, sprites=24)
SEEN = {"shown": Estimate(50.0, 40.0, 60.0, "10 sprites")}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the learner's blocks."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all blocks, trained once for several tests."""
    where = tmp_path_factory.mktemp("completed") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(where))
        complete_mine(lengths=BRIEF, say=lambda _: None)
    return where


@pytest.fixture
def complete_folder(completed: Path, folder: Path) -> Path:
    """A copy of that folder, which is the folder of the learner's blocks."""
    shutil.copytree(completed, folder)
    return folder


def new_translator(seed: int = 0) -> Bart:
    torch.manual_seed(seed)
    return Bart(read_mine().bart)


def new_vqgan(seed: int = 0) -> VQGAN:
    torch.manual_seed(seed)
    return VQGAN(read_mine().vqgan).eval()


def test_the_folder_is_in_the_checkout_unless_the_variable_names_another(monkeypatch, tmp_path) -> None:
    assert os.environ[FOLDER_VARIABLE]  # tests never write into the learner's folder
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert mine_folder() == Path(__file__).parents[1] / "runs" / "mine"
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert mine_folder() == tmp_path


def test_reading_an_empty_folder_writes_nothing(folder: Path) -> None:
    mine = read_mine()
    assert not folder.exists()
    assert not mine.complete
    assert vqgan_of_mine(mine) is None
    assert entries(mine) == {}
    assert {"red", "strawberry", "paper"} <= set(mine.words)


def test_a_saved_block_replaces_only_itself_and_can_be_loaded(folder: Path) -> None:
    assert save_block(read_mine(), "vqgan", new_vqgan(), SEEN, DECODER) == f"Saved as {folder}/vqgan.safetensors."
    first = read_mine()
    assert {"vqgan.safetensors", "tokenizer.json", "judge.safetensors", "perceptual.safetensors"} == set(first.files)
    clip = CLIP(ranker_config(course_tokenizer()))
    save_block(read_mine(), "clip", clip, SEEN)
    second = read_mine()
    assert {file: second.files[file] for file in first.files} == first.files
    loaded = vqgan_of_mine(second)
    assert loaded is not None
    for saved, weights in zip(loaded.parameters(), new_vqgan().parameters(), strict=True):
        torch.testing.assert_close(saved, weights, atol=2e-3, rtol=2e-3)  # stored in float16
    assert {name: entry.trained for name, entry in entries(second).items()} == {"vqgan": DECODER, "clip": WHOLE}


def test_the_default_folder_is_named_as_in_the_lessons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(module, "checkout_folder", lambda: tmp_path)
    assert save_block(read_mine(), "vqgan", new_vqgan(), SEEN) == "Saved as runs/mine/vqgan.safetensors."
    assert '`atelier draw --preset runs/mine "a blue car"`' in (tmp_path / "runs" / "mine" / "README.md").read_text()


def test_a_translator_without_an_own_vqgan_is_not_saved(folder: Path) -> None:
    sentence = save_block(read_mine(), "bart", new_translator(), SEEN)
    assert sentence.startswith("This translator is not saved, because it writes the codes of the course’s VQ-GAN")
    assert not folder.exists()


def test_a_vqgan_that_is_trained_again_makes_the_translator_count_as_missing(folder: Path) -> None:
    save_block(read_mine(), "vqgan", new_vqgan(), SEEN)
    save_block(read_mine(), "bart", new_translator(), SEEN)
    assert read_mine().has_block("bart")
    sentence = save_block(read_mine(), "vqgan", new_vqgan(seed=1), SEEN)
    assert "The translator there was trained with another VQ-GAN" in sentence
    now = read_mine()
    assert not now.has_block("bart")
    assert list(entries(now)) == ["vqgan"]  # the card no longer shows the numbers of a translator that does not fit
    with pytest.raises(PresetError, match=r"trained with another vqgan\.safetensors"):
        now.load_bart()


def test_a_translator_is_bound_to_the_vqgan_it_was_trained_with_even_if_that_has_changed_since(folder: Path) -> None:
    save_block(read_mine(), "vqgan", new_vqgan(), SEEN)
    read_before_training = read_mine()
    save_block(read_mine(), "vqgan", new_vqgan(seed=1), SEEN)
    assert "do not fit together" in save_block(read_before_training, "bart", new_translator(), SEEN)
    assert not read_mine().has_block("bart")


def test_numbers_of_other_weights_are_not_shown(folder: Path) -> None:
    save_block(read_mine(), "vqgan", new_vqgan(), SEEN)
    blocks = folder / "blocks.json"
    changed = json.loads(blocks.read_text())
    changed["vqgan"]["file"] = "0" * 64
    blocks.write_text(json.dumps(changed))
    assert entries(read_mine()) == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda blocks: [blocks], r"blocks\.json is \["),
        (lambda blocks: {"vqgan": 3}, "vqgan is 3; give an object"),
        (lambda blocks: {"vqgan": {**blocks["vqgan"], "lesson": None}}, r"vqgan\.lesson is None; give a string"),
        (lambda blocks: {"vqgan": {"lesson": "lesson 2e"}}, "vqgan lacks file, measured, trained"),
        (lambda blocks: {"vqgan": {**blocks["vqgan"], "measured": {"shown": [1, 2]}}}, r"vqgan\.measured\.shown is"),
        (
            lambda blocks: {
                "vqgan": {**blocks["vqgan"], "measured": {"x": {"value": 9, "low": 1, "high": 2, "sampled": "3 x"}}}
            },
            "does not contain the value 9",
        ),
    ],
)
def test_a_damaged_record_of_the_blocks_is_named(folder: Path, change: Callable[[Any], Any], sentence: str) -> None:
    save_block(read_mine(), "vqgan", new_vqgan(), SEEN)
    path = folder / "blocks.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(PresetError, match=rf"blocks\.json is damaged: .*{sentence}.*Restore it"):
        entries(read_mine())


def test_the_card_has_each_measured_number_with_its_interval(folder: Path) -> None:
    save_block(read_mine(), "vqgan", new_vqgan(), SEEN, DECODER)
    text = (folder / "README.md").read_text()
    assert text == card_text(entries(read_mine()), folder)
    assert f'`atelier draw --preset {shlex.quote(str(folder))} "a blue car"`' in text
    assert f"| vqgan | lesson 2e | {DECODER} | shown | 50.0 (40.0 to 60.0) | 10 sprites |" in text


# ---------------------------------------------------------------------------------------------- through the lessons


def test_the_lessons_train_save_and_join_the_blocks(folder: Path, monkeypatch) -> None:
    # Lesson 2e saves a VQ-GAN, lesson 3 a translator of its codes, lesson 4 a ranker.
    vqgan = load_sprite_model("vqgan")
    save_block(read_mine(), "vqgan", vqgan, measure_vqgan(vqgan, n=12), DECODER)
    mine, tokenizer = read_mine(), course_tokenizer()
    own = vqgan_of_mine(mine)
    assert own is not None
    bart = new_translator()
    assert len(train_translator(bart, coded_sprites(own, tokenizer, n=24), steps=2)) == 2
    save_block(mine, "bart", bart, measure_translator(bart.eval(), own, n=6))
    clip = CLIP(ranker_config(tokenizer))
    assert len(train_clip(clip, sprite_pairs(tokenizer, n=24, batch=8), steps=2)) == 2
    save_block(read_mine(), "clip", clip, measure_ranker(clip, n=6))

    # Lesson 5 joins them, and trains none again.
    said: list[str] = []
    joined = complete_mine(lengths=BRIEF, say=said.append)
    assert said == [f"{block}: found in {folder}" for block in ("vqgan", "bart", "clip")]
    assert joined.complete
    pipe, judge = Pipeline.from_pretrained(folder, device="cpu"), joined.load_classifier("judge")
    drawing = pipe.draw("a red car", n=3, seed=0)
    assert drawing.pictures.shape == (3, 3, 32, 32)
    assert drawing.scores == sorted(drawing.scores or [], reverse=True)
    assert drawing.remarks == []
    measured = measure_drawings(pipe, judge, requests=3)
    record_pipeline(joined, measured)
    assert list(entries(read_mine())) == ["vqgan", "bart", "clip", "pipeline"]

    # With minutes, a VQ-GAN of which only the decoder was trained is replaced, and with it the translator.
    monkeypatch.setattr(module, "train_whole_vqgan", lambda minutes: new_vqgan(int(minutes)))
    said.clear()
    again = complete_mine(minutes=8, lengths=BRIEF, say=said.append)
    assert said == ["vqgan: trained now", "bart: trained now", f"clip: found in {folder}"]
    assert again.files["clip.safetensors"] == joined.files["clip.safetensors"]
    assert {name: entry.trained for name, entry in entries(again).items()}["vqgan"] == WHOLE
    assert "pipeline" not in entries(again)
    said.clear()
    complete_mine(minutes=8, lengths=BRIEF, say=said.append)
    assert said == [f"{block}: found in {folder}" for block in ("vqgan", "bart", "clip")]


def test_lesson_5_trains_all_blocks_if_there_are_none(folder: Path) -> None:
    said: list[str] = []
    mine = complete_mine(lengths=BRIEF, say=said.append)
    assert said == [f"{block}: trained now" for block in ("vqgan", "bart", "clip")]
    assert mine.complete
    assert {entry.trained for entry in entries(mine).values()} == {DECODER, WHOLE}


def test_every_missing_block_is_trained_on_the_given_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    move = torch.nn.Module.to

    def recorded(network: torch.nn.Module, *arguments: Any, **options: Any) -> torch.nn.Module:
        if arguments == ("cpu:0",):
            moved.append(type(network).__name__)
        return move(network, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "to", recorded)
    complete_mine(lengths=BRIEF, device="cpu:0", say=lambda _: None)
    assert moved == ["VQGAN", "PictureClassifier", "VQGAN", "Bart", "CLIP"]


def test_every_weight_of_a_vqgan_is_trained_from_random_ones() -> None:
    course, own = load_sprite_model("vqgan").state_dict(), train_whole_vqgan(minutes=0.02).state_dict()
    assert course.keys() == own.keys()
    assert [name for name in own if own[name].ndim > 1 and torch.equal(own[name], course[name])] == []


def test_the_commands_take_the_folder(complete_folder: Path, tmp_path: Path) -> None:
    folder = complete_folder
    runner = CliRunner()
    drawn = runner.invoke(app, ["draw", "a blue car", "--preset", str(folder), "--out", str(tmp_path / "car.png")])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "car.png").is_file()
    shown = runner.invoke(app, ["evaluate", "--preset", str(folder), "--prompts", "3"])
    assert shown.exit_code == 0, shown.output
    assert "| right drawings of held-out combinations, % |" in shown.stdout
    for option in (["--card"], ["--pictures", "10"]):
        refused = runner.invoke(app, ["evaluate", "--preset", str(folder), "--prompts", "3", *option])
        assert refused.exit_code == 1
        assert refused.stderr == (
            "The preset mine draws sprites, and for sprites there is no --card and no --pictures; leave them out.\n"
        )
        assert refused.stdout == ""
    told = runner.invoke(app, ["words", "--preset", str(folder)])
    assert "strawberry" in told.stdout


# ---------------------------------------------------------------------------------------------- the learner's pictures


def test_all_blocks_but_the_classifiers_are_trained_on_a_folder(complete_folder: Path, tmp_path: Path) -> None:
    folder, mine = complete_folder, read_mine()
    assert missing_blocks(mine, tmp_path) == ["tokenizer", "vqgan", "bart", "clip"]
    runner, sample, run = CliRunner(), tmp_path / "sample", tmp_path / "pictures"
    painted = runner.invoke(app, ["paint", str(sample), "--world", "sprites", "--n", "40", "--size", "32"])
    assert painted.exit_code == 0, painted.output
    words = ["train", "all", "--preset", str(folder), "--data", str(sample), "--run-dir", str(run), "--steps", "2"]
    trained = runner.invoke(app, [*words, "--precision", "no"])
    assert trained.exit_code == 0, trained.output
    preset = load_preset(run / "preset")
    assert preset.complete
    assert {"robot", "umbrella"} <= set(preset.words)
    assert preset.files["perceptual.safetensors"] == mine.files["perceptual.safetensors"]
    pictures = Pipeline.from_pretrained(preset, device="cpu").draw("a pink robot", n=2, seed=0).pictures
    assert pictures.shape == (2, 3, 32, 32)
    resumed = runner.invoke(app, [*words, "--precision", "no", "--resume"])
    assert "All is trained" in resumed.stdout


def test_the_sample_folder_has_variety() -> None:
    scenes = varied_sprites(600, seed=0)
    assert not {scene.subject for scene in scenes} & set(SPRITES)
    assert len({(scene.subject, scene.colour) for scene in scenes}) > 80
    assert len({sprite_caption(scene) for scene in scenes}) > 250
    assert not any(map(is_held_out, scenes))


# ---------------------------------------------------------------------------------------------- measuring


class _Perfect(torch.nn.Module):
    """A VQ-GAN that reproduces everything, except that it paints one colour over."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.scale, self.change = torch.nn.Parameter(torch.ones(())), change

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.change(pictures), None


def test_what_the_codes_lose_is_named() -> None:
    judge = load_sprite_model("judge")
    kept = reproduced(_Perfect(lambda x: x), judge, each=2)
    assert len(kept) == len(SPRITES) * len(SPRITE_COLOURS)
    assert set(kept.values()) == {1.0}
    assert lost(kept) == []
    swapped = reproduced(_Perfect(lambda x: x.flip(1)), judge, each=2)  # red and blue change places
    assert "blue strawberry" in lost(swapped)
    assert "red strawberry" in lost(swapped)


def test_the_shipped_vqgan_loses_combinations_that_it_has_never_seen() -> None:
    gone = lost(reproduced(load_sprite_model("vqgan"), load_sprite_model("judge")))
    assert gone
    assert all(is_held_out(sprite_scene(name.split()[1], name.split()[0])) for name in gone)


def test_right_drawings_are_in_the_order_of_the_ranker(folder: Path) -> None:
    mine = complete_mine(lengths=BRIEF, say=lambda _: None)
    pipe, judge = Pipeline.from_pretrained(mine, device="cpu"), mine.load_classifier("judge")
    found = right_drawings(pipe, judge, requests=6, held_out=True, candidates=4)
    assert found.shape == (6, 4)
    assert found.dtype == torch.bool


def test_a_ranker_learns_the_captions_of_sprites() -> None:
    torch.manual_seed(0)
    tokenizer = course_tokenizer()
    clip = CLIP(ranker_config(tokenizer))
    losses = train_clip(clip, sprite_pairs(tokenizer, n=192, batch=48), steps=40)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    seen = [sprite_scene(subject, colour, seed=9) for subject in SPRITES for colour in SPRITE_COLOURS]
    seen = [scene for scene in seen if (scene.subject, scene.colour) not in HELD_OUT_SPRITES and not is_held_out(scene)]
    assert sum(finds_captions(clip, tokenizer, seen)) > len(seen) / 2
    assert not clip.training


def test_the_translators_sizes_are_those_of_the_preset(folder: Path) -> None:
    assert translator_config(read_mine().vqgan, course_tokenizer()) == read_mine().bart


def test_reading_the_folder_changes_no_random_numbers(folder: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read_mine()
    assert torch.equal(torch.rand(3), expected)
