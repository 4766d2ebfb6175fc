"""Presets can be written and read again, and damaged files are refused."""

import contextlib
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from atelier.blocks.bart import Bart
from atelier.blocks.classifier import PictureClassifier
from atelier.blocks.clip import CLIP
from atelier.blocks.vqgan import VQGAN
from atelier.folders import cache_folder, downloads_folder, preset_folders
from atelier.training.recipe import TrainingError
from atelier.training.recipes import RECIPES
from atelier.training.run import recipe_settings
from atelier.weights.codebooks import moving_average_keys
from atelier.weights.preset import (
    Preset,
    add_file,
    best_preset,
    find_presets,
    load_preset,
    load_weights,
    save_preset,
    save_weights,
    update_preset,
)
from atelier.weights.storage import PresetError
from atelier.weights.tokenizer import train_tokenizer
from atelier.world import named_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_preset import filled_preset, tiny_preset

WEIGHTS = "vqgan.safetensors"


@pytest.fixture
def preset(tmp_path) -> Preset:
    torch.manual_seed(0)
    return save_weights(tiny_preset(tmp_path / "tiny"), "vqgan", VQGAN(tiny_preset(tmp_path / "tiny").vqgan))


def with_content(preset: Preset, content: bytes) -> Preset:
    """Replace the file of the weights and record the hash of the new content."""
    return add_file(preset, WEIGHTS, content)


def assert_refused(preset: Preset, sentence: str) -> None:
    module = VQGAN(preset.vqgan)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(PresetError, match=sentence) as caught:
        load_weights(preset, "vqgan", module)
    assert WEIGHTS in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_written_weights_are_read(preset):
    torch.manual_seed(0)
    written, read = VQGAN(preset.vqgan).state_dict(), load_preset(preset.folder).load_vqgan()
    assert not read.training
    moving_averages = {"quantize.counts", "quantize.sums"}
    for name, tensor in read.state_dict().items():
        assert tensor.dtype == written[name].dtype
        if name in moving_averages:
            continue
        torch.testing.assert_close(tensor, written[name], rtol=1e-3, atol=1e-6)
    assert load_preset(preset.folder) == preset
    stored = safetensors.torch.load_file(preset.folder / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert stored.keys() == written.keys() - moving_averages


def test_the_config_records_the_hash(preset):
    config = json.loads((preset.folder / "config.json").read_text())
    assert config["files"] == {WEIGHTS: hashlib.sha256((preset.folder / WEIGHTS).read_bytes()).hexdigest()}
    assert not preset.complete


def test_values_beyond_float16_are_kept(preset):
    module = VQGAN(preset.vqgan)
    module.last_layer.data.fill_(1e6)
    again = save_weights(preset, "vqgan", module).load_vqgan()
    assert torch.equal(again.last_layer, module.last_layer)


# ---------------------------------------------------------------------------------------------- damage


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_weights_are_refused(preset, share):
    path = preset.folder / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(preset, "truncated or altered")
    path.write_bytes(whole)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused(preset, place, bit):
    path = preset.folder / WEIGHTS
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 1 << bit
    path.write_bytes(damaged)
    assert_refused(preset, "truncated or altered")
    path.write_bytes(whole)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_weights_are_refused_even_with_their_hash_recorded(preset, share):
    whole = (preset.folder / WEIGHTS).read_bytes()
    assert_refused(with_content(preset, whole[: int(share * len(whole))]), "not a safetensors file")
    with_content(preset, whole)


def test_missing_weights_are_named(preset):
    (preset.folder / WEIGHTS).unlink()
    assert_refused(preset, "is missing")


def test_weights_that_were_never_saved_are_named(preset):
    with pytest.raises(PresetError, match=r"has no bart\.safetensors"):
        preset.load_bart()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop("decoder.conv_out.bias"), r"lacks decoder\.conv_out\.bias"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "has the unknown extra"),
        (
            lambda tensors: tensors.update({"decoder.conv_exit.bias": tensors.pop("decoder.conv_out.bias")}),
            r"lacks decoder\.conv_out\.bias and has the unknown decoder\.conv_exit\.bias",
        ),
        (lambda tensors: tensors.update({"decoder.conv_out.bias": torch.zeros(4)}), r"the shape \(4,\)"),
        (lambda tensors: tensors.clear(), "lacks"),
    ],
)
def test_weights_of_another_model_are_refused(preset, change, sentence):
    tensors = safetensors.torch.load_file(preset.folder / WEIGHTS)
    change(tensors)
    assert_refused(with_content(preset, safetensors.torch.save(tensors)), sentence)


