"""PyTorch: a training loop that can be killed and gone on with. The seed is recorded, checkpoints are artifacts.

Needs ``pip install -e ".[examples]"``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from runcard import artifact_path, current_run, log, open_store, tracked

DATA = Path(__file__).parent / "data" / "breast_cancer.csv"


@dataclass(frozen=True)
class Config:
    """What can be set."""

    hidden: int = 16
    lr: float = 1e-2
    epochs: int = 15
    batch: int = 32
    data: Path = DATA


@tracked(seed=11, objective="val_loss", direction="minimize", resume="auto")
def train(config: Config) -> dict[str, float]:
    """A small network. A requeued job with the same config goes on in the same run, from its last checkpoint."""
    x, y, x_val, y_val = load(config.data)
    model = nn.Sequential(nn.Linear(x.shape[1], config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=config.lr)
    criterion = nn.BCEWithLogitsLoss()
    checkpoint = artifact_path("checkpoint.pt", transient=True)
    run = current_run()
    first = 0
    if run is not None and run.attempt > 1 and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"] + 1
    for epoch in range(first, config.epochs):
        for chosen in torch.randperm(len(x)).split(config.batch):
            loss = criterion(model(x[chosen]).squeeze(1), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            logits = model(x_val).squeeze(1)
        accuracy = ((logits > 0) == (y_val > 0)).float().mean()
        log(loss=loss.detach(), val_loss=criterion(logits, y_val), accuracy=accuracy, step=epoch)  # 0-d tensors
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}, checkpoint)
    torch.save(model.state_dict(), artifact_path("model.pt"))
    return {"val_loss": float(criterion(logits, y_val)), "accuracy": float(accuracy)}


def load(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training and validation tensors, scaled by the training set."""
    with path.open(newline="") as file:
        rows = [[float(x) for x in row] for row in list(csv.reader(file))[1:]]
    table = torch.tensor(rows)[torch.randperm(len(rows))]
    features, labels = table[:, :-1], table[:, -1]
    features = (features - features[:400].mean(0)) / features[:400].std(0)
    return features[:400], labels[:400], features[400:], labels[400:]


if __name__ == "__main__":
    print(train(Config()))
    record = open_store().get("latest")
    print(record, dict(record.config))
    print([artifact.path for artifact in record.artifacts])
