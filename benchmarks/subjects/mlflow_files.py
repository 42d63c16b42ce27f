"""MLflow on its file store."""

from __future__ import annotations

from subjects.mlflow_common import Common

IMPORTS = "import mlflow"


class Space(Common):
    def __init__(self, folder):
        super().__init__(f"file:{folder}/mlruns")
