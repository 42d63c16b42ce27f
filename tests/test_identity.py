"""Ids that never meet, processes that are never taken for others, tokens and launches."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runcard import identity
from runcard.identity import (
    RUN_ID,
    Launch,
    Token,
    is_alive,
    is_run_id,
    launch_of,
    new_run_id,
    parse_token,
    scheduler_job,
    this_process,
)


def _ids(count):
    """So many ids, of one process with a seed that all share, at one second."""
    random.seed(1)
    return [new_run_id(1_800_000_000.0) for _ in range(count)]


def _unique_over_forks(forks, each):
    with multiprocessing.get_context("fork").Pool(forks) as pool:
        found = [run_id for ids in pool.map(_ids, [each] * forks, chunksize=1) for run_id in ids]
    assert len(found) == forks * each
    return len(set(found))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads of other tests may still be there
def test_ids_of_the_same_second_and_seed_differ_over_forks():
    """Forked children with equal seeds, in one second, never make the same id."""
    assert _unique_over_forks(8, 500) == 4_000


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads of other tests may still be there
@pytest.mark.slow
def test_a_hundred_thousand_ids_over_64_forks_are_unique():
    """10⁵ ids of one second are all different: their tail has 40 bits of the system's randomness."""
    assert _unique_over_forks(64, 1_563) >= 100_030  # of 100,032: chance doubles one in two hundred rounds


def test_an_id_is_its_second_in_utc_and_eight_characters():
    """The form is fixed: a time that sorts, a dash, eight characters of lower-case Crockford base32."""
    run_id = new_run_id(1_795_000_272.9)
    assert run_id.startswith("20261118T111112-")
    assert is_run_id(run_id)
    tails = "".join(new_run_id()[-8:] for _ in range(400))
    assert set(tails) == set("0123456789abcdefghjkmnpqrstvwxyz")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "20261123T101112-7k3f9q2",
        "20261123T101112-7k3f9q2m\n",
        "20261123T101112-7K3F9Q2M",
        "../20261123T101112-7k3f9q2m",
        "20261123T101112-7k3f9q2m/..",
        "20261123T101112-ilou0000",
        "\uff120261123T101112-7k3f9q2m",
        "20261123T101112_7k3f9q2m",
    ],
)
def test_nothing_else_is_an_id(text):
    """An id is matched in full, so that no reference walks out of the store."""
    assert not is_run_id(text)


def test_a_token_comes_back_from_its_text():
    """A token is the run's id and the store's absolute root, also one with an @ in it."""
    token = Token("20261123T101112-7k3f9q2m", "/data/a@b/runcards")
    assert parse_token(str(token)) == token


@pytest.mark.parametrize(
    "text",
    ["", "@", "20261123T101112-7k3f9q2m", "20261123T101112-7k3f9q2m@", "20261123T101112-7k3f9q2m@relative", "x@/data",
     "20261123T101112-7k3f9q2m@/data\0", "../../etc@/data"],
)  # fmt: skip
def test_what_is_no_token_is_none(text):
    """No id, no root, a relative root or one with a NUL: none of it is a token."""
    assert parse_token(text) is None


def test_this_process_is_alive_and_a_dead_one_is_not():
    """A process lives until it has ended, waited for or not."""
    assert is_alive(this_process(), touched=None)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = {**this_process(), "pid": child.pid, "started": identity._started(child.pid)}
    assert is_alive(alive, touched=None)
    child.kill()
    stat = Path(f"/proc/{child.pid}/stat")
    until = time.monotonic() + 30
    while b") Z " not in stat.read_bytes() and time.monotonic() < until:
        time.sleep(0.001)
    assert not is_alive(alive, touched=time.time())  # a zombie: it has ended, and nobody has waited for it
    child.communicate()
    assert not is_alive(alive, touched=time.time())


def test_a_process_with_brackets_and_spaces_in_its_name_is_read_right(tmp_path, monkeypatch):
    """The start time is counted from the last bracket, whatever a process calls itself."""
    stat = f"7 (a) b (c) S {' '.join(str(n) for n in range(4, 60))}".encode()
    monkeypatch.setattr(Path, "read_bytes", lambda _path: stat)
    assert identity._started(7) == "22"  # field 22 of proc(5)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, True),
        ({"started": "1"}, False),  # the pid was used again
        ({"started": None}, False),
        ({"boot": "another"}, False),  # the host was booted anew
        ({"pid": 2**22 + 7}, False),
        ({"pid": 0}, False),
        ({"pid": -1}, False),
        ({"pid": "1"}, False),
        ({"pid": None}, False),
    ],
)
def test_on_this_host_a_run_lives_by_pid_start_time_and_boot(change, seen):
    """A pid used again, a reboot or a pid that is none is not alive, however fresh the journal is."""
    assert is_alive({**this_process(), **change}, touched=time.time()) is seen


