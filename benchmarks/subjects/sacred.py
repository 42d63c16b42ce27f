"""Sacred with its file storage observer, which has no query: that of its MongoDB observer needs a server."""

from __future__ import annotations

import json

IMPORTS = "from sacred import Experiment\nfrom sacred.observers import FileStorageObserver"


class Space:
    def __init__(self, folder):
        self.folder = folder / "sacred"

    def run(self, config, body, final):
        from sacred import SETTINGS, Experiment
        from sacred.observers import FileStorageObserver

        SETTINGS.CAPTURE_MODE = "no"
        experiment = Experiment("bench", save_git_info=False, interactive=True)
        experiment.add_config(config)
        experiment.observers.append(FileStorageObserver(self.folder))

        def main(_run):
            def log(metrics, step):
                for name, value in metrics.items():
                    _run.log_scalar(name, value, step)

            body(log)
            log(final, None)

        experiment.main(main)
        experiment.run()

    def recovered(self):
        folder = self.folder / "1"
        state = json.loads((folder / "run.json").read_text())["status"]
        metrics = json.loads((folder / "metrics.json").read_text())
        return len(metrics.get("loss", {}).get("values", ())), state

    def count(self):
        return sum(path.stat().st_size > 2 for path in self.folder.glob("*/metrics.json"))
