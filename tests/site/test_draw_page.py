"""The page that draws, in a browser: on a desktop and a phone, offline, stopped, and with files that are damaged."""

import io
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import Seen, watched
from drawing_page import SECONDS, control, draw, finished, open_ready, pixels
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect
from test_site_in_browser import FAULTS, SCREENS

PROMPT = "a stained glass window with an image of a blue strawberry"
MOST_BYTES = 25_000_000
AXE = Path(__file__).resolve().parents[2] / "docs" / "site" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with watched(browser, viewport=SCREENS["desk"]) as (page, seen):
        yield page
        assert seen.elsewhere(address) == []
        assert seen.complaints == []


@pytest.fixture
def watching(browser: Browser, address: str) -> Iterator[tuple[Page, Seen]]:
    """A page whose complaints the test itself looks at."""
    with watched(browser, viewport=SCREENS["desk"]) as (page, seen):
        yield page, seen
        assert seen.elsewhere(address) == []


@pytest.mark.parametrize("size", list(SCREENS))
def test_nine_pictures_appear_row_by_row_and_are_ranked(size: str, page: Page, address: str) -> None:
    page.set_viewport_size({"width": SCREENS[size]["width"], "height": SCREENS[size]["height"]})
    open_ready(page, address)
    page.evaluate("""() => {
      window.labels = new Set();
      new MutationObserver(() => document.querySelectorAll('.pictures canvas').forEach(
        each => window.labels.add(each.getAttribute('aria-label').split(', ').at(-1))
      )).observe(document.querySelector('.pictures'), { subtree: true, childList: true, attributes: true });
    }""")
    scores = draw(page, PROMPT)
    assert len(scores) == 9
    assert scores == sorted(scores, reverse=True)
    assert {"not begun", "unfinished", "picture 1", "picture 9"} <= set(page.evaluate("[...window.labels]"))
    assert len(set(pixels(page))) == 9
    assert page.evaluate(FAULTS)["over"] == 0


def test_a_seed_gives_the_same_pictures_again_and_another_seed_others(page: Page, address: str) -> None:
    open_ready(page, address)
    draw(page, PROMPT, seed=5)
    first = pixels(page)
    draw(page, PROMPT, seed=5)
    assert pixels(page) == first
    page.get_by_role("button", name="Another seed").click()
    expect(page.locator("p.status")).to_contain_text("Drawing")
    finished(page)
    assert control(page, "seed").input_value() != "5"
    assert set(pixels(page)).isdisjoint(first)


def test_guidance_and_temperature_have_an_effect(page: Page, address: str) -> None:
    open_ready(page, address)
    draw(page, PROMPT)
    before = pixels(page)
    draw(page, PROMPT, temperature=0)
    assert len(set(pixels(page))) == 1  # without chance all are the same
    draw(page, PROMPT, temperature=0.8, guidance=8)
    assert set(pixels(page)).isdisjoint(before)


def test_the_keyboard_is_enough(page: Page, address: str) -> None:
    open_ready(page, address)
    control(page, "prompt").focus()
    page.keyboard.press("Enter")
    finished(page)
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent || document.activeElement.type"))
    assert {"DRAW", "number", "range", "Save", "Save all as PNG"} <= set(names)


def test_unknown_words_are_named_and_the_known_ones_listed(page: Page, address: str) -> None:
    open_ready(page, address)
    draw(page, "Pikachu and a giraffe on the moon")
    expect(page.locator(".remark")).to_contain_text("never saw “pikachu”, “and” and “giraffe” in its training")
    page.get_by_text("words that laptop knows").click()
    expect(page.locator(".draw-panel details p")).to_contain_text("eiffel, evening")
    draw(page, PROMPT)
    expect(page.locator(".remark")).to_be_empty()


def test_a_long_prompt_is_cut_and_an_empty_one_refused(page: Page, address: str) -> None:
    open_ready(page, address)
    draw(page, "a blue strawberry on the moon " * 10)
    expect(page.locator(".remark")).to_contain_text("The model reads 30 tokens, and the prompt has more")
    for nothing in (" ", "\u200b"):
        control(page, "prompt").fill(nothing)
        page.get_by_role("button", name="DRAW").click()
        expect(page.locator("p.status.fault")).to_have_text("The prompt is empty; say what to draw.")
    draw(page, PROMPT)


def test_a_drawing_can_be_stopped(page: Page, address: str) -> None:
    open_ready(page, address)
    page.get_by_role("button", name="DRAW").click()
    page.get_by_role("button", name="STOP").click()
    expect(page.locator("p.status")).to_have_text("Stopped.", timeout=SECONDS)
    draw(page, PROMPT)


