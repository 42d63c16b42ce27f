"""Odd interpreters and odd places: whatever starts the program and wherever, it runs as ever, and is recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipapp

import pytest
from programs import finished, program, quietly

from runcard import open_store
from runcard.record import Status

PROGRAM = """
    import sys
    from runcard import current_run, log, run, tracked

    @tracked
    def train(lr: float = 0.1):
        '''Trains.'''
        log(loss=lr)
        return 1

    if __name__ == "__main__":
        result = train()
        if result != 1:
            sys.exit(f"another result: {result}")
        with run("block") as r:
            r.log(x=1.0)
        print("over")
"""


def check(store, *, kind="script"):
    """Both runs of `PROGRAM` are there, finished and whole."""
    records = {record.name: record for record in store.runs()}
    assert {name: record.status for name, record in records.items()} == {
        "train": Status.FINISHED,
        "block": Status.FINISHED,
    }
    assert records["train"].metrics == {"loss": 0.1, "result": 1}
    assert records["block"].metrics == {"x": 1.0}
    assert [record.losses for record in records.values()] == [{}, {}]
    assert {record.environment.command.kind for record in records.values()} == {kind}
    return records


@pytest.mark.parametrize(
    "options",
    [("-OO",), ("-W", "error", "-X", "dev"), ("-bb",), ("-I",), ("-X", "utf8=0"), ("-X", "importtime")],
    ids=" ".join,
)
def test_options_of_the_interpreter_change_nothing(options, tmp_path, store):
    """Without docstrings and asserts, with every warning an error, in development mode: all is recorded."""
    done = finished(program(tmp_path, PROGRAM), options=options)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
    assert "runcard" not in "".join(line for line in done.stderr.splitlines() if "import time" not in line), done.stderr
    check(store)


@pytest.mark.parametrize("locale", ["C", "xx_XX.UTF-8"])
def test_any_locale_will_do(locale, tmp_path, store):
    """Names beyond ASCII in a locale that has none, or in one that is not installed."""
    path = program(
        tmp_path, "from runcard import run\nwith run('Größe 学習', config={'é': 'ñ'}) as r:\n    r.log({'ü': 1})\n"
    )
    quietly(path, env={"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    (record,) = store.runs()
    assert (record.name, record.config, record.metrics) == ("Größe 学習", {"é": "ñ"}, {"ü": 1})


def test_a_warning_of_ours_under_w_error_raises_nothing(tmp_path, store):
    """With `-W error` what we warn of is said as a line on standard error, not raised into the program."""
    path = program(
        tmp_path,
        """
        from runcard import log, run
        log(nobody=1.0)
        with run() as r:
            r.log({"bad": object()})
            r.log(x=1.0)
        r.log(late=1.0)
        print("over")
        """,
    )
    done = finished(path, options=("-W", "error"))
    assert (done.returncode, done.stdout) == (0, "over\n")
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["runcard:"] * 3
    assert store.runs()[0].metrics == {"x": 1.0}


def direct(arguments, folder, **more):
    """Start the interpreter with arguments of one's own."""
    if "input" not in more:
        more["stdin"] = subprocess.DEVNULL
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=90, check=False, **more
    )


