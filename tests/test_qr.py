"""The QR code of a room: the path has the modules of the code, and nothing else."""

import re

import pytest
import segno
from atelier.room.qr import qr_path


@pytest.mark.parametrize("text", ["http://192.168.1.5:7870/K7PX", "http://[fe80::1]:7870/K7PX", "ä" * 60])
def test_the_path_fills_the_dark_modules(text: str) -> None:
    path, size = qr_path(text)
    found = [[0] * size for _ in range(size)]
    for column, row in re.findall(r"M(\d+) (\d+)h1v1h-1z", path):
        found[int(row)][int(column)] = 1
    assert re.sub(r"M\d+ \d+h1v1h-1z", "", path) == ""
    assert found == [list(line) for line in segno.make_qr(text, error="m", boost_error=False).matrix]
    assert size % 4 == 1
    finder = [[1] * 7, [1, 0, 0, 0, 0, 0, 1], [1, 0, 1, 1, 1, 0, 1]]
    assert [line[:7] for line in found[:3]] == finder
    assert [line[-7:] for line in found[:3]] == finder
