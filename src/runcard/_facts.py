"""The facts of a record in words, for every view of it: card, terminal, notebook. All of it is plain on a screen."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from runcard._words import number, plain_on_screen, plural, setting, sparkline
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runcard.record import RunRecord

_MOST_POINTS = 1_000_000  # of a history that is read for a picture of it


def verdict(record: RunRecord) -> str:
    """``KEEP``, ``DISCARD``, ``best``, or several; empty when nothing was judged."""
    said = [record.decision.upper()] if record.decision else []
    if record.is_best:
        said.append("best so far")
    return ", ".join(said)


def status_text(record: RunRecord) -> str:
    """``finished``; of a run without a last word also the step it got to: ``crashed, step 8200``."""
    if record.status in (Status.CRASHED, Status.RUNNING, Status.KILLED):
        step = last_step(record)
        if step is not None:
            return f"{record.status.value}, step {setting(step)}"
    return str(record.status.value)


def last_step(record: RunRecord) -> int | float | None:
    """The greatest step that any metric was logged at last; None when nothing was logged."""
    steps = [summary.get("last_step") for summary in record.metric_summary.values()]
    return max((step for step in steps if isinstance(step, (int, float))), default=None)


def author(record: RunRecord) -> str:
    """``ana@node17``."""
    return plain_on_screen("@".join(each for each in (record.user, record.host) if each))


def code(record: RunRecord) -> str:
    """``a1b2c3d main +3 changes, complete``; or why there is no commit."""
    git = mapping(record.environment.get("git"))
    if not git:
        return "not captured"
    state = str(git.get("state") or "")
    commit = str(git.get("commit") or "")[:7]
    unnamed = "detached" if commit and "root" in git else ""  # what was imported from elsewhere may only lack it
    words = [commit or _STATES.get(state, state), str(git.get("branch") or unnamed)]
    counts = [count for count in mapping(git.get("files")).values() if isinstance(count, int)]
    if git.get("dirty"):
        words.append(f"+{plural(sum(counts), 'change')}" if sum(counts) else "+changes")
    told = " ".join(word for word in words if word)
    if state in _STATES and commit and state not in ("clean", "dirty"):
        told += f", {_STATES[state]}"
    if git.get("incomplete"):
        left = len(git.get("left_out") or ())
        told += f", incomplete: {plural(left, 'file')} left out" if left else ", incomplete"
    elif commit:
        told += ", complete"
    return plain_on_screen(told)


def origin(record: RunRecord) -> str:
    """``imported from MLflow: 5f0c… in mlruns``; empty for a run that was recorded here."""
    told = mapping(record.environment.get("imported"))
    if not told:
        return ""
    kind = str(told.get("kind"))
    run = f"{told['id']} in " if told.get("id") else ""
    return plain_on_screen(f"imported from {_TRACKERS.get(kind, kind)}: {run}{told.get('source')}")


def function(record: RunRecord) -> str:
    """``train.py:41 main``, the file relative to its repository."""
    found = mapping(record.function)
    if not found:
        return ""
    file = str(found.get("script") or found.get("file") or "")
    root = str(mapping(record.environment.get("git")).get("root") or "")
    if root and file.startswith(root + "/"):
        file = file[len(root) + 1 :]
    elif os.path.isabs(file):
        file = os.path.basename(file)
    line = f":{found['line']}" if found.get("line") and file else ""
    return plain_on_screen(f"{file}{line} {found.get('qualname') or ''}".strip())


def command(record: RunRecord) -> str:
    """How the process was started, as it is typed in a shell; the interpreter by its name alone."""
    line = str(mapping(record.environment.get("command")).get("line") or "")
    head, space, rest = line.partition(" ")
    return plain_on_screen(f"{head.rpartition('/')[2]}{space}{rest}") if head.startswith("/") else plain_on_screen(line)


def machine(record: RunRecord) -> str:
    """Python, system, processors and graphics cards: ``py3.11.9  Linux  8 CPUs``."""
    environment = record.environment
    words = []
    version = mapping(environment.get("python")).get("version")
    if version:
        words.append(f"py{version}")
    system = mapping(environment.get("platform")).get("system")
    if system:
        words.append(str(system))
    hardware = mapping(environment.get("hardware"))
    cores = mapping(hardware.get("cpu"))
    count = cores.get("quota") or cores.get("affinity") or cores.get("logical")
    if count:
        words.append(f"{number(count)} CPUs")
    names: dict[str, int] = {}
    for card in hardware.get("gpus") or ():
        name = str(mapping(card).get("name") or "GPU").removeprefix("NVIDIA ")
        names[name] = names.get(name, 0) + 1
    words += [f"{count}\N{MULTIPLICATION SIGN}{name}" for name, count in names.items()]
    return plain_on_screen("  ".join(words))


def lost(record: RunRecord) -> str:
    """What was dropped, cut, redacted or damaged, counted; ``nothing`` when nothing was."""
    told = [_loss(kind, count) for kind, count in record.losses.items()]
    return plain_on_screen(", ".join(told)) or "nothing"


def attempts(record: RunRecord) -> str:
    """``2 (crashed at step 6000)`` for a resumed run; empty for one attempt."""
    owners = [entry for entry in record.attempts if not entry.get("process_rank")]
    if len(owners) < 2:
        return ""
    steps = _steps_of_attempts(record)
    told = []
    for entry in owners[:-1]:
        step = steps.get(entry.get("attempt", 1))
        status = str(entry.get("status")).replace("running", "no last word")
        told.append(status if step is None else f"{status} at step {setting(step)}")
    return plain_on_screen(f"{len(owners)} ({', '.join(told)})")


def _steps_of_attempts(record: RunRecord) -> dict[int, int | float]:
    """The greatest step that each attempt logged; empty for a very long history, which is not read for it."""
    if sum(summary.get("count") or 0 for summary in record.metric_summary.values()) > _MOST_POINTS:
        return {}
    steps: dict[int, int | float] = {}
    for point in record.metric_history:
        if point.step is not None:
            steps[point.attempt] = max(point.step, steps.get(point.attempt, point.step))
    return steps


def error_line(record: RunRecord) -> str:
    """``ValueError: bad shape``; empty without an error."""
    error = mapping(record.error)
    if not error:
        return ""
    message = plain_on_screen(str(error.get("message") or ""))
    return f"{error.get('type') or 'error'}: {message}" if message else str(error.get("type") or "error")


def error_frame(record: RunRecord) -> tuple[str, str]:
    """Where it was raised in the user's own code, and that line of source: ``("train.py:41 in step", "x = y")``."""
    frame = mapping(mapping(record.error).get("frame"))
    if not frame:
        return "", ""
    file = str(frame.get("file") or "?")
    root = str(mapping(record.environment.get("git")).get("root") or "")
    if root and file.startswith(root + "/"):
        file = file[len(root) + 1 :]
    where = f"{file}:{frame.get('line')} in {frame.get('function')}"
    return plain_on_screen(where), plain_on_screen(str(frame.get("text") or ""))


