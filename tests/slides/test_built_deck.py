"""The built deck in a browser: everything fits, no picture is missing, nothing is fetched; all formats are built."""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import deck
import figures
import pytest
from atelier.world import Scene, is_held_out
from browsing import Seen, watched
from playwright.sync_api import Browser, Page

WIDTH, HEIGHT = 1280, 720
MARGIN = 20  # of the slide's pixels that stay free at its edges
LEAST_TEXT = 16  # pixels; a slide is 720 of them high
LEAST_CONTRAST = 4.5  # of text and its background, as WCAG's level AA asks

# Finds what is outside of the slide, what covers the footer, what is cut off, and what is too small or faint to read.
MEASURE = """([margin, least, contrast]) => {
  const found = {outside: [], cut: [], small: [], broken: [], foot: [], faint: []};
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(value => value / 255)
      .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = each => {
    for (let at = each; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const ratio = each => {
    const [low, high] = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const slide = document.querySelector('svg.bespoke-marp-active') || document.querySelector('.bespoke-marp-active');
  const section = [...slide.querySelectorAll('section')].find(each => each.querySelector('h1'));
  const frame = section.getBoundingClientRect();
  const scale = frame.height / 720;
  const mark = section.querySelector('nav.mark');
  const foot = mark ? mark.getBoundingClientRect().top : frame.bottom - margin * scale;
  const words = each => (each.getAttribute('alt') || each.textContent).trim().slice(0, 50);
  const name = each => each.tagName.toLowerCase() + ': ' + words(each);
  for (const each of section.querySelectorAll('*')) {
    if (each.closest('mjx-container') && each.tagName.toLowerCase() !== 'mjx-container') continue;
    if (each.closest('mjx-assistive-mml')) continue;
    const box = each.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    if (box.left < frame.left + margin * scale - 1 || box.right > frame.right - margin * scale + 1 ||
        box.top < frame.top + margin * scale - 1 || box.bottom > frame.bottom - margin * scale + 1)
      found.outside.push(name(each));
    if (mark && !mark.contains(each) && box.bottom > foot - 2 * scale) found.foot.push(name(each));
    if (each.scrollWidth > each.clientWidth + 2 && each.clientWidth && getComputedStyle(each).overflowX !== 'visible')
      found.cut.push(name(each));
    const own = [...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (own && parseFloat(getComputedStyle(each).fontSize) < least) found.small.push(name(each));
    if (own && ratio(each) < contrast) found.faint.push(name(each));
  }
  for (const image of slide.querySelectorAll('img'))
    if (!image.complete || !image.naturalWidth || !image.alt) found.broken.push(name(image));
  const texts = [...section.querySelectorAll('.stage > *, .two > *, .claims > *, .pictures > *, .rows > *')];
  found.overlaps = [];
  for (const parent of new Set(texts.map(each => each.parentElement))) {
    const boxes = [...parent.children].map(each => [each, each.getBoundingClientRect()]);
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 * scale &&
          Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2 * scale)
        found.overlaps.push(name(boxes[i][0]) + ' / ' + name(boxes[j][0]));
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def opened(browser: Browser, built: Path) -> Iterator[tuple[Page, Seen]]:
    """The deck, opened without network, and what the browser saw."""
    with watched(browser, viewport={"width": WIDTH, "height": HEIGHT}, offline=True) as (page, seen):
        page.goto(built.as_uri())
        yield page, seen


@pytest.fixture(scope="module")
def page(opened: tuple[Page, Seen]) -> Page:
    """The page of the opened deck."""
    return opened[0]


def shown(page: Page, number: int) -> dict[str, Any]:
    """Show a slide, and return what MEASURE finds on it."""
    page.evaluate(f"location.hash = '#{number}'")
    page.wait_for_function(
        f"[...document.querySelectorAll('.bespoke-marp-slide')].findIndex("
        f"each => each.classList.contains('bespoke-marp-active')) === {number - 1}"
    )
    page.evaluate("document.fonts.ready")
    return page.evaluate(MEASURE, [MARGIN, LEAST_TEXT, LEAST_CONTRAST])


NUMBERS = range(1, len(deck.slides(deck.SOURCE.read_text(encoding="utf-8"))) + 1)


@pytest.mark.parametrize("number", NUMBERS)
def test_slide_has_no_fault(page: Page, number: int) -> None:
    found = shown(page, number)
    assert {fault: names for fault, names in found.items() if names} == {}


def test_overflow_is_found(page: Page) -> None:
    """MEASURE finds the faults of a slide that is made too full."""
    page.evaluate("location.hash = '#4'")
    page.wait_for_timeout(200)
    page.evaluate(
        "document.querySelectorAll('.bespoke-marp-active .plan > span').forEach(each => each.style.fontSize = '120px')"
    )
    found = page.evaluate(MEASURE, [MARGIN, LEAST_TEXT, LEAST_CONTRAST])
    assert found["outside"] or found["foot"] or found["overlaps"]
    assert found["faint"] == []
    page.evaluate("document.querySelector('.bespoke-marp-active .plan > span').style.color = '#aaaaaa'")
    assert page.evaluate(MEASURE, [MARGIN, LEAST_TEXT, LEAST_CONTRAST])["faint"] == ["span: Building blocks"]
    page.reload()


def test_a_verdict_appears_with_a_key_and_its_reason_with_it(page: Page, slides: list[deck.Slide]) -> None:
    (number,) = [slide.number for slide in slides if "{{claims blocks-vqgan}}" in slide.source]
    shown(page, number)
    label, reason = (page.locator(f".bespoke-marp-active {name}") for name in (".verdict", ".why"))
    assert label.count() == reason.count() == 1
    assert [each.evaluate("each => getComputedStyle(each).visibility") for each in (label, reason)] == ["hidden"] * 2
    page.keyboard.press("ArrowRight")
    assert [each.evaluate("each => getComputedStyle(each).visibility") for each in (label, reason)] == ["visible"] * 2


def test_films_run_on_the_screen_and_stand_still_on_paper(page: Page, slides: list[deck.Slide]) -> None:
    (number,) = [slide.number for slide in slides if "{{film writing" in slide.source]
    shown(page, number)
    place = "each => getComputedStyle(each).backgroundPositionX"
    film = page.locator(".bespoke-marp-active .film").last
    seen = set()
    for _ in range(20):
        page.wait_for_timeout(100)
        seen.add(film.evaluate(place))
    assert len(seen) > 3
    page.emulate_media(reduced_motion="reduce")
    last = film.evaluate("each => each.style.getPropertyValue('--last')")
    assert float(film.evaluate(place).rstrip("px")) == pytest.approx(float(last.strip().rstrip("px")), abs=0.1)
    page.emulate_media(reduced_motion="no-preference", media="print")
    visible = [page.locator(f".bespoke-marp-active {name}").is_visible() for name in (".films", ".paper")]
    page.emulate_media(media="screen")
    assert visible == [False, True]
    assert page.locator(".bespoke-marp-active .paper").is_hidden()


def test_nothing_is_fetched(opened: tuple[Page, Seen], built: Path) -> None:
    page, seen = opened
    for number in NUMBERS:
        shown(page, number)
    assert seen.elsewhere(built.as_uri()) == []
    assert seen.complaints == []


def test_formulas_are_drawn_when_the_deck_is_built(built: Path) -> None:
    text = built.read_text(encoding="utf-8")
    assert "<mjx-container" in text
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=\"(?!data:)", text)


def test_notes_are_in_the_deck(built: Path, slides: list[deck.Slide]) -> None:
    text = built.read_text(encoding="utf-8")
    assert text.count('class="bespoke-marp-note"') == len(slides)


def test_typefaces_are_in_the_deck(page: Page) -> None:
    shown(page, 2)
    loaded = page.evaluate("[...document.fonts].filter(face => face.status === 'loaded').map(face => face.family)")
    assert any("Atkinson Hyperlegible Next" in family for family in loaded)


def test_committed_deck_is_the_one_that_is_built(built: Path) -> None:
    committed = deck.BUILT / "session.html"
    assert committed.read_bytes() == built.read_bytes(), "The deck in slides/built is an older one: run make slides."


def inflated(pdf: bytes) -> Iterator[bytes]:
    """The file, and the decompressed streams that contain objects."""
    yield pdf
    for match in re.finditer(rb"/ObjStm.*?stream\r?\n", pdf, re.DOTALL):
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(pdf[match.end() :])


@pytest.mark.parametrize(("file", "options"), deck.formats(["pdf", "pptx"]), ids=["pdf", "pptx"])
def test_other_formats_are_built(
    built: Path, slides: list[deck.Slide], file: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    target = tmp_path / file
    deck.marp(*options, "--output", str(target))
    if target.suffix == ".pptx":
        with zipfile.ZipFile(target) as parts:
            pages = [name for name in parts.namelist() if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)]
            notes = [name for name in parts.namelist() if re.fullmatch(r"ppt/notesSlides/notesSlide\d+\.xml", name)]
        assert len(pages) == len(notes) == len(slides)
    else:
        content = target.read_bytes()
        assert content.startswith(b"%PDF-")
        assert b"/Subtype /Text" not in b"".join(inflated(content)), "a note icon is on a page"
        assert len(re.findall(rb"/Type */Page\b", b"".join(inflated(content)))) == len(slides)


def test_numbers_file_has_the_numbers_that_slides_use() -> None:
    said = json.loads(deck.NUMBERS.read_text(encoding="utf-8"))
    asked = set(re.findall(r"\{\{number ([^}]+)\}\}", deck.SOURCE.read_text(encoding="utf-8")))
    assert asked == said.keys()


def test_pairs_that_slides_call_training_pairs_are_not_held_out() -> None:
    scenes = [Scene(*values[:5], size="large", seed=values[5]) for _, values in figures.PAIRS]
    assert [scene for scene in scenes if is_held_out(scene)] == []


def folder_with(path: Path, name: str, content: str) -> Path:
    path.mkdir()
    (path / name).write_text(content)
    return path


def test_an_interrupted_build_leaves_the_earlier_deck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = folder_with(tmp_path / "built", "session.html", "earlier")
    monkeypatch.setattr(deck, "BUILT", earlier)
    monkeypatch.setattr(deck, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(deck, "COVERAGE", tmp_path / "COVERAGE.md")
    built = []

    def marp(*options: str) -> None:
        if built:
            raise KeyboardInterrupt
        built.append(options)
        (tmp_path / "scratch" / "session.html").write_text("new")

    monkeypatch.setattr(deck, "marp", marp)
    with pytest.raises(KeyboardInterrupt):
        deck.main([])
    assert {path.name: path.read_text() for path in earlier.iterdir()} == {"session.html": "earlier"}
    assert not (tmp_path / "COVERAGE.md").exists()
    built.clear()
    assert deck.main(["html"]) == 0
    assert (earlier / "session.html").read_text() == "new"


def test_interrupted_figures_leave_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = folder_with(tmp_path / "figures", "map.png", "earlier")
    for name, path in {"FIGURES": earlier, "NEW": tmp_path / "new", "OLD": tmp_path / "old"}.items():
        monkeypatch.setattr(figures, name, path)

    def draw() -> dict[str, str]:
        (figures.NEW / "map.png").write_text("new")
        return {"seven": "7"}

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "FIGURE_FUNCTIONS", (draw, interrupted))
    with pytest.raises(KeyboardInterrupt):
        figures.main()
    assert {path.name: path.read_text() for path in earlier.iterdir()} == {"map.png": "earlier"}
    monkeypatch.setattr(figures, "FIGURE_FUNCTIONS", (draw,))
    figures.main()
    assert (earlier / "map.png").read_text() == "new"
    assert json.loads((earlier / "numbers.json").read_text()) == {"seven": "7"}
    (earlier / "other.png").write_text("kept")
    figures.main(["draw"])
    assert (earlier / "other.png").read_text() == "kept"
    with pytest.raises(SystemExit, match="There is no figure sketch"):
        figures.main(["sketch"])
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "old").exists()
