"""What comes out of the pipeline: the pictures of a prompt, with all that belongs to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Drawing:
    """The pictures of one prompt, the best first.

    Attributes:
        prompt: what was asked for.
        pictures: (n, 3, size, size), from 0 to 1.
        codes: (n, grid, grid) int64, the codes of each picture.
        scores: 100 · cosine between prompt and picture, one each, or None if the pictures are not ranked.
        seed: draws the same pictures again.
        progress: share of the codes that are written, 1 when the drawing is finished.
        remarks: sentences about the prompt, such as words the model does not know.
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
        """All pictures on one white sheet, row by row.

        Args:
            columns: pictures in a row; by default as square as possible.
            zoom: pixels on a side for one of a picture's; by default so many that a picture is about 256 wide.
            gap: white pixels between pictures.
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
        """Write the grid to a file; the format is the one of the name's ending. Returns the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.grid(columns).save(path)
        return path