def best_point(record: RunRecord, name: str) -> tuple[int | float | None, int | float | None]:
    """The best value of a metric and its step: by the run's direction for its objective, else by the name's habit.

    None of a metric whose name does not tell whether more of it is better.
    """
    summary = mapping(record.metric_summary.get(name))
    more = _wants_more(record, name)
    if more is None:
        return None, None
    which = "max" if more else "min"
    return summary.get(which), summary.get(f"{which}_step")


def courses(record: RunRecord, names: Collection[str], width: int = 10) -> dict[str, str]:
    """The course of some metrics as sparklines, by name; reads the history once, and not at all a very long one."""
    counts = {name: summary.get("count", 0) for name, summary in record.metric_summary.items()}
    wanted = {name for name in names if counts.get(name, 0) > 1}
    if not wanted or sum(counts.values()) > _MOST_POINTS:
        return {}
    values: dict[str, list[float]] = {name: [] for name in wanted}
    for point in record.metric_history:
        if point.name in wanted:
            values[point.name].append(point.value)
    return {name: sparkline(found, width) for name, found in values.items() if len(found) > 1}


def _wants_more(record: RunRecord, name: str) -> bool | None:
    if name == record.objective and record.direction:
        return record.direction == "maximize"
    if _MORE.search(name.lower()):
        return True
    return False if _LESS.search(name.lower()) else None


_MORE = re.compile(r"acc|auc|f1|precision|recall|r2|reward|return|score|bleu|iou|map|ndcg")
_LESS = re.compile(r"loss|err|mse|mae|cost|nll|perplexity|ppl|wer|cer|fid|distance|deviation")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value when it is a mapping, else an empty one: records may come from damaged or foreign stores."""
    return value if isinstance(value, dict) else {}


def _loss(kind: str, count: int) -> str:
    one, many = _LOSSES.get(kind, (kind.replace("_", " "),) * 2)
    return f"{count} {one if count == 1 else many}"


_STATES = {
    "no-repository": "in no repository",
    "no-commits": "no commits yet",
    "no-git": "git is not installed",
    "timeout": "git took too long",
    "dubious-owner": "the repository is another user's",
    "damaged": "the repository is damaged",
    "bare": "bare repository",
    "edited": "files edited since they were imported",
    "imported": "as another tracker noted it",
}
_TRACKERS = {"mlflow": "MLflow", "wandb": "Weights & Biases", "tensorboard": "TensorBoard"}
_LOSSES = {
    "damaged": ("damaged line", "damaged lines"),
    "missing": ("missing event", "missing events"),
    "unwritten": ("event the disk did not take", "events the disk did not take"),
    "redacted": ("secret redacted", "secrets redacted"),
    "cut": ("value cut", "values cut"),
    "after_end": ("point logged after the end", "points logged after the end"),
    "not_a_number": ("metric that was no number", "metrics that were no numbers"),
    "bad_step": ("step that was no number", "steps that were no numbers"),
    "bad_name": ("metric without a usable name", "metrics without a usable name"),
    "artifacts_refused": ("artifact refused", "artifacts refused"),
    "unattributed": ("point that belonged to no run", "points that belonged to no run"),
}
