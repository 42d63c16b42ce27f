"""``runcard rank``, ``explain`` and ``best``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runcard import query
from runcard._paths import leaves, parts
from runcard._words import elide, number, plain_on_screen, plural, setting, width_of, wrapped
from runcard.cli import screen
from runcard.cli.ls import verdict
from runcard.cli.options import (
    at_option,
    chosen,
    cut,
    direction_option,
    experiment_option,
    filters,
    json_option,
    named,
    opened,
    shown,
    store_option,
    whereabouts,
)
from runcard.cli.screen import Column, Piece
from runcard.errors import RunNotFound, SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runcard._ranking import At
    from runcard.record import RunRecord
    from runcard.store import Store

_SETTINGS = 8  # columns of settings at most


@click.command(
    "rank",
    epilog="""\b
Examples:
  runcard rank val_loss --direction minimize --experiment train
  runcard rank accuracy -d maximize --at best -n 5
  runcard rank accuracy -d maximize --group-by-seed

\b
NaN and missing values go last. Shown beside the metric are the settings in
which the runs differ. Exit codes: 0, and 1 when no run has the metric.""",
)
@click.argument("metric")
@direction_option
@at_option
@click.option("--group-by-seed", is_flag=True, help="Mean and spread of runs that differ in their seed alone.")
@filters
@json_option
@store_option
@click.pass_context
def rank_command(
    ctx: click.Context,
    /,
    metric: str,
    direction: str | None,
    at: At,
    group_by_seed: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Rank runs by METRIC, best first."""
    store = opened(ctx)
    limit = options.pop("limit")
    if options["sort"]:
        raise click.UsageError("`rank` sorts by its metric; leave --sort out", ctx)
    runs = chosen(store, {**options, "limit": None})
    metric = metric.removeprefix("metrics.") if not any(metric in run.metrics for run in runs) else metric
    direction = direction or _direction(store, runs, metric)
    if group_by_seed:
        groups = query.rank_groups(query.aggregate(runs, metrics=metric, direction=direction, at=at), metric, direction)
        groups = groups[:limit]
        found = any(group.metrics[metric].n for group in groups if metric in group.metrics)
        if as_json:
            screen.write_json([group.to_dict() for group in groups])
        elif found:
            _write_groups(groups, metric, direction, at)
    else:
        given = {name: options[name] for name in ("where", "experiment", "status")}
        ranked = store.rank(metric, direction, at=at, limit=limit if as_json else shown(limit), **given)
        found = any(metric in record.metrics for record in ranked)
        if as_json:
            screen.write_json([record.to_dict(history=False) for record in ranked])
        elif found:
            _write_ranked(cut(ranked, limit), metric, direction, at)
    if not found:
        screen.remark(_missing(store, runs, metric))
        ctx.exit(1)


@click.command(
    "explain",
    epilog="""\b
Example:
  runcard explain val_loss --direction minimize --experiment train

\b
Exit codes: 0, and 1 when there are not enough runs to say anything.""",
)
@click.argument("metric")
@direction_option
@at_option
@click.option("--top", type=click.IntRange(min=1), help="How many of the best against as many of the worst.")
@filters
@json_option
@store_option
@click.pass_context
def explain_command(
    ctx: click.Context, /, metric: str, direction: str | None, at: At, top: int | None, as_json: bool, **options: Any
) -> None:
    """Say which settings tell the runs with the best METRIC from those with the worst, each with its evidence."""
    store = opened(ctx)
    runs = chosen(store, options)
    found = query.explain(runs, metric, direction or _direction(store, runs, metric), top=top, at=at)
    if as_json:
        screen.write_json(found.to_dict())
    else:
        screen.write(_explained(found, screen.columns() or 120))
    if not found.enough:
        ctx.exit(1)


