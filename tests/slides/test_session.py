"""session.md: each slide has notes and minutes, all points of the session are covered, no measurement is typed in."""

import json
import re
from pathlib import Path

import deck
import listing
import pytest
import reasons
from atelier.teaching.claims import CLAIMS
from atelier.teaching.lessons import LESSONS

SOURCES = deck.ROOT / "notebooks" / "source"

# The points of the workshop's own slides; the notes of a slide name the point that it makes.
SESSION = (
    "Illustrative Session on Image Generative Models with Dall.E Mini",
    "AI model drawing images from any prompt!",
    "the Eiffel tower landing on the moon",
    "Dall.E Mini, Text to Image",
    "Part 1: Building Blocks of Dall.E Mini",
    "BART-based Encoder-Decoder: Encodes captions as embedding vectors",
    "VQ-GAN: Decodes caption embeddings into Images",
    "CLIP: Evaluates caption-image relevance",
    "Part 2: Generative Adversarial Networks (GANs)",
    "Dall.E Mini uses a variant of GANs called VQ-GANs",
    "The evolution of VQ-GANs",
    "Vanilla GAN",
    'Autoencoder (AE): The latent space is discontinuous and has significant "gaps".',
    "Autoencoder (AE): loss = ‖x − x̂‖₂",
    "Variational Autoencoder (VAE): The latent space is more cohesive – resembles the unit norm.",
    'Variational Autoencoder (VAE): Overlapping regions produce "morphed" images.',
    "Vector-Quantized Variational Autoencoder (VQ-VAE): The latent space is discrete.",
    'Vector-Quantized Variational Autoencoder (VQ-VAE): No "morphed" outputs.',
    "Vector-Quantized Variational Autoencoder (VQ-VAE): Latent space has same dimensions as codebook.",
    "Vector-Quantized Variational Autoencoder (VQ-VAE): q(z = e_k | x)",
    "Vector-Quantized Variational Autoencoder (VQ-VAE): Adding the VQ layer to the AE",
    "Vector-Quantized Variational Autoencoder (VQ-VAE): The Vector-Quantization Layer",
    "Vector-Quantized Variational Autoencoder (VQ-VAE): The Codebook",
    "Vector-Quantized Variational GAN (VQ-GAN)",
    "Part 3: BART Encoder-Decoder",
    'A BART model is pre-trained to "clean" text captions.',
    "For Dall.E Mini, the BART model translates captions into the codebook vocabulary.",
    "The codebook of VQ-GAN, in effect, maps text embeddings to image embeddings.",
    "What BART does: Translates captions to codebook vocabulary",
    "Part 4: CLIP to Rank Images by Relevance",
    "Python Code Demo",
    "CLIP is a neural network trained on a variety of (image, text) pairs",
    "It can be instructed in natural language to predict the most relevant text snippet",
    "CLIP is thus similar to the zero-shot capabilities of GPT-2 and 3",
    "CLIP matches the performance of the original ResNet50 on ImageNet",
    "CLIP Architecture: (1) Contrastive pre-training",
    "CLIP Architecture: (2) Create dataset classifier from label text",
    "CLIP Architecture: (3) Use for zero-shot prediction",
    "Contrastive pre-training is a type of self-supervised learning technique",
    "Relevance Scores: sunset over a lake in the mountains, 31.59, 31.45, 30.44",
    "Part 5: Piecing the blocks together.",
    "The Dall.E Mini Text-to-Image Pipeline.",
    "Examples of Generated Images: a stained glass window with an image of a blue strawberry",
    "Examples of Generated Images: a photo of the food of china",
    "Thank you for listening! Questions?",
)
WORDS = 62  # on a slide, besides its heading and figures; more cannot be read from the last row


def visible(slide: deck.Slide) -> str:
    """The Markdown of a slide without notes and settings."""
    return re.sub(r"<!--.*?-->", "", slide.source, flags=re.DOTALL)


def sections(lesson: str) -> set[str]:
    """A lesson's second-level headings, such as "2 · The idea"."""
    source = (SOURCES / f"{lesson}.py").read_text(encoding="utf-8")
    return set(re.findall(r"^# ## (.+)$", source, re.MULTILINE))


def test_every_slide_has_notes_with_minutes_and_spoken_text(slides: list[deck.Slide]) -> None:
    lacking = [
        f"{slide.number}: {slide.title}" for slide in slides if slide.minutes <= 0 or len(slide.say.split()) < 20
    ]
    assert lacking == []


