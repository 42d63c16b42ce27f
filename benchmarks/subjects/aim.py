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
        from aim import Run
        from aim.sdk.repo import Repo

        repo = Repo.from_path(str(self.folder))
        visible = len(list(repo.iter_runs()))
        repo._recreate_index()  # only then are the steps of a killed run found
        (chunks,) = (self.folder / ".aim" / "seqs" / "chunks").iterdir()
        run = Run(chunks.name, repo=repo, read_only=True)
        points = sum(len(metric.values.sparse_list()[1]) for metric in run.metrics() if metric.name == "loss")
        return points, f"{'active' if run.active else 'ended'}{'' if visible else ', in no query before a reindex'}"

    def query(self):
        from aim.sdk.repo import Repo
        from aim.sdk.types import QueryReportMode

        repo = Repo.from_path(str(self.folder))
        if len(list(repo.iter_runs())) < self.count():  # runs just made are in no query
            repo._recreate_index()
        found = {}
        for runs in repo.query_metrics("metric.name == 'loss'", report_mode=QueryReportMode.DISABLED).iter_runs():
            for metric in runs:
                found[metric.run.hash] = metric.values.sparse_list()[1][-1]
        return sorted(found.items(), key=lambda pair: pair[1])

    def count(self):
        return len(list((self.folder / ".aim" / "seqs" / "chunks").iterdir()))
