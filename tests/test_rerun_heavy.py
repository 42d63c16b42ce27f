"""Real trainings, seeded, on one machine: scikit-learn and PyTorch on the processor give the same bits again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from git_repositories import own_configuration
from rerun_projects import Project

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["01_train.py", "07_sklearn.py", "08_pytorch.py"])
def test_an_example_gives_the_same_bits(tmp_path, monkeypatch, name):
    """The example's newest run, run again, is identical in every metric and point of its history."""
    pytest.importorskip({"07_sklearn.py": "sklearn", "08_pytorch.py": "torch"}.get(name, "random"))
    own_configuration(tmp_path, monkeypatch)
    project = Project(tmp_path)
    shutil.copy(EXAMPLES / name, project.root)
    shutil.copytree(EXAMPLES / "data", project.root / "data")
    project.commit()
    project.python(name)
    verdict = project.rerun()
    assert verdict["outcome"] == "identical"
    assert verdict["compared"]["points"] > 10
