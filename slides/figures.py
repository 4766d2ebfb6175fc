"""Draw every figure of the deck from the library and the shipped weights: the first half of `make slides`.

Each function below draws one figure, or several pictures, into slides/figures, and returns the numbers that the text of
the slides uses, by name. They are written to figures/numbers.json, from which deck.py puts them into the deck. All
random numbers are seeded: the same weights give the same figures.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import acos, cos, prod, sin
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import matplotlib as mpl
import torch
import torch.nn.functional as F
from atelier import Pipeline
from atelier.drawing.attention import attention_to_words
from atelier.drawing.drawing import Drawing
from atelier.evaluation.evaluate import best_of_each, correct_attributes, evaluation_world
from atelier.evaluation.intervals import Estimate, difference, mean
from atelier.teaching.experiments.lesson_4 import BEST_OF, WAYS, right_pictures
from atelier.teaching.figures import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    code_colours,
    draw_estimates,
    sheet,
)
from atelier.weights.preset import Preset, load_preset
from atelier.weights.sprites import load_sprite_model
from atelier.world import SPRITES, Scene, World, caption, paint, sprites
from canvas import (
    FILM_EDGE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_ORANGE,
    PALE_RED,
    PAPER,
    PROJECTED,
    RUST,
    SLATE,
    arrow,
    box,
    canvas,
    compressed_png,
    draw_picture,
    draw_text,
    flow,
    frame,
    image,
    network,
    plot,
    rendered,
    show_baseline_only,
    show_frame_only,
    tiles,
    use_typeface,
)
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
NUMBERS_FILE = "numbers.json"
SCRATCH = HERE / "scratch"
NEW, OLD = SCRATCH / "figures", SCRATCH / "old-figures"  # the figures are drawn in NEW, which then replaces FIGURES

PRESET = "laptop"  # most figures: a grid of 64 codes can be read on a slide
STUDIO = "studio"  # the drawings on the first and the last slides
TOWER = "the Eiffel tower landing on the moon"
TOWER_SEED = 13
SUNSET = "sunset over a lake in the mountains"
STRAWBERRY = "a stained glass window with an image of a blue strawberry"
FOOD = "a photo of the food of china"
BERRY = "a photo of a blue strawberry on the moon"
GIRAFFE = "a giraffe on the moon"
CONFIDENT = 0.9  # a sprite counts as recognised if the judge gives its kind at least this probability
UNWRITTEN = 0.88  # the grey of what is not written yet
PLANE_SIDE, PLANE_EDGE = 470, 4  # of a drawn latent plane, in pixels of the slide
WALK_FRAMES = 41  # of a film that walks through a plane
ROWS_SHOWN, VECTORS_SHOWN = 7, 6  # rows of the codebook, and vectors of each, in the figure of the VQ layer
DARKER = {ORANGE: "#8A5A00", PURPLE: "#8F4A73", VERMILION: RUST}  # of the same hue, for words on white
PALE = 0.8  # the mean of red, green and blue of a code that paints little but paper is above
HERO = 640  # pixels of a painted scene that fills a slide's side

HEROES = {
    "cover": Scene("Eiffel tower", "orange", "moon", "night", "cartoon", pose="landing", size="large", seed=4),
    "1": Scene("robot", "blue", "castle", "day", "cartoon", size="large", seed=6),
    "2": Scene("cat", "green", "library", "day", "watercolour", size="large", seed=7),
    "3": Scene("owl", "purple", "forest", "night", "cartoon", size="large", seed=9),
    "4": Scene("sailing boat", "red", "sea", "sunset", "paper cut-out", size="large", seed=7),
    "5": Scene("strawberry", "blue", "lake", "day", "stained glass", size="huge", seed=2),
    "thanks": Scene(None, "white", "lake", "sunset", "photo", seed=8),
}

Numbers = dict[str, str] | None


# ---------------------------------------------------------------------------------------------- models and data


@cache
def preset(name: str = PRESET) -> Preset:
    """A preset that draws pictures of the deck."""
    return load_preset(name)


@cache
def world(name: str = PRESET) -> World:
    """The world that the preset learned."""
    return evaluation_world(preset(name))


@cache
def pipeline(name: str = PRESET) -> Pipeline:
    """The preset's pipeline, on the CPU so that its numbers are the same everywhere."""
    return Pipeline.from_pretrained(name, device="cpu")


@cache
def model(name: str) -> Any:
    """A sprite model of part 2."""
    return load_sprite_model(name)


@cache
def drawing(prompt: str, seed: int, name: str = PRESET) -> Drawing:
    """Nine ranked pictures of a prompt, drawn by a preset."""
    return pipeline(name).draw(prompt, n=9, seed=seed)


@cache
def palette(name: str = PRESET) -> Tensor:
    """The colours (codes, 3) of the codes of the preset, or of "vqvae" or "vqgan"; see `code_colours`."""
    if name == PRESET:
        return code_colours(pipeline().decode, torch.arange(pipeline().vqgan.config.codes))
    return code_colours(model(name).decode_codes, torch.arange(64))


def sprite(place: int) -> Tensor:
    """One of the six sprites that all figures of autoencoders share, (1, 3, 32, 32)."""
    return sprites(6, seed=3)[0][place : place + 1]


@torch.no_grad()
def generated_sprites(number: int, seed: int) -> Tensor:
    """Sprites that the GAN draws, (number, 3, 32, 32)."""
    return model("gan")(torch.randn(number, model("gan").config.latent, generator=torch.Generator().manual_seed(seed)))


@torch.no_grad()
def reconstruct(name: str, given: Tensor) -> tuple[Tensor, Tensor]:
    """A sprite (1, 3, 32, 32) through "vqvae" or "vqgan": its reconstruction (3, 32, 32) and its codes (8, 8)."""
    drawn, quantized = model(name)(given)
    return drawn[0], quantized.indices[0]


@cache
def evaluation() -> dict[str, Any]:
    """The preset's evaluation, from its evaluation.json."""
    return json.loads((preset().folder / "evaluation.json").read_text(encoding="utf-8"))


@torch.no_grad()
def recognised(pictures: Tensor) -> Tensor:
    """The kind (n,) that the judge recognises in sprites (n, 3, 32, 32), an index into SPRITES, or -1."""
    confidence, kind = model("judge")(pictures)["kind"].softmax(1).max(1)
    return torch.where((confidence >= CONFIDENT) & (kind < len(SPRITES)), kind, -1)


# ---------------------------------------------------------------------------------------------- saving


def save_figure(name: str, made: Figure) -> None:
    """Write a figure as name.png."""
    (NEW / f"{name}.png").write_bytes(compressed_png(rendered(made)))


def save_pictures(name: str, pictures: Tensor | Sequence[Tensor]) -> None:
    """Write pictures as name-1.png, name-2.png, …, in their own size; the deck enlarges them."""
    for number, picture in enumerate(pictures, 1):
        (NEW / f"{name}-{number}.png").write_bytes(compressed_png(image(picture), 160))


def save_film(name: str, frames: Sequence[Tensor]) -> None:
    """Write the frames (3, h, h) of a film side by side as film-name.png; the deck shows one after the other.

    Around each frame its edge is repeated, so that a browser that enlarges a frame does not mix it with the next one.
    """
    padded = [F.pad(frame[None], (FILM_EDGE,) * 4, mode="replicate")[0] for frame in frames]
    (NEW / f"film-{name}.png").write_bytes(compressed_png(image(torch.cat(padded, dim=2)), 200))


# ---------------------------------------------------------------------------------------------- opening


def heroes() -> Numbers:
    """The painted scenes of the title slides."""
    for (name, _), picture in zip(HEROES.items(), paint(list(HEROES.values()), HERO), strict=True):
        (NEW / f"hero-{name}.png").write_bytes(compressed_png(image(picture), 160))
    return None


