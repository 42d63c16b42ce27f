"""What a run had around its code, and what of it is here: packages, Python, inputs, variables, seeds."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from runcard._call import REDACTED, Obstacle
from runcard._recorded_code import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runcard.record import RunRecord


def variables(record: RunRecord) -> dict[str, str]:
    """The recorded environment variables that decide results and mean the same on every machine."""
    told = record.environment.get("variables")
    if not isinstance(told, dict):
        return {}
    return {
        str(name): str(value)
        for name, value in told.items()
        if decides(str(name)) and REDACTED not in str(value) and "\0" not in str(value)
    }


def decides(name: str) -> bool:
    """Whether a variable may change a result, and says nothing of one machine's folders and devices."""
    return name in _DECIDING or name.startswith(_DECIDING_PREFIXES)


def interpreter(version: str | None) -> str:
    """The path of a Python of a version's first two numbers; this one, when there is none."""
    import shutil

    minor = ".".join((version or "").split(".")[:2])
    if not minor or minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return (shutil.which(f"python{minor}") if re.fullmatch(r"3\.\d+", minor) else None) or sys.executable


def versions(record: RunRecord) -> dict[str, str]:
    """The recorded packages with their versions."""
    packages = record.environment.get("packages")
    if not isinstance(packages, dict):
        return {}
    return {
        str(name): str(what.get("version") or "" if isinstance(what, dict) else what) for name, what in packages.items()
    }


def relative(path: str, root: str) -> str | None:
    """The part of a path below a folder, with slashes; None when it is not below."""
    if not root:
        return None
    if path == root:
        return "."
    prefix = root.rstrip("/\\") + "/"
    path = path.replace("\\", "/") if os.name == "nt" else path
    inside = path[len(prefix) :] if path.startswith(prefix) else None
    return None if inside is None or ".." in inside.split("/") else inside


def packages_here(recorded: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Recorded packages that are another version here, or missing."""
    from runcard.capture import packages
    from runcard.redact import Redactor

    found = packages.capture(Redactor())
    here = {
        name: str(what.get("version") or "") if isinstance(what, dict) else str(what) for name, what in found.items()
    }
    return {name: (then, here.get(name)) for name, then in recorded.items() if here.get(name) != then}


def packages_lost(record: RunRecord) -> Iterator[Obstacle]:
    """Packages whose very code no index has: editable installs."""
    packages = record.environment.get("packages")
    git = code_of(record)
    for name, what in packages.items() if isinstance(packages, dict) else ():
        if not isinstance(what, dict) or not what.get("editable") or name == "runcard":
            continue
        path = str(what.get("path") or "")
        if relative(path, str(git.get("root") or "")) is not None:
            continue  # the run's own repository
        if what.get("commit"):
            why = f"{name} was installed editable from {path}; changes that were not committed there are not recorded"
        else:
            why = f"{name} was installed editable from {path}, which is in no repository: it is taken as it is now"
        yield Obstacle("package", why)


def inputs_now(record: RunRecord, blobs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from runcard.capture.inputs import describe

    for entry in record.inputs:
        path, digest = str(entry.get("path")), entry.get("sha256")
        told = {"path": path, "sha256": digest, "bytes": entry.get("bytes")}
        if digest and blobs.get(path) == digest:
            yield {**told, "state": "in the code"}
            continue
        now = describe(path, limit=sys.maxsize if digest else 0)
        if entry.get("missing"):
            state = "same" if now.get("missing") else "changed"
        elif now.get("missing"):
            state = "missing"
        elif digest and now.get("sha256"):
            state = "same" if now["sha256"] == digest else "changed"
        elif entry.get("bytes") is not None and entry.get("mtime"):
            alike = (now.get("bytes"), now.get("mtime")) == (entry.get("bytes"), entry.get("mtime"))
            state = "same" if alike else "changed"
        else:
            state = "unknown"
        yield {**told, "state": state}


def python_of(record: RunRecord) -> str | None:
    python = record.environment.get("python")
    version = python.get("version") if isinstance(python, dict) else None
    return version if isinstance(version, str) else None


def seeds_lost(seed: Mapping[str, Any]) -> Iterator[Obstacle]:
    if seed.get("seed") is None and not any(isinstance(seed.get(name), dict) for name in ("random", "numpy", "torch")):
        yield Obstacle("seed", "no seed was set and no generator's state was recorded")


_DECIDING = frozenset(("PYTHONHASHSEED", "PYTHONUTF8", "PYTHON_GIL", "LANG", "LC_ALL", "LC_NUMERIC", "TZ"))


_DECIDING_PREFIXES = (
    *(
        "OMP_",
        "MKL_",
        "KMP_AFFINITY",
        "OPENBLAS_",
        "BLIS_",
        "GOTO_",
        "VECLIB_",
        "NUMEXPR_",
        "NUMBA_NUM",
        "NUMBA_DISABLE",
    ),
    *(
        "CUBLAS_",
        "CUDNN_",
        "CUDA_LAUNCH",
        "NVIDIA_TF32",
        "TF_CUDNN",
        "TF_DETERMINISTIC",
        "TF_ENABLE",
        "TF_NUM_",
        "XLA_FLAGS",
    ),
    *(
        "JAX_ENABLE_X64",
        "JAX_DEFAULT_MATMUL",
        "JAX_THREEFRY",
        "TORCH_ALLOW_TF32",
        "TORCH_COMPILE_DISABLE",
        "POLARS_MAX",
    ),
    *("RAYON_NUM", "LOKY_MAX", "FLASH_ATTENTION_", "KERAS_BACKEND", "SOURCE_DATE_EPOCH", "MPLBACKEND"),
)
