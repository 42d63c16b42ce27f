"""What `runcard.capture.hardware` finds in fake machines, and with a fake graphics driver."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from runcard.capture import hardware

CPUINFO = """processor\t: 0
model name\t: AMD EPYC 7763 64-Core Processor
siblings\t: 8
cpu cores\t: 4

processor\t: 1
model name\t: something else
"""


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


class Library:
    """A libnvidia-ml with two cards; the functions named in ``broken`` answer with an error."""

    def __init__(self, broken=()):
        self.broken = broken
        self.open = 0

    def __getattr__(self, name):
        if name in self.broken:
            return lambda *arguments: 999
        return getattr(self, "_" + name)

    def _nvmlInit_v2(self):
        self.open += 1
        return 0

    def _nvmlShutdown(self):
        self.open -= 1
        return 0

    def _nvmlDeviceGetCount_v2(self, number):
        number._obj.value = 2
        return 0

    def _nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = index.value + 1
        return 0

    def _nvmlDeviceGetName(self, handle, buffer, size):
        buffer.value = b"NVIDIA H100"
        return 0

    def _nvmlDeviceGetUUID(self, handle, buffer, size):
        buffer.value = b"GPU-%d" % (handle.value * 1111)
        return 0

    def _nvmlSystemGetDriverVersion(self, buffer, size):
        buffer.value = b"550.54"
        return 0

    def _nvmlSystemGetCudaDriverVersion_v2(self, number):
        number._obj.value = 12040
        return 0

    def _nvmlDeviceGetMemoryInfo(self, handle, answer):
        answer._obj[:] = [80_000, 79_000, 1_000]
        return 0

    def _nvmlDeviceGetUtilizationRates(self, handle, answer):
        answer._obj[:] = [93, 40]
        return 0


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """A machine with an NVIDIA driver, whose library is given by the test."""
    write(tmp_path, {"proc/driver/nvidia/version": "x"})
    monkeypatch.setattr(hardware, "_cards", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    nvml = hardware.Nvml

    def use(library):
        monkeypatch.setattr(hardware, "Nvml", lambda: nvml(library))
        return tmp_path

    return use


def test_this_machine_is_strict_json():
    """On the machine of the test everything that is told can be written as strict JSON."""
    told = hardware.capture()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["cpu"]["logical"] == os.cpu_count()
    assert told["memory"]["total_bytes"] > 0
    assert told["disk"]["free_bytes"] <= told["disk"]["total_bytes"]


def test_processor_is_read_from_the_first_block(tmp_path, monkeypatch):
    """The model is the first processor's, and physical cores follow from the threads each of them has."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    cpu = hardware.capture(write(tmp_path, {"proc/cpuinfo": CPUINFO}))["cpu"]
    assert (cpu["model"], cpu["logical"], cpu["physical"]) == ("AMD EPYC 7763 64-Core Processor", 128, 64)


def test_limits_of_a_version_2_group(tmp_path):
    """The tightest limit of the process's group and those around it is what the container allows."""
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/box/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/pod/box/memory.max": "1000000\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/memory.max": "2000000\n",
        },
    )
    told = hardware.capture(tmp_path)
    assert told["cpu"]["quota"] == 1.5
    assert told["memory"]["limit_bytes"] == 1_000_000


def test_limits_of_version_1_groups(tmp_path):
    """Version 1 keeps a tree for each controller; a path that is the host's falls back to the container's root."""
    write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/x\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000000\n",
        },
    )
    told = hardware.capture(tmp_path)
    assert told["cpu"]["quota"] == 2.0
    assert told["memory"]["limit_bytes"] == 5_000_000


def test_no_limit_is_not_a_limit(tmp_path):
    """Unlimited, in the spelling of either version, leaves the limits out."""
    write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu:/\n4:memory:/\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
            "sys/fs/cgroup/memory.max": "max\n",
        },
    )
    told = hardware.capture(tmp_path)
    assert "quota" not in told["cpu"]
    assert "limit_bytes" not in told["memory"]


