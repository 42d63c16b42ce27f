"""A grid of real trainings to query, rank, compare and clean up: 240 runs, or a dozen with ``--quick``.

Needs ``pip install -e ".[examples]"``. Afterwards try
``runcard rank val_loss --experiment grid --direction minimize --group-by-seed``.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from runcard import aggregate, open_store, tracked

DATA = Path(__file__).parent / "data" / "breast_cancer.csv"

MODELS = {"logistic": LogisticRegression, "forest": RandomForestClassifier, "mlp": MLPClassifier}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "logistic": {"C": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0], "class_weight": [None, "balanced"], "max_iter": [200]},
    "forest": {"n_estimators": [5, 20, 60], "max_depth": [2, 4, None], "criterion": ["gini", "entropy"]},
    "mlp": {
        "hidden_layer_sizes": [(4,), (16,), (16, 8)],
        "alpha": [1e-4, 1e-1],
        "learning_rate_init": [1e-3, 1e-2, 1e-1],
    },
}


@tracked(experiment="grid", objective="val_loss", direction="minimize")
def fit(model: str, params: dict[str, Any], seed: int, data: Path = DATA) -> dict[str, float]:
    """One training; what it returns are its metrics."""
    table = np.loadtxt(data, delimiter=",", skiprows=1)
    x, x_val, y, y_val = train_test_split(table[:, :-1], table[:, -1], test_size=0.3, random_state=seed)
    pipeline = make_pipeline(StandardScaler(), MODELS[model](random_state=seed, **params))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some corners of the grid are meant to be bad
        pipeline.fit(x, y)
    return {
        "loss": log_loss(y, pipeline.predict_proba(x)),
        "val_loss": log_loss(y_val, pipeline.predict_proba(x_val)),
        "accuracy": float(pipeline.score(x_val, y_val)),
    }


def main() -> None:
    """Train the grid, then say which settings are best, over seeds."""
    parser = argparse.ArgumentParser(description="a grid of real trainings")
    parser.add_argument("--quick", action="store_true", help="a corner of the grid, two seeds")
    quick = parser.parse_args().quick
    for model, grid in GRIDS.items():
        corners = list(itertools.product(*grid.values()))
        for values in corners[:2] if quick else corners:
            for seed in range(2 if quick else 5):
                fit(model, dict(zip(grid, values, strict=True)), seed)

    runs = open_store().runs(experiment="grid")
    groups = [group for group in aggregate(runs, metrics=["val_loss"]) if "val_loss" in group.metrics]
    print(f"{len(runs)} runs of {len(groups)} settings; the best, over seeds:")
    for group in sorted(groups, key=lambda group: group.metrics["val_loss"].mean)[:3]:
        spread, config = group.metrics["val_loss"], group.runs[0].config
        print(f"  {spread.mean:.4f} ± {spread.std:.4f}  {config.model} {dict(config.params)}")


if __name__ == "__main__":
    main()
