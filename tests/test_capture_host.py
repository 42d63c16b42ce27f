"""What `runcard.capture.host` says of interpreter, system, user and launcher."""

from __future__ import annotations

import json
import os
import sys

import pytest

from runcard.capture import host


class Redactor:
    """Stands in for the real one: knows one secret."""

    def text(self, text):
        return text.replace("hunter2", "[redacted]"), text.count("hunter2")


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_interpreter_and_the_system():
    """Python and the platform are told, in strict JSON."""
    told = host.capture()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    python = told["python"]
    assert python["version"] == sys.version.split()[0]
    assert python["executable"] == sys.executable
    assert python["venv"] is (sys.prefix != sys.base_prefix)
    assert python["compiler"] in sys.version
    assert told["platform"]["machine"] == os.uname().machine


def test_distribution_and_libc(tmp_path):
    """The distribution is the name that it gives itself."""
    write(tmp_path, {"etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n\nodd line\n'})
    assert host.capture(tmp_path)["platform"]["distribution"] == "Debian GNU/Linux 12 (bookworm)"


def test_a_probe_that_fails_leaves_the_rest(tmp_path, monkeypatch):
    """A system that does not know its libc or distribution still tells its machine."""
    monkeypatch.setattr(host, "_libc", lambda root: 1 / 0)
    platform = host.capture(tmp_path)["platform"]
    assert "libc" not in platform
    assert "distribution" not in platform
    assert platform["system"] == os.uname().sysname


def test_user_without_a_home(tmp_path):
    """The user is the login name of the variables, else of the password file, else a number."""
    write(tmp_path, {"etc/passwd": f"other:x:{os.getuid() + 1}:0::/:\nann:x:{os.getuid()}:0::/:\n"})
    assert host.user({"USER": "bob"}, tmp_path) == "bob"
    assert host.user({}, tmp_path) == "ann"
    assert host.user({}, tmp_path / "none") == str(os.getuid())


def test_hostname():
    """The machine is named as it names itself."""
    assert host.hostname() == os.uname().nodename


def test_variables_by_an_allow_list():
    """Of the environment only known names are told, redacted; nothing that merely looks harmless."""
    environ = {
        "OMP_NUM_THREADS": "4",
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": "/home/hunter2/src",
        "LD_LIBRARY_PATH": "x" * 5000,
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "HF_TOKEN": "a",
        "MY_MODE": "b",
        "omp_num_threads": "5",
    }
    told = host.variables(environ, Redactor())
    assert told == {
        "CUDA_VISIBLE_DEVICES": "",
        "LD_LIBRARY_PATH": "x" * 4096 + "… [5000 characters]",
        "OMP_NUM_THREADS": "4",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": "/home/[redacted]/src",
    }


def test_no_allowed_name_is_that_of_a_secret():
    """The allow-list itself has no name that could hold a credential."""
    words = {word for name in host.ALLOWED for word in name.split("_")}
    assert not words & {"TOKEN", "KEY", "SECRET", "PASSWORD", "PASS", "AUTH", "CREDENTIALS", "COOKIE"}


def test_a_broken_redactor_redacts_everything():
    """When the redactor fails no value is told."""

    class Broken:
        def text(self, text):
            raise SystemExit

    assert host.variables({"TZ": "UTC"}, Broken()) == {"TZ": "[redacted]"}


LAUNCHERS = [
    (
        {"SLURM_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "1", "SLURM_RESTART_COUNT": "2"},
        {"slurm": {"job_id": "77", "array_task_id": "3", "procid": 1, "restart_count": 2}},
    ),
    (
        {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "none"},
        {"torchrun": {"run_id": "none", "rank": 5, "local_rank": 1, "world_size": 8}},
    ),
    ({"RANK": "5"}, {}),
    ({"JOB_ID": "9", "QUEUE": "all"}, {}),
    ({"JOB_ID": "9", "SGE_ROOT": "/sge"}, {"sge": {"job_id": "9"}}),
    (
        {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "2"},
        {"mpi": {"implementation": "openmpi", "rank": 2, "world_size": 4}},
    ),
    ({"LSB_JOBID": "12", "LSB_JOBINDEX": "0"}, {"lsf": {"job_id": "12", "array_index": "0"}}),
    ({"PBS_JOBID": "12.server"}, {"pbs": {"job_id": "12.server"}}),
    ({"WORLD_SIZE": "all", "RANK": "9" * 40}, {"torchrun": {"rank": "9" * 40, "world_size": "all"}}),
]


@pytest.mark.parametrize(("environ", "expected"), LAUNCHERS)
def test_launchers(tmp_path, environ, expected):
    """Each launcher is known by its own variables; plain names alone, such as RANK, prove nothing."""
    told = host.process(environ, tmp_path)
    assert told == {"pid": os.getpid(), "ppid": os.getppid(), **expected}


def test_kubernetes_tells_namespace_and_pod_but_no_token(tmp_path):
    """In a pod its name and namespace are told; the service account's token is not read."""
    account = "var/run/secrets/kubernetes.io/serviceaccount/"
    write(tmp_path, {account + "namespace": "research\n", account + "token": "hunter2"})
    told = host.process({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0"}, tmp_path)
    assert told["kubernetes"] == {"namespace": "research", "pod": "train-0"}
    assert told["container"] == "kubernetes"
    assert "hunter2" not in json.dumps(told)


@pytest.mark.parametrize(
    ("environ", "files", "expected"),
    [
        ({}, {".dockerenv": ""}, "docker"),
        ({}, {"run/.containerenv": ""}, "podman"),
        ({"APPTAINER_NAME": "x"}, {}, "apptainer"),
        ({}, {"proc/1/cgroup": "1:cpu:/kubepods/besteffort/x"}, "kubernetes"),
        ({"container": "systemd-nspawn"}, {}, "systemd-nspawn"),
        ({}, {"proc/1/cgroup": "0::/init.scope"}, None),
    ],
)
def test_containers(tmp_path, environ, files, expected):
    """The kind of container is known by the mark it leaves."""
    assert host.process(environ, write(tmp_path, files)).get("container") == expected