def first_drawing() -> Numbers:
    """The session's first prompt, drawn; and painted pictures of its subject and of its setting, apart.

    The painted ones have the size of those in the training, not more: that is all that the model has seen.
    """
    drawn = drawing(TOWER, TOWER_SEED, STUDIO)
    save_pictures("tower", drawn.pictures)
    save_pictures("first-tower", drawn.pictures[:1])
    variants = [
        ("photo", "lake", 3),
        ("cartoon", "city", 5),
        ("watercolour", "meadow", 4),
        ("stained glass", "snow", 6),
    ]
    towers = [
        Scene("Eiffel tower", "brown", place, "day", style, size="large", seed=seed) for style, place, seed in variants
    ]
    moons = [
        Scene(subject, colour, "moon", "night", style, size="large", seed=seed)
        for subject, colour, style, seed in (
            ("cat", "orange", "photo", 3),
            ("house", "red", "cartoon", 4),
            ("car", "green", "watercolour", 5),
            ("butterfly", "purple", "stained glass", 6),
        )
    ]
    side = preset(STUDIO).picture_size
    save_pictures("seen-tower", paint(towers, side))
    save_pictures("seen-moon", paint(moons, side))
    return {"all four by chance": f"{prod(map(len, world(STUDIO).attributes.values())):,}", "side": str(side)}


# ---------------------------------------------------------------------------------------------- part 1


def machine() -> Numbers:
    """The three blocks, with their inputs and outputs for the first drawing."""
    drawn = drawing(TOWER, TOWER_SEED)
    codes = drawn.codes[0]
    made, axis = canvas(1136, 350)
    draw_text(axis, 86, 175, "“the Eiffel\ntower landing\non the moon”", 25, style="italic")
    tiles(axis, codes, palette()[codes], 340, 70, 26.2)
    draw_picture(axis, drawn.pictures[0], 704, 70, 210)
    score = f"{(drawn.scores or [0.0])[0]:.0f}"
    draw_text(axis, 1098, 173, score, 62, weight="bold", color=GREEN)
    for x, name, what, face, edge in (
        (194, "BART", "translates", PALE_BLUE, BLUE),
        (571, "VQ-GAN", "draws", PALE_BLUE, BLUE),
        (944, "CLIP", "ranks", PALE_GREEN, GREEN),
    ):
        wide = 86 if name == "CLIP" else 108
        box(axis, x, 122, wide, 106, face, edge)
        draw_text(axis, x + wide / 2, 160, name, 23, weight="bold")
        draw_text(axis, x + wide / 2, 194, what, 20)
    flow(axis, 175, (168, 191), (306, 335), (550, 568), (682, 700), (918, 941), (1033, 1058), line=2)
    for x, name in ((86, "a prompt"), (444, "64 codes"), (809, "a picture"), (1098, "a score")):
        draw_text(axis, x, 36, name, 24, color=SLATE)
    for x, name in ((444, "8 × 8 numbers, 0 to 1023"), (809, "64 × 64 pixels")):
        draw_text(axis, x, 312, name, 20, color=SLATE)
    save_figure("machine", made)
    return None


def tokens() -> Numbers:
    """A prompt's tokens."""
    pipe = pipeline()
    pieces = ["<s>", *(piece.strip() for piece in pipe.tokenizer.pieces(TOWER)), "</s>"]
    ids = pipe.tokenizer.encode([TOWER], len(pieces))[0].tolist()
    made, axis = canvas(1136, 104)
    for place, (piece, number) in enumerate(zip(pieces, ids, strict=True)):
        x, mark = place * 126.6, piece.startswith("<")
        box(axis, x, 2, 121, 58, PAPER if mark else PALE_BLUE, GREY if mark else BLUE, 1.5)
        draw_text(axis, x + 60, 30, piece, 25, color="#6B7280" if mark else INK)
        draw_text(axis, x + 60, 86, str(number), 25, weight="bold", color="#6B7280" if mark else BLUE)
    save_figure("tokens", made)
    return None


def writing() -> Numbers:
    """A picture after every eight codes, for paper; and as films with a frame for each code, for the screen."""
    drawn = drawing(TOWER, TOWER_SEED)
    stages = list(pipeline().stream(TOWER, n=9, seed=TOWER_SEED, rank=False, every=1))
    best = next(place for place, codes in enumerate(stages[-1].codes) if torch.equal(codes, drawn.codes[0]))
    pictures = [stage.pictures[best] for stage in stages]
    colours = palette()[drawn.codes[0]].permute(2, 0, 1).flatten(1)  # (3, 64)
    grids = []
    for written in range(len(pictures) + 1):
        shown = torch.where(torch.arange(colours.shape[1]) < written, colours, torch.tensor(UNWRITTEN))
        grids.append(shown.unflatten(1, drawn.codes[0].shape))
    save_film("codes", grids)
    save_film("writing", [torch.full_like(pictures[0], UNWRITTEN), *pictures])
    made, axis = canvas(1136, 216)
    side = 134
    for place, picture in enumerate(pictures[7::8]):
        x = place * (side + 9.15)
        draw_picture(axis, picture, x, 6, side)
        draw_text(axis, x + side / 2, 168, str(8 * (place + 1)), 24, weight="bold")
    draw_text(axis, 0, 200, "codes written so far", 20, ha="left", color=SLATE)
    save_figure("writing", made)
    return None


def false_colours(numbers: Tensor) -> Tensor:
    """A feature map (c, h, w) as a picture (3, h, w): its three principal components as red, green and blue."""
    cells = numbers.flatten(1).T
    centred = cells - cells.mean(0)
    main = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:3].T
    low, high = main.quantile(0.02, dim=0), main.quantile(0.98, dim=0)
    return ((main - low) / (high - low)).clamp(0, 1).T.unflatten(1, numbers.shape[1:])


@torch.no_grad()
def painting() -> Numbers:
    """The feature maps of the VQ-GAN's decoder, from codes to a picture."""
    pipe, drawn = pipeline(), drawing(TOWER, TOWER_SEED)
    decoder = pipe.vqgan.decoder
    maps = [pipe.vqgan.quantize.lookup(drawn.codes[:1])]
    hidden = decoder.mid(decoder.conv_in(pipe.vqgan.post_quant_conv(maps[0])))
    for level in reversed(decoder.up):
        hidden = level(hidden)
        maps.append(hidden)
    maps = maps[:3]  # 8, 16 and 32 cells wide
    shown = [*(false_colours(each[0].float()) for each in maps), drawn.pictures[0]]
    made, axis = canvas(1136, 360)
    side, gap = 236, 64
    labels = [*(f"{each.shape[1]} numbers in a cell" for each in maps), "red, green, blue"]
    for place, (picture, label) in enumerate(zip(shown, labels, strict=True)):
        x = place * (side + gap)
        draw_picture(axis, picture, x, 44, side, smooth=place == len(shown) - 1)
        draw_text(axis, x + side / 2, 20, f"{picture.shape[1]} × {picture.shape[2]}", 25, weight="bold")
        draw_text(axis, x + side / 2, 310, label, 21, color=SLATE)
        if place:
            arrow(axis, (x - gap + 10, 44 + side / 2), (x - 10, 44 + side / 2))
    save_figure("painting", made)
    return None


