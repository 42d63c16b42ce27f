"""Commands that read: ls, show, diff, rank, explain, best, leaderboard, export, du."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from command_line import call, read
from records import record

from runcard import RuncardWarning, _words, current_run, run
from runcard.cli import options, screen
from runcard.cli.diff import _lines as diff_lines
from runcard.cli.rank import short_titles
from runcard.query import compare
from runcard.record import RunRecord


@pytest.fixture
def trainings(store):
    """Six runs of one experiment: two models, three seeds; and one that failed."""
    for model in ("cnn", "mlp"):
        for seed in range(3):
            with run(
                "fit", experiment="fit", config={"model": model, "seed": seed}, objective="loss", direction="minimize"
            ) as r:
                for step in range(4):
                    r.log({"train/loss": 4.0 - step}, step=step)
                r.log(loss=(1.0 if model == "cnn" else 2.0) + seed / 10)
    with pytest.raises(ZeroDivisionError), run("broken", experiment="other"):
        _ = 1 / 0
    return store


@pytest.fixture
def crashed(store):
    """A run that ended without a last word at step 2, its last line torn."""
    with run("lost", experiment="fit", config={"lr": 0.1}) as current:
        for step in range(3):
            current.log(loss=step, step=step)
    path = os.path.join(current.folder, "journal.jsonl")
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kept = [line for line in lines if b'"kind":"end"' not in line and b'"kind":"durable"' not in line]
    text = b"".join(kept)
    pid = f'"pid":{os.getpid()}'.encode()
    with open(path, "wb") as file:
        file.write(_resigned(kept[0], pid) + b"".join(kept[1:]) + b'{"crc":"torn')
    assert pid in text
    return current.run_id


def _resigned(line, pid):
    """The start event with a process that is gone."""
    from runcard.journal import decode, encode

    event = decode(line)
    event["alive"]["pid"] = 2**22 + 1
    return encode(event)


def test_ls_lists_newest_first(trainings):
    """A row a run: short id, name, how it stands, its judgement and the metrics it is judged by."""
    lines = call("ls").stdout.splitlines()
    assert lines[0].split() == ["run", "name", "status", "started", "took", "verdict", "loss", "train/loss"]
    assert len(lines) == 8
    assert "failed, ZeroDivisionError" in lines[1]
    assert lines[-1].split()[1:3] == ["fit", "finished"]
    assert "best" in lines[-1]


def test_ls_json_is_an_array_of_records_without_history(trainings):
    """What --json prints reads back as the records themselves."""
    data = read("ls")
    assert [each["run_id"] for each in data] == [record.run_id for record in trainings.runs()]
    assert all("metric_history" not in each for each in data)
    assert RunRecord.from_dict(data[0]).error.type == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--where", "config.model == 'cnn' and metrics.loss < 1.15"], 2),
        (["--experiment", "other"], 1),
        (["--status", "failed"], 1),
        (["-n", "2"], 2),
        (["--sort", "metrics.loss", "-n", "1"], 1),
    ],
)
def test_ls_chooses(trainings, options, count):
    """Conditions, experiment, status and limit choose the runs."""
    assert len(read("ls", *options)) == count


def test_ls_sorts(trainings):
    """--sort puts the least first, a minus the greatest."""
    losses = [each["metrics"].get("loss") for each in read("ls", "--sort", "-metrics.loss", "-n", "2")]
    assert losses == [2.2, 2.1]


def test_ls_tells_experiments_apart(store):
    """Where runs of several experiments are listed, one whose name is another has its experiment behind the name."""
    for name, experiment in (("fit", "fit"), ("fit", "large"), ("fit", "small")):
        with run(name, experiment=experiment):
            pass
    assert [line.split("finished")[0].split()[1:] for line in call("ls").stdout.splitlines()[1:]] == [
        ["fit", "(small)"],
        ["fit", "(large)"],
        ["fit"],
    ]
    assert "(large)" not in call("ls", "--experiment", "large").stdout


def test_ls_shows_the_metrics_that_most_runs_have(store):
    """How many runs have a metric decides whether it is a column, not how large its values are."""
    with run("wide"):
        for name in range(20):
            current_run().log({f"large/{name}": 1e9})
    for _ in range(3):
        with run("usual"):
            current_run().log(loss=-1.0, accuracy=float("nan"))
    assert call("ls").stdout.splitlines()[0].split()[5:7] == ["loss", "accuracy"]


def test_an_expression_that_is_wrong_is_an_error_that_points(trainings):
    """A wrong --where ends with 2; the caret on standard error stands below the place, under wide letters too."""
    result = call("ls", "--where", "config.lr < 1 and nome == 1")
    assert (result.exit_code, result.stdout) == (2, "")
    told, expression, caret = result.stderr.splitlines()
    assert told.startswith("runcard: ")
    assert caret.index("^") == expression.index("nome")
    wide = "config.学習率 < 1 and " * 6 + "nome == 1"
    _, expression, caret = call("ls", "--where", wide).stderr.splitlines()
    assert caret.index("^") == _words.width_of(expression[: expression.index("nome")])
    assert _words.width_of(expression) < 100


def test_a_table_ends_somewhere(trainings, monkeypatch):
    """A table shows so many runs and says that there are more; -n asks for more, and --json has all."""
    monkeypatch.setattr(options, "ROWS", 3)
    for command in (("ls",), ("rank", "loss")):
        result = call(*command)
        assert len(result.stdout.splitlines()) == 3 + (1 if command == ("ls",) else 2)
        assert "the first 3 runs" in result.stderr
        assert "the first" not in call(*command, "-n", "7").stderr
        assert len(call(*command, "-n", "7").stdout.splitlines()) == 7 + (1 if command == ("ls",) else 2)
        assert len(read(*command)) == 7
    monkeypatch.setattr(options, "ROWS", 7)
    assert call("ls").stderr == ""


def test_ls_of_an_empty_store_is_no_error(store):
    """Where nothing was run yet the list is empty, and a line says so."""
    result = call("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no run yet" in result.stderr
    assert read("ls") == []
    assert call("ls", "--store", store.root / "typo").stderr.rstrip().endswith("typo, which is no folder yet")


def test_the_store_is_named_before_or_after(trainings, tmp_path):
    """--store counts on either side of the command."""
    empty = tmp_path / "empty"
    assert call("--store", empty, "ls").stdout == ""
    assert call("ls", "--store", empty).stdout == ""
    assert len(read("--store", empty, "ls", "--store", trainings.root)) == 7


def test_ls_says_what_crashed_and_what_is_damaged(crashed):
    """A run without a last word is listed with the step it got to; damage is said."""
    result = call("ls")
    assert "crashed, step 2 (damaged)" in result.stdout
    assert "1 run damaged" in result.stderr


def test_ls_tells_a_run_that_goes_on(store):
    """A running run has its last step and how long ago that was."""
    with run("on") as current:
        current.log(loss=1.0, step=41)
        assert "running, step 41, 0s ago" in call("ls").stdout
        assert "RUNNING, step 41" in call("show").stdout
        assert call("show").stdout.splitlines()[0].endswith("s so far")


def test_ls_says_how_runs_stand_on_the_narrowest_terminal(crashed):
    """In 40 columns the status is there, of a long name too, and of one with a long status."""
    with pytest.raises(LookupError), run("a name that is rather long"):
        raise LookupError
    heading, newest, *_ = call("ls", columns=40).stdout.splitlines()
    assert heading.split() == ["run", "name", "status"]
    assert "failed, LookupE" in newest


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal(trainings, crashed, columns):
    """Lists, cards, ranks and differences keep to the width, long names and wide letters elided."""
    settings = {f"a_rather_long_name_of_a_setting_{number}": "日本語" * 30 for number in range(20)}
    error = "x" * 300
    with (
        pytest.raises(ValueError, match="x"),
        run("名前" * 40, experiment="fit", config=settings, tags=["t" * 90]) as current,
    ):
        current.log({"a/very/long/name/of/a/metric/that/goes/on": 1.0}, step=1)
        current.note("note " * 60)
        current.keep("because " * 60)
        raise ValueError(error)
    first, second = (record.run_id for record in trainings.runs(limit=2))
    with run("in a long one", experiment="an experiment " * 9):
        pass
    commands = [["ls"], ["show"], ["show", crashed], ["diff", first, second], ["diff", "--all", first, second]]
    commands += [["rank", "loss"], ["rank", "loss", "--group-by-seed"], ["explain", "loss"], ["leaderboard"], ["du"]]
    commands += [["watch", first, "--once"], ["gc", "--dry-run", "--keep-top", "1"]]
    for command in commands:
        result = call(*command, columns=columns)
        wide = [line for line in result.stdout.splitlines() if _words.width_of(line) > columns]
        assert wide == [], command


def test_show_tells_the_story_of_a_run(trainings):
    """Id, name, status, verdict, what changed against the run before, metrics with their course, and how to go on."""
    best = trainings.best("fit")
    text = call("show", best.short_id, columns=80).stdout
    assert text.startswith(f"{best.short_id}  fit  FINISHED  first of its kind")
    second = trainings.runs(experiment="fit")[-2]
    text = call("show", second.short_id, columns=80).stdout
    assert "config   seed 1 (was 0)  model cnn" in text
    assert "train/loss" in text
    assert "█▆▃▁" in text
    assert f"runcard rerun {second.short_id}" in text


def test_show_names_the_run_as_the_next_command_needs_it(trainings, tmp_path, monkeypatch):
    """From another store, a database, a folder or a zip: what is said to type works when it is pasted."""
    database = f"sqlite:///{tmp_path}/my runs.db"
    shutil.copytree(trainings.root, tmp_path / "more")
    call("sync", trainings.root, database)
    best = trainings.best("fit")
    shutil.make_archive(str(tmp_path / "one"), "zip", trainings.root, best.run_id)
    monkeypatch.setenv("RUNCARD_DIR", str(tmp_path / "empty"))
    asked = [["show", best.short_id, "--store", url] for url in (database, tmp_path / "more")]
    asked += [["show", best.folder], ["show", tmp_path / "one.zip"], ["best", "--store", database]]
    for words in asked:
        hint = call(*words).stdout.splitlines()[-1].partition("runcard rerun ")[2]
        assert read("show", *shlex.split(hint))["run_id"] == best.run_id


def test_a_hint_has_no_credentials_in_it():
    """A store's user and password are left out of what is said to type."""
    context = click.Context(click.Command("show"), obj={"store": "postgresql://me:hunter22@host/runs"})
    assert options.named(context, record(1)) == f"{record(1).short_id} --store postgresql://host/runs"


