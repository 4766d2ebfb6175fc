"""The readers of the published formats: a file fills its model exactly, or is refused with a clear error."""

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import published_files as files
import pytest
import safetensors.torch
import torch
import transformers
from atelier.blocks.bart import Bart, BartConfig
from atelier.blocks.vq import MovingAverageQuantizer
from atelier.blocks.vqgan import VQGAN, VQGANConfig
from atelier.weights.normalizers import HashtagSplitter, normalize_for_dalle_mini, normalize_for_min_dalle, normalizer
from atelier.weights.preset import Preset, save_weights
from atelier.weights.published import bart_base, flax, mindalle, taming
from atelier.weights.published.msgpack import CHUNKED, read_msgpack
from atelier.weights.published.pickled import PickledFile
from atelier.weights.published.tensors import PublishedError
from atelier.weights.published.tokenizer import read_tokenizer
from atelier.weights.streams import LazyTensor, write_safetensors
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    expected = files.stored(theirs)
    found = files.stored(ours)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def bart() -> Bart:
    return files.tiny_bart()


@pytest.fixture(scope="module")
def vqgan() -> VQGAN:
    return files.tiny_vqgan()


# ---------------------------------------------------------------------------------------------- msgpack

names = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=40)
arrays = st.tuples(
    st.lists(st.integers(0, 4), max_size=3), st.sampled_from(["float32", "float16"]), st.integers(0, 2**32 - 1)
)


@MANY
@given(tree=st.dictionaries(names, arrays, max_size=20), chunk=st.sampled_from([None, 1, 5]))
def test_every_file_that_flax_writes_is_read(tmp_path, tree, chunk):
    made = {}
    for name, (shape, dtype, seed) in tree.items():
        made[f"a/{name}"] = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    files.write_msgpack(tmp_path / "x", {**made, "b": np.arange(3, dtype=np.float32)}, chunk)
    read = read_msgpack(tmp_path / "x")
    assert read.keys() == {*made, "b"}
    for name, array in made.items():
        tensor = read[name].read()
        assert torch.equal(tensor, torch.from_numpy(array))
        assert tensor.dtype == torch.from_numpy(array).dtype
        for i in range(len(array) if array.ndim else 0):
            assert torch.equal(read[name][i].read(), torch.from_numpy(array)[i])


def test_bfloat16_is_read(tmp_path):
    numbers = torch.randn(2, 3).bfloat16()
    content = msgpack.packb(((2, 3), "bfloat16", numbers.view(torch.uint8).numpy().tobytes()))
    (tmp_path / "x").write_bytes(msgpack.packb({"a": msgpack.ExtType(1, content)}))
    assert torch.equal(read_msgpack(tmp_path / "x")["a"].read(), numbers)


@MANY
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(tmp_path, share):
    whole = (files.FIXTURE / "scanned" / "flax_model.msgpack").read_bytes()[:300_000]
    (tmp_path / "x").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PublishedError, match="not a complete msgpack file of Flax"):
        read_msgpack(tmp_path / "x")


@MANY
@given(content=st.binary(max_size=200))
def test_a_file_of_random_bytes_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(b"\x82" + content)
    with pytest.raises(PublishedError, match="not a complete msgpack file of Flax"):
        read_msgpack(tmp_path / "x")


ONE_ELEMENT = msgpack.ExtType(1, msgpack.packb([[1], "float32", b"1234"]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (msgpack.packb({"a": 1}), "no array at a"),
        (msgpack.packb([1, 2]), "no array at its root"),
        (msgpack.packb({"a": msgpack.ExtType(3, b"x")}), "extension of type 3"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[2], "float32", b"1234"]))}), "another number of bytes"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[1], "int64", b"12345678"]))}), "of dtype 'int64'"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[-1], "float32", b""]))}), r"the shape \[-1\]"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[1], "float32", 7]))}), "a shape, a dtype and data"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb({"shape": [1]}))}), "a shape, a dtype and data"),
        (msgpack.packb({"a": {CHUNKED: True}}), "chunks that do not belong together"),
        (msgpack.packb({"a": {CHUNKED: True, "chunks": {"0": 1}, "shape": {"0": 1}}}), "chunks that do not belong"),
        (
            msgpack.packb({"a": {CHUNKED: True, "chunks": ONE_ELEMENT, "shape": ONE_ELEMENT}}),
            "chunks that do not belong",
        ),
        (msgpack.packb({}) + b"x", "there are bytes after its end"),
        (b"\x82\xa1a\x80\xa1a\x80", "or occurs twice"),
        (b"\x81\xa1a" * 100 + b"\x80", "deeper than a model can be"),
        (b"\xc1", "no value starts with the byte 0xc1"),
    ],
)
def test_a_file_that_is_not_a_tree_of_arrays_is_refused(tmp_path, content, sentence):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(PublishedError, match=sentence):
        read_msgpack(tmp_path / "x")