@torch.no_grad()
def without_blocks() -> Numbers:
    """The pipeline without each of its blocks in turn, with the same seed and the same settings.

    Without CLIP the same nine pictures are drawn, and the first of them is shown: nobody has looked at it.
    """
    pipe, drawn = pipeline(), drawing(STRAWBERRY, 0)
    codes = drawn.codes[0]
    without_bart = torch.randint(1024, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    flat = F.interpolate(palette()[codes].permute(2, 0, 1)[None], scale_factor=8.0)[0]
    unranked = pipe.draw(STRAWBERRY, n=9, seed=0, rank=False).pictures[0]
    save_pictures("without", [drawn.pictures[0], pipe.decode(without_bart)[0], flat, unranked])
    chances = best_of_each(right_pictures("held out, drawn freely"))  # k → (captions,)
    gain = difference(chances[9].tolist(), chances[1].tolist(), "prompts")
    return {
        "ranked prompts": str(len(chances[9])),
        "ranked chosen": f"{chances[9].mean():.1%}",
        "ranked random": f"{chances[1].mean():.1%}",
        "ranked gain": f"{100 * gain.value:+.1f} points, 95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
    }


# ---------------------------------------------------------------------------------------------- part 2


@torch.no_grad()
def lineage() -> Numbers:
    """The output of each network of part 2: a sprite drawn by the GAN, and one reconstructed by each of the others."""
    given = sprites(6, seed=7)[0][3:4]
    drawn = generated_sprites(40, seed=7)
    house = drawn[recognised(drawn) == SPRITES.index("house")][0]
    made = [
        house,
        model("autoencoder")(given)[0],
        model("vae").decode(model("vae").encode(given).mean)[0],
        reconstruct("vqvae", given)[0],
        reconstruct("vqgan", given)[0],
    ]
    save_pictures("lineage", made)
    return None


@torch.no_grad()
def gan_game() -> Numbers:
    """Generator and discriminator, and the path of the gradient."""
    real = sprites(1, seed=7, colours=("red",))[0][0]
    drawn = generated_sprites(30, seed=7)
    drawn = drawn[recognised(drawn) == 0][0]
    made, axis = canvas(1136, 340)
    draw_text(axis, 60, 224, "$z$", 42)
    draw_text(axis, 60, 262, "16 random\nnumbers", 21, color=SLATE, va="top")
    network(axis, 160, 224, 180, (60, 150), "G", PALE_ORANGE, ORANGE, 34)
    draw_picture(axis, drawn, 420, 164, 120, smooth=False)
    draw_text(axis, 480, 142, "drawn, $G(z)$", 22)
    draw_picture(axis, real, 420, 2, 120, smooth=False)
    draw_text(axis, 405, 62, "painted, $x$", 22, ha="right")
    network(axis, 690, 142, 180, (180, 70), "D", PALE_BLUE, BLUE, 34)
    draw_text(axis, 1040, 142, "painted\nor drawn?", 28, weight="bold")
    flow(axis, 224, (95, 152), (348, 410))
    flow(axis, 142, (885, 955))
    arrow(axis, (550, 62), (680, 110))
    arrow(axis, (550, 224), (680, 180))
    arrow(axis, (790, 222), (262, 302), VERMILION, -0.19, dashed=True)
    draw_text(axis, 752, 308, "the gradient: how to look painted", 22, color=RUST, ha="left")
    save_figure("gan-game", made)
    return None


@torch.no_grad()
def gan_draws() -> Numbers:
    """What the shipped generator draws, and how often it draws each kind of sprite."""
    drawn = generated_sprites(1000, seed=11)
    kinds = recognised(drawn)
    counts = torch.tensor([(kinds == kind).float().mean().item() for kind in range(len(SPRITES))])
    (NEW / "gan-1.png").write_bytes(compressed_png(sheet(drawn[:25], 5, 3, 6)))
    made, axis = canvas(520, 264)
    below = plot(made, 150, 30, 360, 204)
    order = counts.argsort()
    names = [SPRITES[place] for place in order.tolist()]
    below.barh(names, 100 * counts[order], color=[ORANGE if place == 0 else BLUE for place in range(6)], height=0.66)
    for place, share in enumerate(counts[order].tolist()):
        below.text(100 * share + 0.8, place, f"{share:.0%}", va="center", fontsize=21 * 0.72, weight="bold",
                   bbox={"facecolor": "white", "linewidth": 0, "pad": 2})  # fmt: skip
    below.axvline(100 / 6, color=GREY, linestyle=(0, (3, 2)), linewidth=2, zorder=0)
    below.set(xticks=[], xlim=(0, 100 * counts.max().item() * 1.22))
    below.grid(False)
    for side in ("left", "bottom"):
        below.spines[side].set_visible(False)
    draw_text(axis, 150, 14, "of 1,000 pictures, by the judge", 21, ha="left", color=SLATE)
    draw_text(axis, 150 + 360 * (100 / 6) / (100 * counts.max().item() * 1.22), 250, "a fair share", 19, color=SLATE)
    save_figure("gan-kinds", made)
    rarest = int(counts.argmin())
    return {"gan rarest": SPRITES[rarest], "gan rarest share": f"{counts[rarest]:.0%}"}


@torch.no_grad()
def autoencoder() -> Numbers:
    """A picture, two numbers, a picture."""
    given = sprite(2)
    z = model("autoencoder").encode(given)
    made, axis = canvas(1136, 300)
    draw_picture(axis, given[0], 10, 30, 210, smooth=False)
    network(axis, 282, 135, 190, (200, 80), "encoder", size=26)
    box(axis, 518, 72, 104, 126, "white", INK, 2.5)
    for line, value in enumerate(z[0].tolist()):
        draw_text(axis, 570, 108 + 54 * line, f"{value:.1f}".replace("-", "−"), 32, weight="bold")
    network(axis, 668, 135, 190, (80, 200), "decoder", size=26)
    draw_picture(axis, model("autoencoder").decode(z)[0], 916, 30, 210, smooth=False)
    flow(axis, 135, (228, 276), (478, 512), (628, 662), (864, 910))
    for x, name in ((115, "$x$: 3,072 numbers"), (377, r"$e_\theta$"), (570, "$z$: two"), (763, r"$d_\varphi$"),
                    (1021, r"$\hat x$")):  # fmt: skip
        draw_text(axis, x, 272, name, 27)
    save_figure("autoencoder", made)
    return None


class Plane(NamedTuple):
    """A latent plane.

    Attributes:
        points: latents (n, 2) of sprites.
        kinds: (n,), of these sprites.
        seen: (side, side), the kinds that the judge recognises in what is decoded, from the lower left.
        centre: (2,), of the part that is shown.
        half: half the side of this part.
    """

    points: Tensor
    kinds: Tensor
    seen: Tensor
    centre: Tensor
    half: float


@torch.no_grad()
def plane(name: str, half: float | None) -> Plane:
    """The latent plane of "autoencoder" or "vae"; half the side of what is shown, or None to fit all sprites."""
    pictures, kinds = sprites(1200, seed=5)
    encoded = model(name).encode(pictures)
    points = encoded if isinstance(encoded, Tensor) else encoded.mean
    centre = torch.zeros(2) if half else (points.amax(0) + points.amin(0)) / 2
    half = half or (points - centre).abs().max().item() * 1.06
    steps = torch.linspace(-half, half, 121)
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1) + centre  # (side, side, 2)
    seen = torch.cat([recognised(model(name).decode(part)) for part in grid.flatten(0, 1).split(2000)])
    return Plane(points, kinds, seen.view(121, 121), centre, half)