def test_show_without_a_reference_is_the_newest(trainings):
    """`runcard show` alone shows the run that one has just made."""
    assert call("show").stdout == call("show", "latest").stdout


def test_show_puts_the_error_first(trainings):
    """A failed run tells its error and the user's own last frame right below its name."""
    lines = call("show", "broken", columns=100).stdout.splitlines()
    assert "FAILED" in lines[0]
    assert lines[1] == "ZeroDivisionError: division by zero"
    assert "test_cli_reading.py" in lines[2]
    assert lines[3].strip() == "_ = 1 / 0"
    traceback = call("show", "broken", "--traceback").stdout
    assert traceback.startswith("Traceback (most recent call last):")
    assert traceback.endswith("ZeroDivisionError: division by zero\n")


def test_show_tells_what_is_damaged(crashed):
    """A damaged run is shown, with what was lost."""
    text = call("show", crashed).stdout
    assert "CRASHED, step 2" in text
    assert "no last word" in text
    assert "1 damaged line" in text


def test_show_tells_all_that_was_lost(store):
    """What was lost goes on in further lines: none of it falls off the edge."""
    with pytest.warns(RuncardWarning), run("lossy") as current:
        current.log(loss="text")
        current.log(loss=1.0, step="text")
        current.log_artifact("nowhere")
        current.log_config({"a": 1})
        current.log_config({"a": 2})
    lines = call("show", "lossy", columns=60).stdout.splitlines()
    (place,) = (place for place, line in enumerate(lines) if line.startswith("lost"))
    told = " ".join(line.strip() for line in lines[place:])
    assert told.startswith(
        "lost     1 metric that was no number, 1 config frozen, 1 step that was no number, 1 artifact refused "
    )


