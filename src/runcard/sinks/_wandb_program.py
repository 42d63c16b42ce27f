"""What runs in the process that speaks to wandb: a request a line comes in, an answer a line goes out.

`_wandb_process` has the other side; nothing of runcard's is imported here. Each run is a `wandb.init` of its own, none
of them the global one. Nothing of the host is recorded: runcard has done that. When the input ends before a run has,
the user's process is gone: the run is closed as crashed, and what is missing comes with the next delivery.
"""

from __future__ import annotations

import glob
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
from typing import Any

IDLE_S = 60.0  # with no run open
CRASHED = 1  # a run that ended with no last word; W&B knows 255 as interrupted
QUIET = {
    "silent": True,
    "quiet": True,
    "show_errors": False,
    "show_warnings": False,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "disable_job_creation": True,
    "label_disable": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "sagemaker_disable": True,
    "reinit": "create_new",
    "resume": "allow",
    "init_timeout": 30.0,
    "finish_timeout": 600.0,
    "finish_timeout_raises": True,
    "login_timeout": 1.0,
    "stop_fn": lambda: None,  # the button in W&B's pages would interrupt this process, which is nobody's training
}

runs: dict[str, Any] = {}
gone = threading.Event()
"""Set when the user's process has ended."""


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what wandb prints is no answer
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        try:
            line = requests.get(timeout=None if runs else IDLE_S)
        except queue.Empty:
            line = None
        if line is None:
            break
        try:
            request = json.loads(line)
            answer = ACTIONS[request.pop("do")](**request) or {}
        except BaseException as error:  # whatever wandb raises, `SystemExit` included, is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            os.write(answers, json.dumps(answer).encode() + b"\n")
        except OSError:
            break  # nobody is there to be told
    for run_id in list(runs):
        _close(run_id)
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def start(run: str, project: str, entity: str | None, settings: dict[str, Any], **told: Any) -> dict[str, Any]:
    """Open a run, or go on with one that is there; its next step."""
    import wandb

    if gone.is_set():
        raise EOFError("nobody is there to go on")
    if run in runs:
        _close(run)
    known = wandb.Settings.model_fields
    wanted: dict[str, Any] = {**QUIET, **settings}
    chosen = {name: value for name, value in wanted.items() if name in known and value is not None}
    before = set(_folders(run))
    _hide_from_git(wandb.setup().settings.wandb_dir)
    try:
        opened = runs[run] = wandb.init(
            id=run,
            project=project,
            entity=entity,
            name=told["name"],
            group=told["group"],
            notes=told["notes"],
            tags=told["tags"],
            config=told["config"],
            settings=wandb.Settings(**chosen),
        )
        _check_folder(opened)
    except BaseException:
        for folder in set(_folders(run)) - before:  # what a failed try leaves would pile up
            shutil.rmtree(folder, ignore_errors=True)
        runs.pop(run, None)
        raise
    opened.define_metric("step")
    opened.define_metric("*", step_metric="step")
    return {"step": opened.starting_step}


def rows(run: str, rows: list[Any]) -> None:
    """Log rows, each whole."""
    opened = runs[run]
    for step, row in rows:
        opened.log(row, step=step, commit=True)


def change(run: str, **told: Any) -> None:
    """Set what has changed while the run goes on."""
    opened = runs[run]
    if "config" in told:
        opened.config.update(told["config"], allow_val_change=True)
    for name in ("name", "notes"):
        if told.get(name) and getattr(opened, name) != told[name]:
            setattr(opened, name, told[name])
    if "tags" in told and sorted(opened.tags or ()) != sorted(told["tags"]):
        opened.tags = tuple(told["tags"])