def edited(preset: Preset, change) -> Path:
    path = preset.folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return preset.folder


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda values: values.update(colour="red"), "unknown key 'colour'"),
        (lambda values: values["vqgan"].update(depth=3), "vqgan has the unknown key 'depth'"),
        (lambda values: values.pop("clip"), "lacks clip"),
        (lambda values: values["bart"].pop("width"), "bart lacks width"),
        (lambda values: values["vqgan"].update(codes="many"), "does not describe a preset"),
        (lambda values: values["vqgan"].update(codes=0), "codes is 0"),
        (lambda values: values["vqgan"].update(decay=2), "decay is 2"),
        (lambda values: values["bart"].update(heads=0), "cannot be split into 0 heads"),
        (lambda values: values["bart"].update(dropout=1), "dropout is 1"),
        (lambda values: values["clip"].update(end_token=999), "end_token 999"),
        (lambda values: values.update(vqgan=None), "vqgan is None; give an object"),
        (lambda values: values.update(files=["a"]), "files is \\['a'\\]; give an object"),
        (lambda values: values.update(picture_size=64), "resolution is 16"),
        (lambda values: values["bart"].update(target_length=9), "as 16 codes, but the bart's target_length is 9"),
        (lambda values: values["bart"].update(target_vocabulary=9), "16 codes, but"),
        (lambda values: values["bart"].update(text_vocabulary=300), "text_vocabulary is 300, but the clip's"),
        (lambda values: values["classifier"].update(attributes={"subject": 10}), "subject is 10; give a list"),
        (lambda values: values.update(sampling={"guidence": 3}), "sampling has the unknown key 'guidence'"),
        (lambda values: values.update(sampling={"guidance": "3"}), "sampling.guidance is '3'; give a number"),
        (lambda values: values.update(sampling={"guidance": None}), "sampling.guidance is None; give a number"),
        (lambda values: values.update(sampling={"top_k": 2.5}), "sampling.top_k is 2.5; give a whole number"),
        (lambda values: values.update(sampling={"top_p": 7}), "top_p is 7"),
        (lambda values: values.update(recipes={"bart": 3}), r"recipes\.bart is 3; give an object"),
        (lambda values: values.update(trained_with={"bart": "x"}), r"trained_with\.bart is 'x'; give an object"),
        (lambda values: values.update(words=[1, 2]), r"words\[0\] is 1; give a string"),
        (lambda values: values["bart"].update(width=16.0), r"bart\.width is 16\.0; give a whole number"),
        (lambda values: values["bart"].update(width=True), r"bart\.width is True; give a whole number"),
        (
            lambda values: values["bart"].update(encoder_layers=10**6),
            "encoder_layers is 1000000: give numbers up to 512",
        ),
        (lambda values: values["vqgan"].update(decay="x"), r"vqgan\.decay is 'x'; give a number"),
        (lambda values: values.update(words="cat"), "words is 'cat'; give a list"),
    ],
)
def test_a_config_that_does_not_describe_a_preset_is_refused(preset, change, sentence):
    with pytest.raises(PresetError, match=sentence) as caught:
        load_preset(edited(preset, change))
    assert "config.json" in str(caught.value)


