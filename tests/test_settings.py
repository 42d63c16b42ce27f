"""Settings: five places in their order, lists that add and take away, and refusals at the right time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runcard import RuncardWarning, configure, errors, open_store, run, settings, tracked
from runcard._current import is_disabled
from runcard._pending import deliver_pending
from runcard.errors import RuncardError, SettingError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that writes ``[tool.runcard]`` into a project's file and goes into that project."""

    def write(text, below=""):
        folder = tmp_path / "project"
        (folder / below).mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(text, "utf-8")
        monkeypatch.chdir(folder / below)
        settings._projects.clear()
        return folder

    return write


def test_the_defaults_are_those_of_the_documentation(monkeypatch, tmp_path):
    """Without any place that says otherwise, a setting has its documented default."""
    monkeypatch.delenv("RUNCARD_DIR")
    monkeypatch.delenv("RUNCARD_SPOOL")
    monkeypatch.chdir(tmp_path)
    found = settings.current()
    assert (found.sinks, found.directory, found.strict, found.durability) == (("file:",), None, False, "process")
    assert (found.signals, found.deadline, found.mode, found.input_limit) == ((), 5.0, "private", 1_000_000_000)
    assert found.capture == {"git", "packages", "host", "hardware", "command", "source", "inputs"}
    assert found.export_parent is True
    assert found.spool is None


def test_each_place_wins_over_the_ones_below(project, monkeypatch):
    """Argument over configure() over variable over pyproject.toml over default."""
    assert settings.current().sinks == ("file:",)
    project('[tool.runcard]\nsinks = ["memory:project"]\n')
    assert settings.current().sinks == ("memory:project",)
    monkeypatch.setenv("RUNCARD_SINKS", "memory:variable")
    assert settings.current().sinks == ("memory:variable",)
    configure(sinks=["memory:configured"])
    assert settings.current().sinks == ("memory:configured",)
    assert settings.current(sinks=["memory:argument"]).sinks == ("memory:argument",)


def test_the_settings_show_no_credentials():
    """Their repr, which tracebacks and logs hold, has the sinks' URLs without user and password."""
    configure(sinks=["file:", "mlflow:http://ana:hunter2@localhost:5000", print])
    shown = repr(settings.current())
    assert "hunter2" not in shown
    assert "'mlflow:http://localhost:5000'" in shown
    assert shown.startswith("Settings(sinks=('file:', ")


def test_the_nearest_project_file_counts(project, tmp_path):
    """The file is looked for upward from the working directory, and a relative folder is relative to that file."""
    folder = project('[tool.runcard]\ndeadline = 2\ndirectory = "records"\nspool = "waiting"\n', below="src/deep")
    os.environ.pop("RUNCARD_DIR")
    os.environ.pop("RUNCARD_SPOOL")
    assert settings.current().deadline == 2.0
    assert settings.store_root(settings.current()) == folder / "records"
    assert settings.spool_root(settings.current()) == folder / "waiting"
    (folder / "src" / "pyproject.toml").write_text("[tool.other]\n", "utf-8")
    assert settings.current().deadline == 5.0


def test_paths_in_a_project_file_are_relative_to_it(project):
    """Wherever a program is started, the sinks and the spool that the file names are the same places."""
    wanted = ["file:", "file:copies", "sqlite:///runs.db", "file:/data", "sqlite:////data/runs.db", "memory:file:x"]
    folder = project(f'[tool.runcard]\nspool = "waiting"\nsinks = {wanted}\n', below="src/deep")
    os.environ.pop("RUNCARD_SPOOL")
    found = settings.current()
    assert found.sinks == ("file:", f"file:{folder}/copies", f"sqlite:///{folder}/runs.db", *wanted[3:])
    assert settings.spool_root(found) == folder / "waiting"
    project('[tool.runcard]\nsinks = ["+sqlite:///runs.db"]\n', below="src/deep")
    assert settings.current().sinks == ("file:", f"sqlite:///{folder}/runs.db")


def test_a_changed_project_file_is_read_again(project):
    """A long-lived notebook sees what the file says now."""
    folder = project("[tool.runcard]\ndeadline = 2\n")
    assert settings.current().deadline == 2.0
    (folder / "pyproject.toml").write_text("[tool.runcard]\ndeadline = 3\n", "utf-8")
    os.utime(folder / "pyproject.toml", (1, 1))
    assert settings.current().deadline == 3.0