@pytest.mark.parametrize("how", ["-c", "-", "-m", "package", "zipapp", "script without a suffix", "executable link"])
def test_every_way_to_start_a_program(how, tmp_path, store):
    """`python -c`, standard input, modules, packages, an archive: each is recorded, with its kind."""
    path = program(tmp_path, PROGRAM)
    text = path.read_text()
    kind, arguments, more = "script", [str(path)], {}
    if how == "-c":
        kind, arguments = "command", ["-c", text]
    elif how == "-":
        kind, arguments, more = "stdin", ["-"], {"input": text}
    elif how == "-m":
        kind, arguments = "module", ["-m", "program"]
    elif how == "package":
        (tmp_path / "pack").mkdir()
        shutil.copy(path, tmp_path / "pack" / "__main__.py")
        kind, arguments = "module", ["-m", "pack"]
    elif how == "zipapp":
        (tmp_path / "source").mkdir()
        shutil.copy(path, tmp_path / "source" / "__main__.py")
        zipapp.create_archive(tmp_path / "source", tmp_path / "app.pyz")
        kind, arguments = "zipapp", [str(tmp_path / "app.pyz")]
    elif how == "script without a suffix":
        arguments = [str(shutil.copy(path, tmp_path / "train"))]
    else:
        (tmp_path / "link").symlink_to(path)
        arguments = [str(tmp_path / "link")]
    done = direct(arguments, tmp_path, **more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
    check(store, kind=kind)


@pytest.mark.parametrize("how", [["-m", "pack"], ["pack"], ["pack/__main__.py"]])
def test_the_experiment_of_a_package_is_its_name(how, tmp_path, store):
    """A package or a folder is started by its `__main__.py`, which all of them have: its own name is what tells it."""
    (tmp_path / "pack").mkdir()
    program(tmp_path / "pack", PROGRAM.replace("train", "main"), "__main__.py")
    assert direct(how, tmp_path).returncode == 0
    assert {(record.name, record.experiment) for record in store.runs()} == {("main", "pack"), ("block", "pack")}


NOTEBOOK = """
    import runcard
    cells = [
        "from runcard import current_run, log, run, tracked",
        "r = run('notebook', config={'lr': 0.1}).start()",
        "log(loss=1.0)",
        "@tracked\\ndef train(lr):\\n    log(inner=lr)\\n    return lr",
        "train(0.5)",
        "assert current_run() is r",
        "r.end()",
        "assert current_run() is None",
    ]
    namespace = {"__name__": "__main__", "__builtins__": __builtins__}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"<ipython-input-{number}>", "exec"), namespace)
"""


def test_cells_without_a_file_are_recorded(tmp_path, store):
    """Code that `exec` runs cell by cell, as a notebook does: functions without a file, a run across cells."""
    quietly(program(tmp_path, NOTEBOOK))
    records = {record.name: record for record in store.runs()}
    assert records["notebook"].metrics == {"loss": 1.0}
    assert records["train"].parent_id == records["notebook"].run_id
    assert records["train"].metrics == {"inner": 0.5, "result": 0.5}


@pytest.mark.parametrize("warnings", ["default", "error"])
@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "1>/dev/full 2>/dev/full"])
def test_closed_streams_raise_nothing_into_the_program(closed, warnings, tmp_path, store):
    """Standard output and error closed or full: the program's own code runs to its end, and says so in a file."""
    path = program(
        tmp_path,
        """
        from runcard import log, run
        log(nobody=1.0)
        with run("block", capture=["console"]) as r:
            r.log({"x": 1.0, "bad": object()})
        r.log(late=1.0)
        open("over", "w").close()
        """,
    )
    line = f'exec "$0" -W {warnings} "$1" {closed}'
    subprocess.run(["sh", "-c", line, sys.executable, path], cwd=tmp_path, timeout=90, check=False)
    assert (tmp_path / "over").exists()
    (record,) = store.runs()
    assert (record.status, record.metrics) == (Status.FINISHED, {"x": 1.0})
    journal = (store.root / record.run_id / "journal.jsonl").read_bytes()
    assert all(line.startswith(b'{"crc"') for line in journal.splitlines()), "something else was written into it"


def test_no_home_and_no_names(tmp_path, store):
    """An empty environment, as in a bare container: no HOME, no USER, no PATH."""
    path = program(tmp_path, PROGRAM)
    environment = {"RUNCARD_DIR": str(store.root), "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    done = direct([str(path)], tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
    check(store)


def test_a_working_directory_that_cannot_be_written(tmp_path, monkeypatch):
    """No setting and a read-only project: the run lies in the state folder, one message says where, nothing raises."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare -rm is not allowed")
    monkeypatch.delenv("RUNCARD_DIR")
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("")
    path = program(project, PROGRAM)
    mount = 'mount --bind . . && mount -o remount,ro,bind "$PWD" && cd "$PWD" && exec "$0" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, sys.executable, path],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
    assert done.stderr.count("RuncardWarning") == 1
    assert "Set directory= or RUNCARD_DIR" in done.stderr
    assert not (project / "runcards").exists()
    check(open_store(tmp_path / "state" / "runcard" / "runs"))


def test_a_working_directory_that_was_deleted(tmp_path, monkeypatch):
    """The folder is gone while the program runs: with an absolute setting nothing is to be said."""
    gone = tmp_path / "gone"
    gone.mkdir()
    path = program(tmp_path, PROGRAM)
    done = subprocess.run(
        ["sh", "-c", f'cd "{gone}" && rmdir "{gone}" && exec "$0" "$1"', sys.executable, path],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
    check(open_store(tmp_path / "runcards"))


def test_a_program_that_changes_its_directory(tmp_path, monkeypatch):
    """The store's root is made absolute at once: `chdir` in the middle moves nothing."""
    monkeypatch.setenv("RUNCARD_DIR", "cards")
    path = program(
        tmp_path,
        """
        import os
        from runcard import run
        with run("block") as r:
            os.mkdir("other")
            os.chdir("other")
            r.log(x=1.0)
            r.artifact_path("a.txt").write_text("a")
        """,
    )
    quietly(path)
    (record,) = open_store(tmp_path / "cards").runs()
    assert (record.metrics, record.artifacts[0].name) == ({"x": 1.0}, "a.txt")
    assert list((tmp_path / "other").iterdir()) == []


def test_a_program_that_traces_or_profiles_sees_its_own_functions(tmp_path):
    """`sys.settrace`, `sys.setprofile` and `breakpoint` hooks of the program are left in place by a run."""
    quietly(
        program(
            tmp_path,
            """
            import sys, threading
            from runcard import run, tracked
            seen = []
            def profile(frame, event, argument):
                if event == "call" and frame.f_code.co_name == "mine":
                    seen.append(frame.f_code.co_name)
            hooks = [sys.excepthook, sys.displayhook, sys.breakpointhook, sys.unraisablehook, threading.excepthook]
            @tracked
            def mine():
                return 1
            sys.setprofile(profile)
            with run():
                mine()
            assert sys.getprofile() is profile
            sys.setprofile(None)
            assert seen == ["mine"]
            assert hooks == [
                sys.excepthook, sys.displayhook, sys.breakpointhook, sys.unraisablehook, threading.excepthook
            ]
            """,
        )
    )
