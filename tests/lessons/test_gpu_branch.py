"""The cells of lesson 5 that do their work only with a GPU, rehearsed on the CPU with tiny published files.

A local server has the files of DALL·E Mini, Mega and a CLIP in their published form, with random weights. The cells are
those of the lesson's source with the tag “gpu”. $ATELIER_FIGURES names a folder for the figures, to look at them.
"""

import io
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import assembly
import open_clip
import published_files as files
import pytest
import safetensors.torch
import torch
from atelier.blocks.bart import Bart
from atelier.teaching import figures, published
from atelier.teaching.lessons import LESSONS
from atelier.teaching.published import memory_needed, published_pipeline
from atelier.weights.preset import find_presets
from atelier.weights.published import download as downloads
from atelier.weights.published.download import FlaxPublication
from PIL import Image
from tiny_preset import filled_preset

MINI, MEGA, VQGAN = "dalle-mini/dalle-mini", "dalle-mini/dalle-mega", "dalle-mini/vqgan_imagenet_f16_16384"
CLIP, RANKER = "timm/tiny_clip.openai", "ViT-B-32/openai"
CPU = torch.device("cpu")
DESCRIPTION: Any = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 24, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repositories")
    for seed, name in enumerate((MINI, MEGA)):
        files.write_flax_bart(root / name, files.random_block(Bart(files.TINY_BART), seed))
    files.write_flax_vqgan(root / VQGAN, files.tiny_vqgan())
    torch.manual_seed(0)
    (root / CLIP).mkdir(parents=True)
    weights = open_clip.CLIP(**DESCRIPTION, quick_gelu=True).state_dict()
    safetensors.torch.save_file(weights, root / CLIP / "open_clip_model.safetensors")
    return root


@pytest.fixture
def hub(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[files.Hub]:
    """A running server, an empty cache and a folder with no published preset."""
    shutil.copytree(repositories, tmp_path / "hub")
    source = {**open_clip.get_pretrained_cfg("ViT-B-32", "openai"), "hf_hub": f"{CLIP}/"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", DESCRIPTION)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-B-32", {"openai": source})
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits between its attempts
    monkeypatch.setattr(published, "free_memory", lambda device: 20_000_000_000)
    for name, repository in (("dalle-mini", MINI), ("dalle-mega", MEGA)):
        monkeypatch.setitem(downloads.PUBLISHED, name, {"flax": FlaxPublication(repository)})
    with files.serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def gpu_cells() -> list[str]:
    cells = assembly.read_source(LESSONS["5"]).cells
    return [cell.source for cell in cells if "gpu" in cell.metadata.get("tags", ())]


def names_of_the_lesson(folder: Path) -> dict[str, Any]:
    """The lesson's imports, prompts and small functions, and a tiny model in place of the shipped one."""
    names: dict[str, Any] = {"__name__": "lesson"}
    cells = [cell.source for cell in assembly.read_source(LESSONS["5"]).cells if cell.cell_type == "code"]
    exec(cells[0], names)
    for start in ("GALLERY = [", "def small(", "def hang("):
        (source,) = [cell for cell in cells if cell.startswith(start) or f"\n\n{start}" in cell]
        lines = source[source.index(start) :].split("\n\n\n")[0].split("]\n")
        exec(lines[0] + ("]" if start.startswith("GALLERY") else ""), names)
    model = names["Pipeline"].from_pretrained(filled_preset(folder / "small").folder, device="cpu")
    return names | {"DEVICE": CPU, "HAS_GPU": True, "studio": model}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[figures.DescribedPicture]:
    """The figures that cells show; they are saved in $ATELIER_FIGURES if it is set."""
    pictures: list[figures.DescribedPicture] = []

    def keep(picture: figures.DescribedPicture) -> None:
        pictures.append(picture)
        if folder := os.environ.get("ATELIER_FIGURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{len(pictures)}.png").write_bytes(picture.png)

    monkeypatch.setattr(figures, "display", keep)
    return pictures


def test_the_whole_branch_runs_and_ranks(hub: files.Hub, shown, tmp_path: Path, capsys) -> None:
    names = names_of_the_lesson(tmp_path)
    for cell in gpu_cells():
        exec(cell.replace("MEGA = False", "MEGA = True"), names)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("dalle-mini: 0.00 GB to download, the CLIP ViT-B-32/openai: 0.00 GB, once. With the")
    assert any(line.startswith("dalle-mega: ") for line in said)
    assert len(shown) == 6
    assert all(Image.open(io.BytesIO(each.png)).width > 400 for each in shown)
    assert [len(drawn.pictures) for drawn in names["big"]] == [9] * 4
    for drawn in [*names["big"], *names["swept"], names["many"]]:
        assert drawn.scores == sorted(drawn.scores, reverse=True)
    assert len({tuple(drawn.codes.flatten().tolist()) for drawn in names["swept"]}) == 4
    chosen = [names["many"].scores[i] for i in names["chosen"]]
    assert chosen == sorted(chosen)
    assert chosen[-1] == names["many"].scores[0]
    assert len(names["stages"]) == 4
    assert {"dalle-mini", "dalle-mega"} <= find_presets().keys()


def test_a_second_run_needs_no_connection(hub: files.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert published_pipeline("dalle-mini", RANKER, True, CPU, lambda _: None) is not None
    hub.requests.clear()
    said: list[str] = []
    assert published_pipeline("dalle-mini", RANKER, False, CPU, said.append) is not None
    assert (hub.requests, said) == ([], [])


def test_without_consent_nothing_is_asked_of_the_network(hub: files.Hub) -> None:
    said: list[str] = []
    assert published_pipeline("dalle-mini", RANKER, False, CPU, said.append) is None
    assert hub.requests == []
    (sentence,) = said
    assert sentence.startswith("dalle-mini with the CLIP ViT-B-32/openai is not on this computer")


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_found_before_anything_is_downloaded(hub: files.Hub, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(100, 90, 10))
    said: list[str] = []
    assert published_pipeline("dalle-mini", RANKER, True, CPU, said.append) is None
    assert len(said) == 2
    assert "dalle-mini with its CLIP needs 0.01 GB, but only 0.00 GB are free" in said[1]
    assert not any(request.startswith("GET") for request in hub.requests)


def test_an_altered_file_and_a_broken_server_are_reported_as_they_are(hub: files.Hub) -> None:
    said: list[str] = []
    hub.changes["open_clip_model.safetensors"] = lambda content: content[:-1] + bytes([content[-1] ^ 1])
    assert published_pipeline("dalle-mini", RANKER, True, CPU, said.append) is None
    assert "open_clip_model.safetensors was truncated or altered on the way" in said[-1]
    hub.changes.clear()
    hub.broken = True
    assert published_pipeline("dalle-mega", RANKER, True, CPU, said.append) is None
    assert "could not be downloaded" in said[-1]


def test_mega_is_refused_where_memory_is_short(hub: files.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {name: memory_needed(config, 9) for name, config in published.TRANSLATORS.items()}
    assert 2e9 < needed["dalle-mini"] < 4e9 < 2 * 2587.5e6 < needed["dalle-mega"] < 10e9
    monkeypatch.setattr(published, "free_memory", lambda device: int(4e9))
    said: list[str] = []
    assert published_pipeline("dalle-mega", RANKER, True, CPU, said.append) is None
    assert said == ["dalle-mega needs 8.3 GB of memory; 4.0 GB are free."]
    assert hub.requests == []
