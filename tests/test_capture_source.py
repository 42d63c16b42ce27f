"""What a function was made from, and source that was edited after its import."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import linecache
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import wrapt

from runcard.capture import source as subject
from runcard.capture.source import describe, edited_since_import, file_of

HERE = Path(__file__).resolve()


def plain(value):
    """A function to describe."""
    return value + 1


def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


@decorated
@decorated
def wrapped():
    return "wrapped"


class Callable:
    def __call__(self):
        return "called"

    def method(self):
        return "method"

    @classmethod
    def of_class(cls):
        return "class"

    @staticmethod
    def static():
        return "static"


async def coroutine():
    return 1


def generator():
    yield 1


a_lambda = lambda value: value  # noqa: E731 - a case under test


@pytest.mark.parametrize("function", [plain, coroutine, generator, a_lambda, Callable.method, textwrap.dedent])
def test_a_function_is_told_by_name_place_and_text(function):
    """Module, qualified name, file, line, and the hash of the text that inspect.getsource gives."""
    told = describe(function)
    text = inspect.getsource(function)
    assert (told["module"], told["qualname"]) == (function.__module__, function.__qualname__)
    assert told["file"] == inspect.getsourcefile(function)
    assert told["line"] == function.__code__.co_firstlineno
    assert (told["source"], told["source_sha256"]) == (text, hashlib.sha256(text.encode()).hexdigest())
    json.dumps(told)


@pytest.mark.parametrize(
    ("callable_", "qualname"),
    [
        (wrapped, "wrapped"),
        (functools.partial(plain, 1), "plain"),
        (functools.partial(functools.partial(plain)), "plain"),
        (functools.lru_cache(plain), "plain"),
        (functools.singledispatch(plain), "plain"),
        (Callable(), "Callable.__call__"),
        (functools.partial(Callable()), "Callable.__call__"),
        (Callable().method, "Callable.method"),
        (Callable.of_class, "Callable.of_class"),
        (Callable.__dict__["of_class"], "Callable.of_class"),
        (Callable.__dict__["static"], "Callable.static"),
        (functools.partialmethod(plain), "plain"),
        (wrapt.FunctionWrapper(plain, lambda f, _i, a, k: f(*a, **k)), "plain"),
    ],
)
def test_what_is_beneath_a_wrapper_is_described(callable_, qualname):
    """Decorators, partials, caches, methods and callable objects lead to the function inside."""
    told = describe(callable_)
    assert (told["qualname"], told["file"]) == (qualname, str(HERE))
    assert file_of(callable_) == HERE


@pytest.mark.parametrize(("function", "qualname"), [(len, "len"), ([].append, "list.append"), (dict, "dict")])
def test_builtins_have_a_name_and_no_file(function, qualname):
    """A function in C has neither file nor text."""
    told = describe(function)
    assert (told["qualname"], told["file"], told["line"], told["source"]) == (qualname, None, None, None)
    assert file_of(function) is None


def test_a_function_made_by_exec_has_no_file():
    """Text that was never in a file gives a name, and no file."""
    names = {"__name__": "made"}
    exec("def made(): return 1", names)
    told = describe(names["made"])
    assert (told["module"], told["qualname"], told["file"], told["line"]) == ("made", "made", None, None)


def test_a_cell_has_its_text_and_no_file(tmp_path, monkeypatch):
    """A notebook's cell is read from linecache; its file is the notebook when the front end tells it."""
    name = "/tmp/ipykernel_12/3456.py"
    text = "x = 1\ndef cell():\n    return x\n"
    names = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
    told = describe(names["cell"])
    assert (told["file"], told["line"], told["source"]) == (None, 2, "def cell():\n    return x\n")
    assert file_of(names["cell"]) is None
    notebook = tmp_path / "n.ipynb"
    notebook.write_text("{}")
    monkeypatch.setenv("JPY_SESSION_NAME", str(notebook))
    assert file_of(names["cell"]) == notebook


