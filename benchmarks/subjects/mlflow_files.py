"""MLflow on its file store."""

from __future__ import annotations

from subjects.mlflow_common import IMPORTS, Common

__all__ = ["IMPORTS", "Space"]


class Space(Common):

    def __init__(self, folder):
        super().__init__(f"file:{folder}/mlruns")