def test_show_json_has_the_history(trainings):
    """One record, with its points."""
    data = read("show", trainings.best("fit").run_id)
    assert [point["value"] for point in data["metric_history"] if point["name"] == "train/loss"] == [4.0, 3.0, 2.0, 1.0]


def test_show_history_config_and_packages(trainings):
    """The parts of a record that a card has no room for are a flag away, as text and as JSON."""
    ref = trainings.best("fit").run_id
    assert [line.split()[:2] for line in call("show", ref, "--history", "train/loss").stdout.splitlines()[1:5]] == [
        ["0", "4.0"],
        ["1", "3.0"],
        ["2", "2.0"],
        ["3", "1.0"],
    ]
    assert [point["step"] for point in read("show", ref, "--history", "train/loss")] == [0, 1, 2, 3]
    assert call("show", ref, "--config").stdout.split() == ["model", "cnn", "seed", "0"]
    assert "click" in call("show", ref, "--packages").stdout
    missing = call("show", ref, "--history", "gone")
    assert missing.exit_code == 2
    assert "train/loss" in missing.stderr


def test_a_run_is_found_by_its_folder_and_in_a_zip(trainings, tmp_path):
    """A reference may be a run's folder, or a zip of one, wherever they lie."""
    best = trainings.best("fit")
    shutil.make_archive(str(tmp_path / "one"), "zip", trainings.root, best.run_id)
    for ref in (best.folder, tmp_path / "one.zip"):
        assert best.short_id in call("--store", tmp_path / "elsewhere", "show", ref).stdout


