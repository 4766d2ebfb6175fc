"""The scripts that draw in a browser do what the library does: the same tokens, the same codes without chance."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from atelier import Pipeline
from atelier.decoding import Sampling, SamplingOptions, probabilities, sample_codes
from atelier.drawing.prompts import unknown_words
from atelier.weights.preset import load_preset
from browsing import watched
from drawing_page import painted
from playwright.sync_api import Browser, Page

PROMPTS = [
    "the Eiffel tower landing on the moon",
    "a stained glass window with an image of a blue strawberry",
    "a cartoon of a green cat in a meadow",
    "🦒 giraffe",
    "night over the city " * 9,
]
TEXTS = [
    *PROMPTS,
    "",
    " ",
    "a",
    "  A  Red\tCat\n",
    "it's a cat's house, isn't it? 12 cats-and-dogs!!",
    "ＦＵＬＬ width ﬁne ① ℌ",
    "zero\u200bwidth \u00ad soft \ufeff mark \x00\x07\x85 control",
    "ΣΊΣΥΦΟΣ ΟΔΟΣ İstanbul ẞ Å",
    "北京 的 貓 🐈‍⬛ привет مرحبا",
    "</s> <s> <pad> <unk>",
    "x" * 500,
    "\u2003em\u3000space\u1680ogham",
    "'s 't 're 've 'm 'll 'd ''' 's",
    "½ ² ٣ Ⅷ 1,000.50",
    "e\u0301 é",
]


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    with watched(browser) as (page, seen):
        page.goto(address + "glossary.html")
        yield page
        assert seen.elsewhere(address) == []
        assert seen.complaints == []


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_pretrained("laptop", device="cpu")


def module(page: Page, address: str, name: str, body: str, argument: object = None) -> Any:
    """Run a function of a script's exports and of an argument, in the page."""
    return page.evaluate(
        f"async ([address, argument]) => ({body})(await import(address), argument)",
        [f"{address}_static/drawing/{name}", argument],
    )


def test_the_tokenizer_gives_the_librarys_ids(page: Page, address: str) -> None:
    found = module(
        page,
        address,
        "tokenizer.js",
        """async ({ Tokenizer }, [folder, texts]) => {
          const [file, { tokens }] = await Promise.all(
            ['tokenizer.json', 'drawing.json'].map(async name => (await fetch(folder + name)).json()));
          const tokenizer = new Tokenizer(file, tokens);
          return [...texts.map(text => tokenizer.encode(text, 32)), tokenizer.emptyCaption(32)];
        }""",
        [f"{address}_static/models/laptop/", TEXTS],
    )
    tokenizer = load_preset("laptop").load_tokenizer()
    assert found == [*tokenizer.encode(TEXTS, 32).tolist(), tokenizer.empty_caption(32).tolist()]


def test_lone_surrogates_are_left_out(page: Page, address: str) -> None:
    """They cannot be passed to the page as text, so the page makes them itself."""
    same = module(
        page,
        address,
        "tokenizer.js",
        """async ({ Tokenizer }, folder) => {
          const file = await (await fetch(folder + 'tokenizer.json')).json();
          const tokenizer = new Tokenizer(file, { start: 0, pad: 1, end: 2 });
          return `${tokenizer.pieces('a c\\ud800at \\udc00')}` === `${tokenizer.pieces('a cat ')}`;
        }""",
        f"{address}_static/models/laptop/",
    )
    assert same is True


@pytest.mark.parametrize(
    "how",
    [{}, {"temperature": 0.0}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.4}, {"top_k": 9, "top_p": 0.8}],
    ids=str,
)
def test_the_sampling_is_the_librarys(how: SamplingOptions, page: Page, address: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, uniforms = 3 * torch.randn(60, 16, generator=generator), torch.rand(60, generator=generator)
    sampling = Sampling(**how)
    found = module(
        page,
        address,
        "sampling.js",
        """({ nextCode }, [logits, uniforms, how]) =>
          logits.map((row, i) => nextCode(Float32Array.from(row), how, uniforms[i]))""",
        [logits.tolist(), uniforms.tolist(), vars(sampling)],
    )
    assert found == sample_codes(probabilities(logits, sampling), uniforms).tolist()


def test_a_random_number_at_the_end_of_the_range_gives_a_code_that_is_possible(page: Page, address: str) -> None:
    logits = [0.1] * 7 + [-1000.0]
    code = module(
        page,
        address,
        "sampling.js",
        "({ nextCode }, logits) => nextCode(Float32Array.from(logits), { temperature: 1 }, 1 - 2 ** -53)",
        logits,
    )
    assert code == 6


def test_random_numbers_are_uniform_and_belong_to_seed_and_picture(page: Page, address: str) -> None:
    numbers = module(
        page,
        address,
        "random.js",
        """({ uniformNumbers }) => [[0, 0], [0, 1], [1, 0], [2 ** 31 - 1, 0], [2 ** 40, 0], [-1, 0]].map(
          ([seed, picture]) => [...uniformNumbers(seed, picture, 4000)])""",
    )
    rows = np.array(numbers)
    assert rows.min() >= 0
    assert rows.max() < 1
    assert np.abs(rows.mean(axis=1) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.06
    for row in rows:
        shares, _ = np.histogram(row, bins=10, range=(0, 1))
        assert np.abs(shares - 400).max() < 80
    again = module(page, address, "random.js", "({ uniformNumbers }) => [...uniformNumbers(1, 0, 5)]")
    assert again == rows[2, :5].tolist()


def test_unknown_words_are_those_of_the_library(page: Page, address: str) -> None:
    words = load_preset("laptop").words
    find = "({ unknownWords }, [texts, words]) => texts.map(text => unknownWords(text, words))"
    found = module(page, address, "words.js", find, [TEXTS, words])
    assert found == [unknown_words(text, words) for text in TEXTS]


@pytest.mark.parametrize("guidance", [None, 1.0, 4.0])
def test_without_chance_codes_pictures_and_scores_are_the_librarys(
    guidance: float | None, page: Page, address: str, pipeline: Pipeline
) -> None:
    how: SamplingOptions = {"temperature": 0.0}
    if guidance is not None:
        how["guidance"] = guidance
    script = """async (painter, [prompts, how]) => {
      const all = [];
      for (const prompt of prompts) {
        const { codes, pixels, scores } = await painter.draw({ prompt, pictures: 1, seed: 0, ...how });
        all.push({ codes: codes[0], pixels: [...pixels], score: scores[0] });
      }
      return all;
    }"""
    prompts = PROMPTS if guidance is None else PROMPTS[:2]
    found = painted(page, address, script, [prompts, how])
    for prompt, theirs in zip(prompts, found, strict=True):
        ours = pipeline.draw(prompt, n=1, seed=0, **how)
        assert theirs["codes"] == ours.codes.flatten().tolist()
        assert np.abs(np.array(theirs["pixels"]) - ours.pictures.numpy().ravel()).max() <= 2 / 255
        assert ours.scores is not None
        assert theirs["score"] == pytest.approx(ours.scores[0], abs=0.02)


def test_a_picture_does_not_depend_on_those_drawn_with_it(page: Page, address: str) -> None:
    one, three = painted(
        page,
        address,
        """async (painter, prompt) => {
          const draw = async how => (await painter.draw({ prompt, seed: 3, ...how })).codes;
          return [await draw({ first: 1, pictures: 1 }), await draw({ pictures: 3 })];
        }""",
        PROMPTS[0],
    )
    assert one == three[1:2]
    assert three[0] != three[1]
