"""Drawing with WebGPU, on a GPU that chromium imitates in software; without the test's word no page would use it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import Seen, watched
from chromium import chromium
from drawing_page import painted
from playwright.sync_api import Browser, Page

IMITATION = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
REAL = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });"
DRAW = """async (painter, codes) => {
  const { pictures } = await painter.run('picture_decoder', { codes: [codes, [1, 8, 8]] });
  const { vectors } = await painter.run('picture_tower', { pictures: [pictures.data, pictures.dims] });
  return [[...pictures.data], [...vectors.data]];
}"""
CODES = list(range(0, 1024, 16))


@pytest.fixture(scope="module")
def browser_with_gpu(browser: Browser) -> Iterator[Browser]:
    started = browser.browser_type.launch(executable_path=chromium(), args=["--no-sandbox", *IMITATION])
    yield started
    started.close()


@pytest.fixture
def watching(browser_with_gpu: Browser) -> Iterator[tuple[Page, Seen]]:
    with watched(browser_with_gpu) as opened:
        yield opened


def drawn(page: Page, address: str) -> tuple[np.ndarray, np.ndarray]:
    """The picture of some codes, and CLIP's vector of it."""
    page.goto(address + "glossary.html")
    picture, vector = painted(page, address, DRAW, CODES)
    return np.array(picture), np.array(vector)


def fetched(seen: Seen) -> set[str]:
    return {urlsplit(url).path.rpartition("/")[2] for url in seen.requests}


def test_a_gpu_gives_the_pictures_and_vectors_of_webassembly(
    watching: tuple[Page, Seen], browser: Browser, address: str
) -> None:
    page, seen = watching
    page.add_init_script(REAL)
    picture, vector = drawn(page, address)
    assert {"onnxruntime-webgpu.bin", "onnxruntime-webgpu.mjs"} <= fetched(seen)
    assert not {"onnxruntime-wasm.bin", "onnxruntime-wasm.mjs"} & fetched(seen)
    assert seen.complaints == []
    with watched(browser) as (plain, _):
        expected = drawn(plain, address)
    assert np.abs(picture - expected[0]).max() <= 2 / 255
    assert np.abs(vector - expected[1]).max() <= 1e-3


def test_a_gpu_that_is_imitated_in_software_is_not_used(watching: tuple[Page, Seen], address: str) -> None:
    page, seen = watching
    drawn(page, address)
    assert "onnxruntime-wasm.bin" in fetched(seen)
    assert "onnxruntime-webgpu.bin" not in fetched(seen)


def test_where_the_gpu_cannot_run_a_graph_webassembly_does(watching: tuple[Page, Seen], address: str) -> None:
    page, seen = watching
    page.add_init_script(REAL)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))

    def without_provider(route) -> None:
        route.fulfill(response=route.fetch(), body=route.fetch().text().replace('["webgpu"]', '["none"]'))

    page.route("**/runtime.js", without_provider)
    picture, _ = drawn(page, address)
    assert 0 <= picture.min() < picture.max() <= 1
    assert {line.split(" ")[0] for line in said if "runs without the GPU" in line} == {
        "picture_decoder",
        "picture_tower",
    }
    assert "onnxruntime-webgpu.bin" in fetched(seen)
