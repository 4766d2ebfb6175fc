"""A lesson in JupyterLab, in a real browser: it runs from top to bottom, and moving a slider changes its picture."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from atelier.teaching.lessons import LESSONS, NOTEBOOKS
from playwright.sync_api import Browser, Page, expect
from servers import free_port, serving

MINUTES_TO_RUN = 5
SETTINGS = {  # no question about news, and all cells on the page, not only those in sight
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@pytest.fixture
def lab_address(tmp_path: Path) -> Iterator[str]:
    """Where JupyterLab serves copies of the lessons."""
    for name, values in SETTINGS.items():
        written = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(values), encoding="utf-8")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for lesson in LESSONS.values():
        shutil.copy(NOTEBOOKS / f"{lesson.name}.ipynb", folder)
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]
    folders = {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path)}
    with serving(command, port, "api", env=os.environ | folders) as address:
        yield address


def run_all(page: Page) -> None:
    """Run the open notebook's cells as soon as its kernel is there, and wait for the last one."""
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    expect(page.locator(".jp-CodeCell .jp-InputPrompt", has_text="[*]")).to_have_count(
        0, timeout=60_000 * MINUTES_TO_RUN
    )


@pytest.mark.parametrize("key", ["2b", "5"])
def test_lesson_runs_and_its_slider_changes_the_picture(browser: Browser, lab_address: str, key: str) -> None:
    page = browser.new_page(viewport={"width": 1300, "height": 1000})  # has a context of its own
    page.set_default_timeout(30_000)
    page.goto(f"{lab_address}lab/tree/{LESSONS[key].name}.ipynb")
    run_all(page)
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert page.locator(".jp-OutputArea-output img").count() >= 8
    panel = page.locator(".jp-OutputArea-output", has=page.locator(".widget-slider")).last
    picture = panel.locator("img")
    before = picture.get_attribute("src") or ""
    handle = panel.locator(".noUi-handle").first
    handle.focus()
    for _ in range(8):
        handle.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before)
    if shots := os.environ.get("ATELIER_SCREENSHOTS"):
        panel.scroll_into_view_if_needed()
        page.screenshot(path=Path(shots) / f"jupyterlab-{key}.png")
    page.close()


@pytest.fixture
def course_lab(tmp_path: Path) -> Iterator[str]:
    """Where JupyterLab serves the course as `make lab` starts it, for somebody who never used it before."""
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    command += [f"--config={NOTEBOOKS / 'source' / 'lab' / 'jupyter_config.py'}"]
    command += [f"--ServerApp.port={port}", "--IdentityProvider.token="]
    folders = {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "new"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "work")}
    with serving(command, port, "api", env=os.environ | folders) as address:
        yield address


def test_the_course_opens_at_its_start_page_without_news(browser: Browser, course_lab: str) -> None:
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(30_000)
    page.goto(course_lab)
    page.get_by_role("heading", name="The lessons").wait_for()
    listed = page.locator(".jp-DirListing-itemName").all_inner_texts()
    assert {"build", "README.md", *(f"{lesson.name}.ipynb" for lesson in LESSONS.values())} <= set(listed)
    assert "source" not in listed
    page.wait_for_timeout(3000)  # the question about news would come now
    assert page.locator(".Toastify__toast").count() == 0
    assert page.locator(".jp-Dialog").count() == 0
    if shots := os.environ.get("ATELIER_SCREENSHOTS"):
        page.screenshot(path=Path(shots) / "jupyterlab-start.png")
    page.close()