def test_minutes_add_up_to_ninety_in_less_than_sixty_slides(slides: list[deck.Slide]) -> None:
    assert sum(slide.minutes for slide in slides) == 90
    assert 40 <= len(slides) < 60


def test_clocks_of_exercises_show_the_minutes_of_the_notes(slides: list[deck.Slide]) -> None:
    turns = [slide for slide in slides if "_class: turn" in slide.source]
    shown = [re.search(r'class="clock"><b>(.+?)</b>', slide.source) for slide in turns]
    assert len(turns) >= 5
    assert [match[1].replace("½", ".5") if match else None for match in shown] == [
        f"{slide.minutes:g}" for slide in turns
    ]


def test_every_slide_has_a_heading_a_map_and_a_part(slides: list[deck.Slide]) -> None:
    assert all(slide.title for slide in slides)
    ordinary = [slide for slide in slides if "_class: part" not in slide.source and "_class: cover" not in slide.source]
    assert [slide.title for slide in ordinary if "{{mark " not in slide.source] == []
    assert [slide.part for slide in slides] == sorted(slide.part for slide in slides)
    assert {slide.part for slide in slides} == {"0", *deck.PARTS}


@pytest.mark.parametrize("point", SESSION)
def test_the_session_is_covered(slides: list[deck.Slide], point: str) -> None:
    assert any(said.startswith(point) for slide in slides for said in slide.facts.get("Session", ()))


def test_every_slide_leads_to_a_section_of_a_lesson(slides: list[deck.Slide]) -> None:
    names = {lesson.name for lesson in LESSONS.values()}
    for slide in slides:
        assert slide.facts.get("Lesson"), f"Slide {slide.number} names no lesson."
        for place in slide.facts["Lesson"]:
            lesson, _, section = place.partition(", ")
            assert lesson in names
            if (SOURCES / f"{lesson}.py").is_file():
                assert section in sections(lesson), f"Slide {slide.number}: {lesson} has no section {section!r}."


def test_every_exercise_on_a_slide_is_one_of_its_lesson(slides: list[deck.Slide]) -> None:
    for slide in slides:
        for key, answer in re.findall(r'check\("([\w.]+)", (\w+)\)', visible(slide)):
            lesson = LESSONS[key.partition(".")[0]]
            source = SOURCES / f"{lesson.name}.py"
            assert not source.is_file() or f'check("{key}", {answer})' in source.read_text(encoding="utf-8")


def test_every_claim_is_on_a_slide(slides: list[deck.Slide]) -> None:
    named = {key for slide in slides for key in slide.facts.get("Claim", ())}
    assert named == set(CLAIMS)


def plates(slide: deck.Slide) -> list[str]:
    """The claims whose verdicts are on a slide."""
    found = re.findall(r"\{\{(?:claims|verdict) ([^}]+)\}\}", visible(slide))
    return [key.strip() for keys in found for key in keys.split(",")]


def test_plates_stand_on_slides_whose_notes_name_the_claim(slides: list[deck.Slide]) -> None:
    for slide in slides:
        assert set(plates(slide)) <= set(slide.facts.get("Claim", ())) | {"clip-ranks"}, slide.title


def test_every_plate_that_does_not_say_holds_has_a_short_reason(slides: list[deck.Slide]) -> None:
    shown = {key for slide in slides for key in plates(slide)}
    assert len(shown) >= 15
    for key in shown:
        measurement, verdict = deck.measured()[key]
        said = reasons.reason(key, measurement, verdict)
        assert bool(said) == (verdict != "holds"), key
        assert len(said.split()) <= 18, said
        assert verdict == "holds" or reasons.REASONS[key][0] == verdict, f"{key} needs a reason for {verdict!r}."


def test_a_reason_has_the_numbers_of_the_measurement() -> None:
    one = "frames, a minus b: -56.8 %; the interval from -60.1 % to -53.5 % (4 seeds) lies below 0.5 %."
    two = f"{one} kinds: 2.25 kinds; the interval from 0.7 kinds to 3.77 kinds (4 seeds) lies above 0.5 kinds."
    assert reasons.numbers_of(one)["value0"] == "−56.8 %"
    assert reasons.numbers_of(two)["limit0"] == "0.5 %"
    assert reasons.numbers_of(two)["value1"] == "2.25 kinds"
    assert reasons.reason("ae-gaps", two, "holds") == ""
    assert reasons.reason("any-prompt", one, "does not hold").count("−56.8 %") == 1
    assert (
        reasons.reason("any-prompt", one, "undecided") == "Measured: −56.8 % (−60.1 % to −53.5 %); the limit is 0.5 %."
    )