# ---------------------------------------------------------------------------------------------- Flax folders


@pytest.mark.parametrize("scanned", [True, False])
def test_flax_translators_are_read(tmp_path, bart, scanned):
    loaded = flax.load_bart(files.write_flax_bart(tmp_path, bart, scanned))
    assert_same_weights(loaded, bart)
    assert loaded.config == bart.config
    assert not loaded.training


def test_the_generated_files_have_the_official_names(bart):
    official = {
        True: read_msgpack(files.FIXTURE / "scanned" / "flax_model.msgpack"),
        False: json.loads((files.FIXTURE / "unscanned" / "shapes.json").read_text()),
    }
    for scanned, names in official.items():
        ours = files.flax_bart(bart, scanned)
        assert {re.sub(r"_\d+/", "_0/", name) for name in ours} == {re.sub(r"_\d+/", "_0/", name) for name in names}


def test_flax_vqgans_are_read(tmp_path, vqgan):
    loaded = flax.load_vqgan(files.write_flax_vqgan(tmp_path, vqgan))
    assert_same_weights(loaded, vqgan)
    assert loaded.config == vqgan.config
    assert "decoder/up_0/block_1/conv1/kernel" in files.flax_vqgan(vqgan)
    assert "decoder/mid/block_1/conv1/kernel" in files.flax_vqgan(vqgan)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_are_converted_to_the_requested_dtype(tmp_path, bart, dtype):
    loaded = flax.load_bart(files.write_flax_bart(tmp_path, bart), dtype)
    assert {value.dtype for value in loaded.state_dict().values()} == {dtype}
    assert torch.equal(loaded.lm_head.weight, bart.lm_head.weight.to(dtype))


@pytest.mark.parametrize(("value", "dtype"), [(1e6, torch.float16), (float("nan"), torch.float32)])
def test_values_that_are_not_finite_are_refused(tmp_path, bart, value, dtype):
    tree = files.flax_bart(bart)
    tree["model/decoder/final_ln/bias"] = np.full(16, value, np.float32)
    files.write_msgpack(files.write_flax_bart(tmp_path, bart) / "flax_model.msgpack", tree)
    with pytest.raises(PublishedError, match="final_ln/bias: some values are not finite"):
        flax.load_bart(tmp_path, dtype)


