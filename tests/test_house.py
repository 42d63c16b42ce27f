"""The rules of the house: layers, the public surface, tests that say what they hold, nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import runcard

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "runcard"

# From low to high; a module imports from its own layer and from lower ones. A folder stands for all in it.
LAYERS = [
    ["errors"],
    ["events", "record", "_folding", "_points", "_shapes"],
    ["redact", "_secret_names", "_secret_patch", "_secret_shapes", "values", "_values", "_paths", "_words", "_facts"],
    ["journal", "_memory_journal", "_reading", "_retire", "_shared", "_threads", "identity", "locks"],
    # The parts of query are pure functions of records: the store filters with them, so they lie below it.
    ["query", "_compare", "_explain", "_operations", "_patches", "_ranking", "_replicates", "_selecting", "_where"],
    [
        "leaderboard",
        "_rows",
        "index",
        "_changelog",
        "_columns",
        "_listing",
        "_uncollected",
        "_frames",
        "settings",
        "_setting_kinds",
        "card",
        "_notebook",
    ],
    ["sinks", "capture"],
    ["delivery", "_courier", "_open_sinks", "_parcels"],
    ["store", "_elsewhere", "retention", "_sync", "_pending", "_doctor"],
    [
        "reproduce",
        "_call",
        "_causes",
        "_code_diff",
        "_conditions",
        "_plan",
        "_rebuild",
        "_recorded_code",
        "_rerun",
        "_script",
        "_script_call",
        "_verdict",
        "_verify",
        "lineage",
    ],
    [
        *["_run", "_actions", "_beside", "_block", "_closing", "_configure", "_current", "_files", "_forked"],
        *["_given", "_metrics", "_module", "_opening", "_options", "_outcome", "_places", "_pulse", "_ranks"],
        *["_recording", "_rerun_child", "_rerun_link", "_resuming", "_settling", "_standing"],
    ],
    ["_tracked", "_binding", "_proxies"],
    ["cli", "integrations", "importers", "testing", "dashboard", "__main__"],
]

# Imports inside functions that go upward on purpose.
UPWARD = {("record", "_notebook"): "a record draws itself in a notebook"}

HEAVY = {
    "wrapt": {"_proxies"},
    "git": {"capture.git_program"},
    "sqlalchemy": {"sinks._sql_engine"},
    "wandb": {"sinks._wandb_program"},
    "fsspec": {"sinks.objectstore"},
    "opentelemetry": {"sinks._otel_messages"},
    "grpc": {"sinks._otel_send"},
    "psutil": {"capture.resources", "identity"},  # identity lies below capture, and asks it where there is no /proc
    "pandas": {"_frames"},
    "polars": {"_frames"},
    "pyarrow": {"_frames"},
}


def _modules() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): ast.parse(path.read_bytes())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def _layer(module: str) -> int | None:
    first = module.partition(".")[0]
    for number, names in enumerate(LAYERS):
        if first in names or any(first.startswith(f"{name}_") for name in names):
            return number
    return None


def _imports(tree: ast.Module) -> set[str]:
    """Every module that is imported when the code runs, inside functions too; not what is for types alone."""
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_package = node.module == "runcard" or (SOURCE / node.module.removeprefix("runcard.")).is_dir()
            if is_package and node.module.startswith("runcard"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def _own(imported: str) -> str | None:
    """The module of runcard that an import names; None for other packages', and for names of the door itself."""
    if not imported.startswith("runcard."):
        return None
    name = imported.removeprefix("runcard.")
    while name and not ((SOURCE / Path(*name.split("."))).with_suffix(".py").exists() or (SOURCE / name).is_dir()):
        name = name.rpartition(".")[0]
    return name or None


def test_nothing_imports_upward():
    """A module imports from its own layer and from lower ones alone, be it inside a function."""
    wrong = []
    for module, tree in _modules().items():
        layer = _layer(module)
        for imported in _imports(tree):
            name = _own(imported)
            if name is None or layer is None or (module, name) in UPWARD:
                continue
            if (_layer(name) or 0) > layer:
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_every_module_has_a_layer():
    """A new module is given its place in the layers before it goes in."""
    assert [module for module in _modules() if _layer(module) is None and module != "__init__"] == []


