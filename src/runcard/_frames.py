"""Records and points as tables: typed frames of pandas and polars, and exports to CSV, JSON lines and Parquet.

The columns of runs are those of the leaderboard: ``run_id``, ``started_at`` (UTC), ``experiment``, ``name``,
``parent_id``, ``status``, ``duration_s``, ``decision``, ``is_best``, then ``config.*`` by path and ``metrics.*`` by
name. A column whose values are all integers, with gaps or without, is a nullable integer; one of mixed types is text.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import math
import os
import re
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, SupportsIndex, overload

from runcard._paths import leaves
from runcard._rows import FIXED_COLUMNS, formula_safe
from runcard._words import moment
from runcard.errors import MissingExtra, SettingError
from runcard.events import mark
from runcard.record import Point, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd
    import polars as pl


class Runs(list[RunRecord]):
    """A list of records that turns into a table, as does a slice of it."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: SupportsIndex | slice) -> RunRecord | Runs:
        return Runs(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def to_pandas(self) -> pd.DataFrame:
        """The runs as a pandas frame, a row each, with nullable types.

        Raises:
            MissingExtra: When pandas is not installed.
        """
        return _to_pandas(run_columns(self))

    def to_polars(self) -> pl.DataFrame:
        """The runs as a polars frame, a row each.

        Raises:
            MissingExtra: When polars is not installed.
        """
        return _to_polars(run_columns(self))


class Points(list[Point]):
    """A list of points that turns into a table: ``name``, ``step``, ``value``, ``time`` (UTC), ``attempt``."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Points: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Point | Points:
        return Points(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def to_pandas(self) -> pd.DataFrame:
        """The points as a pandas frame, a row each.

        Raises:
            MissingExtra: When pandas is not installed.
        """
        return _to_pandas(point_columns(self))

    def to_polars(self) -> pl.DataFrame:
        """The points as a polars frame, a row each.

        Raises:
            MissingExtra: When polars is not installed.
        """
        return _to_polars(point_columns(self))


class Column:
    """One column: its kind (``int float bool time text``) and its items, None where there is none."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: str, items: list[Any]) -> None:
        self.kind = kind
        self.items = items


def run_columns(runs: Iterable[RunRecord]) -> dict[str, Column]:
    """The columns of runs by name, in the leaderboard's order."""
    records = list(runs)
    fixed: dict[str, list[Any]] = {name: [getattr(record, name) for record in records] for name in FIXED_COLUMNS}
    configs: dict[str, list[Any]] = {}
    metrics: dict[str, list[Any]] = {}
    for row, record in enumerate(records):
        for path, value in leaves(record.config, "config") if record.config else ():
            _put(configs, path, row, value, len(records))
        for name, value in record.metrics.items():
            _put(metrics, f"metrics.{name}", row, value, len(records))
    columns = {name: typed(values, _FIXED_KINDS.get(name)) for name, values in fixed.items()}
    return {**columns, **{name: typed(values) for name, values in {**configs, **metrics}.items()}}


def point_columns(points: Iterable[Point]) -> dict[str, Column]:
    """The columns of points by name."""
    rows = list(points)
    return {
        "name": typed([point.name for point in rows], "text"),
        "step": typed([point.step for point in rows], None if any(point.step is not None for point in rows) else "int"),
        "value": typed([point.value for point in rows], None if rows else "float"),
        "time": typed([moment(point.time) for point in rows], "time"),
        "attempt": typed([point.attempt for point in rows], "int"),
    }


def typed(values: list[Any], kind: str | None = None) -> Column:
    """The column of some values: of the kind given, or of the narrowest that holds all of them as they are."""
    kind = kind or _kind(values)
    if kind == "text":
        return Column(kind, [None if value is None else _text(value) for value in values])
    if kind == "float":
        return Column(kind, [None if value is None else float(value) for value in values])
    return Column(kind, values)


def export(runs: Iterable[RunRecord], format: str, target: str | Path | IO[Any]) -> None:  # noqa: A002 - as --format
    """Write runs to a file.

    Args:
        runs: The records.
        format: ``csv`` (a text that a spreadsheet would calculate gets a leading ``'``), ``jsonl`` (a record a line, as
            ``--json`` prints it, without history) or ``parquet``.
        target: A path, or an open file: of text for csv and jsonl, of bytes for parquet. A path is written beside and
            renamed, so that a failure leaves an earlier file as it was.

    Raises:
        SettingError: When the format is another one.
        MissingExtra: When Parquet's package, pyarrow, is not installed.
        OSError: When the file cannot be written.
    """
    writer = _WRITERS.get(format)
    if writer is None:
        raise SettingError(f"format is one of {', '.join(_WRITERS)}, not {format!r}")
    if not isinstance(target, (str, os.PathLike)):
        writer(runs, target)
        return
    path = Path(target)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if format == "parquet":
            with partial.open("wb") as file:
                writer(runs, file)
        else:
            with partial.open("w", encoding="utf-8", newline="") as text:
                writer(runs, text)
        partial.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = os.fspath(path)  # what the user named
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _write_csv(runs: Iterable[RunRecord], file: IO[Any]) -> None:
    columns = run_columns(runs)
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow([_cell(name) for name in columns])
    rows.writerows(zip(*([_cell(value) for value in column.items] for column in columns.values()), strict=True))


def _write_jsonl(runs: Iterable[RunRecord], file: IO[Any]) -> None:
    import orjson

    for run in runs:
        file.write(orjson.dumps(run.to_dict(history=False)).decode() + "\n")


def _write_parquet(runs: Iterable[RunRecord], file: IO[Any]) -> None:
    pyarrow = _imported("pyarrow", "pandas")
    parquet = _imported("pyarrow.parquet", "pandas")
    kinds = {
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "bool": pyarrow.bool_(),
        "time": pyarrow.timestamp("us", tz="UTC"),
        "text": pyarrow.string(),
    }
    columns = run_columns(runs)
    arrays = {name: pyarrow.array(each.items, kinds[each.kind]) for name, each in columns.items()}
    parquet.write_table(pyarrow.table(arrays), file)


def _to_pandas(columns: Mapping[str, Column]) -> pd.DataFrame:
    pandas = _imported("pandas", "pandas")
    numpy = _imported("numpy", "pandas")
    kinds = {"int": "Int64", "bool": "boolean", "text": "str" if pandas.__version__ >= "3" else "object"}

    def series(column: Column) -> Any:
        if column.kind == "float":  # numpy's own, whose gaps are NaN: what every plot and model takes
            return pandas.Series(numpy.array([math.nan if v is None else v for v in column.items], dtype="float64"))
        if column.kind == "time":
            return pandas.Series(pandas.to_datetime(column.items, utc=True).as_unit("us"))
        return pandas.Series(column.items, dtype=kinds[column.kind])

    frame: pd.DataFrame = pandas.DataFrame({name: series(column) for name, column in columns.items()})
    return frame


def _to_polars(columns: Mapping[str, Column]) -> pl.DataFrame:
    polars = _imported("polars", "polars")
    kinds = {
        "int": polars.Int64,
        "float": polars.Float64,
        "bool": polars.Boolean,
        "time": polars.Datetime("us", "UTC"),
        "text": polars.String,
    }
    made = [polars.Series(name, column.items, dtype=kinds[column.kind]) for name, column in columns.items()]
    frame: pl.DataFrame = polars.DataFrame(made)
    return frame


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise MissingExtra(f'{package} is not installed: pip install "runcard[{extra}]"') from None


def _put(columns: dict[str, list[Any]], name: str, row: int, value: Any, rows: int) -> None:
    column = columns.get(name)
    if column is None:
        column = columns[name] = [None] * rows
    column[row] = value


def _kind(values: list[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "bool"
    if kinds <= {int, float} and kinds:
        whole = [value for value in values if type(value) is int]
        if kinds == {int}:
            return "int" if all(-(2**63) <= value < 2**63 for value in whole) else "text"
        return "float" if all(abs(value) <= 2**53 for value in whole) else "text"
    return "time" if kinds == {datetime} else "text"


def _text(value: Any) -> str:
    if isinstance(value, str):
        text = str.__str__(value)  # a status as its word
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (bool, int, float)):
        return hex(value) if type(value) is int and value.bit_length() > _IN_DIGITS else repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return _text(json.dumps(mark(value), ensure_ascii=False, default=str))


_IN_DIGITS = 10_000  # bits; Python writes no more than some four thousand digits


_OBEYED = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # by a terminal; tabs and line breaks stay as they are


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return formula_safe(_OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), value))
    # microseconds always: pandas takes all times of a column by the form of the first
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value


_FIXED_KINDS = {**dict.fromkeys(FIXED_COLUMNS, "text"), "started_at": "time", "duration_s": "float", "is_best": "bool"}
_WRITERS: dict[str, Callable[[Iterable[RunRecord], IO[Any]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
