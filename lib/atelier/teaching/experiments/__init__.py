"""Experiments that take longer than a lesson: each arm is run with several seeds, and the results are stored.

`make claims` runs what is missing and stores each result at once, so it can be interrupted. A lesson shows the stored
results, and may run one arm with one seed again. Results are valid only for the weights with which they were measured.

If $ATELIER_SEED_OFFSET is set, the number is added to every seed, and the results are in data/experiments/NUMBER/. So
claims can be measured again with other seeds: `make recheck`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from atelier.errors import AtelierError
from atelier.weights.storage import replace_file, write_lock
from atelier.weights.streams import sha256

COURSE = Path(__file__).parents[4]
FOLDER = COURSE / "data" / "experiments"


def seed_offset() -> int:
    """Read $ATELIER_SEED_OFFSET, which is added to every seed; 0 if it is not set."""
    return int(os.environ.get("ATELIER_SEED_OFFSET") or 0)


def results_folder() -> Path:
    """Return the folder of the results that were measured with the present offset of the seeds."""
    offset = seed_offset()
    return FOLDER / str(offset) if offset else FOLDER


class ExperimentError(AtelierError):
    """The results of an experiment are missing or were measured with other weights; the message says what to do."""


@dataclass(frozen=True)
class Experiment:
    """An experiment whose results are stored in data/experiments/NAME.json.

    Attributes:
        name: the name of the experiment, which begins with its lesson: "2a-ablation".
        question: what it answers, in a sentence.
        arms: the names of the conditions that are compared; they differ only in what is tested.
        seeds: the seeds with which each arm is run.
        run: measures an arm with a seed; returns numbers, or lists of numbers, by name.
        files: the files of data/ that the results depend on, such as "laptop/clip.safetensors".
    """

    name: str
    question: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    run: Callable[[str, int], dict[str, Any]]
    files: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file of the results."""
        return results_folder() / f"{self.name}.json"

    @property
    def used_seeds(self) -> tuple[int, ...]:
        """The seeds with the present offset."""
        return tuple(seed + seed_offset() for seed in self.seeds)

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file that the results depend on."""
        return {file: sha256(COURSE / "data" / file) for file in self.files}

    def missing(self) -> Iterator[tuple[str, int]]:
        """Yield the arms and seeds whose results are not stored, seed by seed."""
        rows = self._rows()
        for seed in self.used_seeds:
            for arm in self.arms:
                if str(seed) not in rows.get(arm, {}):
                    yield arm, seed

    def complete(self) -> Generator[str]:
        """Run what is missing and store each result; yield a line after each."""
        for arm, seed in list(self.missing()):
            result = self.run(arm, seed)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with write_lock(self.path.parent):
                rows = self._rows()
                rows.setdefault(arm, {})[str(seed)] = result
                content = {"question": self.question, "files": self.hashes, "results": rows}
                replace_file(self.path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
            yield f"{self.name}: {arm}, seed {seed}"

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Read the stored results: for each arm what `run` returned, in the order of the seeds.

        Raises:
            ExperimentError: if a result is missing, or if it was measured with other weights.
        """
        missing = [f"{arm} with seed {seed}" for arm, seed in self.missing()]
        if missing:
            raise ExperimentError(f"{self.path} lacks {', '.join(missing)}; make it with `make claims`.")
        rows = self._rows()
        return {arm: [rows[arm][str(seed)] for seed in self.used_seeds] for arm in self.arms}

    def column(self, arm: str, name: str) -> list[Any]:
        """Read one value of an arm, a number or a list of numbers, for each seed.

        Args:
            arm: one of the arms.
            name: the name of the value in what `run` returned.

        Raises:
            ExperimentError: as for `results`.
        """
        return [row[name] for row in self.results()[arm]]

    def _rows(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Read the stored results by arm and seed; if they were measured with other weights, all count as missing."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return stored["results"] if stored["files"] == self.hashes else {}


def all_experiments() -> dict[str, Experiment]:
    """Collect the experiments of all lessons, by name."""
    found: dict[str, Experiment] = {}
    for module in iter_modules(__path__):
        found |= {item.name: item for item in import_module(f"{__name__}.{module.name}").EXPERIMENTS}
    return found
