"""What only lessons use: figures with alternative text, controls, exercises, claims, the glossary."""

from atelier.teaching.claims import verdict
from atelier.teaching.controls import Control, choice, entry, explore, slider
from atelier.teaching.drawing_panel import drawing_panel
from atelier.teaching.exercises import check
from atelier.teaching.figures import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    curves,
    figure,
    picture_grid,
    sheet,
    show,
)
from atelier.teaching.glossary import glossary
from atelier.teaching.lessons import lesson_header
from atelier.teaching.pipeline_map import pipeline_map
from atelier.teaching.room import join_room, leave_room, room_panel, share

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "YELLOW",
    "Control",
    "check",
    "choice",
    "curves",
    "drawing_panel",
    "entry",
    "explore",
    "figure",
    "glossary",
    "join_room",
    "leave_room",
    "lesson_header",
    "picture_grid",
    "pipeline_map",
    "room_panel",
    "share",
    "sheet",
    "show",
    "slider",
    "verdict",
]
