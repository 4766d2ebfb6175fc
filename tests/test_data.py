"""Batches: the same number gives the same batch, and the error for a faulty folder names the row."""

import csv
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atelier.pictures import as_rgb, square
from atelier.training import data as data_module
from atelier.training.data import (
    CaptionedFolder,
    DataError,
    FolderSource,
    PaintedPictures,
    derive_seed,
    save_captioned,
)
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


def test_a_source_reads_its_folder_once(folder):
    source = FolderSource(folder, size=8, seed=1, device=torch.device("cpu"))
    expected = CaptionedFolder(folder, size=8, batch_size=2, seed=1)
    identity = source.identity
    for picture in folder.glob("*.png"):
        picture.unlink()
    data = source.batches(2, None, "never")
    assert source.identity == identity
    assert [data[number].captions for number in range(5)] == [expected[number].captions for number in range(5)]
    assert torch.equal(data[3].pictures, expected[3].pictures)
    with pytest.raises(DataError, match="at least one picture"):
        source.batches(0, None, "never")


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


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "La", "RGBa"]
)
def test_an_image_of_every_mode_keeps_its_brightness(mode):
    grey = Image.new("RGB", (9, 9), (128, 128, 128))
    if mode == "1":
        image = Image.new("1", (9, 9), 1)
    elif mode == "I;16":
        image = Image.fromarray(np.full((9, 9), 32896, dtype=np.uint16))
    elif mode == "La":
        image = Image.new("La", (9, 9), (128, 255))
    elif mode == "P":
        image = grey.quantize(4)
    elif mode == "RGBa":
        image = grey.convert("RGBA").convert("RGBa")
    else:
        image = grey.convert("L").convert(mode) if mode in ("I", "F") else grey.convert(mode)
    assert image.mode == mode
    wanted = 255 if mode == "1" else 128
    assert (square(image, 8).float() - wanted).abs().max() <= 2


@pytest.mark.parametrize("most", [1, 255, 65535])
def test_floats_may_have_any_usual_range(most):
    ramp = np.linspace(0, most, 81, dtype=np.float32).reshape(9, 9)
    expected = np.linspace(0, 255, 81).round().reshape(9, 9)
    assert abs(np.asarray(as_rgb(Image.fromarray(ramp)))[..., 0] - expected).max() <= 1


def test_a_dark_picture_of_16_bits_stays_dark():
    dark = Image.fromarray(np.full((9, 9), 200, dtype=np.uint16))
    assert np.asarray(as_rgb(dark)).max() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70_000])