@click.command(
    "best",
    epilog="""\b
Examples:
  runcard best --experiment train
  runcard best --metric val_loss --direction minimize --json

\b
Exit codes: 0, and 1 when no finished run has the metric.""",
)
@experiment_option
@click.option("--metric", "-m", help="By which; default: the newest run's objective.")
@direction_option
@json_option
@store_option
@click.pass_context
def best_command(
    ctx: click.Context, experiment: str | None, metric: str | None, direction: str | None, as_json: bool
) -> None:
    """Show today's best run of an experiment: of the newest run's, when none is named."""
    store = opened(ctx)
    if metric is not None and direction is None:
        direction = _direction(store, store.runs(experiment=experiment), metric)
    record = store.best(experiment, metric, direction)
    if record is None:
        where = whereabouts(store) if experiment is None else f"the experiment {experiment!r} of {whereabouts(store)}"
        if metric is not None:
            raise RunNotFound(f"no finished run has a finite {metric} in {where}")
        raise RunNotFound(f"no finished run has an objective in {where}; name one with --metric and --direction")
    if as_json:
        screen.write_json(record.to_dict(history=False))
        return
    from runcard.cli.card_lines import card_lines

    width = min(screen.columns(80) or 80, 120)
    siblings = list(store.runs(experiment=record.experiment))
    screen.write(card_lines(record, siblings, width, named(ctx, record)))


def _explained(found: query.Explanation, width: int) -> list[screen.Line]:
    """The answer, then each setting with its evidence below."""
    title = f"by {plain_on_screen(found.metric)}, {found.direction}, {found.at} value, {plural(found.n, 'run')}"
    title += _across([*found.top, *found.bottom])
    lines: list[screen.Line] = [[Piece(elide(title, width), "dim")]]
    lines += [[Piece(part, "bold")] for part in wrapped(plain_on_screen(found.message), width, 4)]
    for each, paths in _alike(found.settings):
        told = f"  {_in_words(each)} in the best  strength {each.strength:.2f}  p {each.p:.2g}"
        names = wrapped(plain_on_screen(", ".join(paths)), width - 2, 3)
        lines += [[Piece(f"  {name}", "bold")] for name in names]
        if width_of(names[-1]) + width_of(told) + 2 <= width:
            lines[-1].append(Piece(told))
        else:
            lines.append([Piece(elide(f"  {told}", width))])
        lines += [[Piece(f"    {part}", "dim")] for part in wrapped(plain_on_screen(each.evidence), width - 4, 3)]
    return lines


def _in_words(found: query.Setting) -> str:
    """How a setting is in the best runs: ``lower``, ``more often adam``, ``more often not set``."""
    more = found.odds_ratio is None or found.odds_ratio > 1
    if found.pattern == "absent":
        return "more often not set" if more else "more often set"
    if found.pattern == "value":
        return f"{'more' if more else 'less'} often {elide(setting(found.value), 30)}"
    return found.pattern


def _alike(settings: Sequence[query.Setting]) -> list[tuple[query.Setting, list[str]]]:
    """Settings with the same evidence, such as those that only one model has, are one finding."""
    found: dict[str, tuple[query.Setting, list[str]]] = {}
    for each in settings:
        found.setdefault(each.evidence, (each, []))[1].append(each.path)
    return list(found.values())


def _direction(store: Store, runs: Sequence[RunRecord], metric: str) -> str:
    """What the runs themselves say of their objective; asked for only when a run has the metric."""
    if not any(metric in record.metrics for record in runs):
        raise RunNotFound(_missing(store, runs, metric))
    said = {record.direction for record in runs if record.objective == metric and record.direction}
    if len(said) == 1:
        return str(said.pop())
    raise SettingError(f"is less or more {metric} better? say --direction minimize or --direction maximize")


def _write_ranked(ranked: Sequence[RunRecord], metric: str, direction: str, at: At) -> None:
    paths = differing(ranked)[:_SETTINGS]
    headings = [Column("", right=True), Column("run"), Column("name", least=6)]
    headings.append(Column(plain_on_screen(metric), right=True, least=12))  # its name may be cut, no number is
    if at == "best":
        headings.append(Column("@step", right=True))
    judged = any(record.decision or record.is_best for record in ranked)
    if judged:
        headings.append(Column("verdict", least=4))
    headings += [Column(plain_on_screen(title), right=True, least=6) for title in short_titles(paths)]
    rows = []
    for place, record in enumerate(ranked, start=1):
        value = query.metric_value(record, metric, direction, at)
        row = [Piece(str(place), "dim"), Piece(record.short_id, "bold"), Piece(plain_on_screen(record.name))]
        row.append(Piece(number(value), "green" if place == 1 and value is not None else ""))
        if at == "best":
            row.append(Piece(_step(record, metric, direction, value)))
        if judged:
            row.append(verdict(record))
        settings = dict(leaves(record.config))
        rows.append(row + [Piece(cell(settings[path]) if path in settings else "") for path in paths])
    width = screen.columns()
    title = f"by {plain_on_screen(metric)}, {direction}, {'best point' if at == 'best' else 'last value'}"
    title += _across([record for record in ranked if metric in record.metrics])
    screen.write([[Piece(elide(title, width or len(title)), "dim")], *screen.table(headings, rows, width)])


