"""QR codes (ISO/IEC 18004) of short texts such as an address, in byte mode with the error correction of level M."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from atelier.errors import AtelierError

Grid = list[list[int]]  # rows of modules: 1 dark, 0 light

# version → data codewords in all, error correction codewords of each block, blocks (ISO/IEC 18004, tables 7 and 9)
CAPACITY = {1: (16, 10, 1), 2: (28, 16, 1), 3: (44, 26, 1), 4: (64, 18, 2), 5: (86, 24, 2), 6: (108, 16, 4)}
BYTE_MODE = 0b0100
LEVEL_M = 0b00
PADDING = (0xEC, 0x11)
FIELD = 0x11D  # x⁸ + x⁴ + x³ + x² + 1, the polynomial of the field with 256 elements
FORMAT, FORMAT_MASK = 0b10100110111, 0b101010000010010  # generator of the format's BCH code, and what is added to it

MASKS: tuple[Callable[[int, int], bool], ...] = (
    lambda row, column: (row + column) % 2 == 0,
    lambda row, column: row % 2 == 0,
    lambda row, column: column % 3 == 0,
    lambda row, column: (row + column) % 3 == 0,
    lambda row, column: (row // 2 + column // 3) % 2 == 0,
    lambda row, column: row * column % 2 + row * column % 3 == 0,
    lambda row, column: (row * column % 2 + row * column % 3) % 2 == 0,
    lambda row, column: ((row + column) % 2 + row * column % 3) % 2 == 0,
)


def qr_code(text: str) -> Grid:
    """Make the QR code of a text, of the smallest version that can hold it, with the mask that is read most easily.

    Args:
        text: at most 106 bytes in UTF-8.

    Returns:
        The modules, row by row, without the light margin of four modules that a reader needs.

    Raises:
        AtelierError: if the text is longer.
    """
    content = text.encode()
    version = next((number for number, (data, _, _) in CAPACITY.items() if len(content) + 2 <= data), None)
    if version is None:
        raise AtelierError(f"The text for the QR code has {len(content)} bytes; at most 106 are possible.")
    grid, free = _frame(version)
    bits = [byte >> shift & 1 for byte in _codewords(content, version) for shift in range(7, -1, -1)]
    for (row, column), bit in zip(_path(free), bits, strict=False):  # up to seven modules remain, and stay light
        grid[row][column] = bit
    return min((_masked(grid, free, mask) for mask in range(8)), key=_penalty)


def svg_path(grid: Grid) -> str:
    """The dark modules as the path of an SVG element, one unit to a module."""
    return "".join(
        f"M{column} {row}h1v1h-1z" for row, line in enumerate(grid) for column, dark in enumerate(line) if dark
    )


# ---------------------------------------------------------------------------------------------- codewords


def _codewords(content: bytes, version: int) -> list[int]:
    """The data with their error correction, interleaved (ISO/IEC 18004, sections 7.4 to 7.6)."""
    count, correction, blocks = CAPACITY[version]
    nibbles = [BYTE_MODE, len(content) >> 4, len(content) & 15]
    nibbles += [half for byte in content for half in (byte >> 4, byte & 15)]
    nibbles += [0]  # the terminator
    data = [nibbles[place] << 4 | nibbles[place + 1] for place in range(0, len(nibbles), 2)]
    data += [PADDING[place % 2] for place in range(count - len(data))]
    size = count // blocks
    parts = [data[place : place + size] for place in range(0, count, size)]
    checks = [_remainder(part, correction) for part in parts]
    interleaved = [*zip(*parts, strict=True), *zip(*checks, strict=True)]
    return [byte for bytes_ in interleaved for byte in bytes_]


def _product(a: int, b: int) -> int:
    """The product in the field with 256 elements."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a = a << 1 ^ FIELD * (a >> 7)
        b >>= 1
    return product


def _remainder(data: list[int], degree: int) -> list[int]:
    """The error correction codewords of a block (Reed–Solomon): the remainder of a division by the generator."""
    generator, root = [1], 1
    for _ in range(degree):
        longer = [*generator, 0]
        for place, factor in enumerate(generator):
            longer[place + 1] ^= _product(factor, root)
        generator, root = longer, _product(root, 2)
    rest = [*data, *[0] * degree]
    for place in range(len(data)):
        for offset, factor in enumerate(generator):
            if offset:
                rest[place + offset] ^= _product(factor, rest[place])
    return rest[len(data) :]


