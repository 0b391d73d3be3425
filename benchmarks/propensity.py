"""Benchmark of the propensity score's fit; README.md says what it needs and how long it takes."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Run one of the shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    shows = parser.add_subparsers(dest="case", required=True)
    cells = shows.add_parser("pbmc10k", help="tables: 5,500 cells of CITE-seq")
    cells.add_argument("--data", type=Path, required=True, help="folder of the data sets, one folder each")
    images = shows.add_parser("images", help="simulated interventional images")
    images.add_argument("--size", type=int, default=64, help="pixels")
    images.add_argument("--cells", type=int, default=5000)
    images.add_argument("--epochs", type=int, help="of ours; its default by default")
    for sub in (cells, images):
        sub.add_argument("--rounds", type=int, default=1)
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--once", dest="many", action="store_false", help="leave out three repeats of the folds")
        sub.add_argument("--plain-epochs", type=int, help="of the plain loop, to try things out; all by default")
    from show_propensity import show

    print(show(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
