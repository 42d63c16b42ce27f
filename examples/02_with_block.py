"""A run around a block: config, metrics, a file, a judgement. It fits a line to noisy points by gradient descent."""

from __future__ import annotations

import json
import random

from runcard import open_store, run

config = {"lr": 0.1, "steps": 400, "seed": 1, "noise": 0.1}

with run("line", config=config, tags=["example"]) as r:
    noise = random.Random(config["seed"])
    points = [(x / 50, 3 * x / 50 - 1 + noise.gauss(0, config["noise"])) for x in range(50)]
    slope = intercept = 0.0
    for step in range(config["steps"]):
        errors = [(x, slope * x + intercept - y) for x, y in points]
        slope -= config["lr"] * 2 * sum(error * x for x, error in errors) / len(points)
        intercept -= config["lr"] * 2 * sum(error for _, error in errors) / len(points)
        mse = sum(error * error for _, error in errors) / len(points)
        r.log(mse=mse, step=step)

    r.log_config(points=len(points))  # a key that was only known later
    r.artifact_path("line.json").write_text(json.dumps({"slope": slope, "intercept": intercept}))
    r.note("Close to the true line, y = 3x - 1.")
    if mse < 2 * config["noise"] ** 2:
        r.keep(f"mse {mse:.4f} is about the noise")
    else:
        r.discard(f"mse {mse:.4f} is above the noise: more steps are needed")

record = open_store().get(r.run_id)
print(record)
print(f"{record.decision}: {record.decision_reason}")
print(f"{len(record.metric_history)} points; artifacts: {[artifact.path for artifact in record.artifacts]}")