def draw_plane(name: str, found: Plane, size: int, walk: tuple[Tensor, Tensor], rings: bool) -> Figure:
    """Draw a plane as a map: coloured where the judge recognises a sprite, white elsewhere."""
    made, _ = canvas(size, size)
    land = plot(made, PLANE_EDGE, PLANE_EDGE, size - 2 * PLANE_EDGE, size - 2 * PLANE_EDGE)
    colours = torch.tensor([to_rgb(colour) for colour in COLOURS[: len(SPRITES)]])
    pale = torch.cat([0.28 * colours + 0.72, torch.ones(1, 3)])  # the last, white, is that of -1
    x, y = found.centre.tolist()
    half = found.half
    extent = (x - half, x + half, y - half, y + half)
    land.imshow(pale[found.seen], extent=extent, origin="lower", interpolation="nearest")
    land.scatter(*found.points.T, s=9, c=colours[found.kinds].numpy(), linewidths=0)
    if rings:
        for radius in (1, 2):
            land.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=2, linestyle=(0, (3, 2))))
            plate = {"facecolor": "white", "linewidth": 0, "pad": 1.5}
            draw_text(land, 0, -radius, f"{radius}σ", 20, weight="bold", bbox=plate, zorder=6)
    start, end = walk
    land.plot(*torch.stack([start, end]).T, color=INK, linewidth=3.5, solid_capstyle="round")
    side = 0.085 * half
    with torch.no_grad():
        faces = model(name).decode(centres(found))
    for middle, face in zip(centres(found).tolist(), faces, strict=True):
        around = (middle[0] - side, middle[0] + side, middle[1] - side, middle[1] + side)
        land.imshow(face.permute(1, 2, 0), extent=around, interpolation="nearest", zorder=5)
        own = any(torch.allclose(torch.tensor(middle), point) for point in walk)
        corner, colour, line = (around[0], around[2]), INK if own else GREY, 3.0 if own else 1.5
        edge = Rectangle(corner, 2 * side, 2 * side, fill=False, edgecolor=colour, linewidth=line, zorder=6)
        land.add_patch(edge)
    land.set(xlim=extent[:2], ylim=extent[2:])
    show_frame_only(land)
    return made


def centres(found: Plane) -> Tensor:
    """The median of each kind's latents, (6, 2)."""
    return torch.stack([found.points[found.kinds == kind].median(0).values for kind in range(len(SPRITES))])


@torch.no_grad()
def strip(name: str, start: Tensor, end: Tensor, number: int) -> Tensor:
    """Pictures decoded along a straight line in the plane, (number, 3, 32, 32)."""
    share = torch.linspace(0, 1, number)[:, None]
    return model(name).decode(start + share * (end - start))


def least_recognised_walk(name: str, found: Plane) -> tuple[Tensor, Tensor]:
    """The centres of the two kinds between which the judge recognises the fewest pictures."""
    pairs = list(combinations(centres(found), 2))
    seen = [(recognised(strip(name, *pair, 41)) >= 0).float().mean().item() for pair in pairs]
    return pairs[seen.index(min(seen))]


def walk_places(name: str, found: Plane, walk: tuple[Tensor, Tensor]) -> dict[str, str]:
    """Where a walk starts and ends on the drawn plane, in pixels of the slide from its upper left corner, as CSS."""
    said = {}
    for end, point in zip(("start", "end"), walk, strict=True):
        across, up = ((point - found.centre) / (2 * found.half) + 0.5).tolist()
        wide = PLANE_SIDE - 2 * PLANE_EDGE
        left, top = PLANE_EDGE + wide * across, PLANE_EDGE + wide * (1 - up)
        said[f"{name} walk {end}"] = f"--{end}-x: {left:.0f}px; --{end}-y: {top:.0f}px"
    return said


def gaps() -> Numbers:
    """The autoencoder's plane, and a walk across a gap."""
    found = plane("autoencoder", None)
    walk = least_recognised_walk("autoencoder", found)
    save_figure("ae-plane", draw_plane("autoencoder", found, PLANE_SIDE, walk, rings=False))
    save_pictures("ae-walk", strip("autoencoder", *walk, 7))
    save_film("ae-walk", list(strip("autoencoder", *walk, WALK_FRAMES)))
    return {"ae white": f"{(found.seen < 0).float().mean():.0%}", **walk_places("ae", found, walk)}


def morphs() -> Numbers:
    """The VAE's plane, and a walk across an overlap.

    The walk is a straight line between two centres on which the judge recognises no third kind. Of several such lines
    it is the one with the largest share of pictures that are not recognised, where shares above a quarter count alike.
    """
    found = plane("vae", 2.6)
    pairs = list(combinations(centres(found), 2))

    def rank(pair: tuple[Tensor, Tensor]) -> tuple[float, float]:
        seen = recognised(strip("vae", *pair, 41))
        kinds = set(seen.tolist()) - {-1}
        return abs(len(kinds) - 2), -min(0.25, (seen < 0).float().mean().item())

    walk = min(pairs, key=rank)
    save_figure("vae-plane", draw_plane("vae", found, PLANE_SIDE, walk, rings=True))
    save_pictures("vae-walk", strip("vae", *walk, 7))
    save_film("vae-walk", list(strip("vae", *walk, WALK_FRAMES)))
    return walk_places("vae", found, walk)


@torch.no_grad()
def cloud() -> Numbers:
    """The VAE: a picture becomes a normal distribution, and a sample of it is decoded."""
    given = sprite(2)
    posterior = model("vae").encode(given)
    made, axis = canvas(1136, 320)
    draw_picture(axis, given[0], 0, 40, 200, smooth=False)
    network(axis, 246, 140, 158, (190, 80), "encoder", size=25)
    for y, name in ((76, r"$\mu$"), (204, r"$\sigma$")):
        box(axis, 456, y - 38, 76, 76, "white", INK, 2.5)
        draw_text(axis, 494, y, name, 36)
    for spread, shade in ((58, 0.10), (40, 0.16), (23, 0.26)):
        axis.add_patch(Circle((646, 140), spread, facecolor=BLUE, alpha=shade, linewidth=0))
    axis.add_patch(Circle((671, 122), 8, facecolor=VERMILION, edgecolor="white", linewidth=2, zorder=6))
    draw_text(axis, 646, 244, r"$z = \mu + \sigma\,\varepsilon$", 30)
    draw_text(axis, 646, 290, r"$\varepsilon \sim \mathcal{N}(0, I)$", 26)
    network(axis, 742, 140, 150, (80, 190), "decoder", size=25)
    draw_picture(axis, model("vae").decode(posterior.mean)[0], 936, 40, 200, smooth=False)
    for start, end in (((206, 140), (242, 140)), ((408, 118), (452, 84)), ((408, 162), (452, 196)),
                       ((538, 84), (584, 112)), ((538, 196), (584, 168)), ((684, 126), (738, 138)),
                       ((896, 140), (930, 140))):  # fmt: skip
        arrow(axis, start, end)
    draw_text(axis, 100, 272, "$x$", 30)
    draw_text(axis, 1036, 272, r"$\hat x$", 30)
    save_figure("cloud", made)
    return None


@torch.no_grad()
def sentence() -> Numbers:
    """A picture as a grid of codes."""
    given = sprite(4)
    drawn, codes = reconstruct("vqvae", given)
    made, axis = canvas(1136, 330)
    draw_picture(axis, given[0], 0, 20, 290, smooth=False)
    tiles(axis, codes, palette("vqvae")[codes], 423, 20, 36.3, 22)
    draw_picture(axis, drawn, 846, 20, 290, smooth=False)
    flow(axis, 165, (305, 408), (728, 831))
    save_figure("sentence", made)
    return None


