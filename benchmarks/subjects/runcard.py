"""runcard, with its defaults: a files store."""

from __future__ import annotations

IMPORTS = "from runcard import tracked, run, log\n@tracked\ndef train(lr=0.1): ..."


class Space:
    def __init__(self, folder):
        import runcard

        runcard.configure(directory=str(folder))
        self.folder = folder

    def run(self, config, body, final):
        from runcard import run

        with run("bench", config=config) as opened:
            write = opened.log
            body(lambda metrics, step: write(metrics, step=step))
            write(final)

    def recovered(self):
        from runcard import open_store

        store = open_store(self.folder)
        record = store.runs()[0]
        return len(store.history(record.run_id, "loss")), str(record.status)

    def query(self):
        from runcard import open_store

        return open_store(self.folder).runs(sort="metrics.loss")

    def rank(self):
        from runcard import open_store

        return open_store(self.folder).rank("loss", "minimize")
