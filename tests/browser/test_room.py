"""The shared screen and the page for phones of `atelier room`, in a real browser."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from atelier.room.client import Membership, Place
from axe import obstacles
from browsing import watched
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect
from servers import free_port

CODE = "TEST"
SCREENS: dict[str, ViewportSize] = {
    "720": {"width": 1280, "height": 720},
    "1080": {"width": 1920, "height": 1080},
}
PHONE: ViewportSize = {"width": 390, "height": 844}
ATTACK = '<img src=x onerror="alert(1)"> & a cat'
SAMPLE = sorted((Path(__file__).parents[2] / "data" / "sample").glob("*.png"))


@dataclass(frozen=True)
class Room:
    """A room that is served: its address, and that of the shared screen."""

    url: str
    screen: str

    def member(self, number: int) -> Membership:
        """A participant on a laptop of its own."""
        member = Membership(Place(self.url, CODE))
        member._token = f"{number:032x}"
        return member


@pytest.fixture
def room() -> Iterator[Room]:
    command = [sys.executable, "-m", "atelier", "room", "--host", "127.0.0.1", "--port", str(free_port())]
    with subprocess.Popen([*command, "--code", CODE], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        screen = server.stdout.readline().split()[-1]
        yield Room(screen.partition("/screen")[0], screen)
        server.terminate()


def fill(room: Room, pictures: int, laptops: int = 30) -> None:
    """Let laptops send pictures and results."""
    members = [room.member(number) for number in range(laptops)]
    for number in range(pictures):
        with Image.open(SAMPLE[number]) as image:
            members[number % laptops].send_picture(image, f"picture {number}: the Eiffel tower on the moon")
    for number, member in enumerate(members):
        for place, key in enumerate(("1.1", "1.2", "1.3", "1.4", "2a.1", "2a.2")):
            member.note_result(key, "○✗✓✓"[(number * (place + 1)) % 4])
        member.send_results()


def overflow(page: Page) -> list[int]:
    """How far the page is larger than its window, to the right and down."""
    return page.evaluate(
        "[document.documentElement.scrollWidth - innerWidth, document.documentElement.scrollHeight - innerHeight]"
    )


def test_pictures_results_and_votes_arrive_on_the_screen(browser: Browser, room: Room) -> None:
    with (
        watched(browser, viewport=SCREENS["720"]) as (screen, seen),
        watched(browser, viewport=PHONE, has_touch=True) as (phone, phone_seen),
    ):
        screen.goto(room.screen)
        expect(screen.locator("#code")).to_have_text(CODE)
        expect(screen.locator("#how-join")).to_contain_text(f'join_room("{room.url.removeprefix("http://")}/{CODE}")')
        assert "#" not in screen.url  # the projector does not show the instructor's key

        phone.goto(f"{room.url}/{CODE}")
        expect(phone.locator("#code")).to_have_value(CODE)
        phone.fill("#code", "XXXX")
        phone.click("#join button")
        expect(phone.locator("#line")).to_contain_text("not the room's code")
        phone.fill("#code", CODE.lower())
        phone.click("#join button")
        expect(phone.locator("#you")).to_have_text("You have joined as number 1.")
        expect(screen.locator("#people")).to_have_text("1 has joined")

        laptop = room.member(1)
        for number, prompt in enumerate(("a red car", ATTACK)):
            laptop.send_picture(Image.open(SAMPLE[number]), prompt)
        for page in (screen, phone):
            expect(page.locator("#wall figcaption span")).to_have_text([ATTACK, "a red car"])
            assert page.evaluate("[...document.images].filter((each) => each.src.endsWith('/x')).length") == 0

        screen.locator("#wall figure").first.hover()
        screen.locator(".hide").first.click()
        expect(phone.locator("#wall figcaption span")).to_have_text(["a red car"])
        screen.click("#undo")
        expect(phone.locator("#wall figure")).to_have_count(2)

        laptop.note_result("2d.1", "✓")
        laptop.send_results()
        screen.click("[data-view=table]")
        expect(screen.locator("#table tbody tr")).to_have_text(re.compile("2d.1.*1 of 1.*✓"))

        screen.click("[data-view=poll]")
        screen.select_option("#lesson", "2d")
        screen.click("#open")
        choices = phone.locator(".choice")
        expect(choices).to_have_count(7)
        expect(choices.first.locator("b")).to_have_text("")
        choices.nth(1).click()
        expect(choices.nth(1)).to_have_attribute("aria-pressed", "true")
        expect(choices.nth(1).locator("b")).to_have_text("1")
        expect(screen.locator("#votes")).to_contain_text("1 vote.")
        choices.nth(0).click()
        expect(screen.locator("#choices li b")).to_have_text(["1", *["0"] * 6])
        screen.click("#close")
        expect(choices.first).to_be_disabled()

        phone.reload()  # it is the same participant, with its vote
        expect(phone.locator("#you")).to_have_text("You have joined as number 1.")
        expect(choices.first).to_have_attribute("aria-pressed", "true")

        screen.click("[data-view=pictures]")
        for text in ("Clear: sure?", "Clear"):
            screen.click("#clear")
            expect(screen.locator("#clear")).to_have_text(text)
        expect(phone.locator("#none")).to_be_visible()
        screen.click("#stop")
        screen.click("#stop")
        for page, place in ((screen, "#connection"), (phone, "#line")):
            expect(page.locator(place)).to_have_text("The room has ended.")
    assert seen.elsewhere(room.url) == phone_seen.elsewhere(room.url) == []
    assert seen.complaints == []
    assert [text for text in phone_seen.complaints if "status of 403" not in text] == []  # the wrong code


def test_a_phone_comes_back_after_the_room_was_started_again(browser: Browser) -> None:
    port = free_port()
    command = [sys.executable, "-m", "atelier", "room", "--host", "127.0.0.1", "--port", str(port), "--code", CODE]
    with watched(browser, viewport=PHONE) as (phone, _):
        for prompt in ("before", "after"):
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
                assert server.stdout is not None
                url = server.stdout.readline().split()[-1].partition("/screen")[0]
                if prompt == "before":
                    phone.goto(f"{url}/{CODE}")
                    phone.click("#join button")
                Room(url, "").member(5).send_picture(Image.open(SAMPLE[0]), prompt)
                expect(phone.locator("#wall figcaption span")).to_have_text([prompt], timeout=30_000)
                expect(phone.locator("#line")).to_be_hidden()
                server.kill()
            expect(phone.locator("#line")).to_have_text("The room does not answer. Trying again …", timeout=30_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_and_can_be_used_by_everybody(browser: Browser, room: Room, scheme: str) -> None:
    faults: dict[str, object] = {}
    with watched(browser, viewport=SCREENS["720"], color_scheme=scheme, reduced_motion="reduce") as (page, _):

        def check(state: str) -> None:
            for size in SCREENS:
                page.set_viewport_size(SCREENS[size])
                faults[f"{state} {size}"] = obstacles(page), overflow(page)

        page.goto(room.screen)
        expect(page.locator("#how")).to_be_visible()
        check("empty")
        fill(room, 24)
        expect(page.locator("#line")).to_contain_text(re.compile(r"the newest \d+ of 24"))
        check("pictures")
        assert shown_whole(page) >= 15
        page.click("[data-view=table]")
        expect(page.locator("#table tbody tr")).to_have_count(6)
        check("table")
        page.click("[data-view=poll]")
        page.select_option("#lesson", "4")  # the one with most and longest claims
        page.click("#open")
        expect(page.locator("#choices li")).to_have_count(8)
        check("poll")
        for size in SCREENS:
            page.set_viewport_size(SCREENS[size])
            assert (
                page.evaluate(
                    "document.querySelector('#poll').scrollHeight - document.querySelector('#poll').clientHeight"
                )
                <= 0
            )
        page.set_viewport_size(PHONE)
        page.goto(f"{room.url}/{CODE}")
        faults["join"] = obstacles(page), [overflow(page)[0], 0]
        page.click("#join button")
        expect(page.locator("#wall figure")).to_have_count(24)
        faults["phone"] = obstacles(page), [overflow(page)[0], 0]
    assert faults == dict.fromkeys(faults, ([], [0, 0]))
    assert len(faults) == 10


def shown_whole(page: Page) -> int:
    """How many pictures with their captions lie wholly in the window."""
    boxes = [figure.bounding_box() for figure in page.locator("#wall figure").all()]
    size = page.viewport_size
    assert size is not None
    whole = [
        box
        for box in boxes
        if box and box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"]
    ]
    assert len(whole) == len(boxes)
    return len(whole)


def test_without_the_key_the_screen_shows_nothing(browser: Browser, room: Room) -> None:
    with watched(browser, viewport=SCREENS["720"]) as (page, _):
        page.goto(f"{room.url}/screen#wrong")
        expect(page.locator("#connection")).to_contain_text("Only the instructor may do this")
        expect(page.locator("#code")).to_be_hidden()