def test_heavy_packages_live_in_one_named_file_each():
    """wrapt, GitPython, psutil, pandas and polars are imported by the files named for them, and by no other."""
    wrong = []
    for module, tree in _modules().items():
        for imported in _imports(tree):
            package = imported.partition(".")[0]
            if package in HEAVY and module not in HEAVY[package]:
                wrong.append(f"{module} imports {package}")
    assert wrong == []


def test_importing_and_decorating_load_nothing_heavy():
    """`import runcard`, its three commonest names and a decoration leave the heavy packages unloaded."""
    code = (
        "import sys\nfrom runcard import tracked, run, log\n@tracked\ndef f(): pass\n"
        "heavy = ('wrapt', 'git', 'psutil', 'asyncio', 'rich', 'click', 'pandas', 'numpy', 'runcard.cli')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_public_surface_is_what_it_was():
    """A name that goes, or comes, is a decision: it is written here too."""
    assert runcard.__all__ == [
        *["Point", "Run", "RunRecord", "RuncardError", "RuncardWarning", "Status", "Store"],
        *["aggregate", "artifact_path", "attach", "compare", "configure", "current_run", "discard", "explain", "keep"],
        *["log", "log_artifact", "log_config", "log_input", "note", "open_store", "rank", "run", "tag", "tracked"],
    ]


def test_every_public_name_is_there_and_documented():
    """Each name of `__all__` loads, has a docstring, and `dir()` lists it."""
    for name in runcard.__all__:
        assert getattr(runcard, name).__doc__, name
        assert name in dir(runcard)


def test_every_test_says_what_it_holds():
    """Each test function has a docstring that states the behaviour."""
    silent = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if is_function and node.name.startswith("test") and not ast.get_docstring(node):
                silent.append(f"{path.name}:{node.lineno} {node.name}")
    assert silent == []


def _tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        return [path for folder in ("src", "tests", "docs", "examples") for path in (ROOT / folder).rglob("*.*")]
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True).stdout
    return [path for name in names.decode().split("\0") if name and (path := ROOT / name).is_file()]


# Written with brackets, so that this line does not find itself.
_OF_ONE_MACHINE = re.compile(
    r"(?<![\w.~])(?:[/]work/|[/]root/|[/]home/(?!(?:ana|user|me|u|alice|bob|hunter2)\b)\w|[/]Users/\w)"
)


def test_no_file_names_a_place_on_one_machine():
    """No absolute path of a developer's machine is in the repository; made-up homes, as ana's, are."""
    found = []
    for path in _tracked_files():
        if path.suffix in (".jsonl", ".zip", ".csv", ".png"):
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if _OF_ONE_MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_every_suppression_has_its_reason():
    """A `noqa` or `type: ignore` is followed by the reason."""
    bare = []
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            is_one = re.search(r"#\s*(noqa|type: ignore|pyright: ignore)\b", line)
            if is_one and not re.search(r"(noqa: [A-Z0-9, ]*[A-Z0-9]|ignore\[[^\]]+\])\s*[-#]\s*[\w`]", line):
                bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert bare == []


def test_allowed_skips_have_reasons():
    """Each line of the list of skips that may happen is a pattern of the skip's reason and why that is right."""
    lines = (ROOT / "tests" / "allowed_skips.txt").read_text("utf-8").splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            pattern, separator, why = line.partition("  ::  ")
            assert separator
            assert pattern.strip()
            assert why.strip()


_DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_every_extra_that_is_named_can_be_installed():
    """What messages and documents tell pip is in pyproject.toml, and what the design promises is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = set()
    for path in [*SOURCE.rglob("*.py"), *(ROOT / name for name in _DOCUMENTS)]:
        for names in re.findall(r"runcard\[([a-z0-9,]+)\]", path.read_text("utf-8")):
            named.update(names.split(","))
    assert named <= extras.keys()
    assert {"sql", "mlflow", "wandb", "otel", "s3", "pandas", "test", "all"} <= extras.keys()


@pytest.mark.parametrize("name", _DOCUMENTS)
def test_links_lead_somewhere(name):
    """Every relative link in the documents leads to a file that is there."""
    path = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