def test_hostile_objects_are_never_asked():
    """No property, __getattr__, __class__, __repr__ or __wrapped__ of the user's is called, and nothing is raised."""
    asked = []

    class Hostile:
        def __getattribute__(self, name):
            asked.append(name)
            raise RuntimeError(name)

        def __repr__(self):
            asked.append("repr")
            return "x"

        @property
        def __class__(self):
            asked.append("__class__")
            return type(self)

        @property
        def __wrapped__(self):
            asked.append("__wrapped__")

        def __hash__(self):
            asked.append("hash")
            return 1

        def __eq__(self, other):
            asked.append("eq")
            return True

    class Slotted:
        __slots__ = ()

    assert describe(Hostile())["file"] is None
    assert file_of(Hostile()) is None
    assert describe(Slotted())["qualname"].endswith("Slotted")
    assert asked == []


def test_wrappers_that_wrap_each_other_end():
    """A cycle of __wrapped__ gives an answer."""

    def one(): ...
    def two(): ...

    one.__wrapped__, two.__wrapped__ = two, one
    assert describe(one)["file"] == str(HERE)


def test_names_that_are_no_text_are_dropped():
    """A function whose module was set to something else has none."""

    def odd(): ...

    odd.__module__ = 7
    assert describe(odd)["module"] is None


