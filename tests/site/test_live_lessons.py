"""Live controls on the pages of lessons: the latent planes draw what the library draws, and guidance has an effect."""

from collections.abc import Iterator

import code_swap
import live
import numpy as np
import planes
import pytest
import torch
from browsing import watched
from drawing_page import SECONDS, control, draw, painted, pixels
from playwright.sync_api import Browser, Locator, Page, expect
from test_site_in_browser import FAULTS, SCREENS

PLANES = [(lesson, plane) for (lesson, _), plane in planes.PLANES.items()]


@pytest.fixture(params=list(SCREENS))
def screen(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    with watched(browser, viewport=SCREENS[request.param]) as (page, seen):
        yield page
        assert seen.elsewhere(address) == []
        assert seen.complaints == []


@pytest.mark.parametrize(("lesson", "plane"), PLANES, ids=lambda value: getattr(value, "model", ""))
def test_a_point_gives_the_librarys_picture_and_answer(
    lesson: str, plane: planes.Plane, browser: Browser, address: str
) -> None:
    points = [[0.6, 0.4], [-1.0, 2.0]]
    with watched(browser) as (page, seen):
        page.goto(f"{address}notebooks/{lesson}.html")
        script = """async (painter, points) => {
          const all = [];
          for (const z of points) {
            const { picture, shares } = await painter.run('point', { z: [z, [1, 2]] });
            all.push([[...picture.data], [...shares.data]]);
          }
          return all;
        }"""
        found = painted(page, address, script, points, folder=plane.model)
        assert seen.complaints == []
    with torch.no_grad():
        for z, (picture, shares) in zip(points, found, strict=True):
            ours = [part.flatten().numpy() for part in planes.graph(plane).module(torch.tensor([z]))]
            assert np.abs(np.array(picture) - ours[0]).max() <= 1 / 255
            assert np.abs(np.array(shares) - ours[1]).max() <= 1e-3


@pytest.mark.parametrize(("lesson", "plane"), PLANES, ids=lambda value: getattr(value, "model", ""))
def test_the_mark_of_a_plane_can_be_moved(lesson: str, plane: planes.Plane, screen: Page, address: str) -> None:
    screen.goto(f"{address}notebooks/{lesson}.html")
    assert screen.locator(".live").get_attribute("data-folder") == plane.model
    screen.get_by_role("button", name="Move the point here").click()
    picture = screen.locator(".plane canvas")
    expect(screen.locator(".says")).to_contain_text("The judge says: strawberry", timeout=SECONDS)
    before = picture.evaluate("canvas => canvas.toDataURL()")
    slider = screen.get_by_role("slider", name="z₁")
    slider.press("End")
    screen.wait_for_function(
        "before => document.querySelector('.plane canvas').toDataURL() !== before", arg=before, timeout=SECONDS
    )
    box = screen.locator(".plane svg").bounding_box()
    assert box is not None
    screen.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    low, high = (float(slider.get_attribute(name) or "nan") for name in ("min", "max"))
    assert float(slider.input_value()) == pytest.approx(low + (high - low) / 4, abs=0.02 * (high - low))
    assert screen.evaluate(FAULTS)["over"] == 0


def test_codes_give_the_librarys_picture_and_answer(browser: Browser, address: str) -> None:
    codes = torch.randint(0, 64, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    with watched(browser) as (page, seen):
        page.goto(f"{address}notebooks/{code_swap.LESSON[0]}.html")
        script = """async (painter, codes) => {
          const { pictures, shares } = await painter.run('pictures', { codes: [codes, [2, 8, 8]] });
          return [[...pictures.data], [...shares.data]];
        }"""
        found = painted(page, address, script, codes.flatten().tolist(), folder=code_swap.FOLDER)
        assert seen.complaints == []
    with torch.no_grad():
        pictures, shares = code_swap.graph().module(codes)
    assert np.abs(np.array(found[0]) - pictures.flatten().numpy()).max() <= 1 / 255
    assert np.abs(np.array(found[1]) - shares.flatten().numpy()).max() <= 1e-3


def test_codes_of_a_sprite_can_be_swapped(screen: Page, address: str) -> None:
    screen.goto(f"{address}notebooks/{code_swap.LESSON[0]}.html")
    screen.get_by_role("button", name="Change the codes here").click()
    expect(screen.locator("p.status")).to_have_text("Choose a code, then cells.", timeout=SECONDS)
    expect(screen.locator(".says")).to_contain_text("The judge says: house", timeout=SECONDS)
    before, after = screen.locator(".swap canvas").all()
    assert picture_of(before) == picture_of(after)
    cell = screen.locator(".codes button").nth(27)
    chosen = "13" if cell.inner_text() != "13" else "14"
    screen.get_by_role("button", name=f"code {chosen}", exact=True).click()
    cell.click()
    expect(cell).to_have_attribute("aria-label", f"row 4, column 4: code {chosen}")
    screen.wait_for_function(
        "([one, two]) => one.toDataURL() !== two.toDataURL()",
        arg=[before.element_handle(), after.element_handle()],
        timeout=SECONDS,
    )
    screen.get_by_role("button", name="Undo all changes").click()
    screen.wait_for_function(
        "([one, two]) => one.toDataURL() === two.toDataURL()",
        arg=[before.element_handle(), after.element_handle()],
        timeout=SECONDS,
    )
    screen.get_by_label("Sprite", exact=True).select_option("mushroom")
    expect(screen.locator(".says")).to_contain_text("The judge says: mushroom", timeout=SECONDS)
    assert screen.evaluate(FAULTS)["over"] == 0


def picture_of(canvas: Locator) -> str:
    """The content of a canvas."""
    return canvas.evaluate("canvas => canvas.toDataURL()")


def test_guidance_can_be_changed_in_lesson_5(screen: Page, address: str) -> None:
    screen.goto(address + "notebooks/5_full_pipeline.html")
    screen.get_by_role("button", name="Change the settings here").click()
    expect(screen.locator("p.status")).to_have_text("Ready.", timeout=SECONDS)
    prompt = "a cartoon of a green cat in a meadow"
    assert len(draw(screen, prompt, guidance=0)) == live.KNOBS_PICTURES
    before = pixels(screen)
    draw(screen, prompt, guidance=6)
    assert set(pixels(screen)).isdisjoint(before)
    assert control(screen, "guidance").input_value() == "6"


def test_cells_without_live_controls_keep_their_still_picture() -> None:
    assert live.live_place("2a_vanilla_gan", "explore(\n    swapped,\n)", "<img>") is None
    assert live.live_place("1_building_blocks", "print(1)", "<img>") is None
    assert "<img>" in (live.live_place("2b_autoencoder", "explore(\n    walk_to,\n)", "<img>") or "")
    assert "<img>" in (live.live_place("2d_vq_vae", "explore(\n    swapped,\n)", "<img>") or "")