@pytest.mark.parametrize("command", [["show", "oo"], ["keep", "oo"], ["tag", "oo", "a"], ["diff", "oo", "ooo"]])
def test_a_run_that_is_not_there_is_said_in_one_line(trainings, command):
    """No such run (no id has an o): exit code 1, one line that says how to find one."""
    result = call(*command)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "runcard ls" in result.stderr


def test_where_a_run_is_not_the_listing_of_that_store_is_named(trainings, tmp_path, monkeypatch):
    """The command that is said to show what there is shows the store that was looked in, a folder or a database."""
    monkeypatch.setenv("RUNCARD_DIR", str(tmp_path / "empty"))
    assert "`runcard ls` shows" in call("show", "oo").stderr
    for url in (tmp_path / "my runs", f"sqlite:///{tmp_path}/my runs.db"):
        call("sync", trainings.root, url)
        hint = call("show", "oo", "--store", url).stderr.partition("`runcard ")[2].partition("`")[0]
        assert len(read(*shlex.split(hint))) == 7


def test_an_ambiguous_name_lists_the_runs(trainings):
    """Several runs of one name: exit code 2 and their ids."""
    result = call("show", "fit")
    assert result.exit_code == 2
    assert "6 runs answer to 'fit'" in result.stderr


def test_terminal_escapes_of_a_record_are_not_obeyed(store):
    """Nothing that a run was given reaches the terminal as a command to it, in no command."""
    evil = "\x1b]0;owned\x07\x1b[2Jx\u202e"
    with (
        pytest.raises(ValueError, match="owned"),
        run(evil, experiment=evil, config={evil: evil}, tags=[evil]) as current,
    ):
        current.log({evil: 1.0})
        current.note(evil)
        current.keep(evil)
        raise ValueError(evil)
    with run("plain", experiment=evil):
        pass
    commands = [["ls"], ["show", current.run_id], ["diff", current.run_id, "plain"], ["leaderboard"], ["du"]]
    for command in [*commands, ["show", current.run_id, "--traceback"]]:
        text = call(*command).stdout
        assert "\x1b" not in text, command
        assert "\x07" not in text, command
        assert "\u202e" not in text, command


def test_an_export_to_a_terminal_is_plain(store, monkeypatch):
    """A terminal obeys no text of what is exported; in a table's cells control characters are escapes."""
    with run("red\x1b[31m", config={"path": "\x9d0;title\x07"}):
        pass
    assert r",red\x1b[31m," in call("export").stdout
    monkeypatch.setattr(screen, "is_terminal", lambda: True)
    for kind in ("csv", "jsonl"):
        text = call("export", "--format", kind).stdout
        assert "red" in text
        assert not {"\x1b", "\x9d", "\x07"} & set(text)


def test_diff_prints_what_differs(trainings):
    """Settings with both values, metrics with their difference; what is the same is left out."""
    newest, oldest = trainings.runs(experiment="fit")[0], trainings.runs(experiment="fit")[-1]
    result = call("diff", oldest.run_id, newest.run_id)
    assert result.exit_code == 0
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["model", "cnn", "→", "mlp"] in words
    assert ["loss", "1", "2.2", "+1.2"] in words
    assert not any(line and line[0] == "train/loss" for line in words)
    everything = call("diff", "--all", oldest.run_id, newest.run_id).stdout.splitlines()
    assert ["train/loss", "1", "1", "0"] in [line.split() for line in everything]