def test_a_preset_made_with_impossible_sizes_is_refused(preset):
    with pytest.raises(ValueError, match="codes is 0"):
        replace(preset, vqgan=replace(preset.vqgan, codes=0))
    with pytest.raises(ValueError, match="pad_token -1"):
        replace(preset, bart=replace(preset.bart, pad_token=-1))
    with pytest.raises(ValueError, match="mlp_ratio is 0"):
        replace(preset, clip=replace(preset.clip_config, mlp_ratio=0))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": "tiny"'])
def test_a_config_that_is_not_a_json_object_is_refused(preset, content):
    (preset.folder / "config.json").write_bytes(content)
    with pytest.raises(PresetError, match=r"config\.json"):
        load_preset(preset.folder)


def test_a_damaged_tokenizer_is_refused(preset):
    tokenizer = train_tokenizer(["a cat", "a cat on the moon"], vocabulary=280)
    tokenizer.save(preset.folder / "made.json")
    whole = add_file(preset, "tokenizer.json", (preset.folder / "made.json").read_bytes())
    assert whole.load_tokenizer().encode(["a cat"], 6).shape == (1, 6)
    (preset.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PresetError, match="truncated or altered"):
        whole.load_tokenizer()
    with pytest.raises(PresetError, match="tokenizer"):
        add_file(whole, "tokenizer.json", b"{}").load_tokenizer()


def test_a_tokenizer_with_more_ids_than_the_translators_vocabulary_is_refused(preset):
    captions = [f"a {first}{second} cat" for first in "bcdfgh" for second in "aeiou"] * 3
    larger = train_tokenizer(captions, vocabulary=290)
    assert len(larger) > preset.bart.text_vocabulary
    with pytest.raises(PresetError, match=r"tokenizer\.json has 290 ids, but the preset's text_vocabulary is 280"):
        add_file(preset, "tokenizer.json", larger.content()).load_tokenizer()


# ---------------------------------------------------------------------------------------------- optional parts


def test_a_preset_can_lack_clip_and_classifier(preset):
    folder = edited(preset, lambda values: values.update(clip=None, classifier=None))
    bare = save_weights(load_preset(folder), "bart", Bart(preset.bart))
    bare = add_file(bare, "tokenizer.json", train_tokenizer(["a cat"], vocabulary=280).content())
    assert bare.complete
    with pytest.raises(PresetError, match="The preset tiny has no clip"):
        bare.load_clip()
    with pytest.raises(PresetError, match="The preset tiny has no classifier"):
        bare.load_classifier("judge")


def test_a_clip_can_have_its_own_size_and_its_own_tokenizer(preset):
    def other_clip(values):
        values["clip"].update(image_size=32, vocabulary=290)

    with pytest.raises(PresetError, match="they share a tokenizer"):
        load_preset(edited(preset, other_clip))
    edited(preset, lambda values: values["clip"].update(vocabulary=280))
    add_file(load_preset(preset.folder), "clip_tokenizer.json", train_tokenizer(["a dog"], vocabulary=270).content())
    other = load_preset(edited(preset, other_clip))
    assert len(other.load_clip_tokenizer()) <= 270
    larger = train_tokenizer([f"{a}{b} cat" for a in "bcdfgh" for b in "aeiou"] * 3, vocabulary=300)
    assert len(larger) > 290
    with pytest.raises(PresetError, match=r"clip_tokenizer\.json has \d+ ids, but the clip's vocabulary is 290"):
        add_file(other, "clip_tokenizer.json", larger.content()).load_clip_tokenizer()


def test_an_unknown_normalization_is_refused(preset):
    add_file(preset, "tokenizer.json", train_tokenizer(["a cat"], vocabulary=280).content())
    with pytest.raises(PresetError, match=r"config\.json does not describe a preset: .*'bert'"):
        load_preset(edited(preset, lambda values: values.update(normalization="bert"))).load_tokenizer()


