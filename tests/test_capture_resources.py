"""What `runcard.capture.resources` measures, and what `runcard.capture.system` samples."""

from __future__ import annotations

import os
import resource
import sys
import threading
import types

from runcard import errors
from runcard.capture import resources, system


class Clock:
    """A clock that shows what it is told."""

    now = 100.0

    def __call__(self):
        return self.now


def test_wall_time_by_the_given_clock():
    """The wall time is the clock's, from the making of the meter; a clock that goes back gives 0, not less."""
    clock = Clock()
    meter = resources.Meter(clock)
    clock.now = 102.5
    assert meter.read()["wall_s"] == 2.5
    clock.now = 50
    assert meter.read()["wall_s"] == 0.0


def test_processor_time_and_memory():
    """Work shows as processor time; the peak memory is in bytes, and its scope is told."""
    meter = resources.Meter()
    while resources._times()[0] - meter._before[0] < 0.03:
        sum(range(10_000))
    told = meter.read()
    assert 0.03 <= told["cpu_user_s"] < 60
    assert told["cpu_system_s"] >= 0
    assert told["children_cpu_s"] == 0
    assert 5_000_000 < told["peak_memory_bytes"] < 10**12
    assert told["peak_memory_scope"] == "process"


def test_units_of_the_peak(monkeypatch):
    """Linux counts KiB and macOS bytes; both are told in bytes."""
    monkeypatch.setattr(resource, "getrusage", lambda who: types.SimpleNamespace(ru_maxrss=2048))
    for platform, expected in (("linux", 2048 * 1024), ("darwin", 2048)):
        monkeypatch.setattr(sys, "platform", platform)
        assert resources.peak_memory() == expected


def test_each_number_is_guarded_alone(monkeypatch):
    """A refusal costs the number that was refused."""
    meter = resources.Meter(Clock())
    monkeypatch.setattr(resource, "getrusage", lambda who: 1 / 0)
    assert meter.read() == {"wall_s": 0.0}


def test_graphics_memory_only_where_pytorch_uses_it(monkeypatch):
    """The peak of the graphics memory is told when PyTorch has CUDA running; it is never started for that."""
    cuda = types.SimpleNamespace(
        is_initialized=lambda: False, device_count=lambda: 2, max_memory_allocated=lambda device: 10 + device
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert "peak_gpu_memory_bytes" not in resources.Meter().read()
    cuda.is_initialized = lambda: True
    assert resources.Meter().read()["peak_gpu_memory_bytes"] == 21


def test_samples_come_and_end():
    """The sampler hands out numbers by their names until it is stopped, and its thread is gone then."""
    got = threading.Event()
    samples = []
    sampler = system.Sampler(lambda values: samples.append(values) or got.set(), interval_s=0.01).start()
    assert got.wait(20)
    sampler.stop()
    count = len(samples)
    assert not sampler._thread.is_alive()
    assert len(samples) == count
    assert {"system/cpu_percent", "system/memory_rss_bytes", "system/memory_percent"} <= set(samples[0])
    assert all(type(value) is float for value in samples[0].values())


def test_stop_does_not_wait_for_the_interval():
    """A sampler of an hour's interval stops at once, also when it never began or is stopped twice."""
    system.Sampler(print, interval_s=3600).stop()
    sampler = system.Sampler(lambda values: None, interval_s=3600).start()
    sampler.stop()
    sampler.stop()
    assert not sampler._thread.is_alive()


def test_a_receiver_that_raises_is_contained(monkeypatch):
    """A receiver's failure becomes one warning, and sampling goes on."""
    said, twice, calls = [], threading.Event(), []
    monkeypatch.setattr(errors, "_said", set())
    monkeypatch.setattr(errors, "warn", lambda message, once: said.append(message))

    def emit(values):
        calls.append(1)
        if len(calls) > 1:
            twice.set()
        raise RuntimeError("full")

    sampler = system.Sampler(emit, interval_s=0.01).start()
    assert twice.wait(20)
    sampler.stop()
    assert said[0] == "could not log system metrics: RuntimeError: full"


def test_denied_probes_are_left_out(monkeypatch):
    """What psutil or the system refuses is left out, the rest is told."""

    class Denied:
        def __getattr__(self, name):
            raise PermissionError

    monkeypatch.setattr(os, "getloadavg", lambda: 1 / 0)
    assert set(system.sample(None)) == {"system/memory_percent"}
    assert set(system.sample(Denied())) == {"system/memory_percent"}


def test_graphics_cards():
    """Each card has its load and memory; one that does not answer is left out."""

    class Nvml:
        def count(self):
            return 2

        def handle(self, index):
            if index:
                raise OSError
            return index

        def utilization(self, handle):
            return 93, 10

        def memory(self, handle):
            return 80, 30

    told = system.sample(None, Nvml())
    assert told["system/gpu/0/utilization_percent"] == 93.0
    assert told["system/gpu/0/memory_used_bytes"] == 30.0
    assert not any("gpu/1" in name for name in told)
