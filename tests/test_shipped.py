"""The presets that ship with the course: whole, small enough, and as good as their cards say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from atelier import Pipeline
from atelier.evaluation.card import CARD_FILE, CURVES_FILE, EVALUATION_FILE
from atelier.evaluation.evaluate import judge_drawings, reconstruction, retrieval
from atelier.training.data import CaptionedFolder, save_captioned
from atelier.weights.preset import Preset, find_presets, load_preset
from atelier.world import ATTRIBUTES, WORLDS, caption, full_world, parse
from PIL import Image

DATA = Path(__file__).resolve().parents[1] / "data"
PROMPTS = 60
MOST_BYTES = {"laptop": 14_000_000, "studio": 16_000_000}
SESSION_PROMPTS = (
    "the Eiffel tower landing on the moon",
    "sunset over a lake in the mountains",
    "a stained glass window with an image of a blue strawberry",
    "a photo of the food of china",
)


@pytest.fixture(scope="module", params=list(MOST_BYTES))
def preset(request: pytest.FixtureRequest) -> Preset:
    return load_preset(DATA / request.param)


@pytest.fixture(scope="module")
def pipe(preset: Preset) -> Pipeline:
    return Pipeline.from_pretrained(preset.folder, device="cpu")


def test_presets_are_complete_and_small(preset: Preset) -> None:
    assert preset.complete
    for file in preset.files:
        preset.read(file)
    assert sum(path.stat().st_size for path in preset.folder.iterdir()) <= MOST_BYTES[preset.name]
    for file in (CARD_FILE, CURVES_FILE, EVALUATION_FILE, "history.json"):
        assert (preset.folder / file).is_file()


def test_studio_draws_unless_another_preset_is_named() -> None:
    assert load_preset(None).name == "studio"


def test_every_preset_can_be_read() -> None:
    for folder in find_presets().values():
        assert load_preset(folder).world in WORLDS


def test_the_card_tells_what_the_evaluation_found(preset: Preset) -> None:
    found = json.loads((preset.folder / EVALUATION_FILE).read_text(encoding="utf-8"))
    text = (preset.folder / CARD_FILE).read_text(encoding="utf-8")
    for name in ("seen", "held_out"):
        for share in found[name].values():
            assert f"{100 * share:.1f} %" in text
    assert f"{found['psnr']:.1f} dB" in text


@torch.no_grad()
def test_the_weights_do_what_the_evaluation_found(preset: Preset, pipe: Pipeline) -> None:
    """Fewer prompts than the card's, and one picture of each, so bounds three standard errors wide."""
    found = json.loads((preset.folder / EVALUATION_FILE).read_text(encoding="utf-8"))
    world, judge = WORLDS[preset.world](), preset.load_classifier("judge")
    psnr, _, _ = reconstruction(pipe.vqgan, judge, world, 100)
    assert abs(psnr - found["psnr"]) < 0.5
    for kind, name in (("never", "seen"), ("only", "held_out")):
        scenes = world.sample(PROMPTS, seed=5, held_out=kind, complete=True)
        correct = judge_drawings(pipe, judge, world, scenes, 1, {}, lambda *_: None)  # (PROMPTS, 1, attributes)
        for attribute, share in zip(ATTRIBUTES, correct.mean((0, 1)).tolist(), strict=True):
            expected = found[name][attribute]
            error = (expected * (1 - expected) / PROMPTS) ** 0.5
            assert share > expected - 3 * error - 0.02, (name, attribute)
        assert retrieval(pipe, world, kind, draws=3) > found["clip_retrieval"][name] - 0.08


def test_the_sessions_prompts_are_drawn(pipe: Pipeline) -> None:
    for prompt in SESSION_PROMPTS:
        drawing = pipe.draw(prompt, n=9, seed=0)
        assert drawing.remarks == []
        assert drawing.pictures.std() > 0.1
        assert len(drawing.codes.flatten(1).unique(dim=0)) > 1


def test_an_unknown_word_is_named_and_the_rest_is_drawn(pipe: Pipeline) -> None:
    drawing = pipe.draw("a giraffe on the moon", n=2, seed=0)
    assert len(drawing.images) == 2
    assert "“giraffe”" in drawing.remarks[0]


def test_sample_pictures_and_prompts_ship_whole() -> None:
    sample = CaptionedFolder(DATA / "sample", 96)
    assert len(sample) == 256
    for text in sample.captions:
        parse(text)
    lines = (DATA / "prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts = [line for line in lines if line and not line.startswith("#")]
    assert set(SESSION_PROMPTS) <= set(prompts)
    for prompt in prompts:
        parse(prompt)


def test_sample_is_what_its_command_paints(tmp_path: Path) -> None:
    """Every caption and every eighth picture, to a level or two of 255: floating point ends differently elsewhere."""
    scenes = full_world().sample(256, seed=0)
    stored = CaptionedFolder(DATA / "sample", 96)
    assert stored.captions == [caption(scene) for scene in scenes]
    save_captioned(scenes[::8], tmp_path, 96)
    for number in range(0, 256, 8):
        kept, painted = (
            np.asarray(Image.open(path), dtype=int)
            for path in (DATA / "sample" / f"{number:03d}.png", tmp_path / f"{number // 8:02d}.png")
        )
        assert (abs(kept - painted) > 2).mean() < 0.002, number


@pytest.mark.parametrize("name", ["strawberry.jpg", "world.jpg", "page.jpg", "gallery.jpg"])
def test_the_documentations_pictures_are_there(name: str) -> None:
    with Image.open(DATA.parent / "docs" / name) as image:
        assert image.width > 1000


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "data/README.md", "data/laptop/README.md", "data/studio/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    root = DATA.parent
    text = (root / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert targets or page == "CONTRIBUTING.md"
    for target in targets:
        assert ((root / page).parent / target.split("#")[0]).exists(), target
