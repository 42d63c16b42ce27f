"""How the golden run of schema version 1 was made, once, from real runs. No test runs it: it would make another.

A launch of two ranks: rank 1 ends well, rank 0 is killed in the middle. A second attempt goes on from there, logs
NaN, an infinity and a big integer, writes an artifact, discards itself, and ends. Later it is kept, tagged, noted and
amended; then one byte of one line is changed. What names the machine is replaced, each line encoded again: in the
owner's journal in the long form, also where the run wrote the short one.

    python tests/golden/make_v1.py      # writes tests/golden/v1/
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from runcard import open_store
from runcard.events import mark
from runcard.journal import decode, encode

TARGET = Path(__file__).parent / "v1"

PROGRAM = """
import os, sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from runcard import log, log_config, artifact_path, log_input, discard, tag, tracked

@dataclass
class Model:
    layers: tuple = (64, 32)
    dropout: float = 0.1

@tracked(objective="val_loss", direction="minimize", tags=["golden"], notes="made once", resume=os.environ.get("GO_ON"))
def train(data: Path, lr: float = 3e-4, model: Model = Model(), day: date = date(2026, 11, 23), top=10**20,
          floor=float("-inf"), odd={1: "one", "1": "uno"}, deep=[[[[[[[["8"]]]]]]]], password="hunter2",
          extra={"$float": "mine"}):
    rank = int(os.environ.get("RANK", 0))
    first = 2 if os.environ.get("GO_ON") else 0
    for step in range(first, first + 4):
        log({"loss": 1 / (step + 1) + rank, "train/grad": float("nan") if step == 4 else 2.0 ** -step}, step=step)
        if rank == 0 and not first and step == 2:
            os._exit(9)
    log_config(late=True)
    log_input(data)
    log(seen=2**70, peak=float("inf"))
    artifact_path(f"weights-{rank}.txt").write_text("0.5")
    if rank == 0:
        tag("resumed")
        discard("val_loss 0.31 does not beat 0.30")
    return {"val_loss": 0.31, "accuracy": 0.93, "best": {"f1": 0.9}, "model": "linear"}

try:
    train(Path("data.csv"))
except ValueError:
    pass
"""


def main() -> None:
    """Make the runs, then the golden folder."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name).resolve()
        (project / "train.py").write_text(PROGRAM)
        (project / "data.csv").write_text("x,y\n1,2\n")
        (project / "pyproject.toml").write_text("")
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        subprocess.run(["git", "add", "-A"], cwd=project, check=True)
        author = ["-c", "user.name=ana", "-c", "user.email=ana@example.org"]
        subprocess.run(["git", *author, "commit", "-qm", "first"], cwd=project, check=True)
        (project / "notes.txt").write_text("uncommitted\n")
        launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
        for rank in ("1", "0"):
            _run(project, {**launch, "RANK": rank})
        store = open_store(project / "runcards")
        run_id = store.get("latest").run_id
        _run(project, {"GO_ON": run_id})
        store.keep(run_id, "kept after all")
        store.tag(run_id, "late", remove=["resumed"])
        store.note(run_id, "the second attempt is the one that counts")
        store.rename(run_id, "golden")
        store.amend(run_id, {"accuracy": 0.92}, "counted twice")
        shutil.rmtree(TARGET, ignore_errors=True)
        TARGET.mkdir()
        folder = project / "runcards" / run_id
        for journal in sorted(folder.glob("journal*.jsonl")):
            (TARGET / run_id).mkdir(exist_ok=True)
            lines = [
                line if b'"log":[' in line and journal.name != "journal.jsonl" else _neutral(line, project)
                for line in journal.read_bytes().splitlines(keepends=True)
            ]
            if journal.name == "journal.jsonl":
                lines[2] = lines[2].replace(b'"step":1', b'"step":7')  # damage: the checksum no longer fits
            (TARGET / run_id / journal.name).write_bytes(b"".join(lines))
        shutil.copytree(folder / "artifacts", TARGET / run_id / "artifacts")
    record = open_store(TARGET).get(run_id)
    TARGET.with_suffix(".json").write_text(json.dumps(record.to_dict(), indent=1) + "\n")


def _run(project: Path, extra: dict[str, str]) -> None:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("RUNCARD_", "SLURM_"))}
    subprocess.run([sys.executable, "train.py"], cwd=project, env={**plain, **extra}, check=False)


def _neutral(line: bytes, project: Path) -> bytes:
    """The event without what names this machine."""
    event = mark(decode(line))
    environment = event.get("environment", {})
    if "packages" in environment:
        packages = environment["packages"]
        environment["packages"] = {name: packages[name] for name in ("orjson", "wrapt") if name in packages}
        environment["packages"]["runcard"] = {"version": "0.1.0", "editable": True, "path": "/home/ana/runcard"}
    environment.pop("variables", None)
    text = json.dumps(event)
    host, user = os.uname().nodename, event.get("user") or event.get("by") or "ana"
    swaps = ((str(project), "/home/ana/project"), (sys.prefix, "/home/ana/.venv"), (sys.base_prefix, "/usr"))
    for old, new in (*swaps, (f'"{host}"', '"node17"'), (f'"{user}"', '"ana"')):
        text = text.replace(old, new)
    return encode(json.loads(text))


if __name__ == "__main__":
    main()
