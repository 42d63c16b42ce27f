"""Trackio, with its dashboard and its watching of the system switched off."""

from __future__ import annotations

import os
import sqlite3

IMPORTS = "import trackio"


class Space:
    def __init__(self, folder):
        os.environ["TRACKIO_DIR"] = str(folder / "trackio")
        self.number = 0

    def run(self, config, body, final):
        import trackio

        self.number += 1
        name = f"run-{os.getpid()}-{self.number}"
        trackio.init("bench", name=name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False)
        body(lambda metrics, step: trackio.log(metrics, step=step))
        trackio.log(final)
        trackio.finish()

    def recovered(self):
        from trackio.sqlite_storage import SQLiteStorage

        rows = list(_runs())
        points = sum("loss" in row for run in rows for row in SQLiteStorage.get_logs("bench", run.name))
        return points, "a run without a state" if rows else "no run"

    def query(self):
        from trackio.sqlite_storage import SQLiteStorage

        found = []
        for run in _runs():
            values = [row["loss"] for row in SQLiteStorage.get_logs("bench", run.name) if "loss" in row]
            if values:
                found.append((values[-1], run.name))
        return sorted(found)

    def multiply(self, times):
        from trackio.sqlite_storage import SQLiteStorage

        with sqlite3.connect(SQLiteStorage.get_project_db_path("bench")) as database:
            for table in ("metrics", "configs"):
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
                renamed = ("run_id", "run_name", "log_id")
                taken = ", ".join(f"{name} || :copy" if name in renamed else name for name in columns)
                database.execute(f"CREATE TEMP TABLE copied AS SELECT * FROM {table}")
                for number in range(times):
                    copy = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM copied"
                    database.execute(copy, {"copy": f"-copy{number}"})
                database.execute("DROP TABLE copied")


def _runs():
    import trackio

    return trackio.Api().runs("bench")
