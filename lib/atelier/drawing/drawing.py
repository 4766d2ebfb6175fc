"""The output of the pipeline: the pictures of a prompt, with their codes and scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor

from atelier.errors import file_errors


@dataclass(frozen=True)
class Drawing:
    """The pictures of one prompt, the best first.

    Attributes:
        prompt: the prompt.
        pictures: (n, 3, size, size), from 0 to 1.
        codes: (n, grid, grid) int64, the codes of each picture.
        scores: for each picture, 100 · cosine between it and the prompt; None if the pictures are not ranked.
        seed: with the same seed the pipeline draws the same pictures again.
        progress: the share of the codes that are written; 1 for a finished drawing.
        remarks: sentences about the prompt, for example on words that the model does not know.
    """

    prompt: str
    pictures: Tensor
    codes: Tensor
    scores: list[float] | None
    seed: int
    progress: float = 1.0
    remarks: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[Image.Image]:
        """The pictures as PIL images."""
        pixels = (self.pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(picture) for picture in pixels]

    def grid(self, columns: int | None = None, zoom: int | None = None, gap: int = 6) -> Image.Image:
        """Lay out all pictures on a white sheet, row by row.

        Args:
            columns: pictures in a row; None makes the grid as square as possible.
            zoom: by which factor each picture is enlarged; None enlarges it to about 256 pixels.
            gap: white pixels between pictures.

        Returns:
            The sheet.
        """
        n, size = len(self.pictures), self.pictures.shape[-1]
        columns = min(n, columns or math.ceil(math.sqrt(n)))
        side = size * (zoom or max(1, 256 // size))
        rows = math.ceil(n / columns)
        sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), "white")
        for number, image in enumerate(self.images):
            row, column = divmod(number, columns)
            corner = (gap + column * (side + gap), gap + row * (side + gap))
            sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), corner)
        return sheet

    def save(self, path: str | Path, columns: int | None = None) -> Path:
        """Write the grid to a file.

        Args:
            path: of the file; its ending gives the format.
            columns: as for `grid`.

        Returns:
            The path.

        Raises:
            FileError: if the file cannot be written.
        """
        path = Path(path)
        sheet = self.grid(columns)
        with file_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet.save(path)
        return path