def test_the_store_lies_in_the_projects_root(tmp_path, monkeypatch):
    """Without a directory it is `runcards` in the nearest folder with pyproject.toml or .git, else where one is."""
    monkeypatch.delenv("RUNCARD_DIR")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert settings.store_root(settings.current()) == deep / "runcards"
    (tmp_path / ".git").mkdir()
    assert settings.store_root(settings.current()) == tmp_path / "runcards"
    (tmp_path / "a" / "pyproject.toml").write_text("", "utf-8")
    assert settings.store_root(settings.current()) == tmp_path / "a" / "runcards"


@pytest.mark.parametrize("place", ["variable", "configure", "default", "file"])
def test_a_relative_directory_is_made_absolute_at_once(place, tmp_path, monkeypatch):
    """A program that changes its directory in a run finds one store, not two."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "pyproject.toml").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.runcard]\ndirectory = "here"\n' if place == "file" else "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNCARD_DIR")
    if place == "variable":
        monkeypatch.setenv("RUNCARD_DIR", "here")
    elif place == "configure":
        configure(directory="here", spool="spool")
    with run("outer") as outer:
        monkeypatch.chdir(tmp_path / "elsewhere")
        with run("inner") as inner:
            pass
    assert outer.root == inner.root == tmp_path / ("runcards" if place == "default" else "here")
    assert Path(inner.folder).is_dir()
    if place == "configure":
        assert settings.store_root(settings.current()) == tmp_path / "here"
        assert settings.spool_root(settings.current()) == tmp_path / "spool"


def test_a_relative_directory_where_there_is_none(tmp_path, monkeypatch):
    """In a working directory that is gone a relative folder is refused."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SettingError, match="directory='here' is relative"):
        configure(directory="here")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("memory:a,memory:b", ("memory:a", "memory:b")),
        (" memory:a , memory:b ,", ("memory:a", "memory:b")),
        ("+memory:a", ("file:", "memory:a")),
        ("+memory:a,+memory:b", ("file:", "memory:a", "memory:b")),
        ("+file:", ("file:",)),
    ],
)
def test_lists_in_variables(monkeypatch, text, wanted):
    """Lists are comma-separated; a leading plus adds to what the places below say, once each."""
    monkeypatch.setenv("RUNCARD_SINKS", text)
    assert settings.current().sinks == wanted


def test_a_plus_adds_through_all_places(project, monkeypatch):
    """Each place may add one sink more."""
    project('[tool.runcard]\nsinks = ["+memory:project"]\n')
    monkeypatch.setenv("RUNCARD_SINKS", "+memory:variable")
    configure(sinks=["+memory:configured"])
    found = settings.current(sinks=["+memory:argument"]).sinks
    assert found == ("file:", "memory:project", "memory:variable", "memory:configured", "memory:argument")


def test_a_single_sink_needs_no_list():
    """One URL or one function is a list of one."""
    assert settings.parse("sinks", "memory:") == ("memory:",)
    assert settings.parse("sinks", print) == (print,)


def test_captures_add_and_take_away(project, monkeypatch):
    """A bare name adds, a minus takes away, in every place, and what is not named stays."""
    project('[tool.runcard]\ncapture = ["console", "-hardware"]\n')
    monkeypatch.setenv("RUNCARD_CAPTURE", "hardware,-git")
    configure(capture=["system"])
    found = settings.current(capture=["-packages", "+git"]).capture
    assert found == {"host", "hardware", "command", "source", "inputs", "console", "system", "git"}


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("strict", "true", True),
        ("strict", "off", False),
        ("strict", True, True),
        ("deadline", "2.5", 2.5),
        ("deadline", 0, 0.0),
        ("durability", "disk", "disk"),
        ("mode", "group", "group"),
        ("input_limit", "500MB", 500_000_000),
        ("input_limit", "1GB", 1_000_000_000),
        ("input_limit", 12, 12),
        ("signals", "term, HUP", ("SIGTERM", "SIGHUP")),
        ("signals", True, ("SIGTERM", "SIGHUP")),
        ("signals", False, ()),
        ("signals", [15], ("SIGTERM",)),
        ("redact_keep", "a,b", ("a", "b")),
        ("export_parent", "0", False),
        ("directory", "x", Path("x")),
    ],
)
def test_values_as_text_and_as_python(name, value, parsed):
    """A setting is understood as text, as in a variable, and as a Python value."""
    assert settings.parse(name, value) == parsed


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("sinks", ["runcards"], "file:runcards"),
        ("sinks", [3], "a function of a record"),
        ("sinks", ["carrier-pigeon:x"], "carrier-pigeon"),
        ("sinks", [":memory:"], "accepted are"),
        ("directory", "", "the path of a folder"),
        ("directory", 3, "directory=3"),
        ("strict", "maybe", "true or false"),
        ("strict", 2, "true or false"),
        ("durability", "tape", "process, disk"),
        ("signals", ["SIGKILL"], "SIGTERM"),
        ("signals", ["NOPE"], "SIGTERM"),
        ("capture", ["gti"], "git, packages"),
        ("deadline", -1, "seconds"),
        ("deadline", float("nan"), "seconds"),
        ("deadline", True, "seconds"),
        ("deadline", "soon", "deadline='soon'"),
        ("mode", "world", "private, group"),
        ("input_limit", "much", "input_limit='much'"),
        ("input_limit", -1, "bytes"),
        ("system_interval", "often", "system_interval"),
        ("export_parent", "perhaps", "true or false"),
    ],
)
def test_configure_refuses_with_what_is_accepted(name, value, says):
    """A bad setting fails in configure() itself, naming the setting and what it takes; nothing of the call is taken."""
    with pytest.raises(SettingError) as refused:
        configure(redact_keep=["kept"], **{name: value})
    assert name in str(refused.value) or says in str(refused.value)
    assert says in str(refused.value)
    assert settings.current().redact_keep == ()