KERNEL = "model/decoder/layers/FlaxBartDecoderLayers/FlaxBartAttention_1/q_proj/kernel"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tree: tree.pop(KERNEL), r"lacks decoder\.layers\.0\.encoder_attn\.q_proj\.weight and 2 more"),
        (lambda tree: tree.pop("lm_head/kernel"), r"lacks lm_head\.weight"),
        (
            lambda tree: tree.update({"model/extra/kernel": tree["lm_head/kernel"]}),
            "has model/extra/kernel, which this model does not have",
        ),
        (
            lambda tree: tree.update({KERNEL.replace("Attention_1", "Attention_2"): tree.pop(KERNEL)}),
            "FlaxBartAttention_2/q_proj/kernel, which this model does not have",
        ),
        (
            lambda tree: tree.update({"lm_head/kernel": np.zeros((16, 40), np.float32)}),
            r"the shape \(40, 16\) in this model's layout",
        ),
        (lambda tree: tree.update({KERNEL: tree[KERNEL][:2]}), r"shape \(2, 16, 16\), but 3 layers"),
        (
            lambda tree: tree.update({"lm_head/scale": tree["lm_head/kernel"]}),
            "has both lm_head/kernel and lm_head/sca",
        ),
        (
            lambda tree: tree.update({"model/decoder/final_ln/scale": np.ones(16, np.float32)}),
            "final_ln/scale, which this model does not have",
        ),
    ],
)
def test_flax_files_of_other_models_are_refused(tmp_path, bart, change, sentence):
    tree = files.flax_bart(bart)
    change(tree)
    files.write_msgpack(files.write_flax_bart(tmp_path, bart) / "flax_model.msgpack", tree)
    with pytest.raises(PublishedError, match=sentence) as caught:
        flax.load_bart(tmp_path)
    assert "flax_model.msgpack" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ln_positions": "swinv2"}, "has 'swinv2' for ln_positions; only models with 'normformer'"),
        ({"use_glu": False}, "has False for use_glu"),
        ({"decoder_ffn_dim": 5}, "has 5 for decoder_ffn_dim; only models with 22"),
        ({"d_model": 17}, "width 17 cannot be split"),
        ({"d_model": "wide"}, "does not describe a DALL·E Mini"),
        ({"d_model": None}, "does not describe a DALL·E Mini"),
        ({"decoder_start_token_id": 99}, "start_token 99"),
    ],
)
def test_configs_of_other_architectures_are_refused(tmp_path, bart, change, sentence):
    path = files.write_flax_bart(tmp_path, bart) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PublishedError, match=sentence) as caught:
        flax.load_bart(tmp_path)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"d_model": 16}'])
def test_damaged_configs_are_refused(tmp_path, bart, vqgan, content):
    (files.write_flax_bart(tmp_path / "bart", bart) / "config.json").write_bytes(content)
    (files.write_flax_vqgan(tmp_path / "vqgan", vqgan) / "config.json").write_bytes(content)
    for load, folder in ((flax.load_bart, "bart"), (flax.load_vqgan, "vqgan")):
        with pytest.raises(PublishedError, match=r"config\.json"):
            load(tmp_path / folder)


def test_a_vqgan_of_another_kind_is_refused(tmp_path, vqgan):
    path = files.write_flax_vqgan(tmp_path, vqgan) / "config.json"
    path.write_text(json.dumps(files.flax_vqgan_config(vqgan.config) | {"double_z": True}))
    with pytest.raises(PublishedError, match="has True for double_z"):
        flax.load_vqgan(tmp_path)
    path.write_text(json.dumps(files.flax_vqgan_config(vqgan.config) | {"n_embed": 0}))
    with pytest.raises(PublishedError, match="does not describe a VQ-GAN: codes is 0"):
        flax.load_vqgan(tmp_path)


def test_missing_files_are_named(tmp_path, bart):
    with pytest.raises(PublishedError, match=r"config\.json cannot be read"):
        flax.load_bart(tmp_path)
    with pytest.raises(PublishedError, match=r"cannot be read: Is a directory"):
        read_msgpack(tmp_path)
    (files.write_flax_bart(tmp_path, bart) / "flax_model.msgpack").unlink()
    with pytest.raises(PublishedError, match=r"flax_model\.msgpack is missing"):
        flax.load_bart(tmp_path)
    with pytest.raises(PublishedError, match=r"encoder\.pt is missing"):
        mindalle.load_bart(tmp_path / "encoder.pt", tmp_path / "decoder.pt", bart.config)


# ---------------------------------------------------------------------------------------------- PyTorch's files


def test_min_dalle_files_are_read(tmp_path, bart, vqgan):
    files.write_min_dalle(tmp_path, bart, vqgan)
    loaded = mindalle.load_bart(tmp_path / "encoder.pt", tmp_path / "decoder.pt", bart.config)
    for name, value in files.stored(loaded).items():
        assert torch.equal(value, bart.state_dict()[name].half().float()), name
    detoker = mindalle.load_detoker(tmp_path / "detoker.pt", replace(vqgan.config, decoder_only=True))
    codes = torch.randint(40, (2, 4, 4))
    assert torch.equal(detoker.decode_codes(codes), vqgan.decode_codes(codes))
    with pytest.raises(ValueError, match="has no encoder"):
        detoker.encode(torch.rand(1, 3, 32, 32))