def test_weights_can_keep_the_dtype_of_the_file(preset):
    bart = Bart(preset.bart)
    bart.lm_head.weight.data[0, 0] = 1e6  # beyond float16
    preset = save_weights(preset, "bart", bart)
    loaded, stored = preset.load_bart(), preset.load_bart(as_stored=True)
    assert stored.lm_head.weight.dtype == torch.float32
    assert {name for name, value in stored.named_parameters() if value.dtype != torch.float16} == {"lm_head.weight"}
    assert all(torch.equal(stored.get_parameter(name).float(), value) for name, value in loaded.named_parameters())
    assert not stored.training


# ---------------------------------------------------------------------------------------------- dependent files


def test_a_block_trained_with_another_file_is_refused(preset):
    bart = Bart(preset.bart)
    unbound = save_weights(preset, "bart", bart)
    assert unbound.trained_with == {}
    assert unbound.load_bart()
    bound = save_weights(preset, "bart", bart, {WEIGHTS: preset.files[WEIGHTS]})
    assert load_preset(preset.folder).trained_with == {"bart": {WEIGHTS: preset.files[WEIGHTS]}}
    assert bound.load_bart()
    other = save_weights(bound, "vqgan", VQGAN(preset.vqgan))
    with pytest.raises(PresetError, match=r"bart\.safetensors was trained with another vqgan\.safetensors.*train bart"):
        other.load_bart()
    retrained = save_weights(other, "bart", bart, {WEIGHTS: other.files[WEIGHTS]})
    assert retrained.load_bart()


def test_a_preset_whose_blocks_do_not_fit_together_is_not_complete_and_not_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr("atelier.weights.preset.preset_folders", lambda: [tmp_path])
    whole = filled_preset(tmp_path / "tiny")
    bound = save_weights(whole, "bart", whole.load_bart(), {WEIGHTS: whole.files[WEIGHTS]})
    assert bound.complete
    bound.check_pipeline()
    assert best_preset() == bound
    torch.manual_seed(1)
    mixed = save_weights(bound, "vqgan", VQGAN(bound.vqgan))
    assert not mixed.complete
    with pytest.raises(PresetError, match=r"bart\.safetensors was trained with another vqgan\.safetensors"):
        mixed.check_pipeline()
    with pytest.raises(PresetError, match="No preset with weights"):
        best_preset()


@pytest.mark.parametrize("file", ["clip_tokenizer.json", "enwiki-words-frequency.txt"])
def test_a_preset_whose_optional_file_is_damaged_is_not_the_best(tmp_path, monkeypatch, file):
    monkeypatch.setattr("atelier.weights.preset.preset_folders", lambda: [tmp_path])
    whole = filled_preset(tmp_path / "tiny")
    whole = add_file(whole, file, (whole.folder / "tokenizer.json").read_bytes())
    assert best_preset() == whole
    (whole.folder / file).write_text("{}")
    with pytest.raises(PresetError, match=f"No preset with weights.*{file}.*truncated or altered"):
        best_preset()


def test_concurrent_updates_are_kept(preset):
    update_preset(preset, words=("cat", "moon"))
    late = save_weights(preset, "bart", Bart(preset.bart))  # made from a preset without the words
    assert late.words == ("cat", "moon")
    assert load_preset(preset.folder) == late
    assert late.files.keys() == {WEIGHTS, "bart.safetensors"}


RECORD = """
import sys
from pathlib import Path
from atelier.weights.preset import add_file, read_preset
preset = read_preset(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    name = f"{sys.argv[2]}-{number}"
    add_file(preset, name, name.encode(), trained_with={name: {"tokenizer.json": name}})
"""


