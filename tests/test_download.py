"""Downloading published models, from a local server with the hub's interface."""

import errno
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import published_files as files
import pytest
import torch
from atelier import Pipeline
from atelier.cli import app
from atelier.errors import AtelierError
from atelier.weights.preset import find_presets, load_preset
from atelier.weights.published import download as downloads
from atelier.weights.published.download import FlaxPublication, MinDallePublication, download, download_size
from atelier.weights.published.hub import DownloadError, check_free_space
from atelier.weights.published.tensors import PublishedError
from atelier.weights.storage import PresetError
from typer.testing import CliRunner

MINI, VQGAN, MIN_DALLE = "dalle-mini/dalle-mini", "dalle-mini/vqgan_imagenet_f16_16384", "kuprel/min-dalle"
WORDS = "the 100\na 50\nfunction 20\nname 10\n"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of repositories with tiny models."""
    root = tmp_path_factory.mktemp("hub")
    bart, vqgan = files.tiny_bart(), files.tiny_vqgan()
    files.write_flax_bart(root / MINI, bart)
    (root / MINI / "enwiki-words-frequency.txt").write_text(WORDS)
    files.write_flax_vqgan(root / VQGAN, vqgan)
    files.write_min_dalle(root / MIN_DALLE, bart, vqgan, "_mini")
    return root


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[files.Hub]:
    """A running server, an empty cache and an empty folder of presets."""
    shutil.copytree(published, tmp_path / "hub")
    data = tmp_path / "data"
    monkeypatch.setenv("ATELIER_DATA", str(data))
    monkeypatch.setattr("atelier.weights.preset.preset_folders", lambda: [data])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits between its attempts
    small = MinDallePublication(
        "_mini", files.TINY_BART, replace(files.TINY_VQGAN, group_norm_eps=1e-5, decoder_only=True)
    )
    monkeypatch.setitem(downloads.PUBLISHED, "dalle-mini", {"flax": FlaxPublication(MINI), "min-dalle": small})
    with files.serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


FLAX = "flax_model.msgpack"


def left_over(tmp_path: Path) -> list[str]:
    """List the files in the folder of presets that belong to no complete preset, except locks."""
    data = tmp_path / "data"
    whole = {folder for folder in data.glob("*/") if (folder / "config.json").is_file()}
    paths = (path for path in data.rglob("*") if path.is_file() and not any(folder in path.parents for folder in whole))
    return [path.name for path in paths if path.suffix != ".lock"]


def assert_refused(
    tmp_path: Path, sentence: str, kind: type[AtelierError] = DownloadError, source: str = "flax"
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        download("dalle-mini", source)
    assert "\n" not in str(caught.value)
    assert left_over(tmp_path) == []
    assert "dalle-mini" not in find_presets()


# ---------------------------------------------------------------------------------------------- the preset


@pytest.mark.parametrize("source", ["flax", "min-dalle"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_download_becomes_a_preset(hub, tmp_path, source, dtype):
    seen: list[tuple[str, int, int]] = []
    preset, remarks = download("dalle-mini", source, dtype, lambda *progress: seen.append(progress))
    assert load_preset("dalle-mini") == preset
    assert preset.folder == tmp_path / "data" / "dalle-mini"
    assert preset.complete
    assert left_over(tmp_path) == []
    assert seen[-1][1] == seen[-1][2] > 0
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    bart = files.tiny_bart()
    expected = bart.lm_head.weight.half() if source == "min-dalle" else bart.lm_head.weight
    assert torch.equal(preset.load_bart().lm_head.weight, expected.to(getattr(torch, dtype)).float())
    vqgan, codes = files.tiny_vqgan(), torch.randint(40, (1, 4, 4))
    loaded = preset.load_vqgan()
    assert torch.equal(loaded.last_layer, vqgan.last_layer.to(getattr(torch, dtype)).float())
    assert (loaded.decode_codes(codes) - vqgan.decode_codes(codes)).abs().mean() < 0.05
    assert bool(remarks) == (source == "min-dalle")


@pytest.mark.parametrize("source", ["flax", "min-dalle"])
def test_the_pipeline_draws_with_it(hub, source):
    download("dalle-mini", source)
    pipe = Pipeline.from_pretrained("dalle-mini", device="cpu")
    drawing = pipe.draw("a cat on the moon", n=3, seed=0)
    assert drawing.pictures.shape == (3, 3, 32, 32)
    assert drawing.scores is None
    assert torch.equal(drawing.pictures, pipe.draw("a cat on the moon", n=3, seed=0).pictures)
    assert pipe.sampling.guidance == (10 if source == "flax" else 16)
    with pytest.raises(ValueError, match="The prompt is empty"):
        pipe.draw(" ")
    picture = torch.rand(3, 32, 32)
    if source == "flax":
        assert pipe.complete(picture, "a cat", rows=2, n=1, seed=0).pictures.shape == (1, 3, 32, 32)
    else:
        with pytest.raises(ValueError, match="has no encoder"):
            pipe.complete(picture, "a cat")


def test_prompts_are_normalised_as_the_source_does(hub):
    flax, _ = download("dalle-mini")
    assert "".join(flax.load_tokenizer().pieces("#FunctionName!")) == " function name"
    minimal, _ = download("dalle-mini", "min-dalle")
    assert "".join(minimal.load_tokenizer().pieces("#FunctionName!")) == " #functionname!"


def test_without_a_list_of_words_hashtags_are_not_split_and_a_remark_says_so(hub, tmp_path):
    (hub.root / MINI / "enwiki-words-frequency.txt").unlink()
    preset, remarks = download("dalle-mini")
    assert "hashtags in prompts are not split into words" in remarks[0]
    assert "".join(preset.load_tokenizer().pieces("#FunctionName")) == " functionname"


def test_a_repository_with_only_a_tokenizer_json_is_read(hub):
    for name in ("vocab.json", "merges.txt"):
        (hub.root / MINI / name).unlink()
    shutil.copy(files.FIXTURE / "scanned" / "tokenizer.json", hub.root / MINI)
    assert download("dalle-mini")[0].load_tokenizer()


def test_the_downloaded_files_are_recorded(hub):
    preset, _ = download("dalle-mini")
    origin = json.loads((preset.folder / "origin.json").read_text())
    assert (origin["source"], origin["dtype"]) == ("flax", "float16")
    record = next(entry for entry in origin["files"] if entry["file"] == "flax_model.msgpack")
    assert record["repository"] == MINI
    assert record["commit"] == hub.commit
    assert record["bytes"] == (hub.root / MINI / "flax_model.msgpack").stat().st_size


def test_pinned_commits_are_downloaded(hub, monkeypatch):
    commit = hub.commit
    pinned = FlaxPublication(MINI, revision=commit, vqgan_revision=commit)
    monkeypatch.setitem(downloads.PUBLISHED["dalle-mini"], "flax", pinned)
    download("dalle-mini")
    assert {request.split("/")[4] for request in hub.requests if "words" not in request} == {commit}


def test_a_commit_that_the_hub_does_not_have_is_named(hub, tmp_path, monkeypatch):
    pinned = FlaxPublication(MINI, vqgan_revision="0" * 40)
    monkeypatch.setitem(downloads.PUBLISHED["dalle-mini"], "flax", pinned)
    assert_refused(tmp_path, f"{VQGAN} at .* has no commit 0000")


@pytest.mark.parametrize("source", ["flax", "min-dalle"])
def test_the_size_is_known_before_the_download_and_is_0_after_it(hub, source):
    weights = downloads.PUBLISHED["dalle-mini"][source].weights()
    total = sum((hub.root / repository / file).stat().st_size for repository, file, _ in weights)
    assert download_size("dalle-mini", source) == (total, 2 * total)
    assert not any(request.startswith("GET") for request in hub.requests)
    preset, _ = download("dalle-mini", source)
    hub.requests.clear()
    assert download_size("dalle-mini", source) == (0, total)
    assert hub.requests == []
    assert sum((preset.folder / name).stat().st_size for name in preset.files if "safetensors" in name) < total


def test_the_command(hub, monkeypatch):
    monkeypatch.chdir(hub.root)
    result = CliRunner().invoke(app, ["download", "dalle-mini", "--source", "min-dalle", "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    assert "atelier draw --preset dalle-mini" in result.stdout
    assert "no encoder" in result.stderr
    drawn = CliRunner().invoke(app, ["draw", "a cat", "--n", "1", "--preset", "dalle-mini"])
    assert drawn.exit_code == 0, drawn.output
    for words in (["dalle"], ["dalle-mini", "--source", "jax"], ["dalle-mini", "--dtype", "int8"]):
        refused = CliRunner().invoke(app, ["download", *words])
        assert refused.exit_code == 1
        assert f"{words[-1]!r}; choose one of" in refused.stderr
        assert "Traceback" not in refused.output


# ---------------------------------------------------------------------------------------------- what exists already


def test_cached_files_need_no_connection(hub, tmp_path):
    download("dalle-mini")
    hub.requests.clear()
    preset, remarks = download("dalle-mini")
    assert remarks[0].endswith("dalle-mini already.")
    assert download("dalle-mini", dtype="float32")[0].files != preset.files
    shutil.rmtree(tmp_path / "data")
    download("dalle-mini")
    assert hub.requests == []


def test_another_source_or_dtype_replaces_the_preset(hub, tmp_path):
    first, _ = download("dalle-mini", "min-dalle", "float32")
    second, _ = download("dalle-mini")
    assert not load_preset("dalle-mini").vqgan.decoder_only
    assert first.folder == second.folder
    assert left_over(tmp_path) == []


def test_a_damaged_preset_is_replaced(hub):
    preset, _ = download("dalle-mini")
    (preset.folder / "bart.safetensors").write_bytes(b"nonsense")
    with pytest.raises(PresetError, match="truncated or altered"):
        load_preset("dalle-mini").load_bart()
    assert download("dalle-mini")[0].load_bart()


def test_a_folder_that_was_not_downloaded_is_not_changed(hub, tmp_path):
    own = tmp_path / "data" / "dalle-mini"
    own.mkdir(parents=True)
    (own / "mine.txt").write_text("mine")
    with pytest.raises(DownloadError, match="was not downloaded"):
        download("dalle-mini")
    assert (own / "mine.txt").read_text() == "mine"


# ---------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupted_connection_is_resumed(hub, monkeypatch, times):
    monkeypatch.setattr(
        "huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024
    )  # huggingface_hub resumes only after a whole chunk
    hub.cuts["flax_model.msgpack"] = times
    assert download("dalle-mini")[0].load_bart()
    starts = [re.search(r"flax_model\.msgpack bytes=(\d+)-", line) for line in hub.requests]
    resumed = [int(start[1]) for start in starts if start]
    assert len(resumed) == times
    assert resumed[0] > 0
    assert resumed == sorted(set(resumed))


def test_a_download_that_was_given_up_goes_on_in_the_next_run(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    hub.cuts[FLAX] = 1000  # so that every attempt fails
    assert_refused(tmp_path, r"flax_model\.msgpack .*could not be downloaded.*what has arrived is kept")
    hub.cuts.clear()
    hub.requests.clear()
    assert download("dalle-mini")[0].load_bart()
    (got,) = (line for line in hub.requests if line.startswith("GET") and "dalle-mini/resolve" in line and FLAX in line)
    start = re.search(r"bytes=(\d+)-", got)
    assert start is not None
    assert int(start[1]) >= 1024
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_a_partial_file_that_the_server_cannot_complete_is_begun_again(hub, tmp_path):
    hub.changes[FLAX] = lambda content: content[:-50]
    for _ in range(2):  # the second time there is nothing more to get
        assert_refused(tmp_path, "Consistency check failed: file should be of size")
    hub.changes.clear()
    assert download("dalle-mini")[0].load_bart()


def test_a_partial_file_that_is_too_long_is_begun_again(hub, tmp_path):
    hub.changes[FLAX] = lambda content: content + b"x"
    assert_refused(tmp_path, "Consistency check failed: file should be of size")
    hub.changes.clear()
    assert download("dalle-mini")[0].load_bart()


def test_the_leftovers_of_a_killed_download_are_removed(hub, tmp_path):
    download("dalle-mini")
    blobs = next((tmp_path / "cache").glob("models--dalle-mini--dalle-mini/blobs"))
    model = next(blob for blob in blobs.iterdir() if blob.stat().st_size > 20_000)
    model.with_name(f"{model.name}.0123.incomplete").write_bytes(b"half")
    shutil.rmtree(tmp_path / "data")
    model.unlink()
    (tmp_path / "data" / ".unfinished" / "dalle-mini").mkdir(parents=True)
    (tmp_path / "data" / ".unfinished" / "dalle-mini" / "config.json").write_text("{}")
    assert download("dalle-mini")[0].load_bart()
    assert list(blobs.glob("*.incomplete")) == []
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (FLAX, lambda content: content[:-50], "Consistency check failed: file should be of size"),
        (FLAX, lambda content: content + b"x", "Consistency check failed: file should be of size"),
        (FLAX, lambda content: content[:-1] + bytes([content[-1] ^ 1]), r"msgpack was truncated or altered .*SHA-256"),
        ("merges.txt", lambda content: content.replace(b"a", b"b"), r"merges\.txt was truncated or altered .*git hash"),
    ],
)
def test_a_file_altered_on_the_way_is_refused_and_removed(
    hub: files.Hub, tmp_path: Path, file: str, change: Callable[[bytes], bytes], sentence: str
):
    hub.changes[file] = change
    assert_refused(tmp_path, sentence)
    hub.changes.clear()
    assert download("dalle-mini")[0].load_bart()


def test_a_file_altered_in_the_cache_is_refused_and_downloaded_again(hub, tmp_path):
    download("dalle-mini")
    shutil.rmtree(tmp_path / "data")
    model = next((tmp_path / "cache").glob(f"models--dalle-mini--dalle-mini/snapshots/*/{FLAX}"))
    model.write_bytes(model.read_bytes()[:-1])
    assert_refused(tmp_path, "truncated or altered")
    assert download("dalle-mini")[0].load_bart()


@pytest.mark.parametrize("source", ["flax", "min-dalle"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80", b"PK\x03\x04"])
def test_files_of_the_wrong_format_are_refused(hub, tmp_path, source, content):
    for path in (hub.root / MINI / FLAX, hub.root / MIN_DALLE / "decoder_mini.pt"):
        path.write_bytes(content)
    assert_refused(tmp_path, r"msgpack|decoder_mini\.pt", PublishedError, source=source)


def test_a_model_of_other_sizes_is_refused(hub, tmp_path):
    bart = files.tiny_bart(replace(files.TINY_BART, width=32))
    torch.save(files.min_dalle_bart(bart, "encoder"), hub.root / MIN_DALLE / "encoder_mini.pt")
    assert_refused(tmp_path, "of another size", PublishedError, source="min-dalle")


def test_blocks_that_do_not_fit_together_are_refused(hub, tmp_path):
    vqgan = files.tiny_vqgan(replace(files.TINY_VQGAN, resolution=64, attention_resolutions=(8,)))
    files.write_flax_vqgan(hub.root / VQGAN, vqgan)
    assert_refused(tmp_path, "as 64 codes, but the bart's target_length is 16", PublishedError)


def test_a_missing_file_and_a_missing_repository_are_named(hub, tmp_path):
    (hub.root / MINI / FLAX).unlink()
    assert_refused(tmp_path, rf"{MINI} at http://.* has no file {FLAX}")
    shutil.rmtree(hub.root / MINI)
    assert_refused(tmp_path, f"no repository {MINI}")


def test_a_broken_server_is_named(hub, tmp_path):
    hub.broken = True
    assert_refused(tmp_path, "could not be downloaded from http://127")


@pytest.mark.parametrize("etag", ["", "x", "../../../outside", "/outside", "0" * 39, "W/abc", "0" * 64 + "/x"])
@pytest.mark.parametrize("file", [FLAX, "config.json"])
def test_an_etag_that_is_no_hash_is_refused_before_anything_is_written(hub, tmp_path, file, etag):
    hub.etags[file] = etag if etag != "/outside" else str(tmp_path / "outside")
    assert_refused(tmp_path, "sent no valid hash, commit or size|could not be downloaded")
    assert not list(tmp_path.rglob("outside*"))
    hub.etags.clear()
    assert download("dalle-mini")[0].load_bart()


def test_a_commit_that_is_no_hash_is_refused(hub, tmp_path):
    hub.commit_sent = "../../../outside"
    assert_refused(tmp_path, "sent no valid hash, commit or size|could not be downloaded")
    assert not list(tmp_path.rglob("outside*"))


def test_a_dripping_download_is_given_up(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("atelier.weights.published.hub.PATIENCE", 2.0)
    monkeypatch.setattr("atelier.weights.published.hub.LEAST_PACE", 1e9)
    hub.dripping.add("merges.txt")
    assert_refused(tmp_path, r"merges\.txt .*it took more than 2 seconds")
    hub.dripping.clear()


def test_an_empty_endpoint_means_the_default(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "")  # so it is if the variable is empty at import
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("atelier.weights.published.hub.DEFAULT_ENDPOINT", hub.url)
    assert download("dalle-mini")[0].load_bart()


def test_a_file_in_the_cache_whose_name_is_no_hash_is_removed(hub, tmp_path):
    download("dalle-mini")
    shutil.rmtree(tmp_path / "data")
    config = next((tmp_path / "cache").glob("models--dalle-mini--dalle-mini/snapshots/*/config.json"))
    poisoned = config.resolve().rename(config.resolve().with_name("poisoned"))
    config.unlink()
    config.symlink_to(poisoned)
    assert_refused(tmp_path, "which is not a hash. It was removed")
    assert download("dalle-mini")[0].load_bart()


def test_a_missing_network_is_reported_in_one_sentence(hub, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # the port is taken, but nothing listens on it
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert_refused(tmp_path, "could not be downloaded from http://127.*Check the connection")


def test_a_full_disk_is_detected_before_the_download(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage._replace(free=100))
    assert_refused(tmp_path, r"config\.json of dalle-mini/dalle-mini needs 0\.00 GB, but only 0\.00 GB are free")
    with pytest.raises(DownloadError, match=r"only 0\.00 GB are free"):
        check_free_space(tmp_path / "not" / "there", 101, "x")


@pytest.mark.parametrize("written", ["streams.write_safetensors", "preset.replace_file"])
def test_a_disk_that_fills_up_leaves_no_files(hub, tmp_path, monkeypatch, written):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    module, name = written.split(".")
    owner = "atelier.weights.published.download" if name == "write_safetensors" else f"atelier.weights.{module}"
    monkeypatch.setattr(f"{owner}.{name}", full)
    assert_refused(tmp_path, "The disk is full")


def test_a_second_download_at_the_same_time_is_refused(hub, tmp_path):
    place = tmp_path / "data" / ".unfinished"
    place.mkdir(parents=True)
    with filelock.FileLock(place / "dalle-mini.lock"):
        assert_refused(tmp_path, "Another download of dalle-mini is running")


def test_a_file_where_the_presets_folder_should_be_gets_a_sentence(hub, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "file"))
    result = CliRunner().invoke(app, ["download", "dalle-mini"])
    assert result.exit_code == 1
    assert "cannot be read or written: Not a directory." in result.stderr
    assert hub.requests == []


@pytest.mark.parametrize(("name", "how"), [("dalle", {}), ("dalle-mini", {"source": "jax"}), ("laptop", {})])
def test_unknown_names_are_refused(hub, name, how):
    with pytest.raises(DownloadError, match=r"There is no .*; choose one of"):
        download(name, **how)
    assert hub.requests == []


def test_both_models_are_published_in_both_places():
    for name, suffix in (("dalle-mini", "_mini"), ("dalle-mega", "")):
        flax, minimal = downloads.PUBLISHED[name]["flax"], downloads.PUBLISHED[name]["min-dalle"]
        assert isinstance(flax, FlaxPublication)
        assert isinstance(minimal, MinDallePublication)
        assert (flax.repository, minimal.suffix) == (f"dalle-mini/{name}", suffix)
        assert minimal.vqgan.grid**2 == minimal.bart.target_length
        assert minimal.bart.decoder_start == 16384