def test_the_config_of_the_published_detoker():
    config = mindalle.detoker_config()
    assert (config.group_norm_eps, config.pixel_range, config.codes) == (1e-5, "[0,1]", 16384)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("lm_head.weight"), r"lacks lm_head\.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "has extra, which this model does not have"),
        (
            lambda state: state.update({"lm_head.weight": torch.zeros(3, 16)}),
            r"the shape \(3, 16\) in this model's layout",
        ),
        (lambda state: state.clear(), "does not hold named, dense tensors"),
        (lambda state: state.update(step=3), "does not hold named, dense tensors"),
    ],
)
def test_min_dalle_files_of_other_models_are_refused(tmp_path, bart, vqgan, change, sentence):
    files.write_min_dalle(tmp_path, bart, vqgan)
    state = torch.load(tmp_path / "decoder.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "decoder.pt")
    with pytest.raises(PublishedError, match=sentence):
        mindalle.load_bart(tmp_path / "encoder.pt", tmp_path / "decoder.pt", bart.config)


@MANY
@given(share=st.floats(0, 1, exclude_max=True))
@example(share=5e-7)  # the first byte only
def test_truncated_pytorch_files_are_refused(tmp_path, vqgan, share):
    path = tmp_path / "detoker.pt"
    if not path.exists():
        torch.save(files.min_dalle_vqgan(vqgan), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PublishedError, match=r"detoker\.pt is damaged, or not a PyTorch file"):
        mindalle.load_detoker(path, replace(vqgan.config, decoder_only=True))


def test_a_file_that_could_run_code_is_not_loaded(tmp_path, bart):
    torch.save({"a": Path("x")}, tmp_path / "encoder.pt")
    with pytest.raises(PublishedError, match=r"contains more than weights.*pathlib"):
        mindalle.load_bart(tmp_path / "encoder.pt", tmp_path / "decoder.pt", bart.config)


def lightning_checkpoint(path: Path, vqgan: VQGAN, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Write a last.ckpt in which a class of this module and name is the key of a callback's state."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:length]), type(sys)(".".join(parts[:length])))
    callback = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, callback)
    state = {**files.stored(vqgan), "loss.discriminator.main.0.weight": torch.zeros(3)}
    content = {"state_dict": state, "callbacks": {callback: {"best": torch.tensor(1.0)}}, "epoch": 3}
    torch.save(content, path)
    monkeypatch.undo()


def test_taming_checkpoints_are_read(tmp_path, vqgan, monkeypatch):
    module = "pytorch_lightning.callbacks.model_checkpoint"
    lightning_checkpoint(tmp_path / "last.ckpt", vqgan, monkeypatch, module, "ModelCheckpoint")
    assert_same_weights(taming.load_vqgan(tmp_path / "last.ckpt", vqgan.config), vqgan)
    half = taming.load_vqgan(tmp_path / "last.ckpt", vqgan.config, torch.bfloat16)
    assert half.last_layer.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="beta is -1"):
        taming.load_vqgan(tmp_path / "last.ckpt", replace(vqgan.config, beta=-1))


def test_published_codes_start_the_moving_averages_of_a_codebook(tmp_path, vqgan):
    torch.save({"state_dict": files.stored(vqgan)}, tmp_path / "last.ckpt")
    codebook = taming.load_vqgan(tmp_path / "last.ckpt", replace(vqgan.config, decay=0.9)).quantize
    assert isinstance(codebook, MovingAverageQuantizer)
    assert torch.equal(codebook.embedding.weight, vqgan.quantize.embedding.weight)
    assert torch.equal(codebook.sums, codebook.embedding.weight)
    assert torch.equal(codebook.counts, torch.ones(vqgan.config.codes))