def test_updates_of_several_processes_at_the_same_time_are_kept(preset):
    command = [sys.executable, "-c", RECORD, str(preset.folder)]
    writers = [
        subprocess.Popen([*command, writer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for writer in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()  # all have finished their imports, so that all write at the same time
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    assert_recorded(preset, [f"{writer}-{number}" for writer in ("one", "two") for number in range(20)])


def test_updates_of_several_threads_at_the_same_time_are_kept(preset):
    names = [f"file-{number}" for number in range(80)]

    def record(name: str) -> None:
        add_file(preset, name, name.encode(), trained_with={name: {"tokenizer.json": name}})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(record, names))
    assert_recorded(preset, names)


def test_a_file_and_its_hash_match_after_concurrent_writes(preset):
    def write(number: int) -> None:
        add_file(preset, "same", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    load_preset(preset.folder).check("same")


def assert_recorded(preset: Preset, names: list[str]) -> None:
    now = load_preset(preset.folder)
    assert now.files.keys() == {WEIGHTS, *names}
    assert now.trained_with == {name: {"tokenizer.json": name} for name in names}
    for name in names:
        now.check(name)


# ---------------------------------------------------------------------------------------------- finding


def test_presets_are_found_in_atelier_data_first(preset, monkeypatch):
    monkeypatch.setenv("ATELIER_DATA", str(preset.folder.parent))
    assert load_preset("tiny") == preset
    assert preset_folders()[0] == preset.folder.parent
    save_preset(preset, preset.folder.parent / "laptop")
    assert find_presets()["laptop"] == preset.folder.parent / "laptop"
    monkeypatch.delenv("ATELIER_DATA")
    with pytest.raises(PresetError, match=r"no preset 'tiny'.*laptop"):
        load_preset("tiny")


def test_downloads_go_to_a_folder_in_which_presets_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ATELIER_DATA", raising=False)
    assert downloads_folder() == tmp_path / "atelier" == preset_folders()[-1]
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    assert downloads_folder() == tmp_path / "data" == preset_folders()[0]
    with pytest.raises(PresetError, match=r"no preset 'dalle-mini'.*atelier download"):
        load_preset("dalle-mini")


def test_a_folder_without_a_config_is_not_a_preset(tmp_path):
    with pytest.raises(PresetError, match=r"has no config\.json"):
        load_preset(tmp_path)


@pytest.mark.parametrize(("name", "size"), [("laptop", 64), ("studio", 128), ("full", 128)])
def test_the_presets_in_the_repository_can_be_read(name, size):
    preset = load_preset(name)
    assert (preset.name, preset.picture_size) == (name, size)
    assert preset.vqgan.factor == 8
    assert preset.clip_config.image_size == preset.classifier_config.resolution == size
    assert preset.clip_config.end_token == 2
    assert preset.classifier_config.attributes == named_world(preset.world).attributes


@pytest.mark.parametrize(("name", "megabytes"), [("studio", 16), ("full", 25.5)])
def test_presets_are_small_enough_to_ship(name, megabytes):
    preset = load_preset(name)
    with torch.device("meta"):
        blocks = {
            "vqgan": VQGAN(preset.vqgan),
            "bart": Bart(preset.bart),
            "clip": CLIP(preset.clip_config),
            "perceptual": PictureClassifier(preset.classifier_config),
            "judge": PictureClassifier(preset.classifier_config),
        }
    kept = {
        name: sum(t.numel() for key, t in block.state_dict().items() if key not in moving_average_keys(block))
        for name, block in blocks.items()
    }
    assert 2 * sum(kept.values()) <= megabytes * 1e6  # bytes in float16, without model card, curves and tokenizer
    assert 2 * max(kept.values()) <= 16 * 2**20
    assert preset.vqgan.grid == 16
    assert 1024 <= preset.vqgan.codes <= 2048


def test_the_sizes_of_the_full_preset_suit_a_gpu():
    assert load_preset("full").bart.target_rows % 8 == 0  # for tensor cores; rows beyond the codes are never sampled


# ---------------------------------------------------------------------------------------------- any config, any weights


ANY_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**18, 2**31, -(10**40), 262_145]),
        st.floats(),
        st.text(max_size=4),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


def places_in(values: Any) -> list[list[Any]]:
    """List the paths to all values of a JSON object."""
    keys = list(values) if isinstance(values, dict) else list(range(len(values))) if isinstance(values, list) else []
    return [[key, *rest] for key in keys for rest in ([], *places_in(values[key]))]


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_at_any_place_of_a_config_is_accepted_or_refused_in_one_sentence(preset, data):
    original = (preset.folder / "config.json").read_bytes()
    values = json.loads(original)
    *path, last = data.draw(st.sampled_from(places_in(values)))
    inner = values
    for key in path:
        inner = inner[key]
    inner[last] = data.draw(ANY_JSON)
    (preset.folder / "config.json").write_text(json.dumps(values))
    with contextlib.suppress(PresetError):  # only this error
        found = load_preset(preset.folder)
        for load in (found.load_vqgan, found.load_bart, found.load_clip, lambda: found.load_classifier("judge")):
            with contextlib.suppress(PresetError):
                load()
        for block in RECIPES:
            with contextlib.suppress(TrainingError):
                recipe_settings(block, found)
    (preset.folder / "config.json").write_bytes(original)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[" * 100_000, "is not valid JSON"),
        ('{"recipes": {"bart": ' + '{"x": ' * 900 + "1" + "}" * 902, "nested more than 20 levels deep"),
        ('{"picture_size": ' + "9" * 5000 + "}", "is not valid JSON"),
    ],
)
def test_a_config_that_python_cannot_hold_is_refused(preset, content, sentence):
    (preset.folder / "config.json").write_text(content)
    with pytest.raises(PresetError, match=sentence) as caught:
        load_preset(preset.folder)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "C:\\x", "a\x00b", "x" * 101])