# ---------------------------------------------------------------------------------------------- modules


def _frame(version: int) -> tuple[Grid, list[list[bool]]]:
    """The patterns by which a reader finds the code, and which modules are free for data."""
    size = 17 + 4 * version
    grid = [[0] * size for _ in range(size)]
    free = [[True] * size for _ in range(size)]
    for place in range(size):  # the timing patterns
        grid[6][place] = grid[place][6] = 1 - place % 2
        free[6][place] = free[place][6] = False
    for top, left in ((0, 0), (0, size - 7), (size - 7, 0)):  # the finder patterns, with a light line around them
        for row in range(max(0, top - 1), min(size, top + 8)):
            for column in range(max(0, left - 1), min(size, left + 8)):
                ring = max(abs(row - top - 3), abs(column - left - 3))
                grid[row][column], free[row][column] = int(ring in (0, 1, 3)), False
    if version > 1:  # the alignment pattern
        centre = size - 7
        for row in range(centre - 2, centre + 3):
            for column in range(centre - 2, centre + 3):
                ring = max(abs(row - centre), abs(column - centre))
                grid[row][column], free[row][column] = int(ring != 1), False
    for row, column in [place for pair in _format_places(size) for place in pair]:
        free[row][column] = False
    grid[size - 8][8], free[size - 8][8] = 1, False  # always dark
    return grid, free


def _format_places(size: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Both places of each of the 15 bits that state level and mask, the highest bit first."""
    beside = [(8, column) for column in (0, 1, 2, 3, 4, 5, 7, 8)] + [(row, 8) for row in (7, 5, 4, 3, 2, 1, 0)]
    apart = [(size - 1 - place, 8) for place in range(7)] + [(8, size - 8 + place) for place in range(8)]
    return list(zip(beside, apart, strict=True))


def _path(free: list[list[bool]]) -> Iterator[tuple[int, int]]:
    """The free modules in the order of the data: pairs of columns from the right, upwards and downwards in turn."""
    size, upwards = len(free), True
    for right in [*range(size - 1, 6, -2), 5, 3, 1]:  # column 6 is a timing pattern
        for row in range(size - 1, -1, -1) if upwards else range(size):
            for column in (right, right - 1):
                if free[row][column]:
                    yield row, column
        upwards = not upwards


def _masked(grid: Grid, free: list[list[bool]], mask: int) -> Grid:
    """Invert the free modules that a mask names, and state level and mask."""
    size, inverted = len(grid), MASKS[mask]
    masked = [
        [grid[row][column] ^ (free[row][column] and inverted(row, column)) for column in range(size)]
        for row in range(size)
    ]
    for shift, places in zip(range(14, -1, -1), _format_places(size), strict=True):
        for row, column in places:
            masked[row][column] = _format_bits(mask) >> shift & 1
    return masked


def _format_bits(mask: int) -> int:
    """Level and mask with ten bits for error correction (a BCH code)."""
    stated = LEVEL_M << 3 | mask
    rest = stated << 10
    for shift in range(4, -1, -1):
        if rest >> shift + 10 & 1:
            rest ^= FORMAT << shift
    return (stated << 10 | rest) ^ FORMAT_MASK


def _penalty(grid: Grid) -> int:
    """How hard a code is to read: section 7.8.3 of ISO/IEC 18004."""
    size = len(grid)
    lines = ["".join(map(str, line)) for line in (*grid, *zip(*grid, strict=True))]
    runs = sum(len(run) - 2 for line in lines for run in re.findall("0{5,}|1{5,}", line))
    squares = sum(
        grid[row][column] == grid[row][column + 1] == grid[row + 1][column] == grid[row + 1][column + 1]
        for row in range(size - 1)
        for column in range(size - 1)
    )
    finders = sum(
        line[place : place + 11] in ("10111010000", "00001011101") for line in lines for place in range(size - 10)
    )
    balance = int(
        abs(20 * sum(map(sum, grid)) / size**2 - 10)
    )  # steps of 5 % by which the dark share differs from half
    return runs + 3 * squares + 40 * finders + 10 * balance