def test_each_probe_is_guarded_alone(tmp_path, monkeypatch):
    """A probe that is denied costs its own fact and nothing else."""

    def denied(*arguments):
        raise PermissionError

    monkeypatch.setattr(os, "sched_getaffinity", denied)
    monkeypatch.setattr(os, "statvfs", denied)
    monkeypatch.setattr(hardware, "_cpu_quota", denied)
    monkeypatch.setattr(hardware, "nvml_present", denied)
    told = hardware.capture(tmp_path)
    assert told["cpu"]["logical"] == os.cpu_count()
    assert "affinity" not in told["cpu"]
    assert "disk" not in told
    assert (told["gpus"], told["gpus_state"]) == ([], "failed")


def test_no_driver_no_cards(tmp_path, monkeypatch):
    """Without a driver's files the list is empty, and the library is not even looked for."""
    monkeypatch.setattr(hardware, "Nvml", lambda: pytest.fail("asked"))
    told = hardware.capture(tmp_path)
    assert told["gpus"] == []
    assert "gpus_state" not in told


def test_cards_through_nvml(driver):
    """Each card has its name, memory, identifier and the driver's versions; the library is given back."""
    library = Library()
    cards = hardware.capture(driver(library))["gpus"]
    assert cards[1] == {
        "index": 1,
        "vendor": "nvidia",
        "name": "NVIDIA H100",
        "memory_bytes": 80_000,
        "uuid": "GPU-2222",
        "driver": "550.54",
        "cuda": "12.4",
        "visible": True,
    }
    assert len(cards) == 2
    assert library.open == 0


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [False, True]),
        ("", [False, False]),
        ("0,1", [True, True]),
        ("GPU-22", [False, True]),
        ("-1,0", [False, False]),
    ],
)
def test_what_cuda_shows_is_marked(driver, monkeypatch, visible, expected):
    """``CUDA_VISIBLE_DEVICES`` is read as CUDA reads it: numbers or identifiers, up to the first invalid one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cards = hardware.capture(driver(Library()))["gpus"]
    assert [card["visible"] for card in cards] == expected


def test_a_question_without_an_answer_is_left_out(driver):
    """A card that refuses one question, or is lost from the bus, costs that alone."""
    cards = hardware.capture(driver(Library(["nvmlDeviceGetMemoryInfo", "nvmlSystemGetDriverVersion"])))["gpus"]
    assert cards[0] == {
        "index": 0,
        "vendor": "nvidia",
        "name": "NVIDIA H100",
        "uuid": "GPU-1111",
        "cuda": "12.4",
        "visible": True,
    }
    hardware._cards.clear()
    cards = hardware.capture(driver(Library(["nvmlDeviceGetHandleByIndex_v2"])))["gpus"]
    assert cards == [{"index": index, "vendor": "nvidia", "visible": True} for index in (0, 1)]


def test_a_driver_that_fails_is_told(driver):
    """A library that cannot start leaves no cards, and says so."""
    told = hardware.capture(driver(Library(["nvmlInit_v2"])))
    assert (told["gpus"], told["gpus_state"]) == ([], "failed")


def test_a_driver_that_hangs_is_left_behind(driver):
    """A hanging library costs the limit once a process; when it answers after all, the next run has the cards."""
    go = threading.Event()

    class Hanging(Library):
        def _nvmlInit_v2(self):
            go.wait(10)
            return super()._nvmlInit_v2()

    root = driver(Hanging())
    try:
        assert hardware.capture(root, gpu_limit_s=0.05)["gpus_state"] == "timeout"
        assert hardware.capture(root, gpu_limit_s=60)["gpus_state"] == "timeout"
    finally:
        go.set()
    for _ in range(500):
        if "gpus_state" not in hardware.capture(root):
            break
        time.sleep(0.01)
    assert len(hardware.capture(root)["gpus"]) == 2


def test_amd_cards_from_the_kernel(tmp_path):
    """AMD's cards are told by name and memory; other makers' and outputs are not."""
    device = "sys/class/drm/card{}/device/"
    write(
        tmp_path,
        {
            "dev/kfd": "",
            device.format("0") + "vendor": "0x8086\n",
            device.format("1") + "vendor": "0x1002\n",
            device.format("1") + "product_name": "Instinct MI300X\n",
            device.format("1") + "mem_info_vram_total": "205\n",
            device.format("1-DP-1") + "vendor": "0x1002\n",
        },
    )
    assert hardware.capture(tmp_path)["gpus"] == [
        {"index": 0, "vendor": "amd", "name": "Instinct MI300X", "memory_bytes": 205}
    ]