def test_a_name_that_leads_out_of_the_folder_is_refused(preset, name):
    with pytest.raises(PresetError, match="name is"):
        load_preset(edited(preset, lambda values: values.update(name=name)))
    edited(preset, lambda values: values.update(name="tiny"))
    with pytest.raises(PresetError, match="files has the key"):
        load_preset(edited(preset, lambda values: values["files"].update({name: "0" * 64})))


def edit_header(preset: Preset, change: Callable[[dict[str, Any]], None]) -> Preset:
    content = (preset.folder / WEIGHTS).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header["quantize.embedding.weight"])
    text = json.dumps(header).encode()
    return with_content(preset, len(text).to_bytes(8, "little") + text + content[8 + size :])


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.update(shape=[16.0, 4.0]),
        lambda tensor: tensor.update(shape=[-16, 4]),
        lambda tensor: tensor.update(shape=[10**30, 4]),
        lambda tensor: tensor.update(shape="16, 4"),
        lambda tensor: tensor.update(data_offsets=[0.5, 128.5]),
        lambda tensor: tensor.update(data_offsets=[10**15, 10**15 + 128]),
        lambda tensor: tensor.update(dtype="F17"),
        lambda tensor: tensor.update(dtype="I16"),
    ],
)
def test_a_header_with_wrong_values_is_refused_even_with_its_hash_recorded(preset, change):
    with pytest.raises(PresetError) as caught:
        edit_header(preset, change).load_vqgan()
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("as_stored", [True, False])
def test_weights_that_are_not_finite_are_refused(preset, value, as_stored):
    bart = Bart(preset.bart)
    with torch.no_grad():
        bart.lm_head.weight[0, 0] = value
    preset = save_weights(preset, "bart", bart)
    with pytest.raises(PresetError, match=r"bart\.safetensors cannot be used: .*lm_head.*not finite"):
        preset.load_bart(as_stored=as_stored)


def test_a_user_without_a_home_can_use_the_shipped_presets(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert cache_folder().name == "atelier"
    assert load_preset("laptop").complete
