"""MLflow on SQLite, its default."""

from __future__ import annotations

import sqlite3

from subjects.mlflow_common import Common

IMPORTS = "import mlflow"


class Space(Common):
    def __init__(self, folder):
        self.file = folder / "mlflow.db"
        super().__init__(f"sqlite:///{self.file}")

    def multiply(self, times):
        tables = ("runs", "params", "metrics", "latest_metrics", "tags")
        with sqlite3.connect(self.file) as database:
            for table in tables:
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                taken = ", ".join("? || substr(run_uuid, 4)" if name == "run_uuid" else name for name in columns)
                database.execute(f"CREATE TEMP TABLE copied AS SELECT * FROM {table}")
                for number in range(times):
                    copy = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM copied"
                    database.execute(copy, (f"x{number:02}",))  # no run of its own begins so
                database.execute("DROP TABLE copied")