def finish(
    run: str, summary: dict[str, Any], exit_code: int, files: list[Any], artifacts: list[Any], record: str, **told: Any
) -> None:
    """Close a run with all that is known at its end."""
    import wandb

    opened = runs[run]
    change(run, **told)
    opened.summary.update(summary)
    os.makedirs(opened.dir, exist_ok=True)
    with open(os.path.join(opened.dir, "runcard.json"), "w", encoding="utf-8", errors="replace") as file:
        file.write(record)
    for each in files:
        shutil.copyfile(each["path"], os.path.join(opened.dir, each["name"]))
    for name in ["runcard.json", *(each["name"] for each in files)]:
        opened.save(os.path.join(opened.dir, name), base_path=opened.dir, policy="now")
    if artifacts:
        together = wandb.Artifact(f"{run}-files", type="run-files", metadata={"run_id": run})
        for each in artifacts:
            if "path" in each:
                together.add_file(each["path"], name=each["name"])
            else:
                together.add_reference(each["uri"], name=each["name"], checksum=False)
        opened.log_artifact(together)
    is_offline, written = opened.offline, opened.settings.sync_file
    del runs[run]
    opened.finish(exit_code=exit_code)
    if is_offline:
        _replace_earlier(run, written)


def probe() -> None:
    """Whether wandb can be used here: a folder that can be written and, online, a key that the server knows."""
    import wandb

    settings = wandb.setup().settings
    folder = settings.wandb_dir
    nearest = folder
    while not os.path.exists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written")
    if settings.mode in ("online", "shared", "run"):
        wandb.login(verify=True, timeout=1)
        wandb.Api(timeout=20).viewer.entity  # noqa: B018 - asks the server who the key belongs to


def _replace_earlier(run: str, path: str) -> None:
    """An offline run is a folder a delivery: this one has all, so that what an earlier one wrote is not needed.

    One that was uploaded stays as it is. Where two processes deliver one run, the first to end takes the other's folder
    away; the other then has nothing, and tells the run again.
    """
    if not os.path.exists(path):
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)
        raise FileNotFoundError("another process has delivered the run meanwhile")
    for earlier in _folders(run, "offline-run"):
        uploaded = glob.glob(os.path.join(glob.escape(earlier), "*.synced"))
        if not os.path.samefile(earlier, os.path.dirname(path)) and not uploaded:
            shutil.rmtree(earlier, ignore_errors=True)


def _folders(run: str, *kinds: str) -> list[str]:
    """The folders that wandb has made for a run; the last part of the name is a count, of those of one second."""
    import wandb

    base, name = glob.escape(wandb.setup().settings.wandb_dir), glob.escape(run)
    endings = (name, f"{name}-[0-9]*")
    patterns = [f"{kind}-*-{ending}" for kind in kinds or ("offline-run", "run") for ending in endings]
    return [path for pattern in patterns for path in glob.glob(os.path.join(base, pattern))]


def _hide_from_git(folder: str) -> None:
    """Let a folder that begins here make no repository dirty: the next run's patch would hold this one."""
    try:
        os.makedirs(folder)
        with open(os.path.join(folder, ".gitignore"), "x", encoding="utf-8") as file:
            file.write("*\n")
    except OSError:
        pass  # it is there, and whoever made it has seen to that; or wandb will say what is wrong


def _check_folder(opened: Any) -> None:
    """Refuse that wandb writes into the system's temporary folder, as it does where it may not write."""
    wanted = os.path.abspath(os.environ.get("WANDB_DIR") or os.getcwd())
    if opened.settings.root_dir == tempfile.gettempdir() != wanted:
        raise PermissionError(f"{wanted} cannot be written")


def _close(run: str) -> None:
    try:
        runs.pop(run).finish(exit_code=CRASHED)
    except Exception:  # the process is about to end, or the run to begin again
        pass


def _read(requests: queue.SimpleQueue[bytes | None]) -> None:
    with open(0, "rb", closefd=False) as lines:
        for line in lines:
            requests.put(line)
    gone.set()
    requests.put(None)


ACTIONS: dict[str, Any] = {"start": start, "rows": rows, "change": change, "finish": finish, "probe": probe}

if __name__ == "__main__":
    main()
