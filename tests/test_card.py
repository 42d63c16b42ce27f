"""card.md and the facts in words."""

from __future__ import annotations

import re

from records import record, with_history

from runcard import _facts as facts
from runcard import card
from runcard.record import History, Point, Status

GIT = {
    "state": "dirty",
    "commit": "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334",
    "branch": "main",
    "dirty": True,
    "root": "/home/ana/project",
    "patch": "diff.patch",
    "incomplete": False,
    "files": {"staged": 0, "unstaged": 2, "untracked": 1},
}
ENVIRONMENT = {
    "git": GIT,
    "packages": {"numpy": "2.0"},
    "python": {"version": "3.11.9"},
    "platform": {"system": "Linux"},
    "hardware": {"cpu": {"affinity": 8}, "gpus": [{"name": "NVIDIA H200"}, {"name": "NVIDIA H200"}]},
    "command": {"line": "/usr/bin/python train.py --lr 3e-4"},
}
FUNCTION = {"file": "/home/ana/project/src/train.py", "line": 41, "qualname": "main"}


def test_the_card_tells_the_whole_story():
    """Name, status, verdict, metrics, settings, code, files and what was lost are in it, in words."""
    made = record(
        user="ana",
        host="node17",
        decision="keep",
        decision_reason="beats the baseline",
        is_best=True,
        objective="val_loss",
        direction="minimize",
        config={"lr": 3e-4, "model": {"depth": 2}},
        metrics={"val_loss": 0.318},
        metric_summary={
            "val_loss": {"last": 0.318, "min": 0.31, "min_step": 8200, "max": 2.0, "max_step": 0, "count": 9}
        },
        environment=ENVIRONMENT,
        function=FUNCTION,
        artifacts=[{"name": "model.pt", "path": "artifacts/model.pt", "bytes": 98_000_000, "sha256": "ab" * 32}],
        inputs=[{"path": "data/train.csv", "bytes": 12_000_000, "sha256": "9f2c" + "0" * 60}],
        notes="first\nsecond",
        tags=["quick"],
        losses={"redacted": 2},
    )
    text = card.card_markdown(made)
    for part in (
        "# train: finished",
        f"`{made.run_id}`",
        "2026-11-23 10:11:12 UTC by ana@node17, took 1m30s",
        "**KEEP**: beats the baseline",
        "best run of its experiment by val_loss (minimize)",
        "| val_loss | 0.318 | 0.31 | 8200 | 2 | 0 | 9 |",
        "| lr | `3e-4` |",
        "| model.depth | `2` |",
        "a1b2c3d main +3 changes, complete",
        "`src/train.py:41 main`",
        "`python train.py --lr 3e-4`",
        "2\N{MULTIPLICATION SIGN}H200",
        "| artifacts/model.pt | 98 MB | abababababab |",
        "| data/train.csv | 12 MB | 9f2c00000000 |",
        "> first\n> second",
        "Tags: `quick`",
        "2 secrets redacted",
        f"git checkout {GIT['commit']}",
        "git apply diff.patch",
        f"runcard show {made.short_id}",
    ):
        assert part in text, part


def test_a_failed_run_tells_its_error_first():
    """The error, its last own frame and the traceback come before the metrics."""
    error = {
        "type": "ValueError",
        "message": "bad shape",
        "traceback": '  File "train.py", line 3\n    x = y\n',
        "frame": {"file": "/home/ana/project/train.py", "line": 3, "function": "step", "text": "x = y"},
    }
    made = record(status=Status.FAILED, error=error, metrics={"loss": 1}, environment=ENVIRONMENT)
    text = card.card_markdown(made)
    assert "`ValueError: bad shape`" in text
    assert "at `train.py:3 in step`: `x = y`" in text
    assert text.index("bad shape") < text.index("## Metrics")


