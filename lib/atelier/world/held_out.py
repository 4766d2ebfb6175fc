"""Combinations that are held out of all training except the judge's.

They measure composition: a model that has seen strawberries, and blue things, but never a blue strawberry, should draw
one when asked. `World.sample` applies the list, and a test checks it on a million scenes.
"""

from __future__ import annotations

from atelier.world.scenes import Scene

HELD_OUT: tuple[tuple[str, str, str], ...] = (
    # (subject, attribute, value); the first ten lie in the small world
    ("Eiffel tower", "setting", "moon"),
    ("cat", "setting", "beach"),
    ("house", "setting", "desert"),
    ("strawberry", "colour", "blue"),
    ("cat", "colour", "green"),
    ("mushroom", "colour", "purple"),
    ("car", "colour", "yellow"),
    ("car", "style", "stained glass"),
    ("butterfly", "style", "watercolour"),
    ("hot-air balloon", "setting", "forest"),
    ("rocket", "setting", "under the sea"),
    ("penguin", "setting", "desert"),
    ("robot", "setting", "castle"),
    ("teapot", "colour", "turquoise"),
    ("owl", "colour", "pink"),
    ("guitar", "colour", "green"),
    ("umbrella", "style", "paper cut-out"),
    ("turtle", "style", "pencil drawing"),
)


def is_held_out(scene: Scene) -> bool:
    """Whether the scene shows a held-out combination, with its first or its second subject."""
    subjects = [(scene.subject, scene.colour), *([scene.second] if scene.second else [])]
    for subject, colour in subjects:
        values = {"setting": scene.setting, "colour": colour, "style": scene.style}
        if any(subject == name and values[attribute] == value for name, attribute, value in HELD_OUT):
            return True
    return False
