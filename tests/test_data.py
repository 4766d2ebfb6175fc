"""Batches: the same number gives the same batch, and the error for a faulty folder names the row."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from atelier.training import data as data_module
from atelier.training.data import CaptionedFolder, DataError, PaintedPictures, derive_seed
from atelier.world import is_held_out, small_world
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90), "black": (0, 0, 0)}


def painted(**changes: Any) -> PaintedPictures:
    arguments: dict[str, Any] = {"size": 16, "batch_size": 3, "seed": 5, "paint_together": 9, **changes}
    return PaintedPictures(small_world(), **arguments)


def test_a_batch_has_pictures_captions_and_scenes():
    batch = painted()[0]
    assert batch.scenes is not None
    assert batch.pictures.shape == (3, 3, 16, 16)
    assert batch.pictures.dtype == torch.float32
    assert 0 <= batch.pictures.min() <= batch.pictures.max() <= 1
    assert len(batch.captions) == len(batch.scenes) == 3
    assert batch.pictures.std() > 0.05


def test_a_batch_depends_on_its_number_alone():
    forwards, backwards = painted(), painted()
    first = {number: forwards[number] for number in range(7)}
    for number in reversed(range(7)):
        assert torch.equal(backwards[number].pictures, first[number].pictures)
        assert backwards[number].captions == first[number].captions
    assert first[0].captions != first[1].captions
    assert painted(seed=6)[0].captions != first[0].captions


def test_processes_that_share_the_work_see_the_same_batches_as_one():
    one, shared = painted(), painted(stride=2)
    for number in range(6):
        assert shared[number].captions == one[number].captions
        torch.testing.assert_close(shared[number].pictures, one[number].pictures, rtol=0, atol=1e-5)


def test_distinct_pictures_are_repeated_from_memory(monkeypatch):
    calls = []
    original = data_module.paint
    monkeypatch.setattr(
        data_module, "paint", lambda scenes, *rest: calls.append(len(scenes)) or original(scenes, *rest)
    )
    endless, repeating = painted(), painted(distinct=10)  # groups of 9, so 18 pictures in six batches
    first = [repeating[number] for number in range(6)]
    assert calls == [9, 9]
    for number, batch in enumerate(first):
        torch.testing.assert_close(batch.pictures, endless[number].pictures, rtol=0, atol=0.5001 / 255)
        assert batch.captions == endless[number].captions
    calls.clear()
    for number in range(6, 20):
        assert torch.equal(repeating[number].pictures, first[number % 6].pictures)
        assert repeating[number].scenes == first[number % 6].scenes
    assert calls == []
    resumed = painted(distinct=10)  # paints only the group that it needs
    assert torch.equal(resumed[10].pictures, first[4].pictures)
    assert calls == [9]
    with pytest.raises(DataError, match="distinct was 0"):
        painted(distinct=0)


def test_processes_that_share_the_work_repeat_the_same_distinct_pictures():
    one, shared = painted(distinct=20), painted(distinct=20, stride=2)  # rounded up to 27, and to 18 per process
    assert [one[number].captions == one[number - 9].captions for number in (9, 12)] == [True, True]
    assert [shared[number].captions == one[number].captions for number in range(9)] == [True] * 9
    assert [shared[number].captions == shared[number - 12].captions for number in (12, 13)] == [True, True]


def test_held_out_combinations_appear_only_when_they_are_asked_for():
    many = {"batch_size": 200, "size": 4, "paint_together": 200}

    def held_out(which: str) -> list[bool]:
        return [is_held_out(scene) for scene in painted(**many, held_out=which)[0].scenes or []]

    assert len(held_out("never")) == 200
    assert not any(held_out("never"))
    assert all(held_out("only"))
    allowed = held_out("allowed")
    assert any(allowed)
    assert not all(allowed)


def test_there_is_no_batch_before_the_first():
    with pytest.raises(IndexError, match="number -1"):
        painted()[-1]


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="batch_size was 0"):
        painted(batch_size=0)


def test_derived_seeds_differ_and_are_below_two_to_the_63():
    seeds = {derive_seed(a, b) for a in range(40) for b in range(40)}
    assert len(seeds) == 1600
    assert all(0 <= seed < 2**63 for seed in seeds)


# ---------------------------------------------------------------------------------------------- the learner's folder


def write_table(folder: Path, rows: list[list[str]], header: tuple[str, ...] = ("file_name", "text")) -> None:
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, colour in COLOURS.items():
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    write_table(tmp_path, [[f"{name}.png", f"a {name} square, «très» plain"] for name in COLOURS])
    return tmp_path


def test_a_folder_gives_pictures_with_their_captions(folder):
    batch = CaptionedFolder(folder, size=8, batch_size=5)[0]
    assert batch.pictures.shape == (5, 3, 8, 8)
    assert batch.scenes is None
    for picture, text in zip(batch.pictures, batch.captions, strict=True):
        colour = torch.tensor(COLOURS[text.split()[1]]) / 255
        torch.testing.assert_close(picture, colour[:, None, None].expand(3, 8, 8))
        assert "«très»" in text


def test_every_epoch_has_every_picture_once_in_its_own_order(folder):
    data = CaptionedFolder(folder, size=8, batch_size=2, seed=1)
    shown = [text for number in range(10) for text in data[number].captions]  # four epochs of five pictures
    epochs = [shown[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == sorted(data.captions) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    again = CaptionedFolder(folder, size=8, batch_size=2, seed=1)
    assert again[7].captions == data[7].captions
    assert torch.equal(again[7].pictures, data[7].pictures)


def test_the_middle_of_a_picture_is_kept(folder):
    wide = Image.new("RGB", (40, 10), (0, 0, 0))
    wide.paste((255, 255, 255), (15, 0, 25, 10))
    wide.save(folder / "wide.png")
    write_table(folder, [["wide.png", "a white square"]])
    assert CaptionedFolder(folder, size=8, batch_size=1)[0].pictures.min() > 0.9


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_any_mode_are_read(folder, mode):
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(folder / "other.tiff")
    write_table(folder, [["other.tiff", "white"]])
    assert CaptionedFolder(folder, size=8, batch_size=2)[0].pictures.min() > 0.98


def break_picture(folder: Path) -> None:
    whole = (folder / "green.png").read_bytes()
    (folder / "green.png").write_bytes(whole[: len(whole) // 2])


def write_text_as_picture(folder: Path) -> None:
    (folder / "green.png").write_text("not a picture at all")


def empty_a_caption(folder: Path) -> None:
    write_table(folder, [["red.png", "red"], ["green.png", "   "]])


def shorten_a_row(folder: Path) -> None:
    write_table(folder, [["red.png", "red"], ["green.png"]])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "green.png").unlink(), ["Row 2", "green.png", "no such file"]),
        (break_picture, ["Row 2", "green.png", "cannot be read as a picture"]),
        (write_text_as_picture, ["Row 2", "green.png", "cannot be read as a picture"]),
        (empty_a_caption, ["Row 2", "green.png", "empty caption"]),
        (shorten_a_row, ["Row 2", "green.png", "empty caption"]),
        (lambda folder: write_table(folder, [["red.png", "red"], ["", "green"]]), ["Row 2", "names no file"]),
        (lambda folder: (folder / "captions.csv").unlink(), ["holds no captions.csv", "file_name and text"]),
        (lambda folder: write_table(folder, [["a", "b"]], ("file", "text")), ["no column file_name", "file, text"]),
        (lambda folder: write_table(folder, [["a"]], ("file_name",)), ["no column text"]),
        (lambda folder: write_table(folder, []), ["has no rows"]),
        (lambda folder: (folder / "captions.csv").write_text(""), ["no column file_name", "none"]),
        (lambda folder: (folder / "captions.csv").write_bytes(b"file_name,text\n\xff\xfe,x\n"), ["UTF-8"]),
    ],
)
def test_a_fault_in_a_folder_gets_a_sentence(folder, damage, words):
    damage(folder)
    with pytest.raises(DataError) as caught:
        CaptionedFolder(folder, size=8)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_missing_folder_gets_a_sentence(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        CaptionedFolder(tmp_path / "nowhere", size=8)
