"""Each example runs from a clone, says what it says it does, and leaves complete cards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runcard import RunRecord, open_store

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(tmp_path):
    """A function that runs an example in a store of its own, and gives its output and the records it left."""

    def execute(name: str, *arguments: str) -> tuple[str, list[RunRecord]]:
        program = [sys.executable, "-W", "error::ResourceWarning", str(EXAMPLES / name), *arguments]
        done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, timeout=240)
        assert done.returncode == 0, done.stderr
        records = list(open_store(tmp_path / "runcards").runs())
        assert not [record for record in records if record.losses and record.experiment != "sinks"]
        return done.stdout, records

    return execute


def test_01_trains_and_says_where_the_card_is(example):
    """The first example trains a model that is better than guessing, and prints its card and `runcard show`."""
    printed, (record,) = example("01_train.py")
    assert record.status == "finished"
    assert record.metrics.accuracy > 0.95
    assert record.metric_summary.val_loss["count"] == record.config.epochs == 40
    assert record.is_best
    assert record.inputs[0].path.endswith("breast_cancer.csv")
    assert f"{record.folder}/card.md" in printed
    assert "FINISHED" in printed.partition("$ runcard show")[2]


def test_01_gives_the_same_numbers_again(example):
    """Trained twice with one seed the results are equal; with another seed they are not."""
    example("01_train.py", "--epochs", "3")
    example("01_train.py", "--epochs", "3")
    other, same, first = example("01_train.py", "--epochs", "3", "--seed", "8")[1]
    assert same.metrics == first.metrics
    assert same.config_hash == first.config_hash != other.config_hash
    assert other.metrics != first.metrics


def test_02_judges_itself(example):
    """The block records its config, the key that came later, the file, the note and the judgement."""
    printed, (record,) = example("02_with_block.py")
    assert (record.decision, record.config.points) == ("keep", 50)
    assert (Path(record.folder) / "artifacts" / "line.json").exists()
    assert record.decision_reason in printed
    assert len(record.metric_history) == record.config.steps


def test_03_keeps_the_bar_whole(example):
    """A hundred steps are logged under the progress bar, and the result comes back as the function gave it."""
    printed, (record,) = example("03_progress_bar.py")
    assert record.metric_summary.error["count"] == 100
    assert abs(record.metrics.result - 3.14159) < 0.05
    assert record.run_id in printed


def test_04_hangs_the_folds_below_their_parent(example):
    """Five children, each with its fold and its accuracy, whose mean is the parent's."""
    _, records = example("04_cross_validation.py")
    (parent,) = (record for record in records if record.parent_id is None)
    children = [record for record in records if record.parent_id == parent.run_id]
    assert sorted(child.config.fold for child in children) == [0, 1, 2, 3, 4]
    assert {child.experiment for child in children} == {"cross_validate/fold"}
    assert parent.metrics.accuracy == pytest.approx(sum(child.metrics.accuracy for child in children) / 5)


def test_05_survives_a_broken_sink(example):
    """The working sink has printed, the broken one is told once and recorded, and the run is finished."""
    printed, (record,) = example("05_custom_sink.py")
    assert "[sinks] with-sinks finished: loss 0.250" in printed
    assert "the service is down" in printed
    assert record.losses == {"sinks": 1}
    assert record.status == "finished"


def test_06_tells_tasks_apart(example):
    """Three coroutines at once have a run each with its own steps; the generator that was left early has finished."""
    _, records = example("06_async_and_generator.py")
    probes = [record for record in records if record.name == "probe"]
    assert sorted(record.config.server for record in probes) == ["alpha", "beta", "gamma"]
    assert {record.metric_summary.delay["count"] for record in probes} == {5}
    (batches,) = (record for record in records if record.name == "batches")
    assert (batches.status, batches.metrics.batch, batches.config["count"]) == ("finished", 3, 10)


@pytest.mark.heavy
def test_07_keeps_the_best_model(example):
    """scikit-learn: a loss a tree, the pickled model as artifact, and decisions with their reasons."""
    _, records = example("07_sklearn.py")
    assert records[-1].decision == "keep"
    for record in records:
        assert record.metrics.auc > 0.9
        assert record.metric_summary.val_loss["count"] == record.config.n_estimators
        assert [artifact.name for artifact in record.artifacts] == ["model.pkl"]


@pytest.mark.heavy
def test_08_learns(example):
    """PyTorch: 0-d tensors are logged as numbers, the seed is recorded, and two trainings are bitwise equal."""
    example("08_pytorch.py")
    again, first = example("08_pytorch.py")[1]
    assert first.metrics.accuracy > 0.9
    assert first.seed.seed == 11
    assert again.metrics == first.metrics
    assert {artifact.name: artifact.transient for artifact in first.artifacts} == {
        "checkpoint.pt": True,
        "model.pt": False,
    }


@pytest.mark.heavy
def test_09_trains_a_grid(example):
    """The quick grid trains three models with two seeds each, and aggregates over the seeds."""
    printed, records = example("09_grid.py", "--quick")
    assert len(records) == 12
    assert {record.config.model for record in records} == {"logistic", "forest", "mlp"}
    assert printed.startswith("12 runs of 6 settings")


def test_every_example_is_numbered_and_tested():
    """The examples are 01 to 09, each with a docstring and a test of its own."""
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert [name[:2] for name in names] == [f"{number:02}" for number in range(1, len(names) + 1)]
    tests = Path(__file__).read_text("utf-8")
    for name in names:
        assert f'"{name}"' in tests
        assert (EXAMPLES / name).read_text("utf-8").startswith('"""')


def test_the_data_has_its_licence():
    """The data set is the one that its licence file describes: 569 rows of 30 features and a label."""
    lines = (EXAMPLES / "data" / "breast_cancer.csv").read_text("utf-8").splitlines()
    assert len(lines) == 570
    assert {len(line.split(",")) for line in lines} == {31}
    licence = (EXAMPLES / "data" / "LICENSE.md").read_text("utf-8")
    assert "breast_cancer.csv" in licence
    assert "CC BY 4.0" in licence


def test_examples_run_without_a_repository(tmp_path):
    """Copied away from the clone, to a folder that is no repository, the first example still leaves its card."""
    shutil.copytree(EXAMPLES, tmp_path / "elsewhere")
    environ = {**os.environ, "RUNCARD_DIR": str(tmp_path / "cards")}
    program = [sys.executable, "01_train.py", "--epochs", "1"]
    subprocess.run(program, cwd=tmp_path / "elsewhere", env=environ, check=True, capture_output=True, timeout=120)
    (record,) = open_store(tmp_path / "cards").runs()
    assert record.environment.git.state == "no-repository"