def _across(runs: Sequence[RunRecord]) -> str:
    """A warning that runs are compared which nobody meant to be: an experiment is what a run is compared within."""
    count = len({record.experiment for record in runs})
    return f"; {count} experiments, --experiment names one" if count > 1 else ""


def _step(record: RunRecord, metric: str, direction: str, value: float | None) -> str:
    summary = record.metric_summary.get(metric)
    if not summary:
        return ""
    which = "min" if direction == "minimize" else "max"
    step = summary.get(f"{which}_step") if summary.get(which) == value else summary.get("last_step")
    return "" if step is None else number(step)


def _write_groups(groups: Sequence[query.Group], metric: str, direction: str, at: At) -> None:
    common = [{path: cell(value) for path, value in group.config.items()} for group in groups]
    paths = [path for path in dict.fromkeys(path for each in common for path in each) if _differs(common, path)]
    headings = [Column("", right=True), Column("n", right=True), Column("mean", right=True), Column("std", right=True)]
    headings += [Column("95% interval"), Column("best", right=True), Column("run")]
    headings += [Column(plain_on_screen(title), right=True, least=6) for title in short_titles(paths[:_SETTINGS])]
    rows = []
    for place, (group, settings) in enumerate(zip(groups, common, strict=True), start=1):
        spread = group.metrics.get(metric)
        if spread is None:
            continue
        interval = f"{number(spread.ci_low)} to {number(spread.ci_high)}" if spread.ci_low is not None else "—"
        named = next((run for run in group.runs if query.metric_value(run, metric, direction, at) == spread.best), None)
        row = [Piece(str(place), "dim"), Piece(str(spread.n)), Piece(number(spread.mean), "bold")]
        row += [Piece(number(spread.std)), Piece(interval), Piece(number(spread.best))]
        row.append(Piece(named.short_id if named else ""))
        rows.append(row + [Piece(settings.get(path, "")) for path in paths[:_SETTINGS]])
    width = screen.columns()
    which = "best point" if at == "best" else "last value"
    title = f"mean of {plain_on_screen(metric)} over seeds, {direction}, {which}"
    screen.write([[Piece(elide(title, width or len(title)), "dim")], *screen.table(headings, rows, width)])


def cell(value: Any) -> str:
    """A setting in a column beside others: a number of many digits in about four of them."""
    text = setting(value)
    return number(value) if isinstance(value, float) and len(text) > 8 else elide(text, 24)


def short_titles(paths: Sequence[str]) -> list[str]:
    """The last part of each path, which tells the most, where no other path ends the same."""
    ends = [(parts(path) or (path,))[-1] for path in paths]
    last = [end if isinstance(end, str) else path for end, path in zip(ends, paths, strict=True)]
    return [short if last.count(short) == 1 else path for short, path in zip(last, paths, strict=True)]


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """The settings in which runs differ, in the order met."""
    common = [{path: setting(value) for path, value in leaves(run.config)} if run.config else {} for run in runs]
    return [path for path in dict.fromkeys(path for each in common for path in each) if _differs(common, path)]


def _differs(common: Sequence[dict[str, str]], path: str) -> bool:
    return len({each.get(path) for each in common}) > 1


def _missing(store: Store, runs: Sequence[RunRecord], metric: str) -> str:
    if not runs:
        return f"no run answers to that in {whereabouts(store)}"
    names = dict.fromkeys(name for record in runs for name in record.metrics)
    listed = ", ".join(list(names)[:8]) + (", …" if len(names) > 8 else "")
    none = f"none of {plural(len(runs), 'run')} has {metric!r}"
    return plain_on_screen(f"{none}; there are: {listed or 'no metrics'}")
