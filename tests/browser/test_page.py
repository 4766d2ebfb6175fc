"""The page with the DRAW button, in a real browser."""

import json
import re
from collections.abc import Iterator

import pytest
from axe import obstacles
from browsing import watched
from PIL import Image
from playwright.sync_api import Browser, Page, expect

DRAWN = "#pictures .grid:not(.unfinished) img"
SCREENS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
STRAWBERRY = "a stained glass window with an image of a blue strawberry"


@pytest.fixture
def page(browser: Browser, page_address: str) -> Iterator[Page]:
    """The page, opened; afterwards, that it asked nobody else for anything and complained of nothing."""
    with watched(browser, viewport=SCREENS["desk"], has_touch=True) as (page, seen):
        opened(page, page_address)
        yield page
    assert seen.elsewhere(page_address) == []
    assert [text for text in seen.complaints if "status of 400" not in text] == []  # refused requests


def opened(page: Page, address: str) -> None:
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector(".chip")


def draw(page: Page, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.click("#draw")
    finish(page)


def finish(page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("Seed", timeout=60_000)


def test_nine_pictures_come_into_being_the_best_first(page: Page) -> None:
    page.fill("#prompt", "a red car in the snow")
    page.click("#draw")
    page.wait_for_selector("#pictures .unfinished img")
    assert page.locator("#pictures .picture").count() == 0
    finish(page)
    assert page.locator(DRAWN).count() == 9
    scores = [float(text) for text in page.locator("#pictures figcaption span").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 9
    assert page.locator("#pictures .best").count() == 1


def test_settings_are_used_and_stay_as_they_are(page: Page) -> None:
    """Opening or closing something never changes a setting; the same seed draws the same pictures."""
    assert page.input_value("#seed") == ""
    draw(page, "a cat")
    first = page.locator("#status").inner_text()
    draw(page, "a cat")
    assert page.locator("#status").inner_text() != first
    assert page.input_value("#seed") == ""
    page.fill("#seed", "7")
    page.select_option("#count", "4")
    draw(page, "a cat")
    assert page.locator(DRAWN).count() == 4
    assert "Seed 7" in page.locator("#status").inner_text()
    pictures = [image.get_attribute("src") for image in page.locator(DRAWN).all()]
    draw(page, "a cat")
    assert [image.get_attribute("src") for image in page.locator(DRAWN).all()] == pictures


def test_chips_assemble_a_prompt(page: Page) -> None:
    for name in ("strawberry", "blue", "moon", "watercolour"):
        page.click(f".chip[data-name='{name}']")
    expect(page.locator("#prompt")).to_have_value("a watercolour of a blue strawberry on the moon")
    expect(page.locator("#novel")).to_have_text("Training never showed this combination: strawberry, blue.")
    page.click(".chip[data-name=strawberry]")
    expect(page.locator("#prompt")).to_have_value("a watercolour of the moon")
    page.fill("#prompt", "something else")
    assert page.locator(".chip[aria-pressed=true]").count() == 0


def test_an_example_fills_the_prompt(page: Page) -> None:
    example = page.locator(".example").first
    text = example.inner_text()
    example.click()
    expect(page.locator("#prompt")).to_have_value(text)


def test_surprise_draws_a_prompt_of_the_world(page: Page) -> None:
    page.click("#surprise")
    finish(page)
    assert page.locator(".chip[aria-pressed=true]").count() == 4
    assert "never saw" not in page.locator("#status").inner_text()
    assert page.input_value("#prompt") in (page.locator(DRAWN).first.get_attribute("alt") or "")


def test_a_drawing_can_be_stopped(page: Page) -> None:
    page.click("#draw")
    page.wait_for_selector("#pictures .unfinished img")
    page.click("#stop")
    expect(page.locator("#status")).to_have_text("Stopped.")
    expect(page.locator("#draw")).to_be_visible()
    draw(page, "a cat")


def test_a_picture_opens_large_with_its_codes_and_words(page: Page) -> None:
    draw(page, "a blue strawberry on the moon")
    page.locator(".picture").nth(1).click()
    words = page.locator("#attention button")
    words.first.wait_for()
    assert words.all_inner_texts() == ["a", "blue", "strawberry", "on", "the", "moon"]
    cells = page.locator("#codes button")
    assert cells.count() == 64
    cells.nth(20).tap()
    expect(page.locator("#code-line")).to_contain_text(re.compile(r"Code \d+ attended most to \w+ \d+ %"))
    expect(cells.nth(20)).to_have_attribute("aria-label", re.compile(r"Row 3, column 5: code \d+\. \w+ \d+ %"))
    cells.first.focus()
    page.keyboard.press("ArrowDown")
    expect(cells.nth(8)).to_be_focused()
    words.nth(2).tap()
    expect(page.locator("#code-line")).to_have_text("Bright parts attended to “strawberry”.")
    page.click("#show-codes")
    expect(page.locator("#show-codes")).to_have_attribute("aria-pressed", "true")
    page.click("#next")
    expect(page.locator("#viewer-title")).to_contain_text("picture 3")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()


def test_variations_are_drawn_and_the_session_is_remembered(page: Page) -> None:
    draw(page, STRAWBERRY)
    upper = code_names(page)[:32]
    page.click("#complete button")
    finish(page)
    assert page.locator(DRAWN).count() == 4
    assert code_names(page)[:32] == upper
    page.click("#compare button")
    finish(page)
    expect(page.locator("#pictures .group > figcaption")).to_have_text(["guidance 1", "guidance 4"])
    expect(page.locator("#status")).to_contain_text("only the guidance differs")
    page.locator(".picture").first.click()
    page.click("#reseed button")
    finish(page)
    thumbnails = page.locator("#past button")
    expect(thumbnails).to_have_count(4)
    thumbnails.last.click()
    assert page.locator(DRAWN).count() == 9


def code_names(page: Page) -> list[str]:
    """The codes of the first picture, which is left open."""
    page.locator(".picture").first.click()
    page.locator("#attention button").first.wait_for()
    return page.locator("#codes button").all_text_contents()


def test_saved_pictures_tell_how_they_were_drawn(page: Page) -> None:
    draw(page, "a green cat by a lake")
    for button in ("#status button", "#save"):
        if button == "#save":
            page.locator(".picture").nth(2).click()
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename.startswith("a-green-cat-by-a-lake-")
        with Image.open(download.value.path()) as image:
            told = json.loads(image.info["atelier"])
            assert min(image.size) >= 256
        assert told["prompt"] == "a green cat by a lake"
        assert told.keys() >= {"seed", "guidance", "temperature", "preset"}
        assert told.get("place") == (3 if button == "#save" else None)


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_gets_a_sentence(page: Page, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.click("#draw")
    expect(page.locator("#error")).to_have_text("The prompt is empty; say what to draw.")
    expect(page.locator("#draw")).to_be_visible()


def test_strange_prompts_are_drawn_or_told(page: Page) -> None:
    for prompt in ("月球上的埃菲尔铁塔", "🍓🌙", "<img src=x onerror=alert(1)> a cat", "\ud800 a cat"):
        draw(page, prompt)
    assert page.locator("#pictures img[src=x], #status img").count() == 0


def test_no_picture_is_called_the_best_if_none_fits(page: Page) -> None:
    page.route("**/draw", lambda route: route.fulfill(body=json.dumps(POOR) + "\n"))
    draw(page, "Pikachu")
    assert page.locator("#pictures .best").count() == 0
    expect(page.locator("#status")).to_contain_text("none of them fits the prompt")


POOR = {
    "progress": 1,
    "pictures": ["data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="] * 4,
    "codes": [[0] * 64] * 4,
    "scores": [-16.0, -17.0, -18.0, -20.0],
    "remarks": [],
    "settings": {"prompt": "Pikachu", "preset": "laptop", "seed": 0},
}


def test_a_server_that_has_ended_is_explained(page: Page) -> None:
    page.route("**/draw", lambda route: route.fulfill(body='{"progress": 0.5, "pictures": []}\n'))
    page.click("#draw")
    expect(page.locator("#error")).to_have_text("The connection ended before the drawing was finished. Try again.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SCREENS)
def test_every_state_can_be_used_by_everybody(browser: Browser, page_address: str, size: str, scheme: str) -> None:
    """Without sideways scrolling, and without a serious violation of the rules for accessible pages."""
    faults: dict[str, object] = {}
    with watched(browser, viewport=SCREENS[size], color_scheme=scheme, reduced_motion="reduce") as (page, _):

        def check(state: str) -> None:
            faults[state] = obstacles(page), page.evaluate("document.documentElement.scrollWidth")

        opened(page, page_address)
        check("start")
        page.click(".chip[data-name=strawberry]")
        page.click(".chip[data-name=blue]")
        draw(page, page.input_value("#prompt"))
        check("drawn")
        page.locator(".picture").first.click()
        page.locator("#attention button").first.wait_for()
        page.locator("#codes button").nth(9).click()
        check("viewer")
        page.click("#show-codes")
        check("codes")
        page.click("#compare button")
        finish(page)
        check("pair")
        page.fill("#prompt", " ")
        page.click("#draw")
        expect(page.locator("#error")).not_to_be_empty()
        check("error")
    assert faults == dict.fromkeys(faults, ([], SCREENS[size]["width"]))
    assert len(faults) == 6
