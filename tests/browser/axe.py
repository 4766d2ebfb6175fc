"""axe-core: what on a page keeps people from using it."""

from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")


def obstacles(page: Page) -> list[str]:
    """The serious violations on a page as it is now: axe's rule, and the element."""
    if not SCRIPT.is_file():
        raise FileNotFoundError("tests/browser/node_modules is missing: run `npm ci` in tests/browser.")
    page.evaluate(SCRIPT.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{rule['id']}: {node['html'][:120]}" for rule in found if rule["impact"] in GRAVE for node in rule["nodes"]
    ]