def test_values_that_are_no_shades_get_a_sentence(folder, value):
    pixels = np.full((9, 9), 0.5, dtype=np.float32)
    pixels[3, 3] = value
    Image.fromarray(pixels).save(folder / "other.tiff")
    write_table(folder, [["other.tiff", "other"]])
    with pytest.raises(DataError, match=r"Row 2 .*no shades of grey"):
        CaptionedFolder(folder, size=8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white_whatever_colour_is_hidden_there(folder, mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image = image.convert("LA").convert(mode) if mode == "LA" else image.convert(mode)
    pixels = square(image, 8)
    assert (pixels[..., :4] == 0).all()
    assert (pixels[..., 4:] == 255).all()
    image.save(folder / "glass.png")
    write_table(folder, [["glass.png", "half black"]])
    assert torch.equal(CaptionedFolder(folder, size=8, batch_size=1).pictures[0], pixels)


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
        (lambda folder: (folder / "green.png").unlink(), ["Row 3", "green.png", "no such file"]),
        (break_picture, ["Row 3", "green.png", "cannot be read as a picture"]),
        (write_text_as_picture, ["Row 3", "green.png", "cannot be read as a picture"]),
        (empty_a_caption, ["Row 3", "green.png", "empty caption"]),
        (shorten_a_row, ["Row 3", "green.png", "empty caption"]),
        (lambda folder: write_table(folder, [["red.png", "red"], ["", "green"]]), ["Row 3", "names no file"]),
        (
            lambda folder: (folder / "captions.csv").write_text("file_name,text\nred.png,a cat, asleep on the moon\n"),
            ["Row 2", "more fields than columns", "in quotes"],
        ),
        (
            lambda folder: (folder / "captions.csv").write_text(
                'file_name,text\nred.png,a\ngreen.png,"b\nblue.png,c\nred.png,d\n'
            ),
            ["Row 3", "a quote that is opened there must be closed"],
        ),
        (lambda folder: (folder / "captions.csv").unlink(), ["holds no captions.csv", "file_name and text"]),
        (lambda folder: write_table(folder, [["a", "b"]], ("file", "text")), ["no column file_name", "file, text"]),
        (lambda folder: write_table(folder, [["a"]], ("file_name",)), ["no column text"]),
        (lambda folder: write_table(folder, []), ["has no rows"]),
        (lambda folder: (folder / "captions.csv").write_text(""), ["no column file_name", "none"]),
        (
            lambda folder: (folder / "captions.csv").write_text("file_name,text,text\nred.png,a cat,ein Kater\n"),
            ["has 2 columns text", "keep one"],
        ),
        (
            lambda folder: (folder / "captions.csv").write_text('"file_name";"text"\n"red.png";"a cat"\n'),
            ["Row 1", "separate the fields by commas"],
        ),
        (
            lambda folder: (folder / "captions.csv").write_text(f"file_name,text\nred.png,{'a' * 140_000}\n"),
            ["Row 2", "too long for a caption"],
        ),
        (
            lambda folder: (folder / "captions.csv").write_text("file_name,text\n\n\nred.png,a cat\nred.png,\n"),
            ["Row 5", "empty caption"],
        ),
        *(
            (
                lambda folder, unseen=unseen: (folder / "captions.csv").write_text(
                    f"file_name,text\nred.png,{unseen}\n", encoding="utf-8"
                ),
                ["Row 2", "empty caption"],
            )
            for unseen in ("\u200b", "\ufeff", "\x01", "\u00ad \u2060")
        ),
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


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["a red square on the moon", "red.png"]], ["swapped"]),
        ([["images\\\\red.png", "red"]], ["write / instead of"]),
        ([["a\0b.png", "red"]], ["no such file"]),
        ([["x" * 300 + ".png", "red"]], ["no such file"]),
    ],
)
def test_a_name_that_is_no_file_gets_advice(folder, rows, words):
    write_table(folder, rows)
    with pytest.raises(DataError) as caught:
        CaptionedFolder(folder, size=8)
    assert all(word in str(caught.value) for word in ["Row 2", *words])


def test_semicolons_get_advice(folder):
    (folder / "captions.csv").write_text("file_name;text\nred.png;red\n")
    with pytest.raises(DataError, match="separated by ';'; separate them by commas"):
        CaptionedFolder(folder, size=8)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_a_file_name_may_have_another_form_in_the_table(folder, forms):
    on_disk, in_table = (unicodedata.normalize(form, "café.png") for form in forms)
    (folder / "red.png").rename(folder / on_disk)
    write_table(folder, [[in_table, "red"]])
    assert len(CaptionedFolder(folder, size=8)) == 1


def test_a_picture_with_very_many_pixels_is_refused(folder):
    Image.new("1", (13_000, 13_000)).save(folder / "large.png")
    write_table(folder, [["large.png", "black"]])
    with pytest.raises(DataError, match="13000 × 13000 pixels; give one with 1 to 67 million"):
        CaptionedFolder(folder, size=8)


def test_pictures_are_painted_only_into_an_empty_folder(tmp_path):
    save_captioned(small_world().sample(3, seed=0), tmp_path / "new", 8)
    with pytest.raises(DataError, match="is not empty"):
        save_captioned(small_world().sample(2, seed=0), tmp_path / "new", 8)
    assert len(CaptionedFolder(tmp_path / "new", size=8)) == 3
