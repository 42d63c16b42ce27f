"""MLflow on SQLite, with its asynchronous logging."""

from __future__ import annotations

from subjects.mlflow_common import Common

IMPORTS = "import mlflow"


class Space(Common):
    synchronous = False

    def __init__(self, folder):
        super().__init__(f"sqlite:///{folder}/mlflow.db")