def test_two_unknown_start_times_are_not_the_same_process(monkeypatch):
    """Where no start time can be read, nothing is taken for alive."""
    monkeypatch.setattr(identity, "_started", lambda _pid: None)
    assert not is_alive({**this_process(), "started": None}, touched=None)


@pytest.mark.parametrize("change", [{"host": "another"}, {"pid_ns": "pid:[1]"}])
def test_elsewhere_a_run_lives_while_its_journal_is_touched(change):
    """From another host or pid namespace, pid 1 of a container included, a sign of life in ten minutes counts."""
    alive = {**this_process(), "pid": 1, **change}
    assert is_alive(alive, touched=1_000.0, now=1_599.0)
    assert not is_alive(alive, touched=1_000.0, now=1_601.0)
    assert not is_alive(alive, touched=None, now=1_000.0)


def test_hostile_descriptions_of_a_process_are_dead():
    """What a damaged journal says of its process raises nothing."""
    for alive in ({}, {"host": [], "pid": {}}, {**this_process(), "pid": 1e300}, {**this_process(), "pid": True}):
        assert not is_alive(alive, touched=None)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads of other tests may still be there
def test_a_forked_child_is_another_process():
    """The description is not inherited: a child describes itself."""
    this_process()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        child = pool.apply(this_process)
    assert child["pid"] != os.getpid()
    assert (child["host"], child["boot"], child["pid_ns"]) == tuple(
        this_process()[k] for k in ("host", "boot", "pid_ns")
    )


def test_without_proc_psutil_is_asked(monkeypatch):
    """Where there is no /proc the boot's time and the process's start come from psutil; it may fail."""
    monkeypatch.setattr(os.path, "isdir", lambda _path: False)

    def absent(*_args, **_options):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", absent)
    monkeypatch.setattr(Path, "read_text", absent)
    started = identity._started(os.getpid())
    assert started is not None
    assert started == identity._started(os.getpid())
    assert identity._boot().isdecimal()
    assert identity._started(2**22 + 7) is None
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert identity._started(os.getpid()) is None


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "h", "MASTER_PORT": "29500"}


def test_a_launch_is_found_by_torchruns_variables():
    """Ranks of one launch have one key; another master, job or restart is another launch."""
    launch = launch_of(TORCHRUN)
    assert launch == Launch(launch.key, 1, 4)
    assert launch_of({**TORCHRUN, "RANK": "3"}).key == launch.key
    for change in (
        {"MASTER_PORT": "1"},
        {"SLURM_JOB_ID": "9"},
        {"TORCHELASTIC_RESTART_COUNT": "1"},
        {"WORLD_SIZE": "5"},
    ):
        assert launch_of({**TORCHRUN, **change}).key != launch.key


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RANK": "0"},
        {"RANK": "x", "WORLD_SIZE": "4"},
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "-1", "WORLD_SIZE": "4"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"},
    ],
)
def test_one_process_or_a_strange_rank_is_no_launch(environ):
    """A rank out of range, a size of one and `srun` of independent workers leave runs separate."""
    assert launch_of(environ) is None


def test_slurm_and_mpi_are_launches_on_request():
    """`ranks="slurm"` and `"mpi"` go by their own variables."""
    assert launch_of({"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, "slurm").rank == 1
    assert launch_of({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, "mpi").rank == 2


def test_a_schedulers_job_is_the_same_after_a_requeue():
    """The job and its array task name the work, a restart count does not."""
    job = {"SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    assert scheduler_job(job) == scheduler_job({**job, "SLURM_RESTART_COUNT": "1", "SLURM_JOB_ID": "99"})
    assert scheduler_job(job) != scheduler_job({**job, "SLURM_ARRAY_TASK_ID": "4"})
    assert scheduler_job({"PBS_JOBID": "5.head"}) == "PBS_JOBID:5.head"
    assert scheduler_job({}) is None


def test_every_id_made_is_matched_in_full():
    """What makes ids and what recognises them agree."""
    assert all(RUN_ID.fullmatch(new_run_id()) for _ in range(1_000))
