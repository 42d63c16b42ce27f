"""Runs in other processes: children of the open run by its token, in its store, and `launched_by` once it has ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from programs import finished, program, quietly

from runcard import attach, open_store, run, tracked
from runcard.errors import SettingError
from runcard.record import Status

INNER = """
    import sys
    from runcard import run
    with run("inner") as r:
        r.log(x=1.0)
"""


def by_name(store, name):
    """The only run of that name."""
    (found,) = [record for record in store.runs() if record.name == name]
    return found


def test_a_subprocess_is_a_child_in_the_parents_store(tmp_path, store):
    """A script started inside a run is its child, lies beside it and takes its experiment, wherever it is started."""
    path = program(tmp_path, INNER)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with run("outer", experiment="study"), run("middle"):
        environment = {name: value for name, value in os.environ.items() if name != "RUNCARD_DIR"}
        subprocess.run([sys.executable, path], cwd=elsewhere, env=environment, check=True)
    inner, outer = by_name(store, "inner"), by_name(store, "outer")
    assert inner.parent_id == outer.run_id, "the outermost open run is the one that exports"
    assert inner.experiment == "study/inner"
    assert inner.launched_by is None
    assert list(elsewhere.iterdir()) == []


def test_a_grandchild_belongs_to_the_child(tmp_path, store):
    """A script that starts a script: each belongs to the run it was started in."""
    program(tmp_path, INNER, "inner.py")
    path = program(
        tmp_path,
        """
        import subprocess, sys
        from runcard import run
        with run("middle"):
            subprocess.run([sys.executable, "inner.py"], check=True)
        """,
    )
    with run("outer"):
        quietly(path)
    assert by_name(store, "inner").parent_id == by_name(store, "middle").run_id
    assert by_name(store, "middle").parent_id == by_name(store, "outer").run_id


def test_the_export_is_there_while_the_outermost_run_is_open_and_put_back(monkeypatch):
    """RUNCARD_PARENT is the outermost run's token inside, and what it was before outside, after a failure too."""
    with pytest.raises(ValueError, match="mine"), run("outer") as outer:
        assert os.environ["RUNCARD_PARENT"] == outer.token()
        with run("inner"):
            assert os.environ["RUNCARD_PARENT"] == outer.token()
        raise ValueError("mine")
    assert "RUNCARD_PARENT" not in os.environ
    with run("other") as other:
        token = other.token()
    monkeypatch.setenv("RUNCARD_PARENT", token)
    with run("child") as child:
        assert os.environ["RUNCARD_PARENT"] == child.token()
    assert os.environ["RUNCARD_PARENT"] == token
    monkeypatch.delenv("RUNCARD_PARENT")


def test_export_parent_false_leaves_the_environment_alone(monkeypatch, tmp_path, store):
    """`export_parent=False`: nothing is exported, and a subprocess is no child."""
    monkeypatch.setenv("RUNCARD_EXPORT_PARENT", "0")
    with run("outer"):
        assert "RUNCARD_PARENT" not in os.environ
        quietly(program(tmp_path, INNER))
    assert by_name(store, "inner").parent_id is None


@pytest.mark.parametrize("how", ["attach", "parent", "tracked", "environment"])
def test_a_token_whose_run_has_ended_is_launched_by(how, monkeypatch, store):
    """A token outlives its run: then it says who launched, and no parent is claimed."""
    with run("outer", experiment="study") as outer:
        token = outer.token()
    if how == "attach":
        with attach(token), run("inner"):
            pass
    elif how == "parent":
        with run("inner", parent=token):
            pass
    elif how == "tracked":
        tracked(name="inner", parent=token)(lambda: None)()
    else:
        monkeypatch.setenv("RUNCARD_PARENT", token)
        with run("inner"):
            pass
        monkeypatch.delenv("RUNCARD_PARENT")
    inner = by_name(store, "inner")
    assert (inner.parent_id, inner.launched_by) == (None, outer.run_id)


def test_a_token_of_a_run_that_was_killed_is_launched_by(tmp_path, store):
    """The parent was killed before the child began: nobody is its parent any more."""
    out = program(
        tmp_path,
        """
        import os, signal
        from runcard import run
        with run("outer") as r:
            print(r.token(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        "outer.py",
    )
    token = finished(out).stdout.strip()
    quietly(program(tmp_path, INNER), env={"RUNCARD_PARENT": token})
    inner = by_name(store, "inner")
    assert (inner.parent_id, inner.launched_by) == (None, token.partition("@")[0])
    assert by_name(store, "outer").status is Status.CRASHED


def test_a_token_carries_the_stores_absolute_root(tmp_path, monkeypatch):
    """`directory` given relative: the token still leads to the very folder, from any working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("RUNCARD_DIR", "cards")
    with run("outer") as outer:
        token = outer.token()
        monkeypatch.delenv("RUNCARD_DIR")
        monkeypatch.chdir(tmp_path)
        with attach(token), run("inner"):
            pass
    assert token.partition("@")[2] == str(tmp_path / "here" / "cards")
    inner, found = open_store(tmp_path / "here" / "cards").runs()
    assert (found.name, inner.name, inner.parent_id) == ("outer", "inner", found.run_id)


def test_attach_is_put_back_and_takes_none(store):
    """After the block the current run and the token are what they were; a missing token attaches nothing."""
    with run("elsewhere") as elsewhere:
        token = elsewhere.token()
        with run("here"):
            with attach(token), run("first"):
                pass
            with run("second"):
                pass
            with attach(None), run("third"):
                pass
    here = by_name(store, "here")
    assert by_name(store, "first").parent_id == elsewhere.run_id
    assert by_name(store, "second").parent_id == by_name(store, "third").parent_id == here.run_id


@pytest.mark.parametrize(
    "token", ["", "nonsense", "20261123T101112-7k3f9q2m", "20261123T101112-7k3f9q2m@relative/root"]
)
def test_what_is_no_token_is_refused_or_left_aside(token, tmp_path, store):
    """A wrong token is an error where it is given in code, and one warning where it comes from the environment."""
    with pytest.raises(SettingError, match="is no token"):
        attach(token)
    with pytest.raises(SettingError, match="is no token"), run("inner", parent=token):
        pass
    done = finished(program(tmp_path, INNER), env={"RUNCARD_PARENT": token})
    assert (done.returncode, done.stderr.count("RUNCARD_PARENT")) == (0, 1 if token else 0)
    assert by_name(store, "inner").parent_id is None


def test_the_tokens_of_strangers_in_threads_of_one_process_stay_apart(tmp_path, store):
    """Two outermost runs in two threads: one exports, and neither takes the other for its parent."""
    quietly(
        program(
            tmp_path,
            """
            import threading
            from runcard import run
            gate = threading.Barrier(2)
            def work(name):
                gate.wait()
                with run(name):
                    gate.wait()
                    with run(f"in {name}"):
                        gate.wait()
            threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            import os
            assert "RUNCARD_PARENT" not in os.environ
            """,
        )
    )
    parents = {record.name: record.parent_id for record in store.runs()}
    assert (parents["a"], parents["b"]) == (None, None)
    assert parents["in a"] == by_name(store, "a").run_id
    assert parents["in b"] == by_name(store, "b").run_id