def test_long_source_is_cut_and_its_hash_is_of_all(tmp_path, monkeypatch):
    """Above 64 KiB the text is cut and marked with its full size; the hash is of the whole."""
    text = "def long():\n" + "".join(f"    x{n} = '{'y' * 90}'\n" for n in range(1000)) + "    return x0\n"
    module = make_module(tmp_path, monkeypatch, "long_module", text)
    told = describe(module.long)
    assert len(told["source"]) == 65_536
    assert told["source_bytes"] == len(text)
    assert told["source_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_file_that_is_gone_still_gives_the_name(tmp_path, monkeypatch):
    """The source file may have been deleted since."""
    module = make_module(tmp_path, monkeypatch, "gone_module", "def gone():\n    return 1\n")
    (tmp_path / "gone_module.py").unlink()
    linecache.clearcache()
    assert describe(module.gone)["qualname"] == "gone"


def test_the_text_is_read_once(monkeypatch):
    """A second description of the same code reads no file; the answers are separate."""
    first = describe(plain)
    monkeypatch.setattr(subject, "_lines", None)
    second = describe(plain)
    assert first == second
    assert first is not second


def test_main_has_its_script(tmp_path):
    """A function of __main__ is told with the path of the script."""
    script = tmp_path / "train.py"
    script.write_text(
        "import json\nfrom runcard.capture.source import describe\ndef main(): ...\nprint(json.dumps(describe(main)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    told = json.loads(out.stdout)
    assert (told["module"], told["script"], told["file"]) == ("__main__", str(script), str(script))


def make_module(folder, monkeypatch, name, text):
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.fixture
def fresh(monkeypatch):
    """Nothing has been looked at yet, and .pyc files are written."""
    monkeypatch.setattr(subject, "_first_seen", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def test_a_module_edited_after_its_import_is_named(tmp_path, monkeypatch, fresh):
    """A file that is no longer what its .pyc was made from is said to be edited, before and after a first look."""
    make_module(tmp_path, monkeypatch, "edited_one", "x = 1\n")
    (tmp_path / "edited_one.py").write_text("x = 12345\n")
    assert edited_since_import(tmp_path) == ["edited_one"]


def test_an_edit_after_the_first_look_is_named(tmp_path, monkeypatch, fresh):
    """What a first look found unchanged is compared with that look, even when the .pyc is made again."""
    make_module(tmp_path, monkeypatch, "edited_two", "x = 1\n")
    assert edited_since_import(tmp_path) == []
    (tmp_path / "edited_two.py").write_text("x = 12345\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-f", str(tmp_path)], check=True)
    assert edited_since_import(tmp_path) == ["edited_two"]


def test_a_reload_takes_the_edit_in(tmp_path, monkeypatch, fresh):
    """A module that is reloaded after the edit is what its file says."""
    module = make_module(tmp_path, monkeypatch, "reloaded", "x = 1\n")
    assert edited_since_import(tmp_path) == []
    (tmp_path / "reloaded.py").write_text("x = 12345\n")
    importlib.reload(module)
    assert edited_since_import(tmp_path) == []


def test_a_module_written_and_then_imported_is_not_edited(tmp_path, monkeypatch, fresh):
    """A file younger than the process is fine when its .pyc was made from it."""
    make_module(tmp_path, monkeypatch, "young", "x = 1\n")
    assert edited_since_import(tmp_path, started=1.0) == []


def test_without_a_pyc_the_start_of_the_process_counts(tmp_path, monkeypatch, fresh):
    """With PYTHONDONTWRITEBYTECODE a file younger than the process is edited, an older one is not."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    make_module(tmp_path, monkeypatch, "uncompiled", "x = 1\n")
    assert edited_since_import(tmp_path, started=time.time() + 1) == []
    subject._first_seen.clear()
    assert edited_since_import(tmp_path, started=time.time() - 60) == ["uncompiled"]


def test_a_script_just_written_and_started_is_not_edited(tmp_path):
    """The start of the process is told finely enough for a script that is run the moment it is written."""
    script = tmp_path / "train.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = (
        "from pathlib import Path\nfrom runcard.capture.source import edited_since_import as edited\n"
        "here = Path(__file__)\nprint(edited(here.parent))\nimport time\ntime.sleep(0.2)\n"
        "here.write_text(here.read_text() + '#')\nprint(edited(here.parent))\n"
    )
    script.write_text(code)
    out = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, check=True).stdout
    assert out == b"[]\n['__main__']\n"


def test_only_the_users_own_modules_are_looked_at(tmp_path, monkeypatch, fresh):
    """Modules elsewhere, in site-packages, or without a root are not named."""
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "in").mkdir()
    make_module(tmp_path / "site-packages", monkeypatch, "installed_one", "x = 1\n")
    make_module(tmp_path, monkeypatch, "outside", "x = 1\n")
    for path in (tmp_path / "site-packages" / "installed_one.py", tmp_path / "outside.py"):
        path.write_text("x = 12345\n")
    assert edited_since_import(tmp_path / "in") == []
    assert edited_since_import(None) == []
    assert edited_since_import(tmp_path) == ["outside"]


def test_the_number_of_files_looked_at_is_bounded(tmp_path, monkeypatch, fresh):
    """Thousands of modules cost a bounded number of stat calls."""
    monkeypatch.setattr(subject, "_MOST_FILES", 1)
    for name in ("many_a", "many_b"):
        make_module(tmp_path, monkeypatch, name, "x = 1\n")
        (tmp_path / f"{name}.py").write_text("x = 12345\n")
    assert len(edited_since_import(tmp_path)) == 1


def test_odd_modules_are_passed_over(tmp_path, monkeypatch, fresh):
    """sys.modules may hold anything: None, objects that raise, files that are gone, nonsense for a .pyc."""

    class Raising:
        def __getattr__(self, name):
            raise RuntimeError(name)

    monkeypatch.setitem(sys.modules, "odd_none", None)
    monkeypatch.setitem(sys.modules, "odd_raising", Raising())
    make_module(tmp_path, monkeypatch, "odd_gone", "x = 1\n")
    (tmp_path / "odd_gone.py").unlink()
    module = make_module(tmp_path, monkeypatch, "odd_pyc", "x = 1\n")
    Path(module.__cached__).write_bytes(b"short")
    (tmp_path / "odd_pyc.py").write_text("x = 12345\n")
    assert edited_since_import(tmp_path, started=1.0) == ["odd_pyc"]


def test_the_start_of_the_process_is_before_now():
    """The process started after the machine's epoch of this test session's parent, and before now."""
    import psutil

    assert subject._process_start() == pytest.approx(psutil.Process().create_time(), abs=1.5)
