"""One piece of work by one subject, in a process of its own and in the subject's own virtual environment.

``python worker.py SUBJECT WORK FOLDER ARGUMENTS`` does it, and prints one line of JSON. Only the standard library and
the subject are imported here. Times are in seconds. What a cost stands beside is measured here too, in turn with it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import sys
import time
from pathlib import Path

CONFIG = {"lr": 3e-4, "epochs": 10, "seed": 7, "name": "resnet", "wd": 0.01, "bs": 64, "opt": "adam", "amp": True}
CONFIG |= {"data": "train.csv", "warmup": 500}
FINAL = {"loss": 0.31, "accuracy": 0.93, "f1": 0.9}
LINE = b'{"crc":"bbf3b6a3","log":[100,1796063215.5130217,99,{"loss":0.123456}]}\n'
TEN = {f"loss{i}": 0.123456 * (i + 1) for i in range(10)}
_now = time.perf_counter


def empty_runs(space, folder, *, count):
    """Whole runs of 10 config values and 3 final metrics, each beside a folder with one file of the same bytes."""
    runs, raw = [], []
    text = json.dumps(CONFIG | FINAL).encode()
    for i in range(count + 1):
        start = _now()
        space.run(CONFIG, _nothing, FINAL)
        middle = _now()
        place = f"{folder}/raw{i}"
        os.mkdir(place)
        with open(f"{place}/run", "wb") as file:
            file.write(text)
        runs.append(middle - start)
        raw.append(_now() - middle)
    return {"first": runs[0], "runs": runs[1:], "raw": raw[1:]}


def logging(space, folder, *, batches, size):
    """Batches of one scalar, of one bare write of the same bytes, of ten scalars: in turn, seconds a call."""
    one, raw, ten = [], [], []
    fd = os.open(f"{folder}/raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def body(log):
        for step in range(0, batches * size, size):
            start = _now()
            for i in range(step, step + size):
                log({"loss": 0.123456}, i)
            written = _now()
            for _ in range(size):
                os.write(fd, LINE)
            middle = _now()
            for i in range(step, step + size):
                log(TEN, i)
            end = _now()
            one.append((written - start) / size)
            raw.append((middle - written) / size)
            ten.append((end - middle) / size)

    space.run(CONFIG, body, FINAL)
    os.close(fd)
    return {"one": one[1:], "raw": raw[1:], "ten": ten[1:]}


def acknowledge(space, folder, *, rate):
    """Log until killed; the count of calls that have returned lies in a shared file, which outlives the process."""
    with open(f"{folder}/acknowledged", "r+b") as file:
        count = mmap.mmap(file.fileno(), 8)

    def body(log):
        begun = _now()
        step = 0
        while True:
            log({"loss": 0.123456}, step)
            step += 1
            count[:] = step.to_bytes(8, "little")
            if rate:
                time.sleep(max(0.0, begun + step / rate - _now()))

    space.run(CONFIG, body, FINAL)


def recovered(space, folder):
    """What a reader finds after the kill."""
    steps, state = space.recovered()
    return {"steps": steps, "state": state}


def steps(space, folder, *, count, metrics):
    """One run of many steps: seconds to log, seconds to end, and how far memory rose."""
    before = _peak()
    values = {f"loss{i}" if i else "loss": 0.123456 * (i + 1) for i in range(metrics)}
    marks = []

    def body(log):
        marks.append(_now())
        for i in range(count):
            log(values, i)
        marks.append(_now())

    space.run(CONFIG, body, FINAL)
    start, middle, end = *marks, _now()
    imported = sorted(name for name in sys.modules if "." not in name or not name.startswith("__"))
    return {"log": middle - start, "end": end - middle, "before": before, "peak": _peak(), "imported": imported}


def long_run(space, folder, *, sizes, seconds):
    """One run with as many steps as the greatest size: seconds a call at each size, over the half of steps before it.

    Logging stops after so many seconds: the sizes reached are in the answer. They are also in a file before the run
    ends, lest the end take more time than there is.
    """
    found, marks = {}, []

    def body(log):
        began, done = _now(), 0
        for size in sizes:
            half = size // 2
            many = min(50, max(10, half // 5))  # a batch is shorter than a slice of time: few are interrupted
            times = []
            while done < size and _now() - began < seconds:
                batch = min(many, size - done)
                start = _now()
                for i in range(done, done + batch):
                    log({"loss": 0.123456}, i)
                done += batch
                if done > half:
                    times.append((_now() - start) / batch)
            if done == size:
                found[size] = sorted(times)[len(times) // 2]
        Path(folder, "long_run.json").write_text(json.dumps(found))
        marks.append(_now())

    space.run(CONFIG, body, FINAL)
    return {"log": found, "end": _now() - marks[0]}


def imports(space, folder, *, names):
    """How much memory the same imports take with nothing done."""
    for name in names:
        with contextlib.suppress(Exception):  # what the other process made up is no module here
            importlib.import_module(name)
    return {"peak": _peak()}


def several(space, folder, *, count):
    """Several runs one after another, begun when the file `go` appears: one of many such processes."""
    Path(folder, f"ready{os.getpid()}").touch()
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.001)
    for _ in range(count):
        space.run(CONFIG, _nothing, FINAL)
    return {}


def listing(space, folder, *, repeats):
    """All runs sorted by one metric, first and again."""
    times = []
    for _ in range(repeats):
        start = _now()
        found = len(space.query())
        times.append(_now() - start)
    return {"found": found, "times": times, "peak": _peak()}


def ranking(space, folder, *, repeats):
    """All runs ranked by one metric, first and again."""
    times = []
    for _ in range(repeats):
        start = _now()
        found = len(space.rank())
        times.append(_now() - start)
    return {"found": found, "times": times, "peak": _peak()}


def wide_runs(space, folder, *, keys, count):
    """Whole runs with a config of many keys, in groups of a hundred as large configs are."""
    config = {f"part{i}": {f"key{j}": j for j in range(i, min(i + 100, keys))} for i in range(0, keys, 100)}
    times = []
    for _ in range(count + 1):
        start = _now()
        space.run(config, _nothing, FINAL)
        times.append(_now() - start)
    return {"times": times[1:]}


def count(space, folder):
    """How many whole runs there are."""
    return {"found": space.count() if hasattr(space, "count") else len(space.query())}


def multiply(space, folder, *, times):
    """As many times the runs there are, written as the tracker would have."""
    space.multiply(times)
    return {}


def footprint(space, folder, *, distribution):
    """How many packages an installation brings, and their bytes on disk without their tests' caches."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as installed

    known, waiting = {}, [distribution]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in known:
            continue
        try:
            found = installed(name)
        except PackageNotFoundError:
            continue
        known[name] = sum(_size(file) for file in found.files or ())
        for requirement in found.requires or ():
            needed, _, marker = requirement.partition(";")
            if not marker or _applies(marker):
                waiting.append(_head(needed))
    return {"packages": len(known), "bytes": sum(known.values()), "names": sorted(known)}


def _nothing(log):
    """A run with no steps."""


def _applies(marker):
    """Whether a requirement is one here, asked of pip, which every virtual environment has."""
    from pip._vendor.packaging.markers import Marker

    return Marker(marker).evaluate({"extra": ""})


def _head(requirement):
    name = ""
    for letter in requirement.strip():
        if not (letter.isalnum() or letter in "-_."):
            break
        name += letter
    return name


def _size(file):
    try:
        return os.stat(file.locate()).st_size
    except OSError:
        return 0


def _peak():
    """The most memory this process has had, in bytes; the system's own count would remember its parent's."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


WORKS = {work.__name__: work for work in (empty_runs, logging, acknowledge, recovered, steps, imports)}
WORKS |= {work.__name__: work for work in (several, long_run, listing, ranking, count, multiply, wide_runs, footprint)}


def main():
    subject, work, folder, arguments = sys.argv[1:]
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    said = os.dup(1)
    os.dup2(2, 1)  # trackers print; the answer alone goes to standard output
    space = None
    if work not in ("imports", "footprint"):
        space = importlib.import_module(f"subjects.{subject}").Space(Path(folder))
    answer = WORKS[work](space, folder, **json.loads(arguments))
    os.write(said, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
