"""Commands that say something of a run afterwards: keep, discard, tag, note, rename, amend."""

from __future__ import annotations

import csv

import pytest
from command_line import call, read

from runcard import run


@pytest.fixture
def one(store):
    """A run with a metric."""
    with run("fit", config={"lr": 0.1}) as current:
        current.log(loss=0.5)
    return store


def row(store):
    with (store.root / "leaderboard.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    return found


def test_late_decisions_append_up(one):
    """Who, when, why and what before stay; the leaderboard follows the last word."""
    assert call("keep", "fit", "--reason", "good").stdout == f"{one.get('fit').short_id} fit kept: good\n"
    assert call("discard", "fit", "-r", "leaked").exit_code == 0
    data = read("show", "fit")
    assert (data["decision"], data["decision_reason"]) == ("discard", "leaked")
    said = [(entry["decision"], entry["reason"]) for entry in data["decisions"]]
    assert said == [("keep", "good"), ("discard", "leaked")]
    assert all(entry["by"] and entry["at"] for entry in data["decisions"])
    assert row(one)["decision"] == "discard"


def test_tags_come_and_go(one):
    """Tags are added and taken away in one call; without any it is wrong usage."""
    call("tag", "fit", "a", "b")
    assert call("tag", "fit", "c", "--remove", "a").stdout.endswith("tagged: b, c\n")
    assert read("show", "fit")["tags"] == ["b", "c"]
    assert call("tag", "fit").exit_code == 2


def test_notes_are_added(one):
    """A second note stands below the first."""
    call("note", "fit", "first")
    call("note", "fit", "second")
    assert read("show", "fit")["notes"] == "first\nsecond"


def test_a_run_is_renamed(one):
    """The new name addresses it, in the leaderboard too; an empty one is refused."""
    call("rename", "fit", "baseline")
    assert read("show", "baseline")["name"] == "baseline"
    assert row(one)["name"] == "baseline"
    assert call("rename", "baseline", " ").exit_code == 2


def test_amended_metrics_stand_beside_the_old(one):
    """The new value is the metric's, the old one stays, with the reason."""
    result = call("amend", "fit", "--metric", "loss=0.75", "--metric", "n=3", "--reason", "wrong split")
    assert result.stdout.endswith("amended: loss 0.75, n 3\n")
    data = read("show", "fit")
    assert data["metrics"] == {"loss": 0.75, "n": 3}
    assert data["amendments"][0]["before"] == {"loss": 0.5, "n": None}
    assert data["amendments"][0]["reason"] == "wrong split"
    assert row(one)["metrics.loss"] == "0.75"
    assert "loss (was 0.5), n (new) amended: wrong split" in call("show", "fit").stdout


@pytest.mark.parametrize("metric", ["loss", "=1", "loss=high", "loss="])
def test_an_amendment_takes_numbers(one, metric):
    """What is no NAME=VALUE is wrong usage, and nothing is written."""
    assert call("amend", "fit", "--metric", metric, "--reason", "x").exit_code == 2
    assert read("show", "fit")["amendments"] == []


def test_an_amendment_needs_a_reason(one):
    """Correcting a number without saying why is refused."""
    result = call("amend", "fit", "--metric", "loss=1")
    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_secrets_in_what_is_said_are_redacted(one):
    """A token in a reason never reaches the journal, and the answer is what is recorded."""
    token = "ghp_" + "a1B2" * 9
    assert call("keep", "fit", "--reason", f"pushed with {token}").stdout.endswith("kept: pushed with [redacted]\n")
    content = "".join(path.read_text() for path in (one.root / one.get("fit").run_id).glob("*.json*"))
    assert token not in content


def test_a_run_that_goes_on_can_be_judged(store):
    """A late word on an open run does not disturb the run's own journal."""
    with run("on") as current:
        assert call("keep", current.run_id, "--reason", "looks good").exit_code == 0
        current.log(loss=1.0)
    data = read("show", current.run_id)
    assert (data["decision"], data["metrics"], data["status"]) == ("keep", {"loss": 1.0}, "finished")
    assert data["losses"] == {}
