"""The site in a browser, on a desktop and a phone: pages have no fault, and nothing is fetched from other servers."""

from collections.abc import Iterator

import pytest
from atelier.teaching.lessons import LESSONS
from browsing import Seen, watched
from playwright.sync_api import Browser, Page

SCREENS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGES = (
    "index.html",
    "README.html",
    "draw.html",
    "gallery.html",
    "deck.html",
    "glossary.html",
    "notebooks/CLAIMS.html",
    "data/laptop/README.html",
    "data/studio/README.html",
    "slides/INSTRUCTOR.html",
    "slides/COVERAGE.html",
    "api/index.html",
    "api/atelier.drawing.pipeline.html",
    "api/atelier.blocks.bart.html",
    *(f"notebooks/{lesson.name}.html" for lesson in LESSONS.values()),
)
# How much wider than the window the page is, which pictures are missing, how many formulas are not rendered or wrong.
FAULTS = """() => ({
  over: document.documentElement.scrollWidth - window.innerWidth,
  missing: [...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src),
  raw: [...document.querySelectorAll('.math')].filter(each => !each.querySelector('mjx-container')).length,
  wrong: document.querySelectorAll('mjx-merror, [data-mjx-error]').length,
})"""


@pytest.fixture(params=list(SCREENS))
def screen(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[tuple[Page, Seen]]:
    with watched(browser, viewport=SCREENS[request.param]) as (page, seen):
        yield page, seen
        assert seen.elsewhere(address) == []
        assert seen.complaints == []


def open_whole(page: Page, address: str) -> None:
    """Open a page and wait until everything has been fetched and every formula is rendered."""
    page.goto(address)
    page.wait_for_function(f"({FAULTS})().raw === 0", timeout=60_000)
    page.evaluate("() => document.querySelectorAll('img[loading=lazy]').forEach(image => image.loading = 'eager')")
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_fault(name: str, screen: tuple[Page, Seen], address: str) -> None:
    page, _ = screen
    open_whole(page, address + name)
    assert page.evaluate(FAULTS) == {"over": 0, "missing": [], "raw": 0, "wrong": 0}


def test_each_fault_is_found(browser: Browser, address: str) -> None:
    with watched(browser, viewport=SCREENS["phone"]) as (page, seen):
        open_whole(page, address + "index.html")
        page.evaluate("""() => document.body.insertAdjacentHTML('beforeend',
            '<div style="width: 900px">wide</div><img src="none.png"><i class="math">x</i><mjx-merror></mjx-merror>'
        )""")
        page.wait_for_load_state("networkidle")
        found = page.evaluate(FAULTS)
    assert found["over"] > 0
    assert [name.rpartition("/")[2] for name in found["missing"]] == ["none.png"]
    assert (found["raw"], found["wrong"]) == (1, 1)
    assert len(seen.complaints) == 1  # the picture


def test_controls_of_a_lesson_can_be_moved(screen: tuple[Page, Seen], address: str) -> None:
    page, _ = screen
    open_whole(page, address + "notebooks/2a_vanilla_gan.html")
    readout = page.locator(".widget-slider .widget-readout").first
    readout.wait_for()
    before = readout.text_content()
    page.locator(".widget-slider .noUi-handle").first.press("ArrowLeft")
    assert readout.text_content() != before
    assert "nothing moves" in (page.locator("p.still").first.text_content() or "")


def test_folds_open(screen: tuple[Page, Seen], address: str) -> None:
    page, _ = screen
    open_whole(page, address + "notebooks/2d_vq_vae.html")
    imports = page.locator("details.hide").first
    assert not imports.locator("pre").is_visible()
    imports.locator("summary").click()
    imports.locator("pre").wait_for(state="visible")
    hint = page.locator("details", has=page.locator("summary", has_text="Hint")).first
    hint.locator("summary").first.click()
    assert hint.locator("p").first.is_visible()


def test_the_search_finds_a_lesson(screen: tuple[Page, Seen], address: str) -> None:
    page, _ = screen
    page.goto(address + "search.html?q=codebook")
    page.locator("#search-results li a", has_text="2d · The VQ-VAE").first.wait_for(timeout=20_000)


def test_the_deck_runs_inside_its_page(screen: tuple[Page, Seen], address: str) -> None:
    page, _ = screen
    open_whole(page, address + "deck.html")
    page.locator("iframe.deck").scroll_into_view_if_needed()
    deck = page.frame_locator("iframe.deck")
    deck.locator("section h1").first.wait_for(timeout=20_000)


def test_a_dark_screen_gets_dark_pages(browser: Browser, address: str) -> None:
    def paper(scheme: str) -> str:
        with watched(browser, viewport=SCREENS["desk"], color_scheme=scheme) as (page, _):
            page.goto(address + "index.html")
            return page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert paper("light") == "rgb(255, 255, 255)"
    assert sum(map(int, paper("dark").removeprefix("rgb(").removesuffix(")").split(","))) < 150
