"""scikit-learn: the estimator's parameters are the config, the scores the metrics, the model an artifact.

Needs ``pip install -e ".[examples]"``.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from runcard import artifact_path, log, open_store, tracked

DATA = Path(__file__).parent / "data" / "breast_cancer.csv"


@tracked(objective="val_loss", direction="minimize", auto_decide=True)
def boost(
    data: Path = DATA, learning_rate: float = 0.1, n_estimators: int = 60, max_depth: int = 2, seed: int = 0
) -> dict[str, float]:
    """Gradient boosting, with the loss after each tree."""
    table = np.loadtxt(data, delimiter=",", skiprows=1)
    x, x_val, y, y_val = train_test_split(table[:, :-1], table[:, -1], test_size=0.3, random_state=seed)
    model = GradientBoostingClassifier(
        learning_rate=learning_rate, n_estimators=n_estimators, max_depth=max_depth, random_state=seed
    ).fit(x, y)
    for tree, probabilities in enumerate(model.staged_predict_proba(x_val)):
        log(loss=model.train_score_[tree], val_loss=log_loss(y_val, probabilities), step=tree)
    artifact_path("model.pkl").write_bytes(pickle.dumps(model))
    probabilities = model.predict_proba(x_val)
    return {"val_loss": log_loss(y_val, probabilities), "auc": roc_auc_score(y_val, probabilities[:, 1])}


if __name__ == "__main__":
    for rate in (0.05, 0.1, 0.5):
        boost(learning_rate=rate)
    for record in open_store().runs(experiment="boost", limit=3):
        print(record.short_id, f"{record.metrics.val_loss:.4f}", record.decision, record.decision_reason, sep="  ")
