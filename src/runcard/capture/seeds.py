"""The random generators and switches that decide whether a run gives the same numbers again.

Only what the user has imported already is asked or seeded: numpy and PyTorch are looked up, never loaded.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runcard.capture.probe import ask, known, probe

if TYPE_CHECKING:
    from runcard.values import Json


def seed_all(seed: int) -> dict[str, Any]:
    """Seed `random`, and numpy and PyTorch where they are loaded; tell which took what.

    numpy takes the seed modulo 2**32 and PyTorch modulo 2**64, on the processor and on every accelerator.
    ``PYTHONHASHSEED`` cannot be changed in a running process and is told as it stands, as are PyTorch's switches and
    the numbers of threads, which change results too.
    """
    random.seed(seed)
    told: dict[str, Any] = {"seed": _whole(seed), "random": True}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        told["numpy"] = probe(_seed_numpy, numpy, seed) is True
    if torch is not None:
        told["torch"] = probe(lambda: torch.manual_seed(seed % 2**64)) is not None
        cuda = probe(lambda: bool(torch.cuda.is_initialized()))
        if cuda is not None:
            told["torch_cuda"] = cuda or "when it starts"
    told["pythonhashseed"] = os.environ.get("PYTHONHASHSEED")
    return told | known({"torch_switches": probe(_torch), "threads": probe(_threads) or None})


def state() -> dict[str, Any]:
    """Where the generators stood at the start, and the switches that PyTorch has for reproducibility.

    ``random`` and ``numpy`` (its legacy generator) have ``sha256`` of the state, and the state itself, in base64,
    that `restore` takes. ``torch`` has ``initial_seed``, thread counts and the deterministic switches.
    """
    facts: dict[str, Any] = {
        "pythonhashseed": os.environ.get("PYTHONHASHSEED"),
        "random": probe(_random),
        "numpy": probe(_numpy),
        "torch": probe(_torch),
        "threads": probe(_threads) or None,
    }
    return known(facts)


def restore(told: dict[str, Any]) -> list[str]:
    """Put the generators back to where `state` found them; the names of those that were."""
    restored = []
    for name, back in (("random", _restore_random), ("numpy", _restore_numpy)):
        if isinstance(told.get(name), dict) and probe(back, told[name]):
            restored.append(name)
    return restored


def _seed_numpy(numpy: Any, seed: int) -> bool:
    numpy.random.seed(seed % 2**32)
    return True


def _whole(seed: int) -> Json:
    return seed if -(2**63) <= seed < 2**63 else str(seed)


def _told(raw: bytes, position: int, gauss: float | None) -> dict[str, Any]:
    """A Mersenne twister: its 624 words, how many of them are used up, and a normal number that is waiting."""
    import base64

    digest = hashlib.sha256(raw + f"{position} {gauss!r}".encode())
    return {
        "generator": "MT19937",
        "sha256": digest.hexdigest(),
        "state": base64.b64encode(raw).decode(),
        "position": position,
        "gauss": gauss,
    }


def _unpacked(told: dict[str, Any]) -> tuple[int, ...]:
    import base64

    return struct.unpack("<624I", base64.b64decode(told["state"], validate=True))


def _random() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    return {**_told(struct.pack("<624I", *words[:-1]), words[-1], gauss), "version": version}


def _restore_random(told: dict[str, Any]) -> bool:
    random.setstate((told["version"], (*_unpacked(told), told["position"]), told["gauss"]))
    return True


def _numpy() -> dict[str, Any] | None:
    module = sys.modules.get("numpy.random")
    if module is None:
        return None
    whole = module.get_state(legacy=False)
    name = str(whole["bit_generator"])
    if name != "MT19937":  # the user has put another generator beneath the legacy functions
        return {"generator": name}
    gauss = float(whole["gauss"]) if whole["has_gauss"] else None
    return _told(whole["state"]["key"].astype("<u4").tobytes(), int(whole["state"]["pos"]), gauss)


def _restore_numpy(told: dict[str, Any]) -> bool:
    gauss = told["gauss"]
    words = list(_unpacked(told))
    # numpy loads it when it is first used, which was before the run, and may not have been yet.
    import_module("numpy.random").set_state(("MT19937", words, told["position"], gauss is not None, gauss or 0.0))
    return True


def _torch() -> dict[str, Any] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    facts: dict[str, Any] = {
        "initial_seed": _whole(ask(torch, "initial_seed") or 0),
        "threads": ask(torch, "get_num_threads"),
        "interop_threads": ask(torch, "get_num_interop_threads"),
        "deterministic_algorithms": ask(torch, "are_deterministic_algorithms_enabled"),
        "cudnn_deterministic": probe(lambda: bool(torch.backends.cudnn.deterministic)),
        "cudnn_benchmark": probe(lambda: bool(torch.backends.cudnn.benchmark)),
        "float32_matmul_precision": ask(torch, "get_float32_matmul_precision"),
        "default_dtype": probe(lambda: str(torch.get_default_dtype())),
    }
    return known(facts)


def _threads() -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return known({name: os.environ.get(name) for name in names})
