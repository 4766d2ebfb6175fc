"""The page with the DRAW button, in a real browser."""

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from atelier.page.app import EXAMPLES, MOST_CHARACTERS
from browsing import watched
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, Page, expect

FINISHED = "#pictures .atelier-grid:not(.unfinished)"
FIRST_SECONDS, ALL_SECONDS = 2.0, 5.0


@pytest.fixture
def page(browser: Browser, page_address: str) -> Iterator[Page]:
    """The page, opened; afterwards, that it asked nobody else for anything and complained of nothing."""
    with watched(browser, viewport={"width": 1200, "height": 1000}) as (page, seen):
        page.goto(page_address)
        page.wait_for_selector("#draw")
        yield page
    assert seen.elsewhere(page_address, page_address.replace("http", "ws")) == []
    assert seen.complaints == []


def test_nine_pictures_come_into_being_the_best_first(page: Page) -> None:
    page.fill("#prompt textarea, #prompt input", "a red car in the snow")
    page.click("#draw")
    page.wait_for_selector(FINISHED, timeout=120_000)  # the first drawing loads the weights
    start = time.monotonic()
    page.click("#draw")
    page.wait_for_selector("#pictures .unfinished img", timeout=30_000)
    first = time.monotonic() - start
    page.wait_for_selector(FINISHED, timeout=60_000)
    whole = time.monotonic() - start
    assert page.locator("#pictures img").count() == 9
    scores = [float(text) for text in page.locator("#pictures figcaption span").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 9
    assert first <= FIRST_SECONDS
    assert whole <= ALL_SECONDS


def test_a_saved_picture_tells_how_it_was_drawn(page: Page) -> None:
    page.fill("#prompt textarea, #prompt input", "a green cat by a lake")
    page.click("#draw")
    page.wait_for_selector(FINISHED, timeout=60_000)
    for link in (page.locator("#pictures figcaption a").first, page.locator("#status a")):
        with page.expect_download() as download:
            link.click()
        assert download.value.suggested_filename.startswith("a-green-cat-by-a-lake-")
        with Image.open(download.value.path()) as image:
            told = json.loads(image.info["atelier"])
            assert min(image.size) >= 256
        assert told["prompt"] == "a green cat by a lake"
        assert told.keys() >= {"seed", "guidance", "temperature", "preset"}


def test_look_inside_shows_codes_and_words(page: Page) -> None:
    page.fill("#prompt textarea, #prompt input", "a blue strawberry on the moon")
    page.click("#draw")
    page.wait_for_selector(FINISHED, timeout=60_000)
    page.get_by_text("Look inside").click()
    page.click("#look")
    page.wait_for_selector("#inside table")
    assert page.locator("#inside td").count() == 64
    assert page.locator("#inside figcaption").all_inner_texts() == ["a", "blue", "strawberry", "on", "the", "moon"]
    assert "%" in (page.locator("#inside td").first.get_attribute("title") or "")


def test_an_example_fills_the_prompt(page: Page) -> None:
    page.get_by_text(EXAMPLES[2]).first.click()
    expect(page.locator("#prompt textarea, #prompt input").first).to_have_value(EXAMPLES[2])


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_gets_a_sentence(page: Page, prompt: str) -> None:
    page.fill("#prompt textarea, #prompt input", prompt)
    page.click("#draw")
    expect(page.locator("#status")).to_contain_text("The prompt is empty; say what to draw.")
    assert page.locator("#pictures img").count() == 0


def test_strange_prompts_are_drawn_or_told(page: Page) -> None:
    for prompt in ("月球上的埃菲尔铁塔", "🍓🌙", "<img src=x onerror=alert(1)> a cat"):
        page.fill("#prompt textarea, #prompt input", prompt)
        page.click("#draw")
        page.wait_for_selector(FINISHED, timeout=60_000)
        page.wait_for_function("document.querySelector('#status').innerText.includes('Seed')")
    assert page.locator("#pictures img[src=x], #status img").count() == 0


def send(page_address: str, prompt: str, **other: object) -> tuple[str, str]:
    """What the page's server answers to whoever talks to it without its controls: pictures and status."""
    asked = {"seed": 1, "guidance": 1.5, "temperature": 0.8, "n": 9, "preset": "laptop"} | other
    pictures, status, *_ = Client(page_address, verbose=False).predict(prompt, *asked.values(), api_name="/draw")
    return pictures, status


@pytest.mark.parametrize(
    ("prompt", "other", "sentence"),
    [
        ("a" * 10_000, {}, f"The prompt has 10,000 characters; give at most {MOST_CHARACTERS}."),
        ("a cat", {"n": 1000}, "Draw 1, 4, 9 pictures"),
        ("a cat", {"seed": 1.5}, "give a whole number"),
        ("a cat", {"guidance": 1e9}, "guidance"),
        ("a cat", {"preset": "../../etc"}, "preset"),
    ],
)
def test_the_server_checks_what_the_controls_would_not_send(page_address, prompt, other, sentence) -> None:
    try:
        pictures, status = send(page_address, prompt, **other)
    except AppError:  # Gradio itself refuses what is not among a control's choices
        return
    assert sentence in status
    assert pictures == ""


def test_no_file_of_the_machine_can_be_reached(page_address: str) -> None:
    for path in ("/etc/passwd", __file__):
        for route in ("gradio_api/file=", "file="):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(page_address + route + path, timeout=10)


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, page_address: str) -> None:
    for scheme in ("light", "dark"):
        with watched(browser, viewport={"width": 390, "height": 800}, color_scheme=scheme) as (page, _):
            page.goto(page_address)
            page.wait_for_selector("#draw")
            page.click("#draw")
            page.wait_for_selector(FINISHED, timeout=60_000)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_eight_at_once_for_a_minute(page_address: str) -> None:
    """Nobody gets somebody else's drawing, nobody an error, and the server still answers."""
    end = time.monotonic() + 60
    faults: list[str] = []
    drawn = [0] * 8

    def visitor(number: int) -> None:
        colour = ("red", "blue", "green", "yellow", "white", "purple", "orange", "brown")[number]
        while time.monotonic() < end:
            pictures, status = send(page_address, f"a {colour} car", n=4)
            if pictures.count(f"a {colour} car”") != 4 or "Seed 1" not in status:
                faults.append(f"visitor {number} got {status[:80]!r}")
            drawn[number] += 1

    threads = [threading.Thread(target=visitor, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert min(drawn) >= 1


def test_pictures_are_whole(page_address: str) -> None:
    pictures, _ = send(page_address, "a house in the desert", n=4)
    data = [part.split('"')[0] for part in pictures.split("base64,")[1:]]
    assert {Image.open(io.BytesIO(base64.b64decode(part))).format for part in data} == {"PNG"}
