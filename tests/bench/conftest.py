"""The results of the benchmarks: each measurement notes a row; all rows are printed and stored at the end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "build" / "bench.json"

Note = Callable[..., float | None]


@pytest.fixture(scope="session")
def note() -> Iterator[Note]:
    """A function that notes a measurement and returns the peer's value divided by ours.

    Its arguments are the work, our value, the name of the peer, its value, and the unit if it is not seconds:
    note(work, ours, peer, theirs, unit="gb").
    """
    rows: list[dict[str, str | float | None]] = []

    def add_row(work: str, ours: float, peer: str | None = None, theirs: float | None = None, unit: str = "s"):
        ratio = None if theirs is None else theirs / ours
        values = {f"ours_{unit}": ours, f"peer_{unit}": theirs, "ratio": ratio}
        rounded = {name: None if value is None else round(value, 4) for name, value in values.items()}
        rows.append({"work": work, "peer": peer, **rounded})
        return ratio

    yield add_row
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{'work':86} {'ours':>10} {'theirs':>10} {'ratio':>7}   peer")
    for row in rows:
        unit = next(name for name in row if name.startswith("ours_")).removeprefix("ours_")
        numbers = [row[f"{who}_{unit}"] for who in ("ours", "peer")]
        ours, theirs = ("" if number is None else f"{number:.3f} {unit}" for number in numbers)
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['work']:86} {ours:>10} {theirs:>10} {ratio:>7}   {row['peer'] or ''}")