def test_a_drawing_can_be_stopped_as_soon_as_it_begins(page: Page, address: str) -> None:
    open_ready(page, address)
    draw(page, PROMPT)
    said = page.evaluate("""async () => {
      const named = [".draw-panel form", "button.draw", "p.status"];
      const [form, button, status] = named.map(each => document.querySelector(each));
      form.requestSubmit();
      for (let i = 0; i < 100 && button.textContent !== "STOP"; i++) await Promise.resolve(); // no worker answers yet
      const said = status.textContent;
      form.requestSubmit();
      return said;
    }""")
    assert said == f"Drawing “{PROMPT}”."
    expect(page.locator("p.status")).to_have_text("Stopped.", timeout=SECONDS)
    draw(page, PROMPT)


def test_pictures_are_saved_as_png(page: Page, address: str) -> None:
    open_ready(page, address)
    draw(page, PROMPT, seed=5)

    def saved(button: str) -> tuple[str, tuple[int, int]]:
        with page.expect_download() as download:
            page.get_by_role("button", name=button, exact=True).click()
        with Image.open(io.BytesIO(Path(download.value.path()).read_bytes())) as picture:
            assert picture.format == "PNG"
            return download.value.suggested_filename, picture.size

    name = PROMPT.replace(" ", "-")
    assert saved("Save all as PNG") == (f"{name}-5.png", (3 * 256 + 2 * 8,) * 2)
    assert saved("Save picture 2 as PNG") == (f"{name}-5-2.png", (512, 512))


def test_a_visit_fetches_little_and_a_second_one_no_model(
    watching: tuple[Page, Seen], address: str, site: Path
) -> None:
    page, seen = watching
    open_ready(page, address)
    fetched = [site / unquote(urlsplit(url).path).lstrip("/") for url in set(seen.requests) if url.startswith(address)]
    assert {"onnxruntime-wasm.bin", "code_writer.onnx", "picture_tower.onnx"} <= {path.name for path in fetched}
    assert sum(path.stat().st_size for path in fetched) <= MOST_BYTES
    seen.requests.clear()
    open_ready(page, address)
    assert [url for url in seen.requests if url.endswith((".onnx", ".bin"))] == []
    assert seen.complaints == []


def test_the_page_draws_without_a_network(watching: tuple[Page, Seen], address: str) -> None:
    page, _ = watching
    open_ready(page, address)
    page.wait_for_function("async () => (await (await caches.open('atelier-page')).keys()).length > 10")
    page.wait_for_function("() => navigator.serviceWorker.controller")
    page.context.set_offline(True)
    open_ready(page, address)
    assert page.evaluate("getComputedStyle(document.querySelector('button.draw')).color") == "rgb(255, 255, 255)"
    assert len(draw(page, PROMPT)) == 9


def damage(route: Route) -> None:
    content = route.fetch().body()
    route.fulfill(body=content[:-1] + bytes([content[-1] ^ 1]))


BROKEN = {
    "a damaged file": ("code_writer.onnx", damage, "The file code_writer.onnx is damaged"),
    "a damaged manifest": ("drawing.json", damage, "The file drawing.json is damaged"),
    "a missing file": (
        "picture_decoder.onnx",
        lambda route: route.fulfill(status=404),
        "The file picture_decoder.onnx is missing on this site",
    ),
    "a broken connection": (
        "onnxruntime-wasm.bin",
        lambda route: route.abort(),
        "The file onnxruntime-wasm.bin could not be fetched. Check the connection",
    ),
    "a missing list": (
        "models.json",
        lambda route: route.fulfill(status=404),
        "The file models.json is missing on this site",
    ),
    "a missing script": ("engine.js", lambda route: route.abort(), "A part of this page could not be loaded."),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_said_in_a_sentence_and_can_be_tried_again(
    what: str, watching: tuple[Page, Seen], address: str
) -> None:
    page, _ = watching
    name, breaks, sentence = BROKEN[what]
    page.route(f"**/{name}", breaks)
    page.goto(address + "draw.html")
    expect(page.locator("p.status.fault")).to_contain_text(sentence, timeout=SECONDS)
    expect(page.get_by_role("progressbar")).to_be_hidden()
    page.unroute(f"**/{name}")
    page.get_by_role("button", name="DRAW").click()
    finished(page)


@pytest.mark.parametrize("lacking", ["WebAssembly", "DecompressionStream", "Worker"])
def test_a_browser_that_cannot_draw_says_so(lacking: str, page: Page, address: str) -> None:
    page.add_init_script(f"delete globalThis.{lacking}")
    page.goto(address + "draw.html")
    expect(page.locator("p.status.fault")).to_contain_text(f"This browser has no {lacking}, which drawing needs.")


def test_without_scripts_the_page_says_what_it_needs(browser: Browser, address: str) -> None:
    with watched(browser, java_script_enabled=False) as (page, _):
        page.goto(address + "draw.html")
        expect(page.locator(".draw-panel")).to_contain_text("Drawing needs JavaScript")


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_the_page_is_accessible(size: str, scheme: str, browser: Browser, address: str) -> None:
    with watched(browser, viewport=SCREENS[size], color_scheme=scheme) as (page, _):
        open_ready(page, address)
        draw(page, "a giraffe on the moon")
        page.add_script_tag(path=AXE)
        found = page.evaluate("async () => (await axe.run()).violations")
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert serious == []
