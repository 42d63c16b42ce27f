"""The blocks that a user opens: `run()` around what is to be recorded, and `attach` around what belongs to a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from runcard._current import attached, here
from runcard._options import Options, refuse_unknown
from runcard._run import DECORATE, Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runcard.identity import Token


def run(
    name: str | None = None,
    /,
    *,
    config: Any = None,
    experiment: str | None = None,
    tags: Iterable[str] = (),
    notes: str | None = None,
    ignore: Iterable[str] = (),
    inputs: Iterable[Any] = (),
    objective: str | None = None,
    direction: str | None = None,
    auto_decide: bool = False,
    expected: type[BaseException] | Iterable[type[BaseException]] = (),
    capture: Iterable[str] | None = None,
    sinks: Any = None,
    seed: int | None = None,
    resume: str | None = None,
    parent: Any = None,
    ranks: str | None = None,
    **unknown: Never,
) -> Run:
    """A run to open with ``with``, ``async with``, or `Run.start` where no block fits.

    Args:
        name: What the run is called; by default the script's stem.
        config: A mapping, dataclass, attrs, pydantic, `argparse.Namespace` or OmegaConf.
        experiment: What the run is compared with; by default the script's stem, below a parent ``parent/name``.
        tags: Words to find it by.
        notes: A text about it.
        ignore: Keys of the config to leave out; dotted paths too.
        inputs: Paths to record with their hashes.
        objective: The metric that says which run is best, with ``direction``.
        direction: ``minimize`` or ``maximize``.
        auto_decide: Keep what beats every earlier run of the experiment, discard the rest.
        expected: Exceptions that are a normal end: `finished`, and discarded with their message as the reason.
        capture: Captures to add, with a leading ``-`` to take away.
        sinks: Where the record goes instead of the settings' sinks; a leading ``+`` adds.
        seed: Seeds `random`, NumPy and PyTorch, and is recorded.
        resume: A reference to a run to go on with, or ``auto``.
        parent: The token of the run that this one belongs to.
        ranks: ``slurm`` or ``mpi``: the processes of one launch share one run. torchrun's do by themselves.
        unknown: Refused, with the options that there are.

    Raises:
        SettingError: When an option is not accepted.
        TypeError: For an option that there is not.

    >>> with run("doctest", config={"lr": 0.1}, sinks=["memory:"]) as r:
    ...     r.log(loss=0.5)
    >>> r.status
    'finished'
    """
    if callable(name):
        raise TypeError(f"@run: {DECORATE}")
    if "name" in unknown:
        raise TypeError(f"run() takes the name first, without a keyword: run({unknown['name']!r})")
    if unknown:
        refuse_unknown("run", unknown, ("config",))
    options = Options(
        name=name,
        experiment=experiment,
        tags=tags,
        notes=notes,
        ignore=ignore,
        inputs=inputs,
        objective=objective,
        direction=direction,
        auto_decide=auto_decide,
        expected=expected,
        capture=capture,
        sinks=sinks,
        seed=seed,
        resume=resume,
        parent=parent,
        ranks=ranks,
    )
    return Run(options, config)


class attach:  # noqa: N801 - reads as the statement it is: `with attach(token):`
    """Make the runs inside the block children of the run that a token is of, here or in another process.

    Raises:
        SettingError: When the text is no token.

    >>> with run("parent", sinks=["memory:"]) as r:
    ...     token = r.token()
    >>> with attach(token), run("later", sinks=["memory:"]) as child:
    ...     child.parent_id is None  # it was launched by a run that has ended
    True
    """

    def __init__(self, token: str | Token | None) -> None:
        """Take the token, as `Run.token` gave it; None attaches nothing, for a token that may be missing."""
        from runcard.errors import SettingError
        from runcard.identity import parse_token

        self._token = None if token is None else parse_token(str(token))
        if token is not None and self._token is None:
            raise SettingError(f"{str(token)[:80]!r} is no token; r.token() gives one")
        self._before: list[Any] = []

    def __enter__(self) -> None:
        self._before.append((attached.get(), here.get()))
        if self._token is not None:
            attached.set(self._token)
            here.set(None)

    def __exit__(self, *error: object) -> None:
        token, outer = self._before.pop()
        attached.set(token)
        here.set(outer)
