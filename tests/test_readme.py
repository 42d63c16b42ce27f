"""Every code block of the documents is run, and prints what they say; so do the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
from pathlib import Path

import pytest
from markdown_blocks import blocks, tell

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A new user's folder: a repository with one commit, and no setting of runcard."""
    folder = tmp_path / "project"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=ana", "-c", "user.email=ana@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    monkeypatch.delenv("RUNCARD_DIR")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_the_document_is_true(name, project):
    """The blocks of a document, run in order in a folder of their own, do and print what it says."""
    wrong = "\n".join(tell(ROOT / name, project))
    assert not wrong, wrong


@pytest.mark.heavy
def test_the_grid_is_true(project):
    """The README's tour of 240 runs prints what it says, from the examples of a clone."""
    (project / "examples").symlink_to(ROOT / "examples")
    (project / ".git" / "info" / "exclude").write_text("examples\n")
    wrong = "\n".join(tell(ROOT / "README.md", project, heavy=True))
    assert not wrong, wrong


def test_the_set_up_is_what_ci_runs():
    """The README's set-up is two command lines, and CI runs them as they stand there."""
    (setup,) = (block.text.splitlines() for block in blocks(ROOT / "README.md") if block.language == "sh")
    assert setup == [
        "python -m venv .venv && .venv/bin/pip install -e . && .venv/bin/python examples/01_train.py",
        '.venv/bin/pip install -e ".[test]" && .venv/bin/pytest',
    ]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    for line in setup:
        assert f"'{line}'" in ci


def test_no_block_is_left_out():
    """Each block of the README is of a language that is run: python, console, or the set-up, which CI runs."""
    assert {block.language for block in blocks(ROOT / "README.md")} == {"python", "console", "sh"}
    text = re.sub(r"^```.*?^```$", "", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert "```" not in text
    assert not re.findall(r"^    \S", text, re.MULTILINE)


def test_a_document_that_is_not_true_is_found_out(tmp_path, project):
    """The runner of the blocks sees an output that differs, an example that fails, and a block that raises."""
    text = "```console\n$ echo one two\none three\n```\n\n```python\n>>> 1 + 1\n3\n\n```\n"
    (tmp_path / "wrong.md").write_text(text)
    assert len(tell(tmp_path / "wrong.md", project)) == 2
    (tmp_path / "raises.md").write_text("```python\nraise LookupError\n```\n")
    with pytest.raises(LookupError):
        tell(tmp_path / "raises.md", project)


@pytest.mark.parametrize(
    "module",
    sorted(
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for path in (ROOT / "src" / "runcard").rglob("*.py")
        if ">>>" in path.read_text("utf-8")
    ),
)
def test_docstrings_are_true(module):
    """The examples in a module's docstrings give what they say."""
    loaded = importlib.import_module(module)
    assert doctest.testmod(loaded, optionflags=doctest.ELLIPSIS).failed == 0
