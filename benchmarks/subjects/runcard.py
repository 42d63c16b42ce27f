"""runcard, with its defaults."""

from __future__ import annotations

IMPORTS = "from runcard import tracked, run, log\n@tracked\ndef train(lr=0.1): ..."


class Space:
    """A files store."""

    def __init__(self, folder):
        import runcard

        runcard.configure(directory=str(folder))
        self.folder = folder
        self._run = None

    def begin(self, config):
        from runcard import run

        self._run = run("bench", config=config).start()
        write = self._run.log
        return lambda metrics, step: write(metrics, step=step)

    def end(self, metrics):
        self._run.log(metrics)
        self._run.end()

    def recovered(self):
        from runcard import open_store

        store = open_store(self.folder)
        record = store.runs()[0]
        return len(store.history(record.run_id, "loss")), str(record.status)

    def query(self):
        from runcard import open_store

        return [record.metrics["loss"] for record in open_store(self.folder).runs(sort="metrics.loss")]

    def rank(self):
        from runcard import open_store

        return open_store(self.folder).rank("loss", "minimize")