def test_another_class_in_a_checkpoint_is_refused(tmp_path, vqgan, monkeypatch):
    lightning_checkpoint(tmp_path / "last.ckpt", vqgan, monkeypatch, "pytorch_lightning.evil", "Callback")
    with pytest.raises(PublishedError, match=r"contains more than weights.*pytorch_lightning\.evil\.Callback"):
        taming.load_vqgan(tmp_path / "last.ckpt", vqgan.config)


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path, vqgan):
    torch.save({"state_dict": files.stored(vqgan)}, tmp_path / "last.ckpt")
    with pytest.raises(PublishedError, match=r"last\.ckpt has"):
        taming.load_vqgan(tmp_path / "last.ckpt")
    torch.save(files.stored(vqgan), tmp_path / "last.ckpt")
    with pytest.raises(PublishedError, match="does not hold named, dense tensors under 'state_dict'"):
        taming.load_vqgan(tmp_path / "last.ckpt", vqgan.config)


def test_files_of_old_pytorch_are_read(tmp_path, vqgan):
    torch.save(files.min_dalle_vqgan(vqgan), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    loaded = mindalle.load_detoker(tmp_path / "x.pt", replace(vqgan.config, decoder_only=True))
    assert torch.equal(loaded.last_layer, vqgan.last_layer)


# ---------------------------------------------------------------------------------------------- the original BART


def original_config(**changes: Any) -> transformers.BartConfig:
    sizes = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    values: dict[str, Any] = {
        "vocab_size": 60,
        "d_model": 16,
        "max_position_embeddings": 24,
        **sizes,
        **heads,
        **changes,
    }
    return transformers.BartConfig.from_dict(values)


def test_an_original_bart_is_read_from_its_folder(tmp_path):
    torch.manual_seed(0)
    reference = transformers.BartForConditionalGeneration(original_config()).eval()
    reference.save_pretrained(tmp_path)
    loaded = bart_base.load_bart(tmp_path)
    text, targets = torch.randint(4, 60, (2, 7)), torch.randint(4, 60, (2, 5))
    with torch.no_grad():
        theirs = reference(input_ids=text, labels=targets).logits
        assert (loaded(text, targets) - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert bart_base.load_bart(tmp_path, torch.bfloat16).text_embedding.weight.dtype == torch.bfloat16


def test_the_published_bart_base_has_the_sizes_that_its_config_gives():
    published = {"encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
    heads = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    sizes = {"vocab_size": 50265, "d_model": 768, "max_position_embeddings": 1024}
    config = transformers.BartConfig.from_dict({**sizes, **published, **heads})
    assert bart_base.bart_config(config) == BartConfig.bart_base()


@pytest.mark.parametrize("change", [{"scale_embedding": True}, {"activation_function": "relu"}, {"encoder_ffn_dim": 4}])
def test_other_variants_of_bart_are_refused(change):
    with pytest.raises(PublishedError, match="This BART has"):
        bart_base.bart_config(original_config(**change))


def test_a_folder_without_a_bart_is_refused(tmp_path):
    with pytest.raises(PublishedError, match="No BART could be loaded from"):
        bart_base.load_bart(tmp_path)


# ---------------------------------------------------------------------------------------------- safetensors


def test_safetensors_reads_the_files_that_are_written_one_tensor_at_a_time(tmp_path, bart):
    weights = files.stored(bart)
    halved = {name: value.bfloat16() for name, value in weights.items()}
    sources = {name: LazyTensor(tuple(value.shape), lambda value=value: value) for name, value in halved.items()}
    write_safetensors(tmp_path / "x.safetensors", sources, torch.bfloat16)
    read = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], value) for name, value in halved.items())


# ---------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("Smith &amp;amp; Sons", " smith & sons"),
        ("<person> and <person>, <person>", " people"),
        ("a photo of <PERSON>", " a photo of a person"),
        ("[3] a tower[12]", " a tower"),
        ("12,345,678,901 stars", " 12345678901 stars"),
        ("rock 'n' roll, it's 'fine'", ' rock " n " roll, it\'s " fine "'),
        ("Ünïcödé — dash", " unicode, dash"),
        ("xxxx xxx 1111", " x xxx 1111"),
        ("#a.b_c d#e", " a.b c de"),
        (",,a,", " a"),
        ("  ", " "),
        ("#", " "),
        ("北京", " bei jing"),
    ],
)
def test_texts_are_normalised_as_for_dalle_minis_training(text, normalized):
    assert normalize_for_dalle_mini(text, HashtagSplitter([])).replace("xtokxdotxtokx", ".") == normalized


