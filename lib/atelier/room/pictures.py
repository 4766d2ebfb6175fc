"""Pictures as PNG files: as participants send them, and as the server shows them after it has encoded them again."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from atelier.page.faults import PageError
from atelier.pictures import as_rgb
from atelier.room.limits import MOST_PICTURE_BYTES, MOST_SIDE

LEAST_SIDE = 256  # pixels to which a smaller picture is enlarged, by a whole factor, before it is sent


def sent_png(image: Image.Image) -> bytes:
    """Encode a picture so that a room accepts it: as PNG without metadata, at most MOST_SIDE pixels on a side.

    Raises:
        PageError: if its file has more than MOST_PICTURE_BYTES all the same.
    """
    image = image.convert("RGB")
    if max(image.size) > MOST_SIDE:
        image.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS)
    factor = max(1, -(-LEAST_SIDE // max(image.size)))
    plain = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    content = _png(plain)
    if len(content) > MOST_PICTURE_BYTES:
        raise PageError(f"The picture has {len(content):,} bytes as PNG; a room takes {MOST_PICTURE_BYTES:,}.", 413)
    return content


def encoded_again(content: bytes) -> bytes:
    """Decode a picture that was sent and encode its pixels again, so that nothing else in the file is passed on.

    Args:
        content: a PNG file. Transparent parts are laid on white.

    Raises:
        PageError: if it is not a PNG file, is damaged, or is too large.
    """
    if len(content) > MOST_PICTURE_BYTES:
        raise PageError(f"The picture has {len(content):,} bytes; send at most {MOST_PICTURE_BYTES:,}.", 413)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > MOST_SIDE:
                width, height = image.size
                raise PageError(
                    f"The picture has {width} × {height} pixels; send at most {MOST_SIDE} × {MOST_SIDE}.", 413
                )
            decoded = as_rgb(image)
    except PageError:
        raise
    except Image.DecompressionBombError as fault:
        raise PageError(f"The picture has too many pixels; send at most {MOST_SIDE} × {MOST_SIDE}.", 413) from fault
    except UnidentifiedImageError as fault:
        raise PageError("The picture is not a PNG file.") from fault
    except Exception as fault:  # a damaged file makes Pillow raise many classes of exceptions
        raise PageError("The picture cannot be decoded; its file is damaged.") from fault
    return _png(decoded)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=3)  # three times as fast as the default, a tenth larger
    return file.getvalue()
