"""The presets that the page offers, and their pipelines."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from atelier.drawing.pipeline import Pipeline
from atelier.page.faults import PageError
from atelier.weights.preset import Preset, best_preset, load_preset, log_skipped, readable_presets
from atelier.world import HELD_OUT, named_world
from atelier.world.captions import STYLE_PHRASES, subject_phrase
from atelier.world.settings import SETTINGS
from atelier.world.subjects import COLOURS
from atelier.world.vocabulary import World

KEPT_LOADED = 2  # pipelines


class Presets:
    """The complete presets, by the names under which the page lists them.

    Args:
        first: a preset's name or folder, which is selected first; None selects the best. A folder whose name is that of
            another preset is listed as "NAME (the folder given)".

    Raises:
        PresetError: if there is no such preset, or no complete one. Damaged presets beside it are skipped with a
            warning.
    """

    def __init__(self, first: str | None = None) -> None:
        chosen = best_preset() if first is None else load_preset(first)
        readable, faults = readable_presets()
        if first is not None:
            log_skipped(faults)  # best_preset has done so
        self._presets = {name: preset for name, preset in readable.items() if preset.complete}
        self.first = self._listed(chosen)
        self._loaded: OrderedDict[str, Pipeline] = OrderedDict()
        self._lock = threading.Lock()

    def _listed(self, chosen: Preset) -> str:
        """The name under which a preset is listed; adds it if it is a folder that was not found by name."""
        for name, preset in self._presets.items():
            if preset.folder.resolve() == chosen.folder.resolve():
                return name
        name = Path(chosen.folder).resolve().name
        name = f"{name} (the folder given)" if name in self._presets else name
        self._presets = {name: chosen, **self._presets}
        return name

    @property
    def names(self) -> list[str]:
        """All names, in the order of the page."""
        return list(self._presets)

    def preset(self, name: Any) -> Preset:
        """The preset with a name.

        Raises:
            PageError: if there is none.
        """
        if not isinstance(name, str) or name not in self._presets:
            raise PageError(f"There is no preset {str(name)[:40]!r} here; choose one of {', '.join(self.names)}.")
        return self._presets[name]

    def pipeline(self, name: str) -> Pipeline:
        """Load the pipeline of a preset. The last ones are kept in memory.

        Raises:
            PageError: if there is no preset with this name.
            PresetError: if one of its files is missing or damaged.
        """
        preset = self.preset(name)
        with self._lock:
            if name not in self._loaded:
                while len(self._loaded) >= KEPT_LOADED:
                    self._loaded.popitem(last=False)
                self._loaded[name] = Pipeline.from_pretrained(preset)
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def described(self) -> dict[str, Any]:
        """All that the page says about the presets, as a JSON object."""
        return {"first": self.first, "presets": [_described(name, preset) for name, preset in self._presets.items()]}


def _described(name: str, preset: Preset) -> dict[str, Any]:
    world = named_world(preset.world) if preset.world else None
    return {
        "name": name,
        "size": preset.picture_size,
        "grid": preset.vqgan.grid,
        "codes": preset.vqgan.codes,
        "guidance": preset.sampling.get("guidance", 3.0),
        "temperature": preset.sampling.get("temperature", 1.0),
        "limits": limits(preset, world),
        "vocabulary": None if world is None else phrases(world),
    }


def phrases(world: World) -> dict[str, Any]:
    """The parts of which captions of a world are made.

    Returns:
        "subjects", each alone and in each colour; "colours", each with its shade; "settings", each after a subject and
        alone; "styles", each with {} for what is shown; and "held_out", the combinations that training never showed.
    """
    subjects = [
        {"name": name, "plain": subject_phrase(name), "coloured": {c: subject_phrase(name, c) for c in world.colours}}
        for name in world.subjects
    ]
    return {
        "subjects": subjects,
        "colours": [{"name": name, "shade": _hex(COLOURS[name])} for name in world.colours],
        "settings": [{"name": n, "after": SETTINGS[n].phrase, "alone": SETTINGS[n].name} for n in world.settings],
        "styles": [{"name": name, "around": STYLE_PHRASES[name][0]} for name in world.styles],
        "held_out": [list(combination) for combination in HELD_OUT if combination[0] in world.subjects],
    }


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def limits(preset: Preset, world: World | None) -> str:
    """What a preset cannot do and why, in two sentences."""
    grid, codes = preset.vqgan.grid, preset.vqgan.codes
    details = (
        f"Small details, faces and writing come out wrong, because a picture is only {grid} × {grid} codes from a "
        f"codebook of {codes:,}."
    )
    if world is None:
        return (
            f"It cannot count, and it mixes up which thing has which colour, as its captions seldom said so. {details}"
        )
    return (
        f"It can draw only what it was trained on: {len(world.subjects)} subjects, {len(world.colours)} colours, "
        f"{len(world.settings)} settings and {len(world.styles)} styles, usually one subject to a picture; "
        f"it learned no other words. {details}"
    )
