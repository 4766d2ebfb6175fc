"""`make claims`: runs the experiments whose results are missing or were measured with other weights.

Each result is stored in data/experiments/ as soon as it is there, so the command can be interrupted and repeated.
"""

from __future__ import annotations

import argparse

from atelier.teaching.experiments import all_experiments


def main() -> None:
    experiments = all_experiments()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, or some of {', '.join(experiments)}")
    names = parser.parse_args().names
    unknown = [name for name in names if name not in experiments]
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; there are {', '.join(experiments)}")
    for name in names or experiments:
        for line in experiments[name].complete():
            print(line, flush=True)


if __name__ == "__main__":
    main()
