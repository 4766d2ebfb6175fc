"""The figures of the lessons: pictures with few shades, the colours of codes, codes drawn as tiles, error bars."""

import pytest
import torch
from atelier.evaluation.intervals import Estimate
from atelier.teaching.figures import INK, code_colours, draw_estimates, draw_tiles, figure, posterize
from torch import Tensor


@pytest.mark.parametrize("shades", [16, 32])
def test_posterized_pictures_have_few_shades_and_hardly_differ(shades: int) -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    few = posterize(pictures, shades=shades)
    assert len(few.unique()) == shades
    assert (few - pictures).abs().max() <= 0.5 / (shades - 1) + 1e-6
    assert not few.requires_grad


def test_posterized_pictures_are_clipped_and_have_32_shades_by_default() -> None:
    assert len(posterize(torch.linspace(-1, 2, 1200).view(1, 3, 20, 20)).unique()) == 32
    assert posterize(torch.tensor([-0.5, 1.5]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("before", [(), (5,), (2, 5)])
def test_only_larger_pictures_shrink(before: tuple[int, ...]) -> None:
    pictures = torch.rand(*before, 3, 8, 8)
    assert posterize(pictures, side=8).equal(posterize(pictures))
    means = pictures.unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).mean((-1, -3))  # of 2 × 2 pixels
    assert posterize(pictures, side=4).equal(posterize(means))


BOOK = torch.tensor([[0.1, 0.2, 0.3], [1.0, 0.0, 0.5], [0.9, 0.9, 0.8]])


def decode(vectors: Tensor) -> Tensor:
    """A decoder of 4 × 4 pixels for each cell whose pictures are wrong at the edges, as with padding."""
    pictures = vectors.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    for edge in (pictures[:, :, :3], pictures[:, :, -3:], pictures[..., :3], pictures[..., -3:]):
        edge.fill_(7.0)
    return pictures


def test_colour_of_a_code_is_the_colour_of_its_middle_cell() -> None:
    order = torch.tensor([2, 0, 1, 2])
    assert code_colours(lambda codes: decode(BOOK[codes].permute(0, 3, 1, 2)), order).allclose(BOOK[order])
    assert code_colours(decode, BOOK).allclose(BOOK)
    assert code_colours(decode, 2 * BOOK).allclose((2 * BOOK).clamp(0, 1))


def test_tiles_are_in_the_places_of_their_codes() -> None:
    _, axis = figure(2, 2)
    codes = torch.tensor([[0, 1, 2], [2, 2, 0]])
    draw_tiles(axis, codes, BOOK, x=5, y=1, tile=2)
    (image,) = axis.images
    assert image.get_extent() == [5, 11, 1, 5]
    assert torch.as_tensor(image.get_array()).allclose(BOOK[codes])
    numbers = {(round((x - 6) / 2), round((4 - y) / 2)): text for text in axis.texts for x, y in [text.get_position()]}
    assert {place: text.get_text() for place, text in numbers.items()} == {
        (column, row): str(codes[row, column].item()) for row in range(2) for column in range(3)
    }
    assert [numbers[column, 0].get_color() for column in range(3)] == ["white", "white", INK]


def test_estimates_have_their_intervals_as_error_bars() -> None:
    _, axis = figure(3, 2)
    draw_estimates(axis, [1, 4], [Estimate(0.5, 0.4, 0.7, "9 prompts"), Estimate(0.2, 0.2, 0.2, "9 prompts")], 100)
    (container,) = axis.containers
    line, _, (bars,) = container
    assert line.get_xydata().tolist() == [[1, 50], [4, 20]]
    assert [segment.round(6).tolist() for segment in bars.get_segments()] == [[[1, 40], [1, 70]], [[4, 20], [4, 20]]]