def test_markup_in_a_record_stays_text():
    """Names, reasons and values cannot make headings, tables, links or HTML of their own, nor end a code span."""
    hostile = "<script>|[x](http://e)`*b* \x1b[31m\n# head"
    made = record(name=hostile, decision="keep", decision_reason=hostile, config={"a": hostile}, tags=[hostile])
    text = card.card_markdown(made)
    assert "<script>" not in text.replace("`<script>", "")  # within a code span it is text
    assert "\x1b" not in text
    assert "\n# head" not in text
    assert "[x](" not in text.replace("[x](http://e)'", "")
    rows = [line for line in text.splitlines() if line.startswith("| a |")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3


def test_a_commit_that_is_none_is_no_command():
    """What a damaged or hostile record calls its commit is not offered for the shell."""
    made = record(environment={"git": {"commit": "; rm -rf ~", "patch": "diff.patch"}})
    assert "git checkout" not in card.card_markdown(made)


def test_an_empty_record_has_a_card():
    """A run of which nothing could be read still gives a card that says so."""
    made = record(
        name="", experiment="", started_at=None, status=Status.CRASHED, losses={"damaged": 3}, duration_s=None
    )
    text = card.card_markdown(made)
    assert text.startswith("# a run: crashed\n")
    assert "at an unknown time" in text
    assert "3 damaged lines" in text


def test_long_tables_end_and_say_where_the_rest_is():
    """A card stays short; config.json has the rest."""
    text = card.card_markdown(record(config={f"k{number}": number for number in range(150)}))
    assert text.count("\n| k") == 100
    assert "… and 50 more in config.json" in text


def test_a_run_without_a_last_word_tells_its_last_step():
    """Crashed, killed and running runs say how far they came; finished ones need not."""
    crashed = with_history("loss", [3.0, 2.0, 1.0], status=Status.CRASHED)
    assert facts.status_text(crashed) == "crashed, step 2"
    assert facts.status_text(with_history("loss", [3.0, 2.0])) == "finished"
    assert facts.status_text(record(status=Status.CRASHED)) == "crashed"


def test_code_is_said_to_be_incomplete_when_it_is():
    """Left-out files and odd states are in the words on the code."""
    odd = {**GIT, "state": "edited", "incomplete": True, "left_out": [{"path": "a"}]}
    assert facts.code(record(environment={"git": odd})) == (
        "a1b2c3d main +3 changes, files edited since they were imported, incomplete: 1 file left out"
    )
    assert facts.code(record(environment={"git": {"state": "no-repository"}})) == "in no repository"
    assert facts.code(record()) == "not captured"


def test_the_best_point_goes_by_the_direction_else_by_the_name():
    """The objective's direction says what is best; an accuracy is best at its highest, a loss at its lowest."""
    loss = with_history("score", [3.0, 1.0, 2.0], objective="score", direction="minimize")
    assert facts.best_point(loss, "score") == (1.0, 1)
    assert facts.best_point(with_history("val/accuracy", [0.1, 0.9, 0.5]), "val/accuracy") == (0.9, 1)
    assert facts.best_point(with_history("loss", [3.0, 1.0, 2.0]), "loss") == (1.0, 1)
    assert facts.best_point(record(), "gone") == (None, None)


def test_courses_are_drawn_for_metrics_with_several_points():
    """A sparkline a metric; none for a metric of one point."""
    made = with_history("loss", [4.0, 2.0, 1.0], metrics={"final": 1})
    assert facts.courses(made, ["loss", "final"]) == {"loss": "█▃▁"}


def test_attempts_are_told_when_there_were_several():
    """A resumed run says how earlier attempts ended, and at which step; other ranks are no attempts."""
    entries = [{"status": "crashed", "attempt": 1}, {"status": "finished", "attempt": 2}]
    entries.append({"status": "finished", "process_rank": 1})
    assert facts.attempts(record(attempts=entries)) == "2 (crashed)"
    points = [Point("loss", step, 0.5, 1_795_000_000.0) for step in (5999, 6000, 5990, None)]
    points[2].attempt = 2
    assert facts.attempts(record(attempts=entries, metric_history=History(points))) == "2 (crashed at step 6000)"
    assert facts.attempts(record(attempts=entries[1:])) == ""
