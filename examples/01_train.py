"""Train a classifier with nothing but the standard library, and read the card it leaves.

Try also ``python examples/01_train.py --lr 0.3 --epochs 60``.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import subprocess
import sys
from pathlib import Path

from runcard import artifact_path, log, open_store, tracked

DATA = Path(__file__).parent / "data" / "breast_cancer.csv"


@tracked(objective="val_loss", direction="minimize")
def train(data: Path = DATA, lr: float = 0.1, epochs: int = 40, l2: float = 1e-4, seed: int = 7) -> dict[str, float]:
    """Logistic regression by stochastic gradient descent; what it returns become the run's metrics."""
    order = random.Random(seed)
    rows = read(data)
    order.shuffle(rows)
    training, validation = standardised(rows[:400], rows[400:])
    weights = [0.0] * (len(training[0][0]) + 1)
    for epoch in range(epochs):
        order.shuffle(training)
        for features, benign in training:
            slope = probability(weights, features) - benign
            for i, x in enumerate(features):
                weights[i] -= lr * (slope * x + l2 * weights[i])
            weights[-1] -= lr * slope
        lr *= 0.9
        loss, _ = evaluate(weights, training)
        val_loss, accuracy = evaluate(weights, validation)
        log({"loss": loss, "val_loss": val_loss, "accuracy": accuracy}, step=epoch)
    artifact_path("weights.csv").write_text("\n".join(map(repr, weights)))
    return {"val_loss": val_loss, "accuracy": accuracy}


def read(path: Path) -> list[tuple[list[float], int]]:
    """The rows as features and label."""
    with path.open(newline="") as file:
        table = csv.reader(file)
        next(table)
        return [([float(x) for x in row[:-1]], int(row[-1])) for row in table]


def standardised(
    training: list[tuple[list[float], int]], validation: list[tuple[list[float], int]]
) -> tuple[list[tuple[list[float], int]], list[tuple[list[float], int]]]:
    """Both sets scaled to the training set's means and deviations."""
    columns = list(zip(*(features for features, _ in training), strict=True))
    means = [sum(column) / len(column) for column in columns]
    deviations = [
        math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)) or 1.0
        for column, mean in zip(columns, means, strict=True)
    ]

    def scaled(rows: list[tuple[list[float], int]]) -> list[tuple[list[float], int]]:
        return [
            ([(x - mean) / deviation for x, mean, deviation in zip(features, means, deviations, strict=True)], label)
            for features, label in rows
        ]

    return scaled(training), scaled(validation)


def probability(weights: list[float], features: list[float]) -> float:
    """The model's probability that a row is benign."""
    score = weights[-1] + sum(weight * x for weight, x in zip(weights, features, strict=False))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def evaluate(weights: list[float], rows: list[tuple[list[float], int]]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    loss, right = 0.0, 0
    for features, benign in rows:
        p = probability(weights, features)
        loss -= math.log(p if benign else 1 - p)
        right += (p > 0.5) == benign
    return loss / len(rows), right / len(rows)


def main() -> None:
    """Train once, then say where the card is and what is on it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate of the first epoch")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    result = train(lr=options.lr, epochs=options.epochs, seed=options.seed)
    print(f"accuracy {result['accuracy']:.3f}, val_loss {result['val_loss']:.3f}\n")

    card = open_store().get("latest")
    print(f"The card: {card.folder}/card.md")
    print(f"$ runcard show {card.short_id}", flush=True)
    subprocess.run([sys.executable, "-m", "runcard", "show", card.short_id], check=False)


if __name__ == "__main__":
    main()