@torch.no_grad()
def layer_added() -> Numbers:
    """The autoencoder with the VQ layer between encoder and decoder."""
    given = sprite(4)
    drawn, codes = reconstruct("vqvae", given)
    made, axis = canvas(1136, 420)
    draw_picture(axis, given[0], 0, 105, 170, smooth=False)
    network(axis, 212, 190, 150, (160, 90), "encoder", size=25)
    network(axis, 774, 190, 150, (90, 160), "decoder", size=25)
    draw_picture(axis, drawn, 966, 105, 170, smooth=False)
    box(axis, 424, 78, 288, 236, PALE_ORANGE, ORANGE, 3, 18)
    draw_text(axis, 568, 108, "the VQ layer", 26, weight="bold")
    tiles(axis, codes, palette("vqvae")[codes], 499, 134, 17.5, 0)
    draw_text(axis, 568, 294, "8 × 8 codes", 20)
    flow(axis, 190, (176, 208), (368, 420), (716, 770), (930, 962))
    draw_text(axis, 394, 156, "$z_e$", 28)
    draw_text(axis, 743, 156, "$z_q$", 28)
    box(axis, 424, 358, 288, 58, "white", INK, 2)
    for place, colour in enumerate(palette("vqvae")[torch.arange(0, 64, 4)].tolist()):
        box(axis, 436 + 16.6 * place, 369, 14, 36, tuple(colour), GREY, 0.6, 2)
    draw_text(axis, 408, 387, "codebook", 24, ha="right", weight="bold")
    arrow(axis, (568, 355), (568, 319), ORANGE)
    arrow(axis, (840, 124), (296, 124), VERMILION, 0.34, dashed=True)
    draw_text(axis, 1136, 40, "the gradient goes straight through", 22, color=RUST, ha="right")
    save_figure("layer-added", made)
    return None


@torch.no_grad()
def nearest_codes() -> Numbers:
    """Vectors of the encoder and their nearest rows of the codebook, for a few rows that six sprites use.

    The rows are the most used one that is not as pale as paper, and then each time the one that is furthest from all
    before it; the plane is that of their two principal components.
    """
    pictures = sprites(6, seed=3)[0]
    caught: list[Tensor] = []
    layer = model("vqvae").quantize
    hook = layer.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0]))
    own = model("vqvae").encode(pictures).indices.flatten()
    hook.remove()
    vectors = caught[0].permute(0, 2, 3, 1).flatten(0, 2)
    rows = layer.embedding.weight.detach()
    used = own.bincount(minlength=len(rows)) * (palette("vqvae").mean(1) < PALE)
    common = (used >= VECTORS_SHOWN).nonzero().flatten()
    apart = torch.cdist(rows, rows)
    picked = [int(used.argmax())]
    while len(picked) < ROWS_SHOWN:
        picked.append(int(common[apart[common][:, picked].amin(1).argmax()]))
    shown = torch.tensor(picked)
    centre = rows[shown].mean(0)
    axes = torch.linalg.svd(rows[shown] - centre, full_matrices=False).Vh[:2].T
    made, _ = canvas(560, 440)
    land = plot(made, 4, 4, 552, 432)
    generator = torch.Generator().manual_seed(1)
    drawn = []
    for code in shown.tolist():
        mine = (own == code).nonzero().flatten()
        chosen = vectors[mine[torch.randperm(len(mine), generator=generator)[:VECTORS_SHOWN]]]
        points, row = (chosen - centre) @ axes, (rows[code] - centre) @ axes
        for point in points:
            land.plot(*torch.stack([point, row]).T, color=GREY, linewidth=1.6, zorder=1)
        land.scatter(*points.T, s=34, color=BLUE, zorder=2, linewidths=0)
        colour = palette("vqvae")[code].clamp(0, 1).tolist()
        land.scatter(*row[:, None], s=680, c=[colour], edgecolors=INK, linewidths=2, marker="s", zorder=3)
        ink = "white" if sum(colour) < 1.65 else INK
        draw_text(land, *row.tolist(), str(code), 20, color=ink, weight="bold", zorder=4)
        drawn += [row[None], points]
    every = torch.cat(drawn)
    low, high = every.amin(0), every.amax(0)
    edge = 0.1 * (high - low)
    (left, bottom), (right, top) = (low - edge).tolist(), (high + edge).tolist()
    land.set(xlim=(left, right), ylim=(bottom, top))
    show_frame_only(land)
    save_figure("layer-closely", made)
    return {"rows shown": str(ROWS_SHOWN)}


@torch.no_grad()
def codebook() -> Numbers:
    """The codebook's 64 codes as the decoder paints them, and the codes of one picture."""
    given = sprite(1)
    codes = model("vqvae").encode(given).indices[0]
    patches = model("vqvae").decode_codes(torch.arange(64)[:, None, None].expand(-1, 3, 3))[:, :, 4:8, 4:8]
    made, axis = canvas(1136, 382)
    draw_text(axis, 0, 18, "the codebook: 64 words", 24, ha="left", weight="bold")
    used = set(codes.flatten().tolist())
    for code in range(64):
        row, column = divmod(code, 16)
        x, y = 44.5 * column, 48 + 84 * row
        draw_picture(axis, patches[code], x, y, 40, smooth=False)
        draw_text(axis, x + 20, y + 57, str(code), 22, color=INK if code in used else GREY, weight="bold")
    draw_text(axis, 786, 18, "one picture’s sentence", 24, ha="left", weight="bold")
    tiles(axis, codes, palette("vqvae")[codes], 786, 48, 41, 23)
    save_figure("codebook", made)
    return None


@torch.no_grad()
def between() -> Numbers:
    """Interpolation between the same two sprites: of the VAE's latents, and of the VQ-VAE's."""
    ends = sprites(6, seed=3)[0][[2, 3]]
    share = torch.linspace(0, 1, 7)
    means = model("vae").encode(ends).mean
    smooth = model("vae").decode(means[0] + share[:, None] * (means[1] - means[0]))
    grids = model("vqvae").encode(ends).z_q
    layer = model("vqvae").quantize
    mixed = torch.cat([layer((grids[0] + part * (grids[1] - grids[0]))[None]).z_q for part in share])
    save_pictures("between-vae", smooth)
    save_pictures("between-vq", model("vqvae").decode(mixed))
    return None


@torch.no_grad()
def vqgan_machine() -> Numbers:
    """The VQ-VAE followed by a patch discriminator."""
    given = sprite(3)
    drawn, codes = reconstruct("vqgan", given)
    made, axis = canvas(1136, 386)
    draw_picture(axis, given[0], 0, 22, 160, smooth=False)
    network(axis, 196, 102, 126, (150, 90), "encoder", size=22)
    tile = 132 / codes.shape[0]
    tiles(axis, codes, palette("vqgan")[codes], 360, 36, tile, 20)
    network(axis, 530, 102, 126, (90, 150), "decoder", size=22)
    draw_picture(axis, drawn, 694, 22, 160, smooth=False)
    box(axis, 902, 40, 226, 124, PALE_RED, VERMILION, 3, 16)
    draw_text(axis, 1015, 86, "patch", 26, weight="bold")
    draw_text(axis, 1015, 120, "discriminator", 26, weight="bold")
    flow(axis, 102, (165, 192), (326, 355), (496, 526), (660, 690), (860, 898), line=2)
    marks = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1]])
    shades = {1: GREEN, 0: VERMILION}
    for row in range(3):
        for column in range(4):
            x, y = 945 + 36 * column, 208 + 36 * row
            box(axis, x, y, 32, 32, shades[int(marks[row, column])], "white", 0, 4)
    arrow(axis, (1015, 168), (1015, 203))
    draw_text(axis, 1015, 354, "painted or drawn,\npatch by patch?", 21, color=SLATE)
    draw_text(axis, 80, 210, "$x$", 28)
    draw_text(axis, 774, 210, r"$\hat x$", 28)
    arrow(axis, (80, 240), (774, 240), INK, 0.10, dashed=False, line=2)
    arrow(axis, (774, 240), (80, 240), INK, -0.10, dashed=False, line=2)
    draw_text(axis, 427, 318, "perceptual distance: do they look alike to a network?", 22, color=SLATE)
    save_figure("vqgan-machine", made)
    return None