def test_diff_shows_where_long_values_part(store):
    """Two long values that begin alike are shown from where they part: elided at the end they would look the same."""
    ids = []
    for version in ("v1", "v2"):
        with run("fit", config={"data": f"/mnt/share/{'deep/' * 20}{version}"}) as current:
            ids.append(current.run_id)
    row = next(line.split() for line in call("diff", *ids, columns=80).stdout.splitlines() if "data" in line)
    assert row == ["data", "…/deep/deep/v1", "→", "…/deep/deep/v2"]


def test_diff_tells_a_command_once():
    """Of a command that differs its line is shown, and with --all the parts of it too."""
    commands = [
        {"line": f"python train.py --lr {n}", "argv": ["--lr", str(n)], "orig_argv": ["-c", str(n)]} for n in range(2)
    ]
    found = compare(*(record(n, environment={"command": command}) for n, command in enumerate(commands)))
    for everything, count in ((False, 1), (True, 3)):
        lines = [screen.painted(line) for line in diff_lines(found, 80, everything=everything)]
        assert len([line for line in lines if line.startswith("  command.")]) == count


def test_diff_of_a_missing_metric_says_absent(trainings):
    """A metric that one run lacks is absent, never zero."""
    result = call("diff", trainings.best("fit").run_id, "broken")
    assert any(line.split()[:3] == ["loss", "1", "(absent)"] for line in result.stdout.splitlines())


def test_diff_ends_with_1_on_demand(trainings):
    """--exit-code is for scripts: 1 when the runs differ, 0 when they do not."""
    first, second = (record.run_id for record in trainings.runs(experiment="fit", limit=2))
    assert call("diff", first, second, "--exit-code").exit_code == 1
    assert call("diff", first, first, "--exit-code").exit_code == 0
    assert call("diff", first, first).stdout.splitlines()[-1].startswith("nothing ")


def test_diff_json_is_the_comparison(trainings):
    """Two runs give one comparison, three give each against the first."""
    a, b, c = (record.run_id for record in trainings.runs(experiment="fit", limit=3))
    data = read("diff", a, b)
    assert [(change["path"], change["old"], change["new"]) for change in data["config"]] == [("seed", 2, 1)]
    assert set(data["metrics"]["loss"]) == {"a", "b", "delta"}
    assert [each["b"]["run_id"] for each in read("diff", a, b, c)] == [b, c]


def test_rank_puts_the_best_first(trainings):
    """Best first, the settings in which the runs differ beside the metric; the direction is the objective's."""
    lines = call("rank", "loss").stdout.splitlines()
    assert lines[0] == "by loss, minimize, last value"
    assert lines[1].split() == ["run", "name", "loss", "verdict", "model", "seed"]
    assert [line.split()[3] for line in lines[2:]][:3] == ["1", "1.1", "1.2"]
    assert [each["metrics"]["loss"] for each in read("rank", "loss", "-n", "2", "-d", "maximize")] == [2.2, 2.1]


def test_rank_says_when_experiments_are_mixed(trainings):
    """Without --experiment runs are ranked that nobody meant to compare: the heading says so."""
    with run("elsewhere", experiment="third", config={"model": "svm"}) as current:
        current.log(loss=0.5)
    mixed = call("rank", "loss", "-d", "minimize")
    assert mixed.stdout.splitlines()[0] == "by loss, minimize, last value; 2 experiments, --experiment names one"
    within = call("rank", "loss", "--experiment", "fit")
    assert within.stdout.splitlines()[0] == "by loss, minimize, last value"


def test_rank_shows_the_value_of_a_metric_with_a_long_name(store):
    """The name is cut to the terminal's width, never the number that the runs are ranked by."""
    name = "validation/" + "loss_of_something_long/" * 6
    with run("r") as current:
        current.log({name: 0.123456})
    assert call("rank", name, "-d", "minimize", columns=60).stdout.splitlines()[-1].split() == [
        "1",
        current.run_id[-8:],
        "r",
        "0.1235",
    ]


