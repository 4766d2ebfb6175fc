"""The output of the pipeline: the pictures of a prompt, with their codes and scores."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from atelier.arguments import user_path, whole_number
from atelier.errors import AtelierError, file_errors
from atelier.weights.storage import replace_file

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOST_PIXELS = 16_000  # on a side of the sheet; larger WebP files do not exist
SETTINGS_KEY = "atelier"  # of the PNG's text chunk that holds a drawing's settings, as JSON


class RecordedImage(Image.Image):
    """An image that contains, if it is saved as PNG, how it was drawn.

    Attributes:
        record: the values of `Drawing.record`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record: dict[str, Any] = {}

    @classmethod
    def of(cls, image: Image.Image, record: dict[str, Any]) -> RecordedImage:
        """Make one that shares the pixels of an image."""
        recorded = cls()
        recorded.__dict__.update(image.__dict__, record=record)
        return recorded

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Save the image as Pillow does."""
        super().save(fp, format, **{"pnginfo": png_info(self.record), **params})  # other formats than PNG ignore it


@dataclass(frozen=True, eq=False)
class Drawing:
    """The pictures of one prompt, the best first. Two drawings are equal if all their values are.

    Attributes:
        prompt: the prompt.
        pictures: (n, 3, size, size), from 0 to 1.
        codes: (n, grid, grid) int64, the codes of each picture.
        scores: for each picture, 100 · cosine between it and the prompt; None if the pictures are not ranked.
        seed: with the same seed the pipeline draws the same pictures again.
        progress: the share of the codes that are drawn; 1 for a finished drawing.
        remarks: sentences about the prompt, for example on words that the model does not know.
        places: for each picture, its place from 1 before the ranking. `Pipeline.draw` with the same seed and a place
            draws this picture alone. Empty: 1 to n.
        settings: the preset, and the options of the sampling.
    """

    prompt: str
    pictures: Tensor
    codes: Tensor
    scores: list[float] | None
    seed: int
    progress: float = 1.0
    remarks: list[str] = field(default_factory=list)
    places: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.places:
            object.__setattr__(self, "places", tuple(range(1, len(self.pictures) + 1)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Drawing):
            return NotImplemented
        tensors = ((self.codes, other.codes), (self.pictures, other.pictures))
        return self._values == other._values and all(a.device == b.device and torch.equal(a, b) for a, b in tensors)

    def __hash__(self) -> int:
        return hash((self.prompt, self.seed, self.places, self.progress))

    @property
    def _values(self) -> tuple[Any, ...]:
        return self.prompt, self.scores, self.seed, self.progress, self.remarks, self.places, self.settings

    @property
    def images(self) -> list[Image.Image]:
        """The pictures as PIL images. If one is saved as PNG, the file contains how to draw it again alone."""
        pixels = (self.pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        placed = zip(pixels, self.places, strict=True)
        return [RecordedImage.of(Image.fromarray(picture), self.record(place)) for picture, place in placed]

    def record(self, place: int | None = None) -> dict[str, Any]:
        """List what is needed to draw the same pictures again: prompt, seed, settings and places.

        Args:
            place: the place of one picture, to draw it alone; None: all pictures.

        Returns:
            Values that fit into JSON.
        """
        which = {"places": list(self.places)} if place is None else {"place": place}
        return {"prompt": self.prompt, "seed": self.seed, **self.settings, **which}

    def grid(self, columns: int | None = None, zoom: int | None = None, gap: int = 6) -> Image.Image:
        """Lay out all pictures on a white sheet, row by row.

        Args:
            columns: pictures in a row; None makes the grid as square as possible.
            zoom: the factor by which each picture is enlarged; None enlarges it to about 256 pixels.
            gap: white pixels between pictures.

        Returns:
            The sheet. If it is saved as PNG, the file contains how to draw the pictures again.

        Raises:
            AtelierError: if a number is out of range, or the sheet would have more than 16,000 pixels on a side.
        """
        n, size = len(self.pictures), self.pictures.shape[-1]
        columns = math.ceil(math.sqrt(n)) if columns is None else whole_number(columns, "columns", 1)
        zoom = max(1, 256 // size) if zoom is None else whole_number(zoom, "zoom", 1)
        gap, columns = whole_number(gap, "gap", 0), min(n, columns)
        side, rows = size * zoom, math.ceil(n / columns)
        width, height = (count * (side + gap) + gap for count in (columns, rows))
        if max(width, height) > MOST_PIXELS:
            raise AtelierError(
                f"The sheet would have {width} × {height} pixels; at most {MOST_PIXELS} on a side are possible. "
                "Give a smaller zoom or gap, or other columns."
            )
        sheet = Image.new("RGB", (width, height), "white")
        for number, image in enumerate(self.images):
            row, column = divmod(number, columns)
            corner = (gap + column * (side + gap), gap + row * (side + gap))
            sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), corner)
        return RecordedImage.of(sheet, self.record())

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """Write the grid to a file.

        Args:
            path: the path of the file; its ending gives the format. "~" is the user's folder.
            columns: as for `grid`.

        Returns:
            The path.

        Raises:
            AtelierError: if the ending is not that of a picture file.
            FileError: if the file cannot be written; a file that was there is then unchanged.
        """
        path = picture_path(path)
        sheet, content = self.grid(columns), io.BytesIO()
        sheet.save(content, format=Image.registered_extensions()[path.suffix.lower()])
        with file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content.getvalue())
        return path


def picture_path(path: str | Path) -> Path:
    """Check the path of a picture file, in which "~" is the user's folder.

    Raises:
        AtelierError: if its ending is not one of PICTURE_SUFFIXES.
    """
    path = user_path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise AtelierError(
            f"{path} does not have the ending of a picture file; use one of {', '.join(PICTURE_SUFFIXES)}."
        )
    return path


def png_info(record: dict[str, Any]) -> PngInfo:
    """Make the text chunk of a PNG file with the record of a drawing, as JSON."""
    chunks = PngInfo()
    chunks.add_itxt(SETTINGS_KEY, json.dumps(record, ensure_ascii=False))
    return chunks
