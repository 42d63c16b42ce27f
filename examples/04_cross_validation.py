"""Cross-validation as nested runs: each fold is a child with a card of its own, the mean is on the parent's."""

from __future__ import annotations

import csv
import math
import random
import statistics
from pathlib import Path

from runcard import log, open_store, run, tracked

DATA = Path(__file__).parent / "data" / "breast_cancer.csv"
Row = tuple[list[float], int]


@tracked
def cross_validate(data: Path = DATA, folds: int = 5, neighbours: int = 7, seed: int = 0) -> dict[str, float]:
    """Accuracy of k nearest neighbours, by folds."""
    rows = read(data)
    random.Random(seed).shuffle(rows)
    accuracies = []
    for fold in range(folds):
        with run("fold", config={"fold": fold, "neighbours": neighbours}) as r:
            held_out = rows[fold::folds]
            training = [row for i, row in enumerate(rows) if i % folds != fold]
            right = sum(classify(training, features, neighbours) == label for features, label in held_out)
            r.log(accuracy=right / len(held_out))
        accuracies.append(right / len(held_out))
        log(mean_accuracy=statistics.fmean(accuracies), step=fold)
    return {"accuracy": statistics.fmean(accuracies), "spread": statistics.stdev(accuracies)}


def read(path: Path) -> list[Row]:
    """The rows, each feature scaled to the range 0 to 1."""
    with path.open(newline="") as file:
        table = list(csv.reader(file))[1:]
    columns = [[float(x) for x in column] for column in zip(*(row[:-1] for row in table), strict=True)]
    scaled = [[(x - min(column)) / (max(column) - min(column)) for x in column] for column in columns]
    return [(list(features), int(row[-1])) for features, row in zip(zip(*scaled, strict=True), table, strict=True)]


def classify(training: list[Row], features: list[float], neighbours: int) -> int:
    """The label that most of the nearest rows have."""
    nearest = sorted(training, key=lambda row: math.dist(row[0], features))[:neighbours]
    return int(2 * sum(label for _, label in nearest) > neighbours)


if __name__ == "__main__":
    print(cross_validate())
    store = open_store()
    parent = store.runs(experiment="cross_validate", limit=1)[0]
    children = store.runs(where=f'parent_id == "{parent.run_id}"', sort="config.fold")
    print(f"{parent.short_id} {parent.name} {parent.metrics['accuracy']:.3f}")
    for child in children:
        print(f"  {child.short_id} {child.experiment} #{child.config['fold']} {child.metrics['accuracy']:.3f}")
