"""The lessons: a table of all of them in order, their minutes, and the header at the top of each."""

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
        key: such as "2a".
        name: the notebook's file name, without its ending.
        title: its heading.
        question: that it answers.
        highlighted: the parts of the pipeline map that it is about.
        blocks: the classes and functions of atelier.blocks that its cells define: module → their names, or () for all
            public ones.
    """

    key: str
    name: str
    title: str
    question: str
    highlighted: tuple[str, ...]
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
            {"vq": (), "prior": ()},
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
    """The minutes that a lesson takes.

    Attributes:
        read: to read it without haste.
        cpu: to run it on two CPU cores, as measured; None if it was not measured.
        gpu: to run it on a GPU, likewise.
    """

    read: float
    cpu: float | None = None
    gpu: float | None = None

    def __str__(self) -> str:
        measured = [(self.cpu, "two CPU cores"), (self.gpu, "a GPU")]
        runs = [f"{minutes:g} to run on {where}" for minutes, where in measured if minutes is not None]
        return ", ".join([f"{self.read:g} minutes to read", *runs])


def minutes(folder: Path = NOTEBOOKS) -> dict[str, Minutes]:
    """Name of a lesson → its minutes, as `make notebooks` measured them."""
    table = folder / MINUTES_FILE
    known = json.loads(table.read_text(encoding="utf-8")) if table.is_file() else {}
    return {name: Minutes(**row) for name, row in known.items()}


def lesson_header(key: str) -> None:
    """Display a lesson's place on the pipeline map, its question, and the minutes it takes.

    It also sets the course's style for all plots of the notebook.

    Args:
        key: the key of the lesson, such as "2a".

    Raises:
        ValueError: there is no such lesson.
    """
    if key not in LESSONS:
        raise ValueError(f"There is no lesson {key!r}; there are {', '.join(LESSONS)}.")
    lesson = LESSONS[key]
    mpl.rcParams.update(STYLE)
    show(pipeline_map(lesson.highlighted), describe(lesson.highlighted))
    display(HTML(question(lesson)))


def question(lesson: Lesson, folder: Path = NOTEBOOKS) -> str:
    """A lesson's question and its minutes, as a paragraph of HTML."""
    takes = minutes(folder).get(lesson.name)
    time = f"<br>{takes}" if takes else ""
    return f"<p><b>The question:</b> {html.escape(lesson.question)}{time}</p>"
