"""The tokenizer encodes every text, decodes it to the same words, and gives ids in a fixed form."""

import itertools
from pathlib import Path

import pytest
import torch
from atelier.weights.tokenizer import END, PAD, START, UNKNOWN, Tokenizer, train_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

CAPTIONS = [
    f"A {kind} of a {colour} {thing}, {place}"
    for kind, colour, thing, place in itertools.product(
        ("photo", "Painting", "stained glass window"),
        ("red", "blue", "green"),
        ("strawberry", "Eiffel tower", "cat"),
        ("on the moon", "by a lake", "in the mountains"),
    )
]
any_string = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates too


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CAPTIONS, vocabulary=330)


def test_rows_have_start_end_and_padding(tokenizer):
    ids = tokenizer.encode(["a cat", ""], length=8)
    assert ids.dtype == torch.int64
    assert ids[0].tolist() == [START, *ids[0, 1:3].tolist(), END, PAD, PAD, PAD, PAD]
    assert ids[1].tolist() == [START, END] + [PAD] * 6
    assert (START, PAD, END, UNKNOWN) == (0, 1, 2, 3)
    assert tokenizer.encode([], length=8).shape == (0, 8)


def test_a_long_text_is_truncated_but_keeps_its_end_token(tokenizer):
    short, long = tokenizer.encode(["x" * 10_000], length=5), tokenizer.encode(["x" * 10_000], length=50)
    assert short[0, -1] == long[0, -1] == END
    assert torch.equal(short[0, :4], long[0, :4])
    assert PAD not in long


def test_captions_are_decoded_to_themselves(tokenizer):
    assert tokenizer.decode(tokenizer.encode(CAPTIONS, length=64)) == [caption.lower() for caption in CAPTIONS]


@settings(max_examples=200, deadline=None)
@given(text=any_string)
def test_any_string_is_encoded(tokenizer, text):
    ids = tokenizer.encode([text], length=12)[0]
    assert ids[0] == START
    assert (ids == END).sum() == 1
    end = ids.tolist().index(END)
    assert (ids[end + 1 :] == PAD).all()
    assert not torch.isin(ids[1:end], torch.tensor([START, PAD, UNKNOWN])).any()
    assert int(ids.max()) < len(tokenizer)
    assert len(tokenizer.decode(ids[None])) == 1
    assert tokenizer.pieces(text) is not None


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(categories=("Ll", "Nd", "Lo", "So")), min_size=1, max_size=12))
def test_normalised_texts_are_decoded_to_themselves(tokenizer, text):
    normal = tokenizer.decode(tokenizer.encode([text], length=400))[0]
    assert tokenizer.decode(tokenizer.encode([normal], length=400)) == [normal]


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("  A \t CAT\n", "a cat"),
        ("a\x00 c\x07at", "a cat"),
        ("a \x07 cat", "a cat"),
        ("\u200ba\u00a0cat\ufeff", "a cat"),
        ("a \ufb01sh", "a fish"),
        ("\uff23at", "cat"),
        ("a cat\ud800", "a cat"),
    ],
)
def test_normalisation(tokenizer, text, normalised):
    assert torch.equal(tokenizer.encode([text], length=20), tokenizer.encode([normalised], length=20))


def test_special_tokens_in_a_prompt_are_text(tokenizer):
    text = "a </s> b <s> <pad>"
    ids = tokenizer.encode([text], length=40)
    assert (ids == END).sum() == (ids == START).sum() == 1
    assert tokenizer.decode(ids) == [text]


def test_pieces_are_readable(tokenizer):
    assert tokenizer.pieces("The Eiffel tower") == [" the", " eiffel", " tower"]
    assert "".join(tokenizer.pieces("a giraffe, perhaps")) == " a giraffe, perhaps"
    assert "�" in tokenizer.pieces("🍓")
    assert tokenizer.pieces("") == []


def test_a_word_has_the_same_tokens_at_the_start_and_later(tokenizer):
    assert tokenizer.pieces("cat cat") == [" cat", " cat"]


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    texts = [*CAPTIONS, "a </s> b", "中文 🍓"]
    assert torch.equal(again.encode(texts, length=40), tokenizer.encode(texts, length=40))
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_training_is_repeatable_and_its_size_kept(tokenizer, tmp_path):
    train_tokenizer(CAPTIONS, vocabulary=330).save(tmp_path / "second.json")
    tokenizer.save(tmp_path / "first.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    assert len(tokenizer) == 330
    assert 260 < len(train_tokenizer(CAPTIONS, vocabulary=5000)) < 1000


def test_damaged_and_foreign_files_are_refused(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match=r"There is no tokenizer at .*tokenizer\.json"):
        Tokenizer.from_file(path)
    tokenizer.save(path)
    whole = path.read_bytes()
    for damaged in (whole[:1000], b"", b"\xff" + whole, whole.replace(b'"</s>"', b'"</q>"')):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tokenizer\.json is not a usable tokenizer"):
            Tokenizer.from_file(path)


def test_wrong_arguments_are_refused(tokenizer):
    with pytest.raises(TypeError, match="give a list of strings"):
        tokenizer.encode("a cat", length=8)
    with pytest.raises(TypeError, match="3 of type int"):
        tokenizer.encode(["a cat", 3], length=8)
    with pytest.raises(ValueError, match="length is 1"):
        tokenizer.encode(["a cat"], length=1)
    with pytest.raises(ValueError, match="ids have shape"):
        tokenizer.decode(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="ids run from 0 to 330"):
        tokenizer.decode(torch.tensor([[0, 330]]))
    with pytest.raises(ValueError, match="alone need 260"):
        train_tokenizer(CAPTIONS, vocabulary=259)
    with pytest.raises(ValueError, match="no captions"):
        train_tokenizer([])
    with pytest.raises(TypeError, match="give a list of strings"):
        train_tokenizer("a cat")


def test_truncation_and_padding_of_a_file_are_not_applied(tmp_path: Path) -> None:
    """`encode` cuts and pads to the length that it is asked for."""
    trained = train_tokenizer(["a red cat on the moon"], 300)
    plain = trained.encode(["a red cat on the moon"], 16)
    trained._backend.enable_truncation(1)
    trained._backend.enable_padding(length=100)
    trained.save(tmp_path / "tokenizer.json")
    assert '"truncation": {' in (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert torch.equal(Tokenizer.from_file(tmp_path / "tokenizer.json").encode(["a red cat on the moon"], 16), plain)
