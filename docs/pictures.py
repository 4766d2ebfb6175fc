"""Make the pictures of the documentation, from the painter and the shipped model: `make pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from atelier.drawing.pipeline import Pipeline
from atelier.world import Scene, full_world, paint
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

HERE = Path(__file__).parent
STRAWBERRY = "a stained glass window with an image of a blue strawberry"
GALLERY = (  # the session's own prompts, and two that were held out of training
    "the Eiffel tower landing on the moon",
    "sunset over a lake in the mountains",
    STRAWBERRY,
    "a photo of the food of china",
    "a cartoon of a cat on the beach",
    "a watercolour of a purple mushroom in a forest",
)
INK, GAP = (40, 42, 54), 8
JPEG: dict[str, Any] = {"quality": 82, "subsampling": 2, "optimize": True, "progressive": True}


def sheet(title: str, pictures: Tensor, names: Sequence[str], columns: int, seam: int = 26) -> Image.Image:
    """Pictures (n, 3, size, size) in rows, each with its name below, under a title."""
    size = pictures.shape[-1]
    rows = -(-len(pictures) // columns)
    image = Image.new("RGB", (columns * (size + GAP) + GAP, 44 + rows * (size + seam)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((GAP, 12), title, fill=INK, font=ImageFont.load_default(20))
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for number, (picture, name) in enumerate(zip(pixels, names, strict=True)):
        row, column = divmod(number, columns)
        x, y = GAP + column * (size + GAP), 44 + row * (size + seam)
        image.paste(Image.fromarray(picture), (x, y))
        draw.text((x + size / 2, y + size + 2), name, fill=INK, font=ImageFont.load_default(13), anchor="ma")
    return image


def contact_sheet() -> Image.Image:
    """A picture of every subject, setting, style, time of day and colour of the full world."""
    world = full_world()
    colours, places = world.colours[:8], ("meadow", "beach", "moon", "snow", "city", "desert", "lake")
    subjects = [
        Scene(name, colours[i % 8], places[i % 7], "day", "photo" if i % 2 else "cartoon", seed=i)
        for i, name in enumerate(world.subjects)
    ]
    settings = [Scene(None, "white", name, "day", "photo", seed=i) for i, name in enumerate(world.settings)]
    styles = [Scene("cat", "orange", "beach", "day", name, seed=2) for name in world.styles]
    times = [Scene("Eiffel tower", "red", "lake", name, "photo", seed=2) for name in ("day", "sunset", "night")]
    hues = [Scene("car", name, None, "day", "photo", seed=7) for name in world.colours]
    parts = [
        sheet(f"{len(subjects)} subjects", paint(subjects, 128), world.subjects, 9),
        sheet(f"{len(settings)} settings", paint(settings, 128), world.settings, 9),
        sheet("6 styles and 3 times of day", paint(styles + times, 128), [*world.styles, "day", "sunset", "night"], 9),
        sheet("12 colours", paint(hues, 95), world.colours, 12),
    ]
    width = max(part.width for part in parts)
    image = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        image.paste(part, (0, y))
        y += part.height
    return image


def gallery(pipe: Pipeline) -> Image.Image:
    """The two best of nine pictures for each prompt of the gallery, side by side, with the prompt below."""
    best = [drawing.pictures[:2] for drawing in pipe.draw(list(GALLERY), n=9, seed=1)]
    seam_between = torch.ones(3, best[0].shape[2], 3, device=best[0].device)
    pairs = torch.stack([torch.cat([pair[0], seam_between, pair[1]], dim=2) for pair in best])  # (6, 3, 128, 259)
    large = F.interpolate(pairs, scale_factor=2, mode="bicubic", antialias=True).clamp(0, 1).cpu()
    width, height, seam = large.shape[3], large.shape[2], 34
    image = Image.new("RGB", (2 * (width + 2 * GAP), 3 * (height + seam)), "white")
    draw = ImageDraw.Draw(image)
    for number, (pair, prompt) in enumerate(zip(large, GALLERY, strict=True)):
        row, column = divmod(number, 2)
        x, y = GAP + column * (width + 2 * GAP), row * (height + seam)
        image.paste(Image.fromarray((pair * 255).round().byte().permute(1, 2, 0).numpy()), (x, y))
        draw.text((x + width / 2, y + height + 4), prompt, fill=INK, font=ImageFont.load_default(17), anchor="ma")
    return image


def main() -> None:
    """Write world.jpg, strawberry.jpg and gallery.jpg beside this file."""
    contact_sheet().save(HERE / "world.jpg", **JPEG)
    pipe = Pipeline.from_pretrained("studio")
    pipe.draw(STRAWBERRY, n=9, seed=0).grid(columns=9).convert("RGB").save(HERE / "strawberry.jpg", **JPEG)
    gallery(pipe).save(HERE / "gallery.jpg", **JPEG)


if __name__ == "__main__":
    main()