def test_hashtags_are_split_at_the_least_cost():
    words = HashtagSplitter(["the", "a", "blue", "berry", "blueberry", "in", "park", "2020"])
    assert words.split("blueberryinthepark") == "blueberry in the park"
    assert words.split("Park2020") == "Park 2020"
    assert words.split("inxpark") == "in x p a r k"  # from a part that is not in the list on, letters
    assert words.split("park20202020") == "park 20202020"
    assert HashtagSplitter([]).split("blue_berry") == "blue berry"
    assert HashtagSplitter.read("the 100\na 50\n\n").costs == {"the": 0.0, "a": pytest.approx(0.6931, abs=1e-3)}


def test_texts_are_normalised_as_by_min_dalle():
    assert normalize_for_min_dalle("A  Café\U0001f600 x") == " a cafgrinning_face x"
    assert normalizer("min-dalle")("A") == " a"
    with pytest.raises(ValueError, match="no text normalization 'bert'"):
        normalizer("bert")


@pytest.mark.parametrize("split_at_blanks", [False, True])
def test_every_text_has_ids(split_at_blanks):
    tokenizer = read_tokenizer(files.FIXTURE / "scanned", 1000, split_at_blanks)
    texts = ["", " a cat", "\x00\x7f \udc80", "\U0001f600" * 50, "</s><pad>", "x" * 10_000]
    ids = tokenizer.encode(texts, 12)
    assert ids.shape == (6, 12)
    assert (ids[:, 0] == 0).all()
    assert ((ids == 2).sum(1) == 1).all()
    assert not (ids == 3).any()
    assert tokenizer.empty_caption(5).tolist() == [0, 2, 1, 1, 1]


def test_both_forms_of_a_vocabulary_give_the_same_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((files.FIXTURE / "scanned" / "tokenizer.json").read_bytes())
    assert read_tokenizer(tmp_path, 1000).content() == read_tokenizer(files.FIXTURE / "scanned", 1000).content()


def test_special_tokens_without_a_row_are_left_out(tmp_path):
    vocabulary = json.loads((files.FIXTURE / "scanned" / "vocab.json").read_text())
    known = len(vocabulary)
    (tmp_path / "merges.txt").write_bytes((files.FIXTURE / "scanned" / "merges.txt").read_bytes())
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"<extra>": 1000}))
    assert len(read_tokenizer(tmp_path, 1000)) == known
    assert len(read_tokenizer(tmp_path, 1001)) == known + 1
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"mask": 1000}))
    with pytest.raises(PublishedError, match="has the id 1000, but the model only 1000 rows"):
        read_tokenizer(tmp_path, 1000)


