"""Where Chromium is, for what builds the slides, photographs the page and tests both."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Chromium's program: $CHROME_PATH, else the first of the system's; None if there is none."""
    return os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
