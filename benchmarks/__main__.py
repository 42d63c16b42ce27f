"""``python -m benchmarks``: measure, and say it in a table, a plot and a file.

By default everything: runcard and its peers, each in a virtual environment of its own, about half an hour; the results
go to ``docs/``. ``--quick`` measures runcard alone in two minutes and writes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.growth import Growth, measure_growth
from benchmarks.harness import ROOT, Samples, Subject, WorkFailedError
from benchmarks.plot import draw, in_terminal
from benchmarks.report import terminal, write
from benchmarks.venvs import PEERS, prepare
from benchmarks.works import WORKS, Work

Results = dict[str, dict[str, Samples]]


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for."""
    options = _options().parse_args(arguments)
    works = _chosen(options.only)
    if options.compare:
        from benchmarks.compare import compare

        return compare(options.compare, works)
    wanted = options.peers.split(",") if options.peers else [] if options.quick or options.peers == "" else [*PEERS]
    subjects = [Subject("runcard", "runcard"), *prepare(wanted, Path(options.venvs).expanduser())]
    folder = Path(options.write) if options.write else None if options.quick or options.only else ROOT / "docs"
    command = " ".join(["python -m benchmarks", *(arguments if arguments is not None else sys.argv[1:])])
    growth: dict[str, Growth] = {}
    results: Results = {}
    for work in works:
        measure(results, subjects, work, quick=options.quick, rounds=options.rounds)
        _write(results, subjects, growth, folder, command)  # what there is, should the rest be broken off
    print(terminal(results, subjects))
    if options.only is None or "growth" in options.only.split(","):
        growth = measure_growth(subjects[0], quick=options.quick, limit=options.limit)
    _write(results, subjects, growth, folder, command)
    print(in_terminal(results, subjects, growth))
    return 0


def measure(
    results: Results, subjects: list[Subject], work: Work, *, quick: bool = False, rounds: int | None = None
) -> None:
    """One work by every subject, a trial each in turn, so that a slow minute of the machine falls on all of them."""
    taking = [each for each in subjects if each.key == "runcard" or not (work.own or each.key in work.without)]
    start = time.monotonic()
    times = work.rounds[quick] if rounds is None else min(rounds, work.rounds[quick])
    for number in range(times):
        turn = number % len(taking)
        for subject in taking[turn:] + taking[:turn]:
            _take(results, subject, work, quick=quick)
    if times:
        print(f"{work.key}: {time.monotonic() - start:.0f} s", file=sys.stderr)


def _write(
    results: Results, subjects: list[Subject], growth: dict[str, Growth], folder: Path | None, command: str
) -> None:
    if folder:
        draw(results, subjects, growth, folder)
        write(results, subjects, growth, folder, command)


def _take(results: Results, subject: Subject, work: Work, *, quick: bool) -> None:
    try:
        trial = work.trial(subject, quick)
    except (WorkFailedError, OSError, subprocess.SubprocessError) as error:
        print(f"{work.key}: {error}", file=sys.stderr)
        return
    for key, samples in trial.items():
        results.setdefault(key, {}).setdefault(subject.key, Samples()).add(samples)


def _chosen(only: str | None) -> list[Work]:
    if only is None:
        return list(WORKS)
    names = only.split(",")
    known = {work.key for work in WORKS} | {"growth"}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no such work: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [work for work in WORKS if work.key in names]


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="runcard alone, few trials, two minutes")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(work.key for work in WORKS)}, growth")
    parser.add_argument("--peers", metavar="NAME,…", help="these peers instead of all; an empty text: none")
    parser.add_argument("--venvs", metavar="DIR", default="~/.cache/runcard-bench", help="where peers are installed")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many trials at most; each is of many")
    parser.add_argument("--limit", type=int, metavar="N", help="no size of the growth above N")
    parser.add_argument("--write", metavar="DIR", help="where benchmarks.md and benchmarks.png go")
    parser.add_argument("--compare", metavar="BASE", help="a revision to run in turn with the working tree")
    return parser


if __name__ == "__main__":
    sys.exit(main())
