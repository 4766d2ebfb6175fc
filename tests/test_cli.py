"""The command `atelier`."""

import csv
import importlib
import importlib.metadata
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import atelier
import pytest
from atelier.cli import app
from atelier.errors import AtelierError, missing_packages
from atelier.training.run import TRAINABLE
from atelier.weights.preset import read_preset, update_preset
from PIL import Image
from tiny_preset import filled_preset
from typer.testing import CliRunner, Result


@pytest.fixture(autouse=True)
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the preset tiny, which is the only one that is found."""
    filled_preset(tmp_path / "data" / "tiny")
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("atelier.weights.preset.preset_folders", lambda: [tmp_path / "data"])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_draw_saves_a_grid_and_prints_scores(tmp_path: Path) -> None:
    result = run("draw", "--seed", "0", "--", "a red cat on the moon")
    assert result.exit_code == 0, result.output
    assert "scores  " in result.stdout
    assert len(result.stdout.split("scores")[1].splitlines()[0].split()) == 9
    assert "drawing.png  (9 pictures, preset tiny, seed 0)" in result.stdout
    assert "100%" in result.stderr
    with Image.open(tmp_path / "drawing.png") as image:
        assert image.width == image.height > 700


def test_a_preset_whose_clip_is_not_trained_yet_draws_without_ranking(presets: Path) -> None:
    update_preset(read_preset(presets / "tiny"), files={"clip.safetensors": ""})
    result = run("draw", "a red cat on the moon", "--n", "2", "--preset", "tiny")
    assert result.exit_code == 0, result.output
    assert "The pictures are not ranked: the preset tiny has no CLIP." in result.stderr
    assert "scores" not in result.stdout
    assert "not ranked" not in run("draw", "a red cat", "--n", "1", "--preset", "tiny", "--no-rank").stderr


def test_draw_takes_a_prompt_that_looks_like_an_option_and_other_endings() -> None:
    assert run("draw", "--n", "2", "--out", "sub/cat.jpg", "--", "--n").exit_code == 0
    assert Path("sub/cat.jpg").is_file()


def test_a_prompt_with_a_dash_gets_advice_and_an_unknown_option_its_name() -> None:
    shown = run("draw", "-a red cat")
    assert shown.exit_code == 2
    assert "goes after two dashes: atelier draw -- PROMPT" in " ".join(shown.stderr.replace("│", "").split())
    assert "--seeed" in run("draw", "a cat", "--seeed", "3").stderr


def test_the_printed_place_draws_a_picture_alone() -> None:
    shown = run("draw", "a red cat", "--seed", "3", "--n", "4", "--out", "four.png")
    place = shown.stdout.split("places")[1].split()[0]
    again = run("draw", "a red cat", "--seed", "3", "--place", place, "--out", "one.png")
    assert again.exit_code == 0, again.output
    with Image.open("one.png") as image:
        assert json.loads(image.info["atelier"])["places"] == [int(place)]
    assert again.stdout.split("scores")[1].split()[0] == shown.stdout.split("scores")[1].split()[0]


def test_a_tilde_in_any_path_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert run("draw", "a cat", "--n", "1", "--out=~/x.png").exit_code == 0
    assert run("paint", "~/pictures", "--n", "1").exit_code == 0
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"x.png", "pictures"}
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("encoding", "words", "code"),
    [("cp1252", ["draw", "a 日本 🐱 → é", "--n", "1"], 0), ("ascii", ["draw", "a cat", "--preset", "日本 →"], 1)],
)
def test_every_encoding_of_the_terminal_is_enough(encoding: str, words: list[str], code: int) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    shown = subprocess.run([sys.executable, "-m", "atelier", *words], env=environment, capture_output=True)
    assert b"Traceback" not in shown.stderr
    assert shown.returncode == code


def test_draw_names_unknown_words() -> None:
    result = run("draw", "a giraffe on the moon", "--n", "1")
    assert result.exit_code == 0
    assert "never saw “giraffe”" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["draw", ""], "The prompt is empty"),
        (["draw", "a cat", "--out", "cat.txt"], "does not have the ending of a picture file"),
        (["draw", "a cat", "--preset", "dali"], "There is no preset 'dali'"),
        (["draw", "a cat", "--top-p", "7"], "top_p is 7.0"),
        (["draw", "a cat", "--out", "data/tiny/config.json/x.png"], "config.json"),
        (["evaluate", "--preset", "dali"], "There is no preset 'dali'"),
        (["words", "--preset", "dali"], "There is no preset 'dali'"),
        (["paint", "pictures", "--world", "real"], "There is no world 'real'"),
        (["train", "muse", "--steps", "1"], "no block 'muse' to train"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_1(words: list[str], sentence: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["paint", "data/tiny/config.json/pictures", "--n", "1"],
        ["export-clip", "data/tiny/config.json/clip"],
        ["train", "judge", "--steps", "1", "--preset", "tiny", "--run-dir", "data/tiny/config.json/run"],
    ],
)
def test_a_folder_that_cannot_be_created_is_named(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert "data/tiny/config.json" in result.stderr
    assert "cannot be read or written: Not a directory." in result.stderr


BROKEN = """
import atelier.weights.preset
from atelier.cli import app

def load_preset(name):
    raise {fault}

