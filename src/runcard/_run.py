"""A run from the user's side: the `Run` that ``with run() as r`` gives, and its hot path, `Run.log_points`.

Kept light, because importing and decorating must cost next to nothing: what a run does at its start lies in
`_opening`, what it does at its end in `_closing`, and both are loaded when a run begins.
"""

from __future__ import annotations

import sys
import threading
from time import time as _time
from typing import TYPE_CHECKING, Any, Self

from runcard._current import here, is_disabled
from runcard._metrics import BIG, LEAST, log_in_turn
from runcard.errors import RunStateError, warn

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from runcard._options import Options
    from runcard.journal import Writer

DECORATE = "run() is for blocks, `with run(...):`; write @tracked(name=...) above a function"
_NEW, _OPEN, _CLOSED, _OFF = "new", "open", "closed", "off"


class Run:
    """One run, made by `run()` or by calling a tracked function.

    Attributes:
        run_id: Its id; empty before the start.
        name, experiment: As given, or found at the start.
        parent_id: The run that this one belongs to.
        attempt: 1, or more when the run was resumed.
        status: ``running`` while it is open, then how it ended; ``new`` before.
        config: The config as recorded so far.
        folder: Where its files lie; None when no folder could be written.
    """

    def __init__(self, options: Options, config: Any = None, *, function: Any = None) -> None:
        """Made by `run()`; the arguments are its own affair."""
        self.run_id = ""
        self.name = options.name or ""
        self.experiment = options.experiment or ""
        self.parent_id: str | None = None
        self.attempt = 1
        self.status = _NEW
        self.config: dict[str, Any] = {}
        self.folder: Path | None = None
        self.root: Path | None = None
        self.parent: Run | None = None
        self.thread = 0
        self.hidden = False  # a generator's run between its yields
        self._within: Run | None = None  # the block inside a generator that it yielded from
        self.is_ambient = False  # opened by start(), so current in the next notebook cell too
        self._options = options
        self._given_config = config
        self._function = function
        self._parameter: str | None = None  # the sole parameter that holds the config, when one does
        self._parameter_type: str | None = None
        self._arguments: Mapping[str, Any] = {}  # what the function was called with, for `inputs`
        self._state = _NEW
        self._closing = threading.Lock()
        self._counts: dict[str, int] = {}  # metric → points so far, while the run is open
        self._names: dict[str, str] = {}  # metric as given → as recorded
        self._losses: dict[str, int] = {}
        self._late = 0
        self.outer: Run | None = None  # what was current before
        self._journal: Writer = None  # type: ignore[assignment]  # there whenever the run is open
        self._life: Any = None  # what opening leaves for closing

    @property
    def is_open(self) -> bool:
        """Whether the run has begun and not ended."""
        return self._state is _OPEN

    def line(self) -> list[Run]:
        """The runs from the outermost of this process down to this one."""
        line: list[Run] = []
        each: Run | None = self
        while each is not None:
            line.append(each)
            each = each.parent
        return line[::-1]

    def outermost(self) -> Run:
        """The run at the top of this one's line."""
        return self.line()[0]

    def start(self) -> Self:
        """Open the run where no block fits: a notebook's cells, a framework's hooks. End it with `end`."""
        self._open(ambient=True)
        return self

    def end(self, error: BaseException | None = None) -> None:
        """Close the run; with ``error``, as failed by it. A second call does nothing."""
        if self._state is _NEW:
            raise RunStateError("end() before start(): open the run with `r = run(...).start()`")
        self._close(error)

    if not TYPE_CHECKING:  # to a type checker a run stays what cannot be called

        def __call__(self, *_args: Any, **_options: Any) -> None:
            """Refused: `run` was put where `tracked` belongs."""
            raise TypeError(f"@run(...): {DECORATE}")

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(error)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(error, wait=False)
        if self.waits:
            await self._delivered(error)

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: float | None = None, **named: Any) -> None:
        """Record metrics of one step; when this returns, they survive ``kill -9``.

        Args:
            metrics: Name → number; also zero-dimensional arrays and tensors.
            step: The step, in any order; without it, how many points of that name there were before.
            named: Metrics as keywords.
        """
        if metrics is not None:
            named = metrics.copy() if type(metrics) is dict and not named else self._merged(metrics, named)
        self.log_points(named, step)

    def log_points(self, named: Mapping[str, Any], step: Any) -> None:
        """The body of `log`, and the hot path: known names with plain numbers go into the journal as they came.

        Nothing is caught around a call: what is raised there may be a signal handler's, which is the user's.

        Args:
            named: Name → value; no other thread has it, so that what was looked at is what is written.
            step: As given.
        """
        now = _time()
        name = None
        if type(step) is int and not step >> 63:
            counts = self._counts
            for name, value in named.items():
                if type(name) is not str or (
                    (type(value) is not float or value - value != 0.0)
                    and (type(value) is not int or not LEAST <= value < BIG)
                ):
                    break
                try:
                    counts[name] += 1
                except KeyError:  # a name that was not met before
                    break
            else:
                if named and not self._journal.append_points(now, step, named):
                    self._refused()
                return
        log_in_turn(self, named, step, now, name)

    def log_artifact(
        self, path: str | os.PathLike[str], name: str | None = None, *, copy: bool = True, transient: bool = False
    ) -> None:
        """Keep a file, or a folder with all in it, with the run.

        Args:
            path: What to keep.
            name: What it is called in the run, by default its file name; slashes make folders.
            copy: False records where it lies, with its hash, and leaves it there.
            transient: May go first when room is needed.
        """
        self._act("log_artifact", path, name, copy=copy, transient=transient)

    def artifact_path(self, name: str, *, transient: bool = False) -> Path:
        """A path inside the run to write a file or folder to; recorded with its hash when the run ends.

        Always gives a writable path: a temporary one when the run is disabled, ended, or the name is not accepted.

        Args:
            name: The file's name in the run; slashes make folders, which are there when this returns.
            transient: May go first when room is needed.
        """
        path = self._act("artifact_path", name, transient=transient)
        if path is None:
            from runcard._files import temporary_path

            path = temporary_path(name)
        return path  # type: ignore[no-any-return]  # `_act` hands on what the function gives

    def log_input(self, path: str | os.PathLike[str]) -> None:
        """Record a file or folder that the run reads, with its size and hash."""
        self._act("log_input", path)

    def log_config(self, config: Any = None, /, **named: Any) -> None:
        """Add keys to the config. A key once set is frozen: another value for it is refused and counted."""
        self._act("log_config", config, named)

    def keep(self, reason: str | None = None) -> None:
        """Judge the run: keep it, because."""
        self._act("decide", "keep", reason)

    def discard(self, reason: str | None = None) -> None:
        """Judge the run: discard it, because."""
        self._act("decide", "discard", reason)

    def tag(self, *tags: str) -> None:
        """Add tags."""
        self._act("tag", tags)

    def note(self, text: str) -> None:
        """Add a note."""
        self._act("note", text)

    def token(self) -> str:
        """What makes runs elsewhere children of this one: ``run(parent=token)``, ``with attach(token):``."""
        if not self.run_id:
            raise RunStateError("token() before the run began: take it inside the `with` block")
        from runcard.identity import Token

        return str(Token(self.run_id, str(self.root)))

    def lose(self, kind: str, count: int = 1) -> None:
        """Count something that was not recorded; the record's `losses` say it."""
        self._losses[kind] = self._losses.get(kind, 0) + count

    def __repr__(self) -> str:
        from runcard.record import printable

        short_id = f"{self.run_id[-8:]} " if self.run_id else ""
        return f"<Run {short_id}{printable(self.name)} {self.status}>"

    def _repr_html_(self) -> str:
        from runcard._notebook import run_html

        return run_html(self)

    def _open(self, *, ambient: bool = False) -> None:
        if self._state is not _NEW:
            raise RunStateError("a run begins once; call run() again for another")
        if is_disabled():
            self._state = self.status = _OFF
            return
        from runcard.errors import contained

        opening = contained("load what records a run", _load_opening)  # a broken installation is no reason to stop
        self.thread = threading.get_ident()
        self.is_ambient = ambient
        try:
            if opening is not None and opening.open_run(self):
                self.outer = here.get()
                here.set(self)
            else:
                self._state = self.status = _OFF
        except KeyboardInterrupt as error:  # what has begun has an end, though its block is never entered
            if self._life is not None:
                self._opened()
            self._close(error)
            raise

    def _opened(self) -> None:
        """Called by opening once the start event is down."""
        self._state, self.status = _OPEN, "running"

    def _close(self, error: BaseException | None, result: Any = None, *, wait: bool = True) -> None:
        if self._state is not _OPEN:
            return
        try:
            # The lock is a claim, never given back: a signal handler that ends the run while it ends waits for nobody.
            if not self._closing.acquire(blocking=False):
                return
            self._leave()
            from runcard._closing import close_run

            close_run(self, error, result, wait=wait)
        except KeyboardInterrupt:
            self._leave()
            from runcard._closing import last_word

            last_word(self, error, result)
            raise

    def _leave(self) -> None:
        self._state = _CLOSED
        self._counts = {}  # which sends `log_points` the long way
        if here.get() is self:
            here.set(self.outer)

    async def _delivered(self, error: BaseException | None) -> None:
        """Wait for the sinks without blocking the loop; who cannot wait leaves it to the process's exit."""
        from runcard._settling import is_in_asyncio, settle_async, wait_in_loop

        if self._life is None or isinstance(error, GeneratorExit) or not is_in_asyncio():
            return
        try:
            await wait_in_loop(self._life.waiting(), self._life.settings.deadline)
        finally:
            settle_async(self, error)

    @property
    def waits(self) -> bool:
        """Whether there are sinks that a coroutine's end has to settle with."""
        return self._life is not None and self._life.delivery is not None

    def count_inner_call(self) -> None:
        """A recursion came by: one run per outermost call, the others are counted."""
        if self._life is not None:
            self._life.inner_calls += 1

    def step_in(self) -> Run | None:
        """A generator's body goes on: its run becomes current; what was before is handed back."""
        self.hidden = False
        self.thread = threading.get_ident()
        outer, within = here.get(), self._within
        here.set(within if within is not None and within.is_open else self)
        return outer

    def step_out(self, outer: Run | None) -> None:
        """The generator yields: its run is nobody's until it goes on."""
        self.hidden = True
        current = here.get()
        self._within = current if current is not self else None
        here.set(outer)

    def adopt(self) -> None:
        """In a forked child: go on under a journal of this process's own; the end stays the parent's."""
        self._closing = threading.Lock()
        self._journal.after_fork()
        from runcard._forked import ForkedJournal

        writer = getattr(self._journal, "writer", None) or self._journal.path.stem
        self._journal = ForkedJournal(self.folder, writer)
        if self._life is not None and self._life.console is not None:
            self._life.console = None

    def _act(self, action: str, /, *arguments: Any, **options: Any) -> Any:
        """Do what is no metric, in `_actions`; our own failure there becomes a warning."""
        if self._state is not _OPEN:
            self._too_late()
            return None
        from runcard import _actions
        from runcard.errors import contained

        return contained(action.replace("_", " "), getattr(_actions, action), self, *arguments, **options)

    def _merged(self, metrics: Any, named: dict[str, Any]) -> dict[str, Any]:
        """What `log` was given, in one mapping; an odd mapping's own failure becomes a warning."""
        from runcard._actions import merged
        from runcard.errors import contained

        return contained("read the metrics", merged, self, metrics, named) or {}

    def _refused(self) -> None:
        """The journal did not take a line: the disk's affair, counted there, unless another thread ended the run."""
        if self._state is not _OPEN:
            self._too_late()

    def _too_late(self) -> None:
        """Count what comes after the end, or before the start; a disabled run is silent."""
        if self._state is _OFF or sys.is_finalizing():  # a `__del__` at the very end finds nothing to count with
            return
        if self._state is _NEW:
            warn(f"the run {self.name!r} was not started: open it with `with`, or with start()", once="not started")
            return
        from runcard._settling import count_late

        count_late(self)
        warn(
            f"the run {self.run_id[-8:]} has ended; what comes later is counted and dropped", once=f"late {self.run_id}"
        )


def _load_opening() -> Any:
    from runcard import _recording

    opening = getattr(_recording, "opening", None)
    if opening is None:
        raise RunStateError("it began in a signal handler, while what records runs was being loaded; the next one can")
    return opening
