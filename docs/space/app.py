"""The page as a Space of Hugging Face: `python app.py` serves it on port 7860. make_space.py puts lib and data here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))
os.environ.setdefault("ATELIER_DATA", str(HERE / "data"))

from atelier.page.access import Access  # noqa: E402  (it needs the folder named above)
from atelier.page.server import serve  # noqa: E402

HUB = "https://huggingface.co"


def main() -> None:
    """Serve the page to everybody, in the frame in which the hub shows Spaces."""
    own = os.environ.get("SPACE_HOST", "")  # such as owner-atelier.hf.space
    access = Access(hosts=(own,) if own else (), framed_by=(HUB,))
    port = int(os.environ.get("PORT", "7860"))
    for sentence in serve("0.0.0.0", port, access=access, behind_proxy=True):
        sys.stdout.write(f"{sentence}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
