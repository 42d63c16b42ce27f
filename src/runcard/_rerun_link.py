"""The run's side of a rerun: which run of this process repeats a recorded one, and from where its generators go on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard._run import Run

_expected: list[Expected] = []


class Expected:
    """The run that is to be linked with the one it repeats.

    Args:
        run_id: The recorded run.
        qualname: Of the function; None for a block.
        experiment: Its experiment; None when any will do.
        nth: How many runs of that function and experiment come before it in this process.
        generators: The recorded `seed`.
        changes: Settings that differ from the recorded run's on purpose.
        report: A file that takes the new run's id and folder.
    """

    def __init__(
        self,
        run_id: str,
        *,
        qualname: str | None,
        experiment: str | None,
        nth: int,
        generators: Mapping[str, Any],
        changes: Mapping[str, Any],
        report: str,
    ) -> None:
        self.run_id = run_id
        self.qualname = qualname
        self.experiment = experiment
        self.nth = nth
        self.generators = dict(generators)
        self.changes = dict(changes)
        self.report = report
        self.pid = os.getpid()
        self.run: Run | None = None

    def matches(self, run: Run) -> bool:
        """Whether this is the run; counts those that come before."""
        if self.run is not None or os.getpid() != self.pid:
            return False
        from runcard.capture import source

        qualname = None if run._function is None else source.describe(run._function)["qualname"]
        if qualname != self.qualname or (self.experiment is not None and run.experiment != self.experiment):
            return False
        self.nth -= 1
        return self.nth < 0


def expect(expected: Expected) -> None:
    """Let the next run that fits be the rerun."""
    _expected[:] = [expected]


def claim(run: Run) -> None:
    """Called before a run has its place: a rerun never goes on with another run, whatever ``resume`` says."""
    if _expected and _expected[0].matches(run):
        import copy

        _expected[0].run = run
        run._options = copy.copy(run._options)
        run._options.resume = None


def begun(run: Run, *, is_child: bool) -> dict[str, Any]:
    """Called once the run has its folder: puts the generators back, and gives what the start event says.

    Without an expected run, ``RUNCARD_RERUN_OF`` names the run that each outermost run of this process repeats.
    """
    if not _expected:
        repeated = os.environ.get("RUNCARD_RERUN_OF")
        return {"rerun_of": repeated} if repeated and not is_child else {}
    expected = _expected[0]
    if expected.run is not run:
        return {}
    if run._options.seed is None:
        restore_generators(expected.generators)
    _write_report(expected.report, run)
    return {"rerun_of": expected.run_id, "rerun_set": expected.changes or None}


def restore_generators(told: Mapping[str, Any]) -> list[str]:
    """Put the random generators, and PyTorch's switches, back to where `capture.seeds.state` found them."""
    from runcard.capture import seeds

    restored = seeds.restore(dict(told))
    torch, switches = sys.modules.get("torch"), told.get("torch")
    if torch is not None and isinstance(switches, dict) and _set_torch(torch, switches):
        restored.append("torch")
    return restored


def _set_torch(torch: Any, told: Mapping[str, Any]) -> bool:
    try:
        if told.get("deterministic_algorithms") is True:
            torch.use_deterministic_algorithms(True)
        for name in ("deterministic", "benchmark"):
            if isinstance(told.get(f"cudnn_{name}"), bool):
                setattr(torch.backends.cudnn, name, told[f"cudnn_{name}"])
        if isinstance(told.get("threads"), int):
            torch.set_num_threads(told["threads"])
        if told.get("float32_matmul_precision") in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(told["float32_matmul_precision"])
        dtype: Any = getattr(torch, str(told.get("default_dtype")).rpartition(".")[2], None)
        if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
            torch.set_default_dtype(dtype)
        seed = told.get("initial_seed")
        if isinstance(seed, int) or (isinstance(seed, str) and seed.isdecimal()):
            torch.manual_seed(int(seed))
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False  # another PyTorch: the verdict names it
    return True


def _write_report(path: str, run: Run) -> None:
    import json

    told = {"run_id": run.run_id, "folder": None if run.folder is None else str(run.folder)}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(told, file)