def test_an_unknown_setting_names_its_neighbour(project):
    """A misspelt name is refused with the name that was meant."""
    with pytest.raises(SettingError, match="did you mean 'durability'"):
        configure(durabilty="disk")
    project("[tool.runcard]\ndirektory = 'x'\n")
    with pytest.raises(SettingError, match="did you mean 'directory'"):
        settings.current()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RUNCARD_DEADLINE", "soon", "RUNCARD_DEADLINE"),
        ("RUNCARD_SINKS", "nowhere", "file:nowhere"),
        ("RUNCARD_DURABILITY", "tape", "process, disk"),
        ("RUNCARD_CAPTURE", "gti", "git, packages"),
        ("RUNCARD_SINKS", "carrier-pigeon:x", "carrier-pigeon"),
    ],
)
def test_a_bad_variable_fails_before_the_users_code(monkeypatch, variable, value, says):
    """The first run refuses it, before a line of the user's function ran; importing and decorating do not read it."""
    monkeypatch.setenv(variable, value)
    called = []

    @tracked
    def train():
        called.append(1)

    with pytest.raises(SettingError, match=says):
        train()
    assert called == []


@pytest.mark.parametrize("sinks", ["nosuch:", "sqlite:", "file:,+nosuch:"])
def test_a_bad_sink_names_the_variable_or_file_it_stands_in(monkeypatch, project, sinks):
    """In a run and in `runcard sync` alike; one that the program names itself is found by its traceback."""
    project(f"[tool.runcard]\nsinks = {sinks.split(',')}\n")
    for begin in (run("never").start, deliver_pending):
        with pytest.raises(SettingError, match=r"\Apyproject.toml, \[tool.runcard\]: "):
            begin()
    monkeypatch.setenv("RUNCARD_SINKS", sinks)
    for begin in (run("never").start, deliver_pending):
        with pytest.raises(SettingError, match=r"\ARUNCARD_SINKS: "):
            begin()
    monkeypatch.setenv("RUNCARD_SINKS", "memory:")
    with pytest.raises(SettingError, match=r"\Ano sink is known for 'other'"):
        run("never", sinks=["other:"]).start()


def test_a_bad_project_file_fails_before_the_users_code(project):
    """The message names the file, the table and the setting."""
    project('[tool.runcard]\ndurability = "tape"\n')
    with pytest.raises(SettingError, match=r"pyproject.toml, \[tool.runcard\]: durability='tape'"), run("never"):
        raise AssertionError("the block was entered")


@pytest.mark.parametrize("text", ["[tool.runcard]\ndeadline = \n", "[tool]\nruncard = 3\n"])
def test_a_project_file_that_cannot_be_read(project, text):
    """A broken file, or a table that is none, is refused by name."""
    project(text)
    with pytest.raises(SettingError, match=r"pyproject\.toml"):
        settings.current()


def test_another_tools_broken_file_is_not_ours(project):
    """A project file that does not speak of runcard is not even parsed."""
    project("[tool.other\n")
    assert settings.current().deadline == 5.0


def test_an_unknown_variable_is_said_once(monkeypatch):
    """A misspelt variable is a warning, since other programs may use the prefix; it is said once a process."""
    monkeypatch.setenv("RUNCARD_DEADLIN", "3")
    settings._checked.clear()
    with pytest.warns(RuncardWarning, match="did you mean RUNCARD_DEADLINE"):
        settings.current()
    settings.current()


