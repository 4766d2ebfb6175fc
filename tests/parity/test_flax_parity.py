"""The project's own files, scanned and unscanned, give the same numbers in our code as in its own, see fixtures/."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import published_files as files
import pytest
import torch
from atelier.blocks.bart import Bart
from atelier.decoding import Sampling, decode
from atelier.weights.normalizers import HashtagSplitter, normalize_for_dalle_mini
from atelier.weights.published.flax import load_bart
from atelier.weights.published.msgpack import read_msgpack
from atelier.weights.published.tokenizer import read_tokenizer
from torch import Tensor

FIXTURE = Path(__file__).parent / "fixtures" / "dalle-mini-flax"
TEXTS: list[dict[str, Any]] = json.loads((FIXTURE / "texts.json").read_text(encoding="utf-8"))

# The list that the official code was run with. It lacks "word", so "notaword" is split into letters from there on.
HASHTAGS = HashtagSplitter(["the", "of", "and", "in", "a", "to", "not", "name", "function"])


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(FIXTURE / "io.npz").items() if array.ndim}


@pytest.fixture(scope="module")
def older_form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The translator's folder in the form of older files, made from the published form."""
    folder = tmp_path_factory.mktemp("unscanned")
    stacked = read_msgpack(FIXTURE / "scanned" / "flax_model.msgpack")
    files.write_msgpack(
        folder / "flax_model.msgpack", files.unscanned({name: array.read().numpy() for name, array in stacked.items()})
    )
    shutil.copy(FIXTURE / "unscanned" / "config.json", folder)
    return folder


@pytest.fixture(scope="module", params=["scanned", "unscanned"])
def bart(request: pytest.FixtureRequest, older_form: Path) -> Bart:
    return load_bart(FIXTURE / "scanned" if request.param == "scanned" else older_form)


def test_the_older_form_has_the_official_names_and_shapes(older_form: Path) -> None:
    official = json.loads((FIXTURE / "unscanned" / "shapes.json").read_text())
    arrays = read_msgpack(older_form / "flax_model.msgpack")
    assert {name: list(array.shape) for name, array in arrays.items()} == official


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 2e-6 * max(1.0, theirs.abs().max().item())


@torch.no_grad()
def test_encoder_states_are_the_same(bart, official):
    assert torch.equal(bart.text_mask(official["input_ids"]), official["attention_mask"].bool())
    assert_same(bart.encode(official["input_ids"]), official["encoder_state"])


@torch.no_grad()
def test_logits_are_the_same(bart, official):
    state = bart.encode(official["input_ids"])
    logits = bart.decode(official["decoder_input_ids"], state, bart.text_mask(official["input_ids"]))
    assert_same(logits, official["logits"])


def test_greedy_sequences_are_the_same(bart, official):
    """Their code chooses among all 513 rows, ours among the 512 codes; the start token is never the most likely."""
    nothing, text = official["input_ids"]
    sampling = Sampling(guidance=float(np.load(FIXTURE / "io.npz")["greedy_condition_scale"]), temperature=0)
    *_, codes = decode(bart, text[None], nothing, sampling, torch.zeros(1, 32))
    assert torch.equal(codes, official["greedy_sequence"][:, 1:])
    assert official["greedy_sequence"][0, 0] == bart.config.decoder_start
    assert len(set(codes[0].tolist())) > 5


@pytest.mark.parametrize("known", TEXTS, ids=[str(i) for i in range(len(TEXTS))])
def test_normalised_texts_and_ids_are_the_same(known):
    assert normalize_for_dalle_mini(known["text"], HASHTAGS) == known["normalized"]
    tokenizer = read_tokenizer(FIXTURE / "scanned", 1000)
    ids = tokenizer.encode([known["normalized"]], 64)[0]
    assert ids[: len(known["ids"])].tolist() == known["ids"]
    assert (ids[len(known["ids"]) :] == 1).all()
