"""Ranking with a published CLIP, which is downloaded once, here from a local server with the hub's interface."""

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import published_files as files
import pytest
import safetensors.torch
import torch
from atelier import Pipeline
from atelier.blocks.clip import CLIP
from atelier.errors import AtelierError
from atelier.weights.preset import Preset, load_preset, save_preset
from atelier.weights.published.hub import DownloadError
from atelier.weights.published.openclip import export_clip, load_published_clip
from atelier.weights.published.tensors import PublishedError
from tiny_preset import filled_preset

REPOSITORY, FILE, OLD_FILE = "timm/tiny_clip.openai", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
DESCRIPTION: Any = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 24, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PROMPT = "a red cat on the moon"


@pytest.fixture(scope="session")
def reference() -> Any:
    """A model of open_clip like OpenAI's: with QuickGELU, which its description does not mention."""
    torch.manual_seed(0)
    return open_clip.CLIP(**DESCRIPTION, quick_gelu=True).eval()


@pytest.fixture
def hub(reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[files.Hub]:
    """A running server and an empty cache."""
    source = {**open_clip.get_pretrained_cfg("ViT-B-32", "openai"), "hf_hub": f"{REPOSITORY}/"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", DESCRIPTION)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"openai": source, "own": {**source, "hf_hub": ""}})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits between its attempts
    folder = tmp_path / "hub" / REPOSITORY
    folder.mkdir(parents=True)
    safetensors.torch.save_file(reference.state_dict(), folder / FILE)
    with files.serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's address is one that no server listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{probe.getsockname()[1]}")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    return filled_preset(tmp_path_factory.mktemp("presets") / "tiny")


def same_weights(clip: CLIP, reference: Any) -> bool:
    ours, theirs = clip.state_dict(), reference.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_it_is_downloaded_once_and_has_the_activation_of_its_weights(hub: files.Hub, reference: Any) -> None:
    clip, _ = load_published_clip("tiny/openai")
    assert same_weights(clip, reference)
    assert clip.config.quick_gelu
    assert not clip.training
    assert any(request.startswith("GET") for request in hub.requests)
    hub.requests.clear()
    again, _ = load_published_clip("tiny/openai")
    assert same_weights(again, reference)
    assert hub.requests == []


def test_an_older_publication_is_read_as_well(hub: files.Hub, reference: Any) -> None:
    folder = hub.root / REPOSITORY
    (folder / FILE).unlink()
    torch.save(reference.state_dict(), folder / OLD_FILE)
    assert same_weights(load_published_clip("tiny/openai")[0], reference)
    hub.requests.clear()
    assert same_weights(load_published_clip("tiny/openai")[0], reference)
    assert hub.requests == []


def test_pictures_are_ranked_as_open_clip_ranks_them(hub: files.Hub, reference: Any, preset: Preset) -> None:
    pipe = Pipeline.from_pretrained(preset.folder, device="cpu", ranker="tiny/openai")
    drawing = pipe.draw(PROMPT, n=6, seed=0)
    transform, tokenize = open_clip.image_transform(24, is_train=False), open_clip.get_tokenizer("tiny")
    with torch.no_grad():
        seen = reference.encode_image(torch.stack([transform(image) for image in drawing.images]), normalize=True)
        text = reference.encode_text(tokenize([PROMPT]), normalize=True)
    assert drawing.scores == sorted(drawing.scores or [], reverse=True)
    torch.testing.assert_close(torch.tensor(drawing.scores), 100 * (seen @ text[0]), rtol=1e-5, atol=1e-4)
    own = Pipeline.from_pretrained(preset.folder, device="cpu").draw(PROMPT, n=6, seed=0)
    assert torch.equal(own.codes.flatten(1).sort(0).values, drawing.codes.flatten(1).sort(0).values)
    assert own.scores != drawing.scores


def test_a_preset_without_a_clip_can_be_ranked(hub: files.Hub, preset: Preset, tmp_path: Path) -> None:
    shutil.copytree(preset.folder, tmp_path / "without_clip")
    without_clip = load_preset(tmp_path / "without_clip")
    kept = {name: value for name, value in without_clip.files.items() if name != "clip.safetensors"}
    save_preset(replace(without_clip, clip=None, files=kept), without_clip.folder)
    assert Pipeline.from_pretrained(without_clip.folder, device="cpu").draw(PROMPT, n=2, seed=0).scores is None
    ranked = Pipeline.from_pretrained(without_clip.folder, device="cpu", ranker="tiny/openai").draw(PROMPT, n=2, seed=0)
    assert len(ranked.scores or []) == 2


def test_a_missing_network_is_reported_in_one_sentence(hub: files.Hub, no_hub: None, preset: Preset) -> None:
    with pytest.raises(DownloadError, match=r"^open_clip_model.safetensors of .* could not be downloaded") as caught:
        Pipeline.from_pretrained(preset.folder, device="cpu", ranker="tiny/openai")
    assert "\n" not in str(caught.value)


def test_a_file_altered_on_the_way_is_refused(hub: files.Hub) -> None:
    hub.changes[FILE] = lambda content: content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(DownloadError, match="truncated or altered"):
        load_published_clip("tiny/openai")


def test_a_file_of_another_size_is_refused(hub: files.Hub) -> None:
    larger: Any = {**DESCRIPTION, "embed_dim": 16}
    other = open_clip.CLIP(**larger)
    safetensors.torch.save_file(other.state_dict(), hub.root / REPOSITORY / FILE)
    with pytest.raises(PublishedError, match="of another size"):
        load_published_clip("tiny/openai")
    (hub.root / REPOSITORY / FILE).write_bytes(b"no safetensors at all")
    shutil.rmtree(hub.root.parent / "cache")
    with pytest.raises(PublishedError, match="is not a safetensors file"):
        load_published_clip("tiny/openai")


@pytest.mark.parametrize("name", ["tiny", "tiny/own", "tiny/unknown", "nothing/openai", ""])
def test_an_unpublished_name_is_refused(hub: files.Hub, name: str) -> None:
    with pytest.raises(DownloadError, match="publishes no CLIP"):
        load_published_clip(name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coca_ViT-B-32/laion2b_s13b_b90k", "not built like OpenAI's vision transformers: .*multimodal_cfg"),
        ("RN50/openai", "not built like OpenAI's vision transformers"),
        ("ViT-B-16-SigLIP/webli", "another tokenizer or another preprocessing"),
    ],
)
def test_another_kind_of_model_is_refused(hub: files.Hub, name: str, words: str) -> None:
    with pytest.raises(PublishedError, match=words):
        load_published_clip(name)


def test_an_export_with_a_tokenizer_that_is_too_large_is_refused(preset: Preset, tmp_path: Path) -> None:
    small = CLIP(replace(preset.clip_config, vocabulary=100))
    with pytest.raises(AtelierError, match="do not belong together"):
        export_clip(small, preset.load_clip_tokenizer(), tmp_path / "export")
    assert not (tmp_path / "export").exists()
