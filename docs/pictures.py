"""Make the pictures of the documentation: `make pictures`. All in them is painted or drawn, nothing is pasted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atelier.pipeline import Pipeline
from atelier.world import Scene, full_world, paint
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

HERE = Path(__file__).parent
STRAWBERRY = "a stained glass window with an image of a blue strawberry"
INK, GAP = (40, 42, 54), 8


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
    """Every subject, setting, style and time of the full world."""
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


def main() -> None:
    """Write world.png and strawberry.png beside this file."""
    contact_sheet().save(HERE / "world.png", optimize=True)
    Pipeline.from_pretrained("laptop").draw(STRAWBERRY, n=9, seed=0).save(HERE / "strawberry.png", columns=9)


if __name__ == "__main__":
    main()
