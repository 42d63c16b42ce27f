"""What the sink asks of MLflow, whoever answers: a server over HTTP, or MLflow's own client in a process beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from runcard.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Refused(StoreError):  # noqa: N818 - reads as what happened: it will be refused again
    """MLflow does not take what it was given, today or tomorrow."""


class Gone(StoreError):  # noqa: N818 - reads as what happened
    """There is no such thing in MLflow."""


@dataclass
class Found:
    """A run as MLflow has it.

    Attributes:
        id: MLflow's own.
        experiment: The id of its experiment.
        artifacts: Where its artifacts lie, a URI.
        status: MLflow's word.
        name: What it is called there.
        deleted: Whether it lies in MLflow's trash.
        params: Key → value.
        tags: Key → value.
        steps: Metric → the highest step there.
    """

    id: str
    experiment: str
    artifacts: str = ""
    status: str = "RUNNING"
    name: str = ""
    deleted: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """What goes to a run in one call: at most 1,000 metrics, 100 params, 100 tags."""

    metrics: Sequence[tuple[str, float, int, int]] = ()  # key, value, milliseconds, step
    params: Sequence[tuple[str, str]] = ()
    tags: Sequence[tuple[str, str]] = ()


class Service(Protocol):
    """Every method raises `StoreError` for what may go better later, `Refused` for what will not, and `Gone`."""

    def experiment(self, name: str) -> str:
        """The id of an experiment, made when it is not there."""
        ...

    def experiments(self) -> list[str]:
        """The ids of all."""
        ...

    def find(self, experiments: Sequence[str], run_id: str) -> Found | None:
        """The run that carries our id, deleted ones too."""

    def create(self, experiment: str, name: str, started: int | None, tags: dict[str, str]) -> Found:
        """A new run."""
        ...

    def log(self, run: Found, batch: Batch, *, again: bool) -> None:
        """Add to a run; ``again``: some of it may be there already."""

    def update(
        self, run: Found, *, status: str | None = None, ended: int | None = None, name: str | None = None
    ) -> None:
        """Change a run's own fields."""

    def delete_tag(self, run: Found, key: str) -> None:
        """Take a tag away; one that is not there is no error."""

    def datasets(self, run: Found, datasets: list[dict[str, Any]]) -> None:
        """Add inputs; those that are there change nothing."""

    def upload(self, run: Found, path: str, source: Path | bytes) -> None:
        """Put a file among the artifacts, or a new one in its place."""

    def probe(self) -> None:
        """Reach it and see whether it may be written, leaving nothing behind."""

    def close(self) -> None:
        """Let go of what it holds."""