atelier.weights.preset.load_preset = load_preset
app()
"""


def run_with_broken_load_preset(fault: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BROKEN.format(fault=fault), "words", "--preset", "tiny"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("fault", ["ZeroDivisionError('by zero')", "ValueError('a bug')", "OSError('no such thing')"])
def test_a_bug_shows_its_traceback(fault: str) -> None:
    shown = run_with_broken_load_preset(fault)
    assert shown.returncode == 1
    assert "Traceback (most recent call last)" in shown.stderr
    assert fault.partition("(")[0] in shown.stderr
    assert "load_preset" in shown.stderr


def test_an_error_of_the_user_is_one_line() -> None:
    shown = run_with_broken_load_preset("atelier.weights.storage.PresetError('The preset is damaged.')")
    assert shown.returncode == 1
    assert shown.stderr == "The preset is damaged.\n"


def test_every_error_class_of_the_library_is_an_atelier_error() -> None:
    modules = [
        importlib.import_module(item.name)
        for item in pkgutil.walk_packages(atelier.__path__, "atelier.")
        if not item.name.endswith("__main__")
    ]
    errors = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith("atelier")
    }
    assert {"PresetError", "PageError", "PromptError", "AnswerError"} <= {error.__name__ for error in errors}
    assert all(issubclass(error, AtelierError) for error in errors)


def test_a_damaged_preset_is_named(presets: Path) -> None:
    (presets / "tiny" / "bart.safetensors").write_bytes(b"nonsense")
    result = run("draw", "a cat")
    assert result.exit_code == 1
    assert "bart.safetensors was truncated or altered" in result.stderr
    assert not Path("drawing.png").exists()


def test_export_clip_writes_open_clips_files(presets: Path, tmp_path: Path) -> None:
    result = run("export-clip", str(tmp_path / "own"))
    assert result.exit_code == 0, result.output
    assert f"local-dir:{tmp_path / 'own'}" in result.output
    names = {path.name for path in (tmp_path / "own").iterdir()}
    assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"} <= names


def test_draw_with_an_unknown_ranker_lists_known_ones(presets: Path, tmp_path: Path) -> None:
    result = run("draw", "a cat", "--ranker", "ViT-B-32/unknown", "--out", str(tmp_path / "cat.png"))
    assert result.exit_code == 1
    assert "publishes no CLIP 'ViT-B-32/unknown'; give MODEL/TAG, such as ViT-B-32/openai" in result.stderr


def test_evaluate_prints_json_and_writes_the_card(presets: Path) -> None:
    result = run("evaluate", "--json", "--card", "--prompts", "2", "--pictures", "10")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) >= {"seen", "held_out", "psnr", "codes_used", "clip_retrieval"}
    assert (presets / "tiny" / "README.md").read_text().startswith("# tiny")


def test_words_lists_the_vocabulary() -> None:
    result = run("words")
    assert result.exit_code == 0
    assert "the Eiffel tower" in result.stdout
    assert "on the moon" in result.stdout
    assert "penguin" not in result.stdout


def test_paint_makes_a_captioned_folder(tmp_path: Path) -> None:
    assert run("paint", "pictures", "--n", "12", "--size", "32").exit_code == 0
    with (tmp_path / "pictures" / "captions.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 12
    with Image.open(tmp_path / "pictures" / rows[-1]["file_name"]) as image:
        assert image.size == (32, 32)


def test_python_m_atelier_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "atelier", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: atelier" in shown.stdout


@pytest.mark.parametrize(
    "words",
    [["sprites", "--data", "x"], ["vqgan", "--only", "gan"], ["all", "--only", "gan"], ["all", "--batch-size", "3"]],
)
def test_an_option_of_another_training_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("train", *words, "--steps", "1")
    assert result.exit_code == 2
    assert re.search(rf"No such option\W+{words[1]}", result.output)
    assert not Path("runs").exists()


def test_the_help_says_what_is_trained_of_a_complete_preset() -> None:
    result = run("train", "all", "--help")
    assert "Train the blocks that a preset lacks, or all blocks again if it is complete." in " ".join(
        result.output.split()
    )


@pytest.mark.parametrize("block", TRAINABLE)
def test_every_block_has_a_command_to_train_it(block: str) -> None:
    result = run("train", block, "--help")
    assert result.exit_code == 0
    assert f"train {block} [OPTIONS]" in result.output
    assert block in run("train", "--help").output


def test_the_version_has_one_source() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"atelier {atelier.__version__}\n")
    assert importlib.metadata.version("atelier-dalle-mini") == atelier.__version__


def test_a_missing_optional_package_gives_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'starlette'", name="starlette.applications")

    monkeypatch.setattr("atelier.page.server.serve", fail)
    result = run("serve")
    assert result.exit_code == 1
    assert result.stderr == "This needs the package starlette, which is not installed: pip install starlette.\n"


def test_a_missing_module_that_no_extra_has_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), missing_packages():
        importlib.import_module("no_such_module")


def test_draw_prints_json_from_which_the_pictures_can_be_drawn_again() -> None:
    shown = run("draw", "a red cat", "--seed", "3", "--n", "2", "--guidance", "2", "--json")
    drawn = json.loads(shown.stdout)
    assert (drawn["file"], drawn["prompt"], drawn["seed"], drawn["guidance"]) == ("drawing.png", "a red cat", 3, 2.0)
    assert len(drawn["scores"]) == len(drawn["places"]) == 2
    assert json.loads(run("draw", "a giraffe", "--n", "1", "--no-rank", "--json").stdout)["remarks"]


@pytest.mark.parametrize(("options", "named"), [([], False), (["-v"], True)])
def test_verbose_says_what_is_loaded(options: list[str], named: bool) -> None:
    words = [sys.executable, "-m", "atelier", *options, "draw", "a red cat", "--n", "1"]
    shown = subprocess.run(words, capture_output=True, text=True, encoding="utf-8")
    assert shown.returncode == 0, shown.stderr
    assert ("atelier.weights.preset: preset " in shown.stderr) == named