def test_every_verdict_appears_after_a_step(slides: list[deck.Slide]) -> None:
    filled = deck.filled(deck.SOURCE.read_text(encoding="utf-8"))
    labels = re.findall(r'<span class="verdict [^>]*>', filled)
    assert len(labels) == sum(len(plates(slide)) for slide in slides)
    assert [label for label in labels if deck.STEP not in label] == []


def test_a_slide_that_asks_for_votes_has_no_answers_and_the_next_one_has(slides: list[deck.Slide]) -> None:
    asking = [slide for slide in slides if "{{vote " in slide.source]
    assert asking
    for slide in asking:
        (keys,) = re.findall(r"\{\{vote ([^}]+)\}\}", slide.source)
        assert plates(slide) == []
        assert "Claim" not in slide.facts
        assert plates(slides[slide.number]) == [key.strip() for key in keys.split(",")]


def test_code_on_slides_is_that_of_the_library(slides: list[deck.Slide]) -> None:
    listed = [names for slide in slides for names in re.findall(r"\{\{code ([^}]+)\}\}", slide.source)]
    shown = [name for names in listed for name in names.split()]
    assert len(shown) >= 6
    for name in shown:
        file = deck.ROOT / "lib" / f"{name.partition(':')[0].replace('.', '/')}.py"
        library = re.sub(r"\s", "", file.read_text(encoding="utf-8"))
        for line in listing.source_of(name).splitlines():
            assert re.sub(r"\s", "", line) in library, line


def test_a_listing_follows_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '''
def doubled(numbers: "list[int]") -> "list[int]":
    """Twice each number."""
    # Not shown.
    for number in numbers:  # (n,)
        print(number, numbers, numbers, numbers, numbers, numbers, numbers)  # too wide with this
    return [2 * number for number in numbers if number < 3]
'''
    (tmp_path / "shown_code.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert listing.source_of("shown_code:doubled").splitlines() == [
        'def doubled(numbers: "list[int]") -> "list[int]":',
        "    for number in numbers:  # (n,)",
        "        print(number, numbers, numbers, numbers, numbers, numbers, numbers)",
        "    return [2 * number for number in numbers if number < 3]",
    ]
    assert listing.source_of("shown_code:doubled@for").splitlines()[0] == "for number in numbers:  # (n,)"
    assert listing.source_of("shown_code:doubled@body").splitlines()[-1].startswith("return [2 * number")
    coloured = listing.listing("shown_code:doubled@body")
    assert '<span class="keyword">return</span>' in coloured
    assert "number &lt; 3" in coloured
    assert '<span class="comment"># (n,)</span>' in coloured
    for wrong in ("shown_code:tripled", "shown_code:doubled@while", "no_such_module:doubled"):
        with pytest.raises(listing.ListingError):
            listing.source_of(wrong)


def test_no_measurement_is_typed(slides: list[deck.Slide]) -> None:
    """Shares and decimals come from files. Exercises have their own numbers, and one slide quotes the session's."""
    for slide in slides:
        text = visible(slide).replace("31.59, 31.45, 30.44", "")
        bare = re.sub(r'\{\{.*?\}\}|!\[.*?\]|<p class="credit">.*?</p>', "", text, flags=re.DOTALL)
        assert re.findall(r"\d ?%", bare) == [], slide.title
        assert "_class: turn" in slide.source or re.findall(r"\d+\.\d+", bare) == [], slide.title


def test_few_words(slides: list[deck.Slide]) -> None:
    many = {}
    for slide in slides:
        text = re.sub(r"\{\{.*?\}\}|\$\$.*?\$\$|!\[.*?\]\(.*?\)|<p class=\"credit\">.*?</p>", "", visible(slide),
                      flags=re.DOTALL)  # fmt: skip
        words = re.sub(r"<[^>]+>|^#.*$|[#>*|-]", " ", text, flags=re.MULTILINE).split()
        if len(words) > WORDS:
            many[slide.title] = len(words)
    assert many == {}


def test_every_figure_is_described(slides: list[deck.Slide]) -> None:
    for slide in slides:
        for alt in re.findall(r"!\[(?!bg)([^\]]*)\]", slide.source):
            assert len(alt.split()) >= 5, f"Slide {slide.number} has a figure without words."
        for arguments in re.findall(r"\{\{pictures ([^|}]*)\|([^|}]*)", slide.source):
            assert len(arguments[1].split()) >= 3, f"Slide {slide.number} has pictures without words."


