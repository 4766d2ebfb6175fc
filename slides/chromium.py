"""Find Chromium, which builds the slides, takes the page's picture, and runs the tests of both."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of Chromium: $CHROME_PATH, else the first of NAMES that is installed, else None."""
    return os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
