"""The lessons: which there are, in which order, and the header with which each begins."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from IPython.display import HTML, display

from atelier.teaching.figures import STYLE, show
from atelier.teaching.pipeline_map import describe, pipeline_map

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"
MINUTES_FILE = "source/tools/minutes.json"


@dataclass(frozen=True)
class Lesson:
    """One notebook.

    Attributes:
        key: "2a".
        name: the notebook's file name, without its ending.
        title: its heading.
        question: what it answers.
        lit: the parts of the pipeline map that it is about.
        blocks: modules of atelier.blocks whose public classes and functions its cells define, all of them or those
            named: module → names, () for all.
    """

    key: str
    name: str
    title: str
    question: str
    lit: tuple[str, ...]
    blocks: dict[str, tuple[str, ...]]


LESSONS: dict[str, Lesson] = {
    lesson.key: lesson
    for lesson in (
        Lesson(
            "1",
            "1_building_blocks",
            "Building blocks",
            "What passes from block to block, when a sentence becomes a picture?",
            ("prompt", "BART", "codes", "decoder", "pictures", "CLIP"),
            {},
        ),
        Lesson(
            "2a",
            "2a_vanilla_gan",
            "The vanilla GAN",
            "How can a network learn to draw when nobody can say what a good picture is?",
            ("GAN",),
            {"gan": ()},
        ),
        Lesson(
            "2b",
            "2b_autoencoder",
            "The autoencoder",
            "Can a picture be two numbers, and what lies between two pictures?",
            ("AE",),
            {"autoencoder": ()},
        ),
        Lesson(
            "2c",
            "2c_vae",
            "The variational autoencoder",
            "How does one fill the gaps, so that any point of the latent space is a picture?",
            ("VAE",),
            {"vae": ()},
        ),
        Lesson(
            "2d",
            "2d_vq_vae",
            "The VQ-VAE",
            "How does a picture become a sentence of words from a codebook?",
            ("VQ-VAE", "codes"),
            {"vq": ()},
        ),
        Lesson(
            "2e",
            "2e_vq_gan",
            "The VQ-GAN",
            "Few codes blur. What makes the picture sharp again?",
            ("VQ-GAN", "decoder"),
            {"vqgan": ()},
        ),
        Lesson(
            "3",
            "3_bart",
            "BART, the translator",
            "How does a sentence become the codes of a picture?",
            ("prompt", "BART", "codes"),
            {"bart": ()},
        ),
        Lesson(
            "4",
            "4_clip",
            "CLIP, the critic",
            "Which of nine pictures fits its sentence best, and what is the answer worth?",
            ("pictures", "CLIP"),
            {"clip": ()},
        ),
        Lesson(
            "5",
            "5_full_pipeline",
            "The full pipeline",
            "What does the whole machine understand, and what not?",
            ("prompt", "BART", "codes", "decoder", "pictures", "CLIP"),
            {},
        ),
    )
}


@dataclass(frozen=True)
class Minutes:
    """What a lesson takes. read: at a sofa's pace. cpu, gpu: to run it, measured; None where it was not."""

    read: float
    cpu: float | None = None
    gpu: float | None = None

    def __str__(self) -> str:
        measured = [(self.cpu, "two CPU cores"), (self.gpu, "a GPU")]
        runs = [f"{minutes:g} to run on {where}" for minutes, where in measured if minutes is not None]
        return ", ".join([f"{self.read:g} minutes to read", *runs])


def minutes(folder: Path = NOTEBOOKS) -> dict[str, Minutes]:
    """Lesson's name → its minutes, as `make notebooks` measured them one lesson after the other."""
    table = folder / MINUTES_FILE
    known = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}
    return {name: Minutes(**row) for name, row in known.items()}


def lesson_header(key: str) -> None:
    """Begin a lesson: where on the map we are, the question it answers, and what it takes.

    From here on all plots of the notebook are in the course's style.

    Args:
        key: of the lesson, "2a".

    Raises:
        ValueError: if there is no such lesson.
    """
    if key not in LESSONS:
        raise ValueError(f"There is no lesson {key!r}; there are {', '.join(LESSONS)}.")
    lesson = LESSONS[key]
    mpl.rcParams.update(STYLE)
    show(pipeline_map(lesson.lit), describe(lesson.lit))
    display(HTML(question(lesson)))


def question(lesson: Lesson, folder: Path = NOTEBOOKS) -> str:
    """What a lesson answers and what it takes, as a paragraph of HTML."""
    takes = minutes(folder).get(lesson.name)
    time = f"<br>{takes}" if takes else ""
    return f"<p><b>The question:</b> {html.escape(lesson.question)}{time}</p>"