def test_options_are_refused_at_decoration():
    """What @tracked and run() are given is checked there, not in the middle of the night."""
    with pytest.raises(SettingError, match="objective= needs direction="):
        tracked(objective="loss")
    with pytest.raises(SettingError, match="direction= needs objective="):
        run(direction="minimize")
    with pytest.raises(SettingError, match="minimize or maximize"):
        run(objective="loss", direction="down")
    with pytest.raises(SettingError, match="auto_decide"):
        run(auto_decide=True)
    with pytest.raises(SettingError, match="carrier-pigeon"):
        tracked(sinks=["carrier-pigeon:"])
    with pytest.raises(SettingError, match="git, packages"):
        run(capture=["everything"])
    with pytest.raises(SettingError, match="whole number"):
        run(seed=1.5)
    with pytest.raises(SettingError, match="exception classes"):
        run(expected=["Pruned"])
    with pytest.raises(SettingError, match="texts"):
        run(tags=[3])
    with pytest.raises(SettingError, match="torchrun, slurm, mpi"):
        run(ranks="mpirun")


def test_strict_raises_what_is_otherwise_a_warning(tmp_path):
    """strict=True turns a counted loss into an error at the place where it happens."""
    configure(strict=True)
    with pytest.raises(RuncardError, match="no number"), run("strict") as r:
        r.log(loss="high")
    assert r.status == "failed"
    (record,) = open_store().runs()
    assert record.status == "failed"


def test_strict_by_variable_holds_for_the_run_itself(monkeypatch):
    """The variable acts as configure() does, from the run's start on."""
    monkeypatch.setenv("RUNCARD_STRICT", "1")
    with pytest.raises(RuncardError), run("strict") as r:
        r.log(loss=object())
    assert errors.is_strict()


def test_configure_takes_back_nothing_it_was_not_told():
    """Two calls add up; None leaves a setting as it is."""
    configure(deadline=1)
    configure(durability="disk", deadline=None)
    found = settings.current()
    assert (found.deadline, found.durability) == (1.0, "disk")


def test_configure_connects_to_nothing(tmp_path):
    """It makes no folder and opens no file: that is the first run's business."""
    configure(directory=tmp_path / "later", sinks=[f"file:{tmp_path / 'later'}", "memory:x"])
    assert not (tmp_path / "later").exists()


def test_importing_and_decorating_read_no_setting(monkeypatch):
    """A broken variable costs nothing until a run begins."""
    monkeypatch.setenv("RUNCARD_STRICT", "broken")

    @tracked(name="later")
    def train():
        return 1

    run("not opened", config={"lr": 1})
    with pytest.raises(SettingError, match="RUNCARD_STRICT"):
        train()


def test_disabled_is_a_true_no_op(monkeypatch, tmp_path):
    """With RUNCARD_DISABLED nothing is written, nothing is current, and a path is still writable."""
    monkeypatch.setenv("RUNCARD_DISABLED", "1")
    monkeypatch.setenv("RUNCARD_DEADLINE", "broken")

    def train():
        return 1

    assert tracked(train) is train
    with run("off") as r:
        r.log(loss=1.0)
        r.note("nothing")
        path = r.artifact_path("model.pt")
        path.write_bytes(b"weights")
    assert (r.status, r.run_id, path.read_bytes()) == ("off", "", b"weights")
    assert not (tmp_path / "runcards").exists()


@pytest.mark.parametrize(("text", "off"), [("1", True), ("true", True), ("0", False), ("false", False), ("", False)])
def test_what_disables(monkeypatch, text, off):
    """Only a word that means yes disables."""
    monkeypatch.setenv("RUNCARD_DISABLED", text)
    assert is_disabled() is off


def test_switched_off_later(monkeypatch, store):
    """A function decorated before the switch is called as it is while the switch is off."""

    @tracked
    def train():
        return 2

    train()
    monkeypatch.setenv("RUNCARD_DISABLED", "1")
    assert train() == 2
    monkeypatch.setenv("RUNCARD_DISABLED", "0")
    train()
    assert len(store.runs()) == 2


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("deadline", "soon", "a number of seconds"),
        ("deadline", True, "a number of seconds"),
        ("input_limit", "much", "a number of bytes, or a text such as 500MB"),
        ("input_limit", "infG", "a number of bytes"),
        ("directory", 3, "the path of a folder"),
        ("directory", b"runs", "the path of a folder"),
        ("signals", [999], "names of signals"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_what_is_accepted(name, value, accepted):
    """The message says what a setting takes, not which conversion of Python's failed."""
    with pytest.raises(SettingError, match=accepted):
        configure(**{name: value})


@pytest.mark.parametrize("name", ["sinks", "capture", "signals", "redact_keep"])
def test_a_number_is_no_list(name):
    """What takes several says so when it gets a number."""
    with pytest.raises(SettingError, match=f"{name}=3.5 is not accepted: a list, or a text with commas"):
        configure(**{name: 3.5})
