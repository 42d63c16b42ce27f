"""Which machine: processors, memory, what the container allows of them, graphics cards.

Linux answers from ``/proc``, ``/sys`` and NVIDIA's own library (NVML), which is called through ctypes and within a
time limit: a driver in trouble hangs its callers.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.capture.probe import encodable, known, probe, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator


_cards: dict[int, tuple[list[Any], str | None]] = {}


def capture(root: Path = Path("/"), *, gpu_limit_s: float = 1.0) -> dict[str, Any]:
    """``{"cpu": …, "memory": …, "disk": …, "gpus": […]}``; what could not be found out is left out.

    ``cpu`` has ``model``, ``logical`` and ``physical`` counts, ``affinity`` (the processors this process may use)
    and ``quota`` (processors' worth of time that the container allows, such as 1.5). ``memory`` has ``total_bytes``
    and, in a container, ``limit_bytes``. ``disk`` is that of the working directory. ``gpus_state`` is there only
    when the graphics cards could not be asked: ``timeout`` or ``failed``. Cards are asked once a process.

    Args:
        root: Where ``proc`` and ``sys`` are.
        gpu_limit_s: How long NVML may take, in seconds.
    """
    gpus, state = probe(_gpus, root, gpu_limit_s) or ([], "failed")
    facts: dict[str, Any] = {
        "cpu": probe(_cpu, root),
        "memory": probe(_memory, root),
        "disk": probe(_disk),
        "gpus": gpus,
        "gpus_state": state,
    }
    return known(facts)


class Nvml:
    """The few questions that are put to NVIDIA's management library. Each raises when it has no answer."""

    def __init__(self, library: Any | None = None) -> None:
        import ctypes

        self._c = ctypes
        self._library = ctypes.CDLL(_nvml_path()) if library is None else library
        self._ask("nvmlInit_v2")

    def close(self) -> None:
        """Give the library back; it counts its users."""
        self._ask("nvmlShutdown")

    def count(self) -> int:
        """How many cards there are, whatever CUDA_VISIBLE_DEVICES says."""
        number = self._c.c_uint()
        self._ask("nvmlDeviceGetCount_v2", self._c.byref(number))
        return number.value

    def handle(self, index: int) -> Any:
        """A card, by its number in the order of the bus."""
        handle = self._c.c_void_p()
        self._ask("nvmlDeviceGetHandleByIndex_v2", self._c.c_uint(index), self._c.byref(handle))
        return handle

    def name(self, handle: Any) -> str:
        """The card's product name."""
        return self._text("nvmlDeviceGetName", handle)

    def uuid(self, handle: Any) -> str:
        """The card's own identifier, ``GPU-…``."""
        return self._text("nvmlDeviceGetUUID", handle)

    def driver(self) -> str:
        """The version of the driver."""
        return self._text("nvmlSystemGetDriverVersion")

    def cuda(self) -> str:
        """The newest CUDA that the driver serves, ``12.4``."""
        number = self._c.c_int()
        self._ask("nvmlSystemGetCudaDriverVersion_v2", self._c.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def memory(self, handle: Any) -> tuple[int, int]:
        """Total and used bytes."""
        answer = (self._c.c_ulonglong * 3)()  # total, free, used
        self._ask("nvmlDeviceGetMemoryInfo", handle, self._c.byref(answer))
        return answer[0], answer[2]

    def utilization(self, handle: Any) -> tuple[int, int]:
        """Per cent of time in which the card computed, and in which its memory was read or written."""
        answer = (self._c.c_uint * 2)()
        self._ask("nvmlDeviceGetUtilizationRates", handle, self._c.byref(answer))
        return answer[0], answer[1]

    def _text(self, function: str, *arguments: Any) -> str:
        buffer = self._c.create_string_buffer(96)
        self._ask(function, *arguments, buffer, self._c.c_uint(96))
        return bytes(buffer.value).decode("utf-8", "replace")

    def _ask(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            raise OSError(f"{function} answered {code}")


def nvml_present(root: Path = Path("/")) -> bool:
    """Whether an NVIDIA driver is there at all, by its files alone."""
    if sys.platform == "win32":
        return Path(_nvml_path()).exists()
    return any((root / name).exists() for name in ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg"))


def _nvml_path() -> str:
    if sys.platform == "win32":
        return os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvml.dll")
    wsl = "/usr/lib/wsl/lib/libnvidia-ml.so.1"
    return wsl if Path(wsl).exists() else "libnvidia-ml.so.1"


def _gpus(root: Path, limit_s: float) -> tuple[list[Any], str | None]:
    """The cards, and a word when they could not be asked. NVIDIA's are asked once a process, in a thread."""
    others = probe(_amd, root) or probe(_apple) or []
    if not nvml_present(root):
        return others, None
    pid = os.getpid()
    if pid not in _cards:
        answer: list[tuple[list[Any], str | None]] = []

        def ask() -> None:
            cards = probe(_nvidia)
            answer.append((cards, None) if cards is not None else ([], "failed"))
            _cards[pid] = answer[0]  # an answer that comes too late serves the next run

        thread = threading.Thread(target=ask, name="runcard-nvml", daemon=True)
        thread.start()
        thread.join(limit_s)
        _cards.setdefault(pid, answer[0] if answer else ([], "timeout"))
    cards, state = _cards[pid]
    return [*_with_visibility(cards, os.environ.get("CUDA_VISIBLE_DEVICES")), *others], state


def _nvidia() -> list[Any]:
    library = Nvml()
    try:
        driver, cuda = probe(library.driver), probe(library.cuda)
        cards: list[Any] = []
        for index in range(library.count()):
            handle = probe(library.handle, index)
            if handle is None:  # a card that has fallen off the bus
                cards.append({"index": index, "vendor": "nvidia"})
                continue
            memory = probe(library.memory, handle)
            facts: dict[str, Any] = {
                "index": index,
                "vendor": "nvidia",
                "name": probe(library.name, handle),
                "memory_bytes": memory[0] if memory else None,
                "uuid": probe(library.uuid, handle),
                "driver": driver,
                "cuda": cuda,
            }
            cards.append(known(facts))
        return cards
    finally:
        probe(library.close)


def _with_visibility(cards: list[Any], visible: str | None) -> list[Any]:
    """Mark the cards that CUDA shows to this process; as CUDA does, the list ends at its first invalid entry."""
    if visible is None:
        return [{**card, "visible": True} for card in cards if isinstance(card, dict)]
    wanted = [item.strip() for item in visible.split(",")]
    if any(item.startswith("MIG-") for item in wanted):  # slices of cards: which card cannot be told from here
        return list(cards)
    shown: set[int] = set()
    for item in wanted:
        hit = next(
            (
                index
                for index, card in enumerate(cards)
                if isinstance(card, dict)
                and (
                    item == str(card["index"])
                    or (item.startswith("GPU-") and str(card.get("uuid", "")).startswith(item))
                )
            ),
            None,
        )
        if hit is None:
            break
        shown.add(hit)
    return [{**card, "visible": index in shown} for index, card in enumerate(cards) if isinstance(card, dict)]


def _amd(root: Path) -> list[Any]:
    """AMD's cards, from the files of the kernel's driver."""
    if not (root / "dev/kfd").exists():
        return []
    cards: list[Any] = []
    for device in sorted(root.glob("sys/class/drm/card[0-9]*/device"))[:64]:
        if (read_text(device / "vendor", 16) or "").strip() == "0x1002" and "-" not in device.parent.name:
            memory = (read_text(device / "mem_info_vram_total", 32) or "").strip()
            facts: dict[str, Any] = {
                "index": len(cards),
                "vendor": "amd",
                "name": (read_text(device / "product_name", 256) or "").strip() or None,
                "memory_bytes": int(memory) if memory.isdigit() else None,
            }
            cards.append(known(facts))
    return cards


def _apple() -> list[Any]:
    if sys.platform == "darwin" and os.uname().machine == "arm64":
        return [{"index": 0, "vendor": "apple", "name": probe(_mac_cpu) or "Apple"}]
    return []


def _cpu(root: Path) -> dict[str, Any]:
    # The first block is enough, and the whole file takes 20 ms on a machine of 256 processors.
    text = read_text(root / "proc/cpuinfo", 4096) or ""
    first = dict(re.findall(r"^([^\t:\n]+)\s*:[ \t]*(.*)$", text.partition("\n\n")[0], re.MULTILINE))
    logical = os.cpu_count()
    siblings, cores = first.get("siblings", ""), first.get("cpu cores", "")
    physical = None
    if logical and siblings.isdigit() and cores.isdigit() and int(siblings):
        physical = max(1, round(logical * int(cores) / int(siblings)))
    model = (
        first.get("model name")
        or first.get("Model")
        or (read_text(root / "proc/device-tree/model", 256) or "").strip("\0\n")
    )
    if sys.platform != "linux":
        from runcard.capture.resources import psutil_module

        model = probe(_mac_cpu) or os.environ.get("PROCESSOR_IDENTIFIER", "")
        physical = probe(lambda: psutil_module().cpu_count(logical=False))
    facts: dict[str, Any] = {
        "model": encodable(model.strip()) or None,
        "logical": logical,
        "physical": physical,
        "affinity": probe(lambda: len(os.sched_getaffinity(0))),
        "quota": probe(_cpu_quota, root),
    }
    return known(facts)


def _mac_cpu() -> str | None:
    if sys.platform == "darwin":
        import ctypes

        size, buffer = ctypes.c_size_t(256), ctypes.create_string_buffer(256)
        code = ctypes.CDLL(None).sysctlbyname(b"machdep.cpu.brand_string", buffer, ctypes.byref(size), None, 0)
        return None if code else buffer.value.decode()
    return None


def _memory(root: Path) -> dict[str, Any]:
    total = probe(lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if not total or total < 0:
        from runcard.capture.resources import psutil_module

        total = probe(lambda: int(psutil_module().virtual_memory().total))
    limit = probe(_memory_limit, root)
    if limit is not None and total is not None and limit >= total:
        limit = None  # version 1 says "unlimited" as a number near 2**63
    return known({"total_bytes": total, "limit_bytes": limit})


def _disk() -> dict[str, Any]:
    if hasattr(os, "statvfs"):
        disk = os.statvfs(".")
        return {"total_bytes": disk.f_blocks * disk.f_frsize, "free_bytes": disk.f_bavail * disk.f_frsize}
    import shutil

    usage = shutil.disk_usage(".")
    return {"total_bytes": usage.total, "free_bytes": usage.free}


def _cpu_quota(root: Path) -> float | None:
    quotas: list[float] = []
    for folder, version in _cgroups(root, "cpu"):
        if version == 2:
            quota, _, period = (read_text(folder / "cpu.max", 64) or "").strip().partition(" ")
        else:
            quota = (read_text(folder / "cpu.cfs_quota_us", 64) or "").strip()  # -1: no limit
            period = (read_text(folder / "cpu.cfs_period_us", 64) or "").strip()
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _memory_limit(root: Path) -> int | None:
    limits: list[int] = []
    for folder, version in _cgroups(root, "memory"):
        text = (read_text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"), 64) or "").strip()
        if text.isdigit():
            limits.append(int(text))
    return min(limits, default=None)


def _cgroups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The control groups that bind this process, from its own to the outermost: each may set the tighter limit."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts, version = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"), 2
        elif controller in controllers.split(","):
            mounts, version = (root / "sys/fs/cgroup" / controller, root / "sys/fs/cgroup" / controllers), 1
        else:
            continue
        mount = next((folder for folder in mounts if folder.is_dir()), None)
        if mount is None:
            continue
        parts = [part for part in path.split("/") if part and part != ".."][:64]
        # In a container the path may be the host's and missing here; the mount's root is then the container's own.
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth]), version
