"""Benchmarks of the transport engine; README.md says what each needs and how long it takes."""

from __future__ import annotations

import argparse
import importlib


def main() -> None:
    """Run one of the shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    shows = parser.add_subparsers(dest="show", required=True)
    for add in (_peers, _twelve, _sizes, _labels, _compile, _ablation, _picture):
        add(shows)
    options = vars(parser.parse_args())
    show = importlib.import_module(f"show_{options.pop('show')}").show
    print(show(**{key: value for key, value in options.items() if value is not None}))


def _peers(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("peers", help="one label and twelve labels of 1,700 cells, against every peer")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--budget", type=float, help="seconds that one run of a peer may take, else it is estimated")
    parser.add_argument("--labels", type=int, nargs="+", help="1 and 12 by default")
    parser.add_argument("--threads", type=int, help="of the peers' linear algebra; 1 is fairer on a busy machine")
    parser.add_argument("--without-us", dest="with_us", action="store_false")
    _name(parser)


def _twelve(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("twelve", help="12 labels of 1,700 cells against POT alone: the short form of peers")
    parser.add_argument("--rounds", type=int)
    _name(parser)


def _sizes(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("sizes", help="one label from 500 to 100,000 cells: seconds and memory")
    parser.add_argument("--sizes", type=int, nargs="*")
    parser.add_argument("--strengths", nargs="+", choices=["strong", "weak"])
    parser.add_argument("--tol", type=float)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--line-cells", type=int, help="cells of the problem on a line; 0 leaves it out")
    parser.add_argument("--peers-up-to", type=int, help="cells up to which peers' iterations and memory are measured")
    parser.add_argument("--memory", type=float, help="GB that the engine may take")
    _name(parser)


def _labels(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("labels", help="2,000 labels of 50 cells, and 45 labels of 12 to 10,000")
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--strengths", nargs="+", choices=["strong", "weak"])
    parser.add_argument("--tols", type=float, nargs="+")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--dimensions", type=int)
    _name(parser)


def _compile(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("compile", help="seconds of compilation and of the import")
    parser.add_argument("--rounds", type=int)
    _name(parser)


def _ablation(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("ablation", help="what each ingredient contributes, and the share of the limit reached")
    parser.add_argument("--tols", type=float, nargs="+")
    parser.add_argument("--rounds", type=int)
    _name(parser)


def _picture(shows: argparse._SubParsersAction) -> None:
    parser = shows.add_parser("picture", help="error against seconds")
    parser.add_argument("--budget", type=float, help="seconds that one run of a peer may take")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out")
    _name(parser)


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="of the file in results/")


if __name__ == "__main__":
    main()