# ---------------------------------------------------------------------------------------------- macros


def test_the_error_of_a_wrong_macro_names_it_and_its_slide() -> None:
    head = "---\nmarp: true\n---\n\n# One\n\n---\n\n# Two\n\n"
    for wrong, said in (
        ("{{verdikt ae-gaps}}", "There is no 'verdikt'"),
        ("{{verdict ae-gap}}", "There is no claim 'ae-gap'"),
        ("{{number weight of the moon}}", "figures.py has no number 'weight of the moon'"),
        ("{{mark BERT}}", "BERT is not on the map"),
        ("{{pictures nobody 3 100 | nobody at all}}", "There are no pictures nobody-1.png"),
        ("{{film nothing 200 10 | nothing at all}}", "There is no film-nothing.png"),
        ("{{code atelier.blocks.vq:Quantiser}}", "The library has no 'atelier.blocks.vq:Quantiser'"),
        ("{{pictures tower 3 100 | nine towers there | a; b}}", "2 labels for 9 pictures"),
        ("![a figure](figures/none.png)", "none.png"),
    ):
        with pytest.raises(deck.DeckError, match="Slide 2, “Two”: ") as caught:
            deck.filled(head + wrong)
        assert said in str(caught.value)


def test_numbers_come_from_their_files() -> None:
    stored = json.loads((deck.ROOT / "data/laptop/evaluation.json").read_text(encoding="utf-8"))
    source = "---\nmarp: true\n---\n\n# One\n\n{{data data/laptop/evaluation.json held_out.all .1%}}"
    assert f"{stored['held_out']['all']:.1%}" in deck.filled(source)


def test_a_claim_that_is_not_measured_yet_names_its_lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deck, "measured", dict)
    assert "lesson 4 measures it" in deck.verdict("clip-pairs")


def test_notes_begin_with_the_clock_and_the_measurements() -> None:
    note = "# One\n\n<!--\nMinutes: 1.5\nClaim: ae-gaps\nLesson: 2b_autoencoder, 6 · Break it\n\nSay this.\n-->"
    filled = deck.filled(f"---\nmarp: true\n---\n\n{note}\n---\n\n{note}")
    first, second = deck.NOTES.findall(filled)
    assert first.strip().startswith("0:00:00 to 0:01:30\n\nMeasured, “The latent space is discontinuous")
    assert second.strip().startswith("0:01:30 to 0:03:00\n\nMeasured")
    measured, say, lesson = map(first.index, (deck.measured()["ae-gaps"][0], "Say this.", "2b_autoencoder"))
    assert measured < say < lesson
    assert "Minutes:" not in first


def test_notes_have_the_time_since_the_start_of_the_part(slides: list[deck.Slide]) -> None:
    place = next(slide.number for slide in slides if slide.part == "2")
    filled = deck.filled(deck.SOURCE.read_text(encoding="utf-8"))
    said = [note.strip().splitlines()[0] for note in deck.NOTES.findall(filled)]
    start = deck.starts(slides)[place]
    assert said[0] == "0:00:00 to 0:01:00"
    assert said[place] == (
        f"{deck.clock(start)} to {deck.clock(start + slides[place].minutes)}; in part 2, 0:00:30 to "
        f"{deck.clock(slides[place].minutes + 0.5)}"
    )


def test_the_last_slide_ends_at_an_hour_and_a_half(slides: list[deck.Slide]) -> None:
    assert deck.starts(slides)[0] == 0
    assert deck.clock(deck.starts(slides)[-1] + slides[-1].minutes) == "1:30:00"


def test_coverage_is_up_to_date(slides: list[deck.Slide]) -> None:
    assert deck.COVERAGE.read_text(encoding="utf-8") == deck.coverage(slides), "Run make slides."


def test_lock_file_names_no_registry() -> None:
    lock = json.loads((deck.HERE / "package-lock.json").read_text(encoding="utf-8"))
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


def test_every_figure_is_on_a_slide() -> None:
    source = deck.SOURCE.read_text(encoding="utf-8")
    named = set(re.findall(r"\(figures/([\w-]+)\.png\)", source))
    families = {arguments.split()[0] for arguments in re.findall(r"\{\{pictures (.+?)\|", source)}
    named |= {f"film-{arguments.split()[0]}" for arguments in re.findall(r"\{\{film (.+?)\|", source)}
    for path in Path(deck.FIGURES).glob("*.png"):
        assert path.stem in named or path.stem.rpartition("-")[0] in families, f"No slide shows {path.name}."
