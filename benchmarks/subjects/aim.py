"""Aim, with its watching of the system switched off, as the others do not watch."""

from __future__ import annotations

IMPORTS = "from aim import Run"


class Space:
    def __init__(self, folder):
        from aim.sdk.repo import Repo

        self.folder = folder
        Repo.from_path(str(folder), init=True)

    def run(self, config, body, final):
        from aim import Run

        run = Run(repo=str(self.folder), experiment="bench", system_tracking_interval=None, capture_terminal_logs=False)
        run["hparams"] = config
        body(lambda metrics, step: run.track(metrics, step=step))
        run.track(final)
        run.close()

    def recovered(self):
        from aim.sdk.repo import Repo

        repo = Repo.from_path(str(self.folder))
        visible = sum(1 for _ in repo.query_runs("").iter_runs())
        run = next(iter(repo.iter_runs()))
        points = sum(len(metric.values) for metric in run.metrics() if metric.name == "loss")
        return points, f"{'active' if run.active else 'ended'}{'' if visible else ', in no query'}"

    def query(self):
        from aim.sdk.repo import Repo
        from aim.sdk.types import QueryReportMode

        repo = Repo.from_path(str(self.folder))
        found = {}
        for runs in repo.query_metrics("metric.name == 'loss'", report_mode=QueryReportMode.DISABLED).iter_runs():
            for metric in runs:
                found[metric.run.hash] = metric.values.last()[1]
        return sorted(found.items(), key=lambda pair: pair[1])