def test_rank_by_the_best_point_says_its_step(trainings):
    """--at best goes by the best point of the history, and the header says so."""
    lines = call("rank", "train/loss", "-d", "maximize", "--at", "best", "-n", "1").stdout.splitlines()
    assert lines[0] == "by train/loss, maximize, best point"
    assert lines[1].split()[2:4] == ["train/loss", "@step"]
    assert lines[2].split()[3:5] == ["4", "0"]


def test_rank_groups_by_seed(trainings):
    """Replicates are one row: how many, mean, spread, interval and best."""
    lines = call("rank", "loss", "--group-by-seed").stdout.splitlines()
    assert lines[2].split()[:4] == ["1", "3", "1.1", "0.1"]
    assert lines[2].split()[-1] == "cnn"
    data = read("rank", "loss", "--group-by-seed")
    assert [group["n"] for group in data[:2]] == [3, 3]
    assert data[0]["metrics"]["loss"]["mean"] == pytest.approx(1.1)


def test_rank_without_the_metric_ends_with_1(trainings):
    """A metric that no run has: exit code 1, and the metrics that there are."""
    result = call("rank", "accuracy", "-d", "maximize")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "train/loss" in result.stderr
    assert read("rank", "accuracy", "-d", "maximize", "--experiment", "none") == []


