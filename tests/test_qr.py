"""QR codes: the same modules as another library's, and every text can be read back."""

import pytest
from atelier.errors import AtelierError
from atelier.room import qr
from atelier.room.qr import CAPACITY, Grid, qr_code, svg_path
from hypothesis import given, settings
from hypothesis import strategies as st

# Text → the rows of its code as hexadecimal numbers, made with python-qrcode 8.2: byte mode, level M, its own mask.
REFERENCE = {
    "http://10.7/": (
        "1fd37f 105a41 17555d 17495d 175d5d 104b41 1fd57f 300 13fd97 171d6e f50ef 183624 d7802 1dde 1fd9b4 10526d "
        "175c12 175ecc 174fbf 1046d7 1fdb68"
    ),
    "http://10.0.8.7:7870": (
        "1fda17f 104e141 175dc5d 174a95d 174795d 1058c41 1fd557f 7600 1463425 1f8d64b 8d0e3d 1a34348 ed6ec1 7a4ac3 "
        "1dc23dd 334b00 1a4b9f2 19115 1fd5d59 1043510 174cff9 174cc3e 175a2b3 1044bf0 1fd7b89"
    ),
    "http://192.168.1.1:7870/K7PX": (
        "1fc7937f 105f7b41 1749d65d 174fe35d 175b4f5d 104d8641 1fd5557f fde00 15436212 f246069 558cf7 19a72dea "
        "12551c6b 12babc6d 65a7903 129ddc9a 15d86243 bbd6ce5 1756848b f202aea 126a11f0 16b517 1fc3775b 104bdb1a "
        "175465fa 174f6398 175f4a9d 1045238a 1fd151cb"
    ),
    "http://[fd00:1234:5678:9abc:def0:1234:5678:1]:7870/K7PX and": (
        "1fc41277f 104529d41 175873f5d 175f2125d 17587ac5d 105945841 1fd55557f 1156d00 17cfcf07c 73f9278f 2e3e4194 "
        "5b58799d 1f4740019 eb429fe7 7d06d17e 198937bf4 fcc7f2b9 1486caf6f 5975594 e2ec5d5c f716c018 15af1efe5 "
        "1669e41a2 132790d47 12dec93f9 1d96717 1fc0a4b54 105746915 175feb1fa 175f96db7 175f75f68 104323ab4 1fd9e91fa"
    ),
    "http://[fd00:1234:5678:9abc:def0:1234:5678:1]:7870/K7PX and something more, the end": (
        "1fc9e3a17f 1041b48a41 175cf0d55d 1756dd795d 175fc2245d 1058504641 1fd555557f 19b69000 17c5ea7a7c "
        "118836a166 8fa8c17f3 1710559239 1f489f6bd7 a828ab423 1dde74533b 72b54f293 1564683e55 112e66ad8e afb2d1acf "
        "808f1c249 1ccfbd0b64 8a802f4aa 1366a09af9 1fa4d394b8 fe3ac6cf4 10aad720c0 136a600677 17bd96866a 167a9c49f5 "
        "10033d1e 1fc735cd5d 1054f5e719 1756695ffc 175cdfa25f 1753bdce8b 1044378079 1fd9be6877"
    ),
}


def rows(text: str) -> Grid:
    lines = REFERENCE[text].split()
    return [[int(bit) for bit in f"{int(line, 16):0{len(lines)}b}"] for line in lines]


@pytest.mark.parametrize("text", REFERENCE)
def test_the_code_is_that_of_another_library(text: str) -> None:
    assert qr_code(text) == rows(text)


def read(grid: Grid) -> bytes:
    """Read a code as a scanner does: its mask, its codewords, which must have no errors, its text."""
    version = (len(grid) - 17) // 4
    data, correction, blocks = CAPACITY[version]
    stated = int("".join(str(grid[8][column]) for column in (0, 1, 2, 3, 4)), 2) ^ 0b10101
    assert stated >> 3 == 0  # level M
    mask = stated & 7
    _, free = qr._frame(version)
    bits = [grid[row][column] ^ int(qr.MASKS[mask](row, column)) for row, column in qr._path(free)]
    codewords = [int("".join(map(str, bits[place : place + 8])), 2) for place in range(0, len(bits) // 8 * 8, 8)]
    parts = [codewords[block:data:blocks] + codewords[data + block :: blocks] for block in range(blocks)]
    for part in parts:
        assert syndromes(part, correction) == [0] * correction
    content = bytes(byte for part in parts for byte in part[: data // blocks])
    length = (content[0] & 15) << 4 | content[1] >> 4
    number = int.from_bytes(content, "big") >> 8 * len(content) - 12 - 8 * length
    return (number & (1 << 8 * length) - 1).to_bytes(length, "big")


def syndromes(part: list[int], count: int) -> list[int]:
    """The values of a block's polynomial at the roots of the generator; all are 0 if it has no errors."""
    powers, found = [1], []
    while len(powers) < 255:
        doubled = powers[-1] << 1
        powers.append(doubled ^ 0x11D if doubled > 255 else doubled)
    for root in range(count):
        value = 0
        for byte in part:
            value = (powers[(powers.index(value) + root) % 255] if value else 0) ^ byte
        found.append(value)
    return found


@settings(max_examples=12, deadline=None)
@given(st.text(max_size=106).filter(lambda text: len(text.encode("utf-8", "surrogatepass")) <= 106))
def test_every_text_is_read_back(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    assert read(qr_code(text)).decode() == text


@pytest.mark.parametrize(("length", "side"), [(14, 21), (15, 25), (26, 25), (42, 29), (62, 33), (84, 37), (106, 41)])
def test_the_smallest_version_is_used(length: int, side: int) -> None:
    assert len(qr_code("x" * length)) == side


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(AtelierError, match="107 bytes; at most 106"):
        qr_code("x" * 107)


def test_the_path_has_a_square_for_every_dark_module() -> None:
    grid = qr_code("a")
    assert svg_path(grid).count("h1v1h-1z") == sum(map(sum, grid))
    assert svg_path([[0, 1], [1, 0]]) == "M1 0h1v1h-1zM0 1h1v1h-1z"
