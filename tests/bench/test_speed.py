"""How long the main jobs take: `make bench`. It prints a table and writes build/bench.json."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
import torch
from atelier import Pipeline
from atelier.world import full_world, paint

PROMPT = "a stained glass window with an image of a blue strawberry"
RESULTS = Path(__file__).resolve().parents[2] / "build" / "bench.json"


@pytest.fixture(scope="module")
def note() -> Iterator[Callable[[str, float, str], None]]:
    """Takes (work, value, unit); at the end all of them are printed and written."""
    rows: list[dict[str, str | float]] = []
    yield lambda work, value, unit: rows.append({"work": work, "ours": round(value, 3), "unit": unit})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['work']:50} {row['ours']:>10} {row['unit']}")


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Median time of `work`, after once to warm up."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)


def test_nine_pictures_of_a_prompt(note: Callable[[str, float, str], None]) -> None:
    pipe = Pipeline.from_pretrained("laptop", device="cpu")
    taken = seconds(lambda: pipe.draw(PROMPT, n=9, seed=0))
    note("Pipeline.draw, nine pictures, laptop, warm, CPU", taken, "s")
    assert taken <= 3


def test_loading_the_preset(note: Callable[[str, float, str], None]) -> None:
    note(
        "Pipeline.from_pretrained, laptop, CPU", seconds(lambda: Pipeline.from_pretrained("laptop", device="cpu")), "s"
    )


@pytest.mark.parametrize("size", [64, 128])
def test_painting(note: Callable[[str, float, str], None], size: int) -> None:
    scenes = full_world().sample(1024 if size == 64 else 256, seed=0)
    rate = len(scenes) / seconds(lambda: paint(scenes, size), times=3)
    note(f"painting the full world at {size}×{size}, {torch.get_num_threads()} threads", rate, "pictures/s")
    assert size > 64 or rate >= 700