@pytest.mark.parametrize("command", ["rank", "explain", "best --metric"])
def test_a_metric_that_no_run_has_needs_no_direction(trainings, command):
    """A misspelt name is told at once, before it is asked whether less or more of it is better."""
    command = [*command.split(), "acuracy"]
    result = call(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has 'acuracy'; there are: " in result.stderr
    assert call(*command, "--experiment", "none").exit_code == 1


def test_settings_go_by_the_ends_of_their_paths():
    """What tells the most comes into the heading, a name with dots in it whole; two that end alike keep their paths."""
    assert short_titles(["optimizer.lr", 'model["v1.5"]', "layers[0]", "a.seed", "b.seed"]) == [
        "lr",
        "v1.5",
        "layers[0]",
        "a.seed",
        "b.seed",
    ]


def test_a_setting_of_many_digits_takes_few_columns(store):
    """What a random search drew is shown in four digits, so that more settings go into a line."""
    for lr in (0.05805094382641, 0.12345678901234):
        with run("drawn", experiment="drawn", config={"lr": lr}) as current:
            current.log(loss=lr)
    assert [line.split()[-1] for line in call("rank", "loss", "-d", "minimize").stdout.splitlines()[2:]] == [
        "0.05805",
        "0.1235",
    ]
    assert call("leaderboard").stdout.splitlines()[3].endswith(" 0.05805")


def test_rank_wants_to_know_what_is_better(trainings):
    """A metric that is nobody's objective needs a direction."""
    result = call("rank", "train/loss")
    assert result.exit_code == 2
    assert "--direction" in result.stderr


def test_explain_says_when_there_are_too_few(trainings):
    """Six runs are not enough to say anything: exit code 1."""
    result = call("explain", "loss")
    assert result.exit_code == 1
    assert "not enough runs" in result.stdout
    assert read("explain", "loss")["enough"] is False


def test_explain_names_the_setting(store):
    """With enough runs it names what tells the best from the worst, with its evidence."""
    for number in range(12):
        with run("fit", config={"lr": number / 100, "other": number % 2}) as current:
            current.log(loss=number)
    result = call("explain", "loss", "-d", "minimize")
    assert result.exit_code == 0
    assert any(line.split()[:2] == ["lr", "lower"] for line in result.stdout.splitlines())
    assert read("explain", "loss", "-d", "minimize")["settings"][0]["path"] == "lr"


def test_explain_says_that_a_setting_is_not_there(store):
    """What only some runs have is told by its absence, and settings that say the same are one finding."""
    for number in range(40):
        own = {"depth": 2, "trees": 9} if number >= 20 else {}
        with run("fit", config={"model": "forest" if own else "mlp", **own}) as current:
            current.log(loss=number)
    lines = call("explain", "loss", "-d", "minimize", columns=80).stdout.splitlines()
    (told,) = [line for line in lines if "depth, trees" in line and "best" in line]
    assert told.startswith("  depth, trees  more often not set in the best  strength ")
    settings = {each["path"]: each for each in read("explain", "loss", "-d", "minimize")["settings"]}
    assert (settings["depth"]["pattern"], settings["model"]["pattern"]) == ("absent", "value")


def test_best_is_todays(trainings):
    """The best run of now, by the objective, or by a metric that is named."""
    assert read("best")["metrics"]["loss"] == 1.0
    assert read("best", "--metric", "loss", "--direction", "maximize")["metrics"]["loss"] == 2.2
    assert "first of its kind" in call("best", "--experiment", "fit").stdout
    assert call("best", "--experiment", "other").exit_code == 1


def test_leaderboard_ranks_each_experiment(trainings):
    """Best first within an experiment, as a table, as Markdown, as the file itself, as records."""
    lines = call("leaderboard", "--experiment", "fit", "-n", "2").stdout.splitlines()
    assert lines[0] == "fit: 2 of 6, by loss (minimize)"
    assert [line.split()[0] for line in lines[2:]] == ["1", "2"]
    markdown = call("leaderboard", "--format", "markdown", "--experiment", "fit", "-n", "1").stdout.splitlines()
    assert markdown[0].startswith("### fit")
    assert markdown[2].count("|") == markdown[3].count("|") == markdown[4].count("|")
    assert call("leaderboard", "--format", "csv").stdout == (trainings.root / "leaderboard.csv").read_text()
    assert [each["experiment"] for each in read("leaderboard", "-n", "1")] == ["other", "fit"]


def test_a_leaderboard_in_markdown_is_text(store):
    """A name is shown as it is: it ends no cell, and is neither HTML nor code."""
    with run("<img src=x>", experiment="a|b`c"):
        pass
    text = call("leaderboard", "--format", "markdown", "--experiment", "a|b`c").stdout
    assert text.startswith("### a\\|b\\`c: 1")
    assert " \\<img src=x> |" in text


def test_leaderboard_is_rebuilt(trainings):
    """--rebuild writes the file from the folders and prints its path."""
    path = trainings.root / "leaderboard.csv"
    before = sorted(path.read_text().splitlines()[1:])
    path.write_text("run_id\nrubbish\n")
    assert call("leaderboard", "--rebuild").stdout.strip() == str(path)
    assert len(path.read_text().splitlines()) == len(before) + 1


def test_an_option_that_would_do_nothing_is_refused(trainings):
    """`--rank` chooses points of a history, and a file that is printed whole has no first rows."""
    for command in (["show", "--rank", "3"], ["leaderboard", "--format", "csv", "-n", "1"]):
        result = call(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--help`" in result.stderr or "runcard export" in result.stderr


def test_export_writes_to_standard_output_and_to_files(trainings, tmp_path):
    """CSV and JSON lines to standard output, any format to a file."""
    rows = list(csv.DictReader(io.StringIO(call("export", "--experiment", "fit").stdout)))
    assert [row["metrics.loss"] for row in rows][-1] == "1.0"
    lines = call("export", "-f", "jsonl", "-n", "2").stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["broken", "fit"]
    result = call("export", "-f", "parquet", "-o", tmp_path / "runs.parquet")
    assert result.exit_code == 0
    import pandas as pd

    assert len(pd.read_parquet(tmp_path / "runs.parquet")) == 7


@pytest.mark.parametrize(
    "words",
    [
        ["diff", "fit", "broken"],
        ["explain", "loss"],
        ["watch", "broken", "--once"],
        ["du"],
        ["gc", "--dry-run"],
        ["doctor"],
        ["rank", "loss", "--group-by-seed"],
        ["verify", "broken"],
    ],
    ids=lambda words: words[0],
)
def test_json_has_the_keys_that_the_docs_have(trainings, words):
    """docs/command-line.md names the keys of what each command prints with --json."""
    page = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{words[0]}` |"))
    lists = [found.split() for found in re.findall(r"`([^`]*)`", row.split("|")[2])]
    data = read(*[trainings.best("fit").run_id if word == "fit" else word for word in words])
    assert list(data[0] if isinstance(data, list) else data) in lists


def test_du_counts_what_runs_take(store):
    """The largest first, artifacts apart, with their sum."""
    for name, count in (("small", 10), ("large", 100_000)):
        with run(name) as current:
            current.artifact_path("model.bin").write_bytes(b"x" * count)
    data = read("du")
    assert [each["name"] for each in data["runs"]] == ["large", "small"]
    assert data["artifacts"] == 100_010
    assert data["bytes"] > 100_010
    assert call("du", "-n", "1").stdout.splitlines()[-1].endswith("in 2 runs, 100 kB of it artifacts")
