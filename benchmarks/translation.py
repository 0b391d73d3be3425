"""Benchmarks of the translator; README.md says what each needs and how long it takes."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Run one of the shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    shows = parser.add_subparsers(dest="show", required=True)
    pairs = shows.add_parser("pairs", help="R2 on held-out true pairs, by what the translator learned from")
    unseen = shows.add_parser("unseen", help="distances of distributions, for seen and for held-out labels")
    for sub in (pairs, unseen):
        sub.add_argument("--data", type=Path, required=True, help="folder of the data sets, one folder each")
        sub.add_argument("--cases", nargs="+", help="all by default")
        sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
        sub.add_argument("--members", type=int, default=1)
        sub.add_argument("--jobs", type=int, default=1)
    pairs.add_argument("--steps", type=int, help="of the optimizer; the translator's own number by default")
    speed = shows.add_parser("speed", help="cells per second, against a plain PyTorch loop of the same network")
    speed.add_argument("--rounds", type=int, default=5)
    options = vars(parser.parse_args())
    show = options.pop("show")
    if show == "speed":
        from show_speed import show as run
    elif show == "pairs":
        from show_pairs import show as run
    else:
        from show_unseen import show as run
    print(run(**options))


if __name__ == "__main__":
    main()