@torch.no_grad()
def sharper() -> Numbers:
    """The same sprites as painted, and reconstructed from equally many codes without and with a discriminator."""
    pictures = sprites(12, seed=8)[0][[0, 3, 4, 8]]
    rows = {
        "painted": pictures,
        "blurred": model("vqgan_without_adversary")(pictures)[0],
        "sharp": model("vqgan")(pictures)[0],
    }
    for name, drawn in rows.items():
        save_pictures(f"sharp-{name}", drawn)
    return None


# ---------------------------------------------------------------------------------------------- part 3


@torch.no_grad()
def translation() -> Numbers:
    """A caption in BART: tokens, a vector for each, codes, a picture."""
    pipe, drawn = pipeline(), drawing(BERRY, 3)
    codes = drawn.codes[0]
    pieces = [piece.strip() for piece in pipe.tokenizer.pieces(BERRY)]
    ids = pipe.tokenizer.encode([BERRY], len(pieces) + 2)
    state = pipe.bart.encode(ids)[0, 1:-1, :48]
    made, axis = canvas(1136, 412)
    step, top, high = 330 / len(pieces), 52, 330
    middle = top + high / 2
    for row, piece in enumerate(pieces):
        draw_text(axis, 122, top + (row + 0.5) * step, piece, 25, ha="right")
    network(axis, 140, middle, 106, (high, 230), "encoder", size=22)
    drawn_state = axis.imshow(
        state, extent=(278, 388, top + high, top), cmap="PuOr", vmin=-2.5, vmax=2.5, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    drawn_state.set_zorder(2)
    axis.set(xlim=(0, 1136), ylim=(412, 0))
    network(axis, 420, middle, 106, (230, high), "decoder", size=22)
    tiles(axis, codes, palette()[codes], 558, 46, 45.5, 20)
    arrow(axis, (556, 400), (474, 372), VERMILION, -0.3)
    draw_text(axis, 452, 400, "what is written is read again", 21, color=RUST, ha="right")
    flow(axis, middle, (926, 960))
    draw_picture(axis, drawn.pictures[0], 966, middle - 85, 170)
    flow(axis, middle, (250, 274), (392, 416), (530, 554), line=2)
    for x, name in ((80, "words"), (333, "a vector for each"), (740, "64 codes"), (1051, "a picture")):
        draw_text(axis, x, 20, name, 23, color=SLATE)
    save_figure("translation", made)
    return None


@torch.no_grad()
def attention() -> Numbers:
    """The attention of one picture's codes to four words."""
    drawn = drawing(BERRY, 3)
    seen = attention_to_words(pipeline(), BERRY, drawn.codes[:1])
    shares = seen.shares[0].float()
    shown = [seen.words.index(word) for word in ("photo", "blue", "strawberry", "moon")]
    pale = 0.45 * drawn.pictures[0].mean(0, keepdim=True) + 0.55  # (1, 64, 64): grey where there is no attention
    ink = torch.tensor(to_rgb(VERMILION))[:, None, None]
    maps = []
    for place in shown:
        share = shares[:, :, place]
        light = ((share - share.min()) / (share.max() - share.min())) ** 1.7  # so that the largest shares stand out
        large = 0.9 * F.interpolate(light[None, None], (64, 64), mode="nearest")[0]
        maps.append((1 - large) * pale + large * ink)
    save_pictures("attention", [drawn.pictures[0], *maps])
    return None


def guided() -> Numbers:
    """Two prompts with increasing guidance."""
    values = (0.0, 0.5, 1.0, 1.5, 3.0, 12.0)
    prompts = ["a photo of a blue strawberry on the beach", "a cartoon of a green cat in a meadow"]
    rows = [[], []]
    for value in values:
        drawn = pipeline().draw(prompts, n=1, seed=0, rank=False, guidance=value, temperature=1.0)
        for row, each in zip(rows, drawn, strict=True):
            row.append(each.pictures[0])
    for name, row in zip(("strawberry", "cat"), rows, strict=True):
        save_pictures(f"guided-{name}", row)
    return {f"guidance {place}": f"g = {value:g}" for place, value in enumerate(values, 1)}


@torch.no_grad()
def shuffled_codebook() -> Numbers:
    """BART's codes, decoded with the codebook, and with the codebook's rows shuffled."""
    prompts = [TOWER, STRAWBERRY, "a watercolour of a purple house in a forest", "a cartoon of a red car in the snow"]
    drawn = pipeline().draw([*prompts, SUNSET], n=4, seed=3)
    codes = torch.stack([each.codes[0] for each in drawn])
    shuffled = torch.randperm(pipeline().vqgan.config.codes, generator=torch.Generator().manual_seed(0))
    save_pictures("book-right", pipeline().decode(codes))
    save_pictures("book-wrong", pipeline().decode(shuffled[codes]))
    return None


# ---------------------------------------------------------------------------------------------- part 4

PAIRS = (
    ("the red Eiffel tower by a lake in the mountains", ("Eiffel tower", "red", "lake", "day", "photo", 3)),
    ("a cartoon of a blue sailing boat by a lake", ("sailing boat", "blue", "lake", "day", "cartoon", 4)),
    ("a photo of a yellow house in the snow", ("house", "yellow", "snow", "day", "photo", 5)),
    ("a stained glass window of a green strawberry", ("strawberry", "green", "meadow", "day", "stained glass", 6)),
    ("a watercolour of a purple hot-air balloon over a city",
     ("hot-air balloon", "purple", "city", "day", "watercolour", 7)),
)  # fmt: skip


def paired(size: int) -> tuple[Tensor, list[str]]:
    """Five painted pictures and their captions."""
    scenes = [Scene(*values[:5], size="large", seed=values[5]) for _, values in PAIRS]
    return paint(scenes, size), [text for text, _ in PAIRS]


@torch.no_grad()
def pairs() -> Numbers:
    """Pictures and captions, as a CLIP is trained on them: of that size, and not of what is held out."""
    save_pictures("pair", paired(preset().picture_size)[0])
    return {f"pair {place}": text for place, text in enumerate(paired(8)[1], 1)}


@torch.no_grad()
def two_towers() -> Numbers:
    """CLIP's two towers: a picture and its caption become unit vectors, and so does another caption."""
    pipe = pipeline()
    clip = pipe.clip
    assert clip is not None
    scene = Scene("sailing boat", "red", "lake", "day", "photo", size="large", seed=5)
    picture = paint([scene], clip.config.image_size)
    captions = ["a photo of a red sailing boat by a lake", "a cartoon of an orange cat in the snow"]
    image_vector = clip.encode_image(picture)[0]
    text_vectors = clip.encode_text(pipe.clip_tokenizer.encode(captions, clip.config.context_length))
    cosines = (text_vectors @ image_vector).tolist()
    made, axis = canvas(1136, 420)

    side = clip.config.image_size // clip.config.patch_size  # patches in a row
    size = 20.5
    for row, band in enumerate(picture[0].chunk(side, dim=1)):
        for column, patch in enumerate(band.chunk(side, dim=2)):
            draw_picture(axis, patch, 26 + column * size, 30 + row * size, size - 2, smooth=False)
    draw_text(axis, 26 + 4 * size, 12, f"{side * side} patches", 21, color=SLATE)
    for line, part in enumerate(("a photo of a red", "sailing boat by a lake")):
        box(axis, 0, 276 + 50 * line, 232, 42, PALE_ORANGE, ORANGE, 1.5, 8)
        draw_text(axis, 116, 296 + 50 * line, part, 22)
    draw_text(axis, 116, 396, "a token for each word", 21, color=SLATE)
    for middle, name, layers, face, edge in (
        (112, "picture tower", clip.config.vision_layers, PALE_BLUE, BLUE),
        (322, "text tower", clip.config.text_layers, PALE_ORANGE, ORANGE),
    ):
        box(axis, 282, middle - 62, 236, 124, face, edge, 3, 14)
        draw_text(axis, 400, middle - 18, name, 28, weight="bold")
        draw_text(axis, 400, middle + 22, f"transformer, {layers} layers", 21)
    for middle, vector, name in ((112, image_vector, "$I$"), (322, text_vectors[0], "$T$")):
        strip_of = axis.imshow(
            vector[:48, None], extent=(560, 590, middle + 84, middle - 84), cmap="PuOr", vmin=-0.2, vmax=0.2,
            aspect="auto", interpolation="nearest",
        )  # fmt: skip
        strip_of.set_zorder(2)
        draw_text(axis, 614, middle, name, 32)
    axis.set(xlim=(0, 1136), ylim=(420, 0))
    flow(axis, 112, (200, 278), (522, 556))
    flow(axis, 322, (236, 278), (522, 556))

    x, y, radius = 900, 214, 152
    axis.add_patch(Circle((x, y), radius, facecolor="none", edgecolor=GREY, linewidth=2, linestyle=(0, (3, 2))))
    turned = 1.12  # the direction of the picture's vector, in radians; only the angles between vectors mean something
    ends = [(turned, BLUE, "$I$"), (turned - acos(cosines[0]), GREEN, "$T$"),
            (turned + acos(cosines[1]), VERMILION, r"$T\,'$")]  # fmt: skip
    for angle, colour, name in ends:
        arrow(axis, (x, y), (x + radius * cos(angle), y - radius * sin(angle)), colour, line=4)
        draw_text(axis, x + 1.15 * radius * cos(angle), y - 1.15 * radius * sin(angle), name, 32, color=colour)
    said = [f"{value:.2f}".replace("-", "−") for value in cosines]
    draw_text(axis, x, 402, f"$I \\cdot T$ = {said[0]},   $I \\cdot T\\,'$ = {said[1]}", 25)
    save_figure("two-towers", made)
    return {"other caption": captions[1], "common space": str(clip.config.embed_dim)}


@torch.no_grad()
def matrix() -> Numbers:
    """CLIP's scores of five pictures and five captions."""
    pictures, texts = paired(64)
    scores = torch.tensor([pipeline().score(text, pictures) for text in texts]).T  # (pictures, texts)
    made, axis = canvas(600, 480)
    side = 76
    for place in range(5):
        draw_picture(axis, pictures[place], 4, 96 + side * place + 3, side - 6)
        draw_text(axis, 112 + side * place + side / 2, 62, f"$T_{place + 1}$", 30)
        for column in range(5):
            score = scores[place, column].item()
            shade = max(0.0, min(1.0, (score + 15) / 100))
            x, y = 112 + side * column, 96 + side * place
            box(axis, x + 2, y + 2, side - 4, side - 4, (BLUE, shade), "white", 0, 6)
            own = place == column
            ink = "white" if shade > 0.7 else INK
            draw_text(axis, x + side / 2, y + side / 2, f"{score:.0f}".replace("-", "−"), 27 if own else 22, color=ink,
                  weight="bold" if own else "normal", zorder=3)  # fmt: skip
    draw_text(axis, 4, 62, "$I_i$", 30, ha="left")
    draw_text(axis, 112 + 2.5 * side, 20, "captions", 22, color=SLATE)
    save_figure("matrix", made)
    return None


@torch.no_grad()
def zero_shot() -> Numbers:
    """Zero-shot classification of one picture with sentences as labels."""
    pipe = pipeline()
    subjects = [name for name in world().subjects if name not in ("food of china", "Eiffel tower")][:7]
    labels = [f"a photo of a red {name} by a lake in the mountains" for name in subjects]
    picture = paint([Scene("sailing boat", "red", "lake", "day", "photo", size="large", seed=5)], 64)
    clip = pipe.clip
    assert clip is not None
    ids = pipe.clip_tokenizer.encode(labels, clip.config.context_length)
    logits = clip.logit_scale.exp() * clip.encode_image(picture) @ clip.encode_text(ids).T
    share = logits.softmax(1)[0]
    made, axis = canvas(1136, 400)
    draw_picture(axis, picture[0], 0, 62, 290)
    draw_text(axis, 145, 28, "a picture", 23, color=SLATE)
    draw_text(axis, 330, 28, "labels, written down", 23, color=SLATE, ha="left")
    draw_text(axis, 952, 28, "CLIP’s answer", 23, color=SLATE, ha="left")
    for row, (label, part) in enumerate(zip(labels, share.tolist(), strict=True)):
        y = 84 + 44 * row
        best = part == share.max()
        draw_text(axis, 330, y, label, 22.5, ha="left", weight="bold" if best else "normal")
        box(axis, 952, y - 14, 4 + 120 * part, 28, ORANGE if best else "#D5D9E0", "white", 0, 4)
        draw_text(axis, 964 + 120 * part, y, f"{part:.0%}", 22, ha="left", weight="bold" if best else "normal")
    save_figure("zero-shot", made)
    return None


def relevance() -> Numbers:
    """The first, the middle and the last of nine drawings of the session's prompt, with their scores."""
    drawn = drawing(SUNSET, 0)
    places = (0, 4, 8)
    save_pictures("sunset", [drawn.pictures[place] for place in places])
    scores = drawn.scores or []
    return {f"sunset score {number}": f"{scores[place]:.2f}" for number, place in enumerate(places, 1)}


def best_of() -> Numbers:
    """How often CLIP's best of several pictures is right, with 95 % intervals over captions."""
    made, _ = canvas(1136, 366)
    below = plot(made, 76, 12, 840, 286)
    names = ("held out, carefully", "held out, freely", "held out, carelessly", "seen, freely")
    ends = []
    for number, (arm, name) in enumerate(zip(BEST_OF.arms, names, strict=True)):
        colour = (VERMILION, ORANGE, PURPLE, BLUE)[number]
        chances = best_of_each(right_pictures(arm))
        estimates = [mean(values.tolist(), "captions") for values in chances.values()]
        places = [k * 1.03 ** (number - 1.5) for k in chances]
        draw_estimates(below, places, estimates, 100, color=colour, markersize=8, capsize=4, elinewidth=2)
        ends.append((100 * estimates[-1].value, name, colour))
    heights: list[float] = []
    for value, name, colour in sorted(ends, reverse=True):
        heights.append(min([value, *(height - 1.9 for height in heights[-1:])]))
        below.text(
            17.8, heights[-1], name, color=DARKER.get(colour, colour), va="center", fontsize=22 * 0.72, weight="bold"
        )
    below.set(xscale="log", xticks=[1, 2, 4, 9, 16])
    below.set_xticklabels(["1", "2", "4", "9", "16"])
    below.yaxis.set_major_formatter("{x:.0f} %")
    below.set_xlabel("CLIP chooses the best of")
    below.minorticks_off()
    asked = "How often is CLIP’s first right in all four things?"
    below.text(16.4, 80.4, asked, ha="right", fontsize=23 * 0.72, color=SLATE)
    save_figure("best-of", made)
    changes = {}
    for way, arm in (("carefully", BEST_OF.arms[0]), ("freely", BEST_OF.arms[1]), ("carelessly", BEST_OF.arms[2])):
        used = {**preset().sampling, **WAYS[arm][1]}
        changes[f"{way} drawn"] = f"guidance {used['guidance']:g}, temperature {used['temperature']:g}"
    for more, fewer in ((9, 1), (16, 9)):
        chances = best_of_each(right_pictures("held out, drawn freely"))
        change = difference(chances[more].tolist(), chances[fewer].tolist(), "captions")
        changes[f"best of {more} minus {fewer}"] = (
            f"{100 * change.value:+.1f} points ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
        )
    return changes


# ---------------------------------------------------------------------------------------------- part 5


def whole_pipeline() -> Numbers:
    """The session's last figure, the whole pipeline, with the shapes of its tensors."""
    pipe = pipeline()
    drawn = drawing(STRAWBERRY, 2)
    made, axis = canvas(1136, 412)
    width, gap = 172, 68
    stations = (
        ("tokenizer", "cuts", "(1, 32)\nids", PALE_BLUE, BLUE),
        ("encoder", "reads", f"(32, {pipe.bart.config.width})\nvectors", PALE_BLUE, BLUE),
        ("decoder", "writes", "(9, 64)\ncodes", PALE_BLUE, BLUE),
        ("VQ-GAN", "draws", "(9, 3, 64, 64)\npictures", PALE_BLUE, BLUE),
        ("CLIP", "ranks", "(9,)\nscores", PALE_GREEN, GREEN),
    )
    box(axis, 2, 2, 1132, 58, "white", GREY, 2)
    draw_text(axis, 568, 31, f"“{STRAWBERRY}”", 25, style="italic")
    for place, (name, what, passed, face, edge) in enumerate(stations):
        x = 2 + place * (width + gap)
        box(axis, x, 128, width, 104, face, edge, 2.5)
        draw_text(axis, x + width / 2, 164, name, 27, weight="bold")
        draw_text(axis, x + width / 2, 200, what, 22)
        draw_text(axis, x + width / 2, 292, passed, 23, color=edge if place < 4 else "#00704F", linespacing=1.35)
        if place:
            arrow(axis, (x - gap + 6, 180), (x - 6, 180))
    arrow(axis, (width / 2, 62), (width / 2, 122))
    box(axis, width + gap - 18, 104, 2 * width + gap + 36, 152, "none", ORANGE, 2.5, 16)
    draw_text(axis, width + gap + width + gap / 2, 84, "BART", 24, weight="bold", color="#8A5A00")
    side = 58
    for place, picture in enumerate(drawn.pictures[:9]):
        draw_picture(axis, picture, 568 - 4.5 * (side + 8) + 4 + place * (side + 8), 348, side)
    frame(axis, 568 - 4.5 * (side + 8) + 4 - 3, 345, side + 6, side + 6, GREEN, 3.5)
    save_figure("pipeline", made)
    return None


def examples() -> Numbers:
    """The examples of the session's last slides."""
    save_pictures("strawberry", drawing(STRAWBERRY, 2, STUDIO).pictures)
    save_pictures("first-strawberry", drawing(STRAWBERRY, 2, STUDIO).pictures[:1])
    food, lake = drawing(FOOD, 0, STUDIO), drawing(SUNSET, 1, STUDIO)
    save_pictures("food", food.pictures[[0, 1, 2, 3, 8]])
    save_pictures("lake", lake.pictures[:5])
    return None


@torch.no_grad()
def never_seen() -> Numbers:
    """Held-out combinations: CLIP's best picture of each of eight captions, and how many of them are right."""
    scenes = [
        Scene("strawberry", "blue", "beach", "day", "photo", size="large", seed=1),
        Scene("cat", "green", "city", "day", "cartoon", size="large", seed=1),
        Scene("mushroom", "purple", "moon", "night", "photo", size="large", seed=1),
        Scene("car", "yellow", "snow", "day", "cartoon", size="large", seed=1),
        Scene("house", "red", "desert", "day", "photo", size="large", seed=1),
        Scene("cat", "orange", "beach", "day", "watercolour", size="large", seed=1),
        Scene("car", "red", "forest", "day", "stained glass", size="large", seed=1),
        Scene("hot-air balloon", "red", "forest", "day", "cartoon", size="large", seed=1),
    ]
    drawn = pipeline().draw([caption(scene, complete=True) for scene in scenes], n=9, seed=0)
    save_pictures("novel", [each.pictures[0] for each in drawn])
    best = torch.stack([each.pictures[0] for each in drawn])
    right = correct_attributes(preset().load_classifier("judge"), world(), best, scenes).all(1).sum()
    return {"novel right": str(right.item())}


def held_out_bars() -> Numbers:
    """The judge's shares for seen and held-out captions, with 95 % intervals, from the preset's evaluation."""
    names = ("subject", "setting", "colour", "style", "all")
    made, _ = canvas(520, 400)
    below = plot(made, 2, 40, 516, 310)
    for offset, kind, colour, label in ((-0.2, "seen", SKY, "seen"), (0.2, "held_out", VERMILION, "held out")):
        places = [place + offset for place in range(5)]
        bounds = evaluation()["intervals"][kind]
        shares = [Estimate(evaluation()[kind][name], *bounds[name], "captions") for name in names]
        below.bar(places, [100 * each.value for each in shares], 0.37, color=colour, label=label)
        draw_estimates(below, places, shares, 100, color=INK, linestyle="", marker="", elinewidth=1.8, capsize=3)
        for place, each in zip(places, shares, strict=True):
            high = 100 * each.high + 2
            below.text(place, high, f"{100 * each.value:.0f}", ha="center", fontsize=18 * 0.72, weight="bold")
    below.set(xticks=range(5), ylim=(0, 128))
    below.set_xticklabels([*names[:-1], "all four"])
    show_baseline_only(below)
    below.legend(loc="upper left", ncols=2, borderaxespad=0)
    save_figure("held-out", made)
    return None


def any_prompt() -> Numbers:
    """A prompt with a word that the model does not know."""
    drawn = pipeline().draw(GIRAFFE, n=4, seed=0)
    save_pictures("giraffe", drawn.pictures)
    return {"giraffe": drawn.remarks[0]}


FIGURE_FUNCTIONS: tuple[FunctionType, ...] = (
    heroes, first_drawing,
    machine, tokens, writing, painting, without_blocks,
    lineage, gan_game, gan_draws, autoencoder, gaps, cloud, morphs, sentence, layer_added, nearest_codes, codebook,
    between, vqgan_machine, sharper,
    translation, attention, guided, shuffled_codebook,
    pairs, two_towers, matrix, zero_shot, relevance, best_of,
    whole_pipeline, examples, never_seen, held_out_bars, any_prompt,
)  # fmt: skip


def main(names: Sequence[str] = ()) -> None:
    """Draw figures again, and write the numbers. Until all are drawn, the earlier ones stay as they were.

    Args:
        names: of functions in FIGURE_FUNCTIONS; the figures of the others stay. Without names all are drawn.

    Raises:
        SystemExit: there is no such function.
    """
    known = {draw.__name__: draw for draw in FIGURE_FUNCTIONS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"There is no figure {', '.join(unknown)}; there are {', '.join(known)}.")
    torch.manual_seed(0)
    shutil.rmtree(NEW, ignore_errors=True)
    numbers: dict[str, str] = {}
    if names:
        shutil.copytree(FIGURES, NEW)
        numbers = json.loads((NEW / NUMBERS_FILE).read_text(encoding="utf-8"))
    NEW.mkdir(parents=True, exist_ok=True)
    use_typeface(SCRATCH / "fonts")
    with mpl.rc_context(PROJECTED):
        for name in names or known:
            numbers |= known[name]() or {}
    text = json.dumps(numbers, indent=2, ensure_ascii=False, sort_keys=True)
    (NEW / NUMBERS_FILE).write_text(text + "\n", encoding="utf-8")
    replace_figures()


def replace_figures() -> None:
    """Put the folder NEW in the place of FIGURES."""
    shutil.rmtree(OLD, ignore_errors=True)
    if FIGURES.exists():
        FIGURES.rename(OLD)
    NEW.rename(FIGURES)
    shutil.rmtree(OLD, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