@pytest.mark.parametrize(
    "damage",
    [
        {"vocab.json": b"{"},
        {"vocab.json": b"{}"},
        {"vocab.json": b"[1]"},
        {"merges.txt": b"#version: 0.2\na b c\n"},
        {"merges.txt": b"#version: 0.2\nnot there\n"},
        {"merges.txt": b"\xff\xfe"},
        {"vocab.json": b'{"a": 0}'},
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path, damage):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes(damage.get(name, (files.FIXTURE / "scanned" / name).read_bytes()))
    with pytest.raises(PublishedError, match="holds no usable tokenizer"):
        read_tokenizer(tmp_path, 1000)


def test_a_folder_without_a_vocabulary_is_named(tmp_path):
    with pytest.raises(PublishedError, match=r"neither vocab\.json and merges\.txt nor a tokenizer\.json"):
        read_tokenizer(tmp_path, 1000)


# ---------------------------------------------------------------------------------------------- memory

# Each combination of format and dtype is loaded in its own process, forked after the imports. The process first loads a
# small model, so that all code is in memory, then a large one, and prints the peak memory of the second load relative
# to the size of its weights.
PEAKS = """
import os, sys, torch
from pathlib import Path
from atelier.weights.preset import read_preset
from atelier.weights.published import flax, mindalle

def memory(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return 1024 * int(line.split()[1])

def load(folder, form, dtype):
    if form == "flax":
        return flax.load_bart(folder / form, dtype)
    if form == "min-dalle":
        config = flax.bart_config(folder / "flax")
        return mindalle.load_bart(folder / form / "encoder.pt", folder / form / "decoder.pt", config, dtype)
    return read_preset(folder / form).load_bart(as_stored=dtype == torch.float16)

torch.set_num_threads(1)
small, large, *cases = sys.argv[1:]
for case in cases:
    if os.fork() == 0:
        form, dtype = case.split("/")
        load(Path(small), form, getattr(torch, dtype))
        before = memory("VmRSS:")
        weights = load(Path(large), form, getattr(torch, dtype)).state_dict().values()
        assert {value.dtype for value in weights} == {getattr(torch, dtype)}
        print(case, (memory("VmHWM:") - before) / sum(value.nbytes for value in weights), flush=True)
        os._exit(0)
    os.wait()
"""


def write_all_formats(folder: Path, bart: Bart, sizes: VQGANConfig) -> None:
    files.write_flax_bart(folder / "flax", bart)
    files.write_min_dalle(folder / "min-dalle", bart, files.tiny_vqgan())
    preset = Preset("any", "", sizes.resolution, sizes, bart.config, None, None, folder=folder / "preset")
    save_weights(preset, "bart", bart)


@pytest.mark.hardware
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak memory of a process")
def test_loading_takes_little_more_memory_than_the_weights(tmp_path, bart, vqgan):
    """A translator of 41 million parameters; for a larger model the relative overhead is smaller."""
    large = Bart(BartConfig(20000, 8000, 16, 1024, 512, 8, 1365, encoder_layers=3, decoder_layers=3)).eval()
    write_all_formats(tmp_path / "small", bart, vqgan.config)
    write_all_formats(tmp_path / "large", large, replace(VQGANConfig.f16_16384(), resolution=512, codes=8000))
    cases = [f"{form}/{dtype}" for form in ("flax", "min-dalle", "preset") for dtype in ("float32", "float16")]
    command = [sys.executable, "-c", PEAKS, str(tmp_path / "small"), str(tmp_path / "large"), *cases]
    result = subprocess.run(command, capture_output=True, encoding="utf8", check=True)
    peaks = {case: float(peak) for case, peak in (line.split() for line in result.stdout.splitlines())}
    shutil.rmtree(tmp_path / "large")  # 0.5 GB
    assert peaks.keys() == set(cases)
    assert min(peaks.values()) > 0.9, peaks
    assert max(peaks.values()) < 1.2, peaks


@pytest.mark.parametrize("number", [-1, 1.5, "3", None, True, 10**30])
def test_an_id_that_is_no_whole_number_is_refused_in_one_line(tmp_path, number):
    vocabulary = json.loads((files.FIXTURE / "scanned" / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary | {"odd": number}))
    shutil.copy(files.FIXTURE / "scanned" / "merges.txt", tmp_path)
    with pytest.raises(PublishedError, match="holds no usable tokenizer") as caught:
        read_tokenizer(tmp_path, 2000)
    assert "\n" not in str(caught.value)


def test_a_compressed_pickled_file_is_refused_before_it_is_read(tmp_path):
    torch.save({"x": torch.zeros(10_000_000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "small.pt", "w", 8) as small:
        for item in plain.namelist():
            small.writestr(item, plain.read(item))
    with pytest.raises(PublishedError, match="is compressed and would have 40 MB"):
        PickledFile(tmp_path / "small.pt")


@pytest.mark.parametrize("tensor", [torch.eye(3).to_sparse(), torch.zeros(1).expand(10**12)])
def test_a_sparse_or_expanded_tensor_is_refused(tmp_path, tensor):
    torch.save({"x": tensor}, tmp_path / "odd.pt")
    with pytest.raises(PublishedError, match="does not hold named, dense tensors"):
        PickledFile(tmp_path / "odd.pt")


@pytest.mark.parametrize("mark", [",", " ,", '"', "<", "#a", "'s ", "1,", "-"])
def test_the_normalisation_of_a_very_long_text_is_fast(mark):
    start = time.monotonic()
    normalizer("dalle-mini", "a 3\nb 2\n")(mark * 32_000)
    assert time.monotonic() - start < 5
