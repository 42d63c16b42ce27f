"""MLflow on SQLite, with its asynchronous logging."""

from __future__ import annotations

from subjects.mlflow_common import IMPORTS, Common

__all__ = ["IMPORTS", "Space"]


class Space(Common):
    synchronous = False
    def __init__(self, folder):
        super().__init__(f"sqlite:///{folder}/mlflow.db")
