"""``python -m benchmarks``: measure, and say it in a table, a plot and a file.

By default everything: runcard and its peers, each in a virtual environment of its own, in half an hour from when they
are installed; the results go to ``docs/``. ``--quick`` measures runcard alone in two minutes and writes nothing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks.growth import GROWTHS
from benchmarks.harness import ROOT, Extent, Subject
from benchmarks.plot import draw
from benchmarks.report import table, write
from benchmarks.results import Session
from benchmarks.session import Running
from benchmarks.terminal import bars, growth
from benchmarks.venvs import PEERS, prepare
from benchmarks.works import WORKS, Work

_EVERY = (*WORKS, *GROWTHS)
_MINUTES = {True: 2.0, False: 30.0}
_SIDES = 2.5  # a comparison measures two revisions, and each of them oftener


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for."""
    options = _options().parse_args(arguments)
    if options.again:
        path = Path(options.again)
        return _tell(Session.read(path), path.parent)
    works = _chosen(options.only)
    minutes = _MINUTES[options.quick or bool(options.compare)] if options.minutes is None else options.minutes
    if options.compare:
        from benchmarks.compare import compare

        return compare(options.compare, works, minutes=_SIDES * minutes)
    wanted = [*PEERS] if options.peers is None else [name for name in options.peers.split(",") if name]
    peers = [] if options.quick and options.peers is None else prepare(wanted, Path(options.venvs).expanduser())
    folder = Path(options.write) if options.write else None if options.quick or options.only else ROOT / "docs"
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    running = Running(
        subjects=[Subject("runcard", "runcard"), *peers],
        extent=Extent(options.quick, options.limit),
        minutes=minutes,
        rounds=options.rounds,
        command=_command(sys.argv[1:] if arguments is None else arguments),
    )
    try:
        for work in works:
            running.measure(work)
            if folder:  # should the machine stop, --again makes the table of what there is
                running.told().write(folder / "benchmarks.json")
    except KeyboardInterrupt:
        running.cut("broken off by hand")
    session = running.told()
    if folder:
        session.write(folder / "benchmarks.json")
    return _tell(session, folder)


def _tell(session: Session, folder: Path | None) -> int:
    """In the terminal, and in a folder beside the session's numbers."""
    print("\n".join(part for part in (table(session), bars(session), growth(session)) if part))
    if folder:
        write(session, folder)
        draw(session, folder)
    return 0


def _chosen(only: str | None) -> list[Work]:
    if only is None:
        return list(_EVERY)
    names = only.split(",")
    known = {work.key for work in _EVERY} | {"growth"}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no such work: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [work for work in _EVERY if work.key in names or ("growth" in names and work in GROWTHS)]


def _command(arguments: list[str]) -> str:
    """What was typed, without the folders of this machine, which change nothing that is measured."""
    words = iter(["python -m benchmarks", *arguments])
    kept = []
    for word in words:
        if word in ("--write", "--venvs"):
            next(words, None)
        elif not word.startswith(("--write=", "--venvs=")):
            kept.append(shlex.quote(word) if word in arguments else word)
    return " ".join(kept)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="runcard alone, few trials, two minutes")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(work.key for work in _EVERY)}; growth: five")
    parser.add_argument("--peers", metavar="NAME,…", help="these peers instead of all; an empty text: none")
    parser.add_argument("--venvs", metavar="DIR", default="~/.cache/runcard-bench", help="where peers are installed")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many trials at most; each is of many")
    parser.add_argument("--limit", type=_limit, metavar="N", help="no size of the growth above N, 100 at least")
    parser.add_argument("--minutes", type=float, metavar="N", help="when it ends, 30 or quick 2; the rest is cut")
    parser.add_argument("--write", metavar="DIR", help="where benchmarks.md, .png and .json go, instead of docs")
    parser.add_argument("--again", metavar="JSON", help="measure nothing: make table and plot of this session again")
    parser.add_argument("--compare", metavar="BASE", help="a revision to run in turn with the working tree")
    return parser


def _limit(text: str) -> int:
    if int(text) < 100:
        raise ValueError
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
