"""Exports to ONNX draw what the library draws; `onnx_engine` draws with them without PyTorch."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import onnx
import pytest
import torch
from atelier import Pipeline
from atelier.blocks.bart import Bart
from atelier.cli import app
from atelier.decoding import Sampling, SamplingOptions, uniform_numbers
from atelier.decoding import sampling as library_sampling
from atelier.errors import AtelierError
from atelier.export import trace as tracing
from atelier.export.manifest import MANIFEST_FILE
from atelier.export.preset import export_onnx
from atelier.export.weights import LARGEST_INT8, store_weights, to_int8
from atelier.weights.preset import CLIP_FILE, Preset, load_preset, save_preset
from atelier.weights.storage import PresetError
from onnx import numpy_helper
from onnx_engine import OnnxEngine, probabilities, sample_codes
from tiny_preset import filled_preset
from typer.testing import CliRunner, Result

PROMPTS = [
    "the Eiffel tower landing on the moon",
    "a stained glass window with an image of a blue strawberry",
    "🦒 giraffe",
]
GRAPHS = ["caption_reader", "code_writer", "picture_decoder", "picture_tower", "text_tower"]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


# ---------------------------------------------------------------------------------------------- two exports


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder that only the first worker of pytest-xdist makes."""
    folder.parent.mkdir(exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            make(folder)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of pytest-xdist share, because exports take long."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "exports"


@pytest.fixture(scope="module")
def tiny(shared: Path) -> Preset:
    return load_preset(made_once(shared / "preset", filled_preset))


@pytest.fixture(scope="module")
def tiny_folder(shared: Path, tiny: Preset) -> Path:
    """An export of the tiny preset by the command, whose output is in the file printed.json beside it."""

    def export(folder: Path) -> None:
        result = run("export-onnx", "--preset", str(tiny.folder), "--out", str(folder), "--dtype", "float32")
        (shared / "printed.json").write_text(json.dumps([result.exit_code, result.stdout, result.stderr]))

    return made_once(shared / "tiny", export)


@pytest.fixture(scope="module")
def laptop_folder(shared: Path) -> Path:
    return made_once(shared / "laptop", lambda folder: export_onnx(load_preset("laptop"), folder, "float32"))


@pytest.fixture(scope="module")
def laptop(laptop_folder: Path) -> OnnxEngine:
    return OnnxEngine(laptop_folder)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_pretrained("laptop", device="cpu")


@pytest.fixture
def tiny_engine(tiny_folder: Path) -> OnnxEngine:
    return OnnxEngine(tiny_folder)


def converted(folder: Path, target: Path, dtype: str) -> OnnxEngine:
    """An export whose weights are stored in another dtype, made from one in float32 without tracing again."""
    shutil.copytree(folder, target)
    for path in target.glob("*.onnx"):
        onnx.save(store_weights(onnx.load(path), dtype), path)
    return OnnxEngine(target)


# ---------------------------------------------------------------------------------------------- the files


def test_the_command_writes_graphs_tokenizer_and_manifest_and_prints_their_sizes(tiny_folder: Path) -> None:
    exit_code, stdout, stderr = json.loads((tiny_folder.parent / "printed.json").read_text())
    assert exit_code == 0, stderr
    files = {path.name: path.stat().st_size for path in tiny_folder.iterdir()}
    assert set(files) == {*(f"{name}.onnx" for name in GRAPHS), "tokenizer.json", MANIFEST_FILE}
    lines = stdout.splitlines()
    assert {line.split()[1]: int(line.split()[0].replace(",", "")) for line in lines[:-1]} == files
    assert lines[-1].split()[0] == f"{sum(files.values()):,}"
    assert stderr.split() == GRAPHS


def test_the_manifest_describes_the_files(tiny: Preset, tiny_folder: Path) -> None:
    manifest = json.loads((tiny_folder / MANIFEST_FILE).read_text(encoding="utf8"))
    assert manifest["preset"] == "tiny"
    assert manifest["sampling"] == {"guidance": 3.0, "temperature": 1.0, "top_k": None, "top_p": None}
    assert manifest["words"] == list(tiny.words)
    assert manifest["sizes"]["codes"] == 16
    assert manifest["sizes"]["grid"] == 4
    assert manifest["tokens"] == {"start": 0, "pad": 1, "end": 2, "first_code": 16}
    for name, entry in manifest["files"].items():
        content = (tiny_folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert set(manifest["files"]) == {path.name for path in tiny_folder.iterdir()} - {MANIFEST_FILE}


def test_the_manifest_names_inputs_and_outputs(tiny_engine: OnnxEngine) -> None:
    graphs = tiny_engine.manifest["graphs"]
    assert graphs["code_writer"]["inputs"] == {
        "newest": {"dtype": "int64", "shape": ["prompts", "pictures"]},
        "position": {"dtype": "int64", "shape": [1]},
        "memory": {"dtype": "float32", "shape": [1, 2, "prompts", 2, "tokens", 8]},
        "mask": {"dtype": "bool", "shape": ["prompts", "tokens"]},
        "cache": {"dtype": "float32", "shape": ["written", 1, 2, "prompts", "pictures", 2, 8]},
    }
    assert graphs["code_writer"]["outputs"] == {
        "logits": {"dtype": "float32", "shape": ["prompts", "pictures", 16]},
        "added": {"dtype": "float32", "shape": [1, 1, 2, "prompts", "pictures", 2, 8]},
    }
    assert graphs["picture_tower"]["inputs"] == {"pictures": {"dtype": "float32", "shape": ["pictures", 3, 16, 16]}}
    assert graphs["text_tower"]["inputs"] == {"ids": {"dtype": "int64", "shape": ["texts", 24]}}
    for name, session in tiny_engine.sessions.items():
        assert [value.name for value in session.get_inputs()] == list(graphs[name]["inputs"])
        assert [value.name for value in session.get_outputs()] == list(graphs[name]["outputs"])


def test_the_files_name_no_path_of_the_machine_that_made_them(tiny_folder: Path) -> None:
    for path in tiny_folder.glob("*.onnx"):
        onnx.checker.check_model(onnx.load(path))
        content = path.read_bytes()
        assert b".py" not in content
        assert b"site-packages" not in content
        assert str(Path(torch.__file__).parents[1]).encode() not in content


@pytest.mark.parametrize("described", [False, True])
def test_a_preset_without_clip_has_no_towers(
    described: bool, tiny: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config may describe none, or one that is not trained yet."""
    shutil.copytree(tiny.folder, tmp_path / "tiny")
    files = {name: found for name, found in tiny.files.items() if name != CLIP_FILE}
    unranked = save_preset(replace(tiny, clip=tiny.clip if described else None, files=files), tmp_path / "tiny")
    untraced = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    monkeypatch.setattr("atelier.export.write.trace", lambda graph: untraced)
    export_onnx(unranked, tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / MANIFEST_FILE).read_text(encoding="utf8"))
    assert list(manifest["graphs"]) == GRAPHS[:3]
    assert manifest["sizes"]["clip_picture_size"] is None


def test_an_interrupted_export_has_no_manifest(tiny: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MANIFEST_FILE).write_text("of an older export")

    def interrupt(graph: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atelier.export.write.trace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(tiny, tmp_path)
    assert not (tmp_path / MANIFEST_FILE).exists()


# ---------------------------------------------------------------------------------------------- the same numbers


def stepwise(engine: OnnxEngine, ids: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The logits (p, m, s, codes) of code_writer before each of the codes (p, m, s), read one after the other."""
    memory, mask = engine.run("caption_reader", ids=ids)
    starts = np.full((*codes.shape[:2], 1), engine.manifest["tokens"]["first_code"])
    tokens = np.concatenate([starts, codes[..., :-1]], axis=2)
    caches = [np.empty((0, *memory.shape[:2], *tokens.shape[:2], memory.shape[3], memory.shape[5]), np.float32)]
    found = []
    for step in range(tokens.shape[2]):
        logits, added = engine.run(
            "code_writer",
            newest=tokens[..., step],
            position=np.array([step]),
            memory=memory,
            mask=mask,
            cache=np.concatenate(caches),
        )
        caches.append(added)
        found.append(logits)
    return np.stack(found, axis=2)


def check_logits(engine: OnnxEngine, bart: Bart, prompts: int, pictures: int) -> None:
    sizes, generator = engine.manifest["sizes"], torch.Generator().manual_seed(0)
    longest = min(sizes["text_length"], 11)
    text = torch.randint(4, bart.config.text_vocabulary, (prompts, longest), generator=generator)
    text[0, longest // 2 :] = bart.config.pad_token
    codes = torch.randint(0, sizes["codes"], (prompts, pictures, bart.config.target_length), generator=generator)
    mask = bart.text_mask(text)
    with torch.no_grad():
        whole = bart.decode(bart.shift(codes.flatten(0, 1)), bart.encode(text, mask), mask)[..., : sizes["codes"]]
    expected = whole.unflatten(0, codes.shape[:2]).numpy()
    assert np.abs(stepwise(engine, text.numpy(), codes.numpy()) - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(("prompts", "pictures"), [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_the_logits_of_every_step_are_those_of_the_translator(
    tiny: Preset, tiny_engine: OnnxEngine, prompts: int, pictures: int
) -> None:
    check_logits(tiny_engine, tiny.load_bart(), prompts, pictures)


def test_the_logits_of_laptop_are_those_of_its_translator(laptop: OnnxEngine) -> None:
    check_logits(laptop, load_preset("laptop").load_bart(), prompts=2, pictures=2)


def test_laptop_draws_the_same_pictures_without_chance(laptop: OnnxEngine, pipeline: Pipeline) -> None:
    for prompt in PROMPTS:
        ours = pipeline.draw(prompt, n=1, seed=0, temperature=0.0)
        theirs = laptop.draw(prompt, uniform_numbers(0, 1, 64).numpy(), temperature=0.0)
        assert np.array_equal(theirs.codes, ours.codes.numpy())
        assert np.abs(theirs.pictures - ours.pictures.numpy()).max() <= 2 / 255
        assert theirs.scores is not None
        assert theirs.scores == pytest.approx(ours.scores, abs=0.01)


@pytest.mark.parametrize("how", [{}, {"guidance": 1.0}, {"guidance": 3.0, "top_k": 8}, {"top_p": 0.7}])
def test_laptop_draws_the_same_pictures_with_the_same_random_numbers(
    laptop: OnnxEngine, pipeline: Pipeline, how: SamplingOptions
) -> None:
    ours = pipeline.draw(PROMPTS[0], n=3, seed=5, rank=False, **how)
    theirs = laptop.draw(PROMPTS[0], uniform_numbers(5, 3, 64).numpy(), **how)
    assert np.array_equal(theirs.codes, ours.codes.numpy())
    assert np.abs(theirs.pictures - ours.pictures.numpy()).max() <= 2 / 255


def test_tiny_draws_as_the_pipeline_does(tiny: Preset, tiny_engine: OnnxEngine) -> None:
    pipeline = Pipeline.from_pretrained(tiny, device="cpu")
    for prompt in ("a red cat", "a " * 100):
        ours = pipeline.draw(prompt, n=4, seed=1, rank=False)
        theirs = tiny_engine.draw(prompt, uniform_numbers(1, 4, 16).numpy())
        assert np.array_equal(theirs.codes, ours.codes.numpy())
        assert np.abs(theirs.pictures - ours.pictures.numpy()).max() <= 2 / 255
        assert theirs.scores == pytest.approx(pipeline.score(prompt, ours.pictures), abs=0.01)


@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.4}])
def test_the_engines_sampling_is_the_librarys(how: SamplingOptions) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, uniforms = 3 * torch.randn(50, 16, generator=generator), torch.rand(50, generator=generator)
    sampling = Sampling(**how)
    ours = library_sampling.probabilities(logits, sampling)
    theirs = probabilities(logits.numpy(), vars(sampling))
    assert theirs / theirs.sum(axis=1, keepdims=True) == pytest.approx(ours.numpy(), abs=1e-6)
    assert np.array_equal(sample_codes(theirs, uniforms.numpy()), library_sampling.sample_codes(ours, uniforms).numpy())


# ---------------------------------------------------------------------------------------------- stored weights


def test_float16_halves_the_files_and_loses_nothing(laptop: OnnxEngine, laptop_folder: Path, tmp_path: Path) -> None:
    """Presets store float16, and the arithmetic of the graphs is float32."""
    half = converted(laptop_folder, tmp_path / "half", "float16")
    for path in laptop_folder.glob("*.onnx"):
        assert (tmp_path / "half" / path.name).stat().st_size < 0.56 * path.stat().st_size
    uniforms = uniform_numbers(0, 2, 64).numpy()
    ours, theirs = laptop.draw(PROMPTS[1], uniforms), half.draw(PROMPTS[1], uniforms)
    assert np.array_equal(theirs.codes, ours.codes)
    assert np.array_equal(theirs.pictures, ours.pictures)


def test_int8_quarters_the_files_and_changes_the_pictures_little(
    laptop: OnnxEngine, laptop_folder: Path, tmp_path: Path
) -> None:
    eighth = converted(laptop_folder, tmp_path / "int8", "int8")
    sizes = [
        sum(path.stat().st_size for path in folder.glob("*.onnx")) for folder in (laptop_folder, tmp_path / "int8")
    ]
    assert sizes[1] < 0.31 * sizes[0]
    codes = laptop.write(PROMPTS[1], uniform_numbers(0, 2, 64).numpy(), laptop.manifest["sampling"])
    ours, theirs = (engine.run("picture_decoder", codes=codes.reshape(2, 8, 8))[0] for engine in (laptop, eighth))
    assert 0 < np.abs(theirs - ours).mean() < 2 / 255


@pytest.mark.parametrize("shape", [(16, 8), (8, 4, 3, 3)])
def test_int8_has_a_scale_for_each_row_or_column(shape: tuple[int, ...]) -> None:
    dice = np.random.default_rng(0)
    sizes = np.geomspace(0.01, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    values = (sizes * dice.standard_normal(shape)).astype(np.float32)
    stored = to_int8(values)
    assert stored.scales.shape == sizes.shape  # rows of very different sizes get a scale each
    assert np.abs(stored.numbers).max() == LARGEST_INT8
    assert np.all(np.abs(stored.numbers * stored.scales - values) <= 0.501 * stored.scales)
    columns = to_int8(np.ascontiguousarray(np.moveaxis(values, 0, -1)))
    assert columns.scales.size == shape[0]


def test_int8_keeps_rows_of_zeros() -> None:
    stored = to_int8(np.zeros((4, 64), np.float32))
    assert not stored.numbers.any()
    assert np.isfinite(stored.scales).all()


def test_values_beyond_float16_stay_in_float32() -> None:
    weights = {"large": np.full(64, 1e6, np.float32), "usual": np.full(64, 0.1, np.float32)}
    model = onnx.helper.make_model(
        onnx.helper.make_graph([], "weights", [], [], [numpy_helper.from_array(v, n) for n, v in weights.items()])
    )
    stored = {one.name: numpy_helper.to_array(one) for one in store_weights(model, "float16").graph.initializer}
    assert stored["large"].dtype == np.float32
    assert stored["usual.stored"].dtype == np.float16


# ---------------------------------------------------------------------------------------------- errors


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything is traced: errors should come before seconds of work."""
    monkeypatch.setattr("atelier.export.write.trace", lambda graph: pytest.fail("traced"))


@pytest.mark.usefixtures("untraced")
def test_a_missing_package_gives_one_sentence(tiny: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(tracing, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    result = run("export-onnx", "--preset", str(tiny.folder), "--out", str(tmp_path / "export"))
    assert result.exit_code == 1
    assert result.stderr == "The export to ONNX needs the packages onnx and onnxscript: pip install onnxscript.\n"
    assert not (tmp_path / "export").exists()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("below", [False, True])
def test_a_folder_that_cannot_be_written_gives_one_sentence(tiny: Preset, tmp_path: Path, below: bool) -> None:
    (tmp_path / "taken").write_text("a file")
    folder = tmp_path / "taken" / "export" if below else tmp_path / "taken"
    result = run("export-onnx", "--preset", str(tiny.folder), "--out", str(folder))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{folder} cannot be read or written: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("untraced")
def test_an_unknown_dtype_gives_one_sentence(tiny: Preset, tmp_path: Path) -> None:
    result = run("export-onnx", "--preset", str(tiny.folder), "--out", str(tmp_path / "export"), "--dtype", "int4")
    assert result.exit_code == 1
    assert result.stderr == "There is no dtype 'int4'; choose one of float32, float16, int8.\n"


@pytest.mark.usefixtures("untraced")
def test_a_preset_without_weights_gives_an_error(tiny: Preset, tmp_path: Path) -> None:
    shutil.copytree(tiny.folder, tmp_path / "tiny")
    (tmp_path / "tiny" / "bart.safetensors").unlink()
    with pytest.raises(PresetError, match=r"bart\.safetensors is missing"):
        export_onnx(load_preset(tmp_path / "tiny"), tmp_path / "export")


def test_a_model_that_is_too_large_for_one_file_gives_an_error(
    tiny: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "MOST_BYTES", 10_000)
    with pytest.raises(AtelierError, match=r"The caption reader has .* export a smaller preset"):
        export_onnx(tiny, tmp_path)


def test_nothing_imports_onnx_before_an_export() -> None:
    code = (
        "import sys, atelier.cli, atelier.drawing.pipeline, atelier.export.preset;"
        "print(sorted({'onnx', 'onnxscript', 'onnxruntime'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf8", check=True)
    assert result.stdout == "[]\n"
