"""Steps under a progress bar: `log()` prints nothing, so the bar stays in one piece.

Needs rich: ``pip install -e ".[examples]"``.
"""

from __future__ import annotations

import math
import random

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from runcard import current_run, log, open_store, tracked


@tracked
def estimate_pi(samples: int = 200_000, batch: int = 2_000, seed: int = 3) -> float:
    """Pi by throwing darts, one logged step a batch."""
    darts = random.Random(seed)
    inside = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("throwing", total=samples // batch)
        for step in range(samples // batch):
            inside += sum(math.hypot(darts.random(), darts.random()) < 1 for _ in range(batch))
            estimate = 4 * inside / ((step + 1) * batch)
            log(estimate=estimate, error=abs(estimate - math.pi), step=step)
            progress.update(task, advance=1, description=f"pi {estimate:.4f}")
    run = current_run()
    if run is not None:  # it is None when runcard is disabled
        progress.console.print(f"this is run {run.run_id}")
    return estimate


if __name__ == "__main__":
    estimate_pi()
    record = open_store().get("latest")
    print(f"{record.short_id}: error {record.metric_summary['error']['min']:.5f} at best, over", end=" ")
    print(f"{record.metric_summary['error']['count']} steps")
