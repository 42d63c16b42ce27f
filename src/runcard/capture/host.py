"""Which Python, on which system, started by whom and under which scheduler: nothing here leaves the machine.

`user` and `hostname` read variables and local files only: the name services of a cluster may be a slow network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcard.capture.probe import encodable, known, probe, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runcard.redact import Redactor
    from runcard.values import Json


def capture(root: Path = Path("/")) -> dict[str, Any]:
    """``{"python": …, "platform": …}``: the interpreter and the operating system.

    Args:
        root: Where ``etc/os-release`` is looked for.
    """
    return {"python": probe(_python) or {}, "platform": probe(_platform, root) or {}}


def user(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> str:
    """The login name from the usual variables, else from ``/etc/passwd``, else the number of the user."""
    environ = os.environ if environ is None else environ
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if environ.get(name):
            return encodable(environ[name])
    uid = str(os.getuid()) if hasattr(os, "getuid") else ""
    for line in (read_text(root / "etc/passwd", 1_000_000) or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == uid:
            return fields[0]
    return uid or "unknown"


def hostname() -> str:
    """The machine's own name for itself, never looked up."""
    name = probe(lambda: os.uname().nodename) or os.environ.get("COMPUTERNAME") or "unknown"
    return encodable(name)


def variables(environ: Mapping[str, str], redactor: Redactor) -> dict[str, str]:
    """The environment variables that are known to change results or speed, by an allow-list of names.

    Values are redacted and cut at 4,096 characters.
    """
    told: dict[str, str] = {}
    for name in sorted(ALLOWED.intersection(environ)):
        value = encodable(environ[name])
        redacted = probe(redactor.text, value)
        value = redacted[0] if redacted else "[redacted]"
        told[name] = value if len(value) <= 4096 else f"{value[:4096]}… [{len(value)} characters]"
    return told


def process(environ: Mapping[str, str], root: Path = Path("/")) -> dict[str, Any]:
    """The process and what launched it: ``slurm``, ``torchrun``, ``mpi``, ``kubernetes``, ``lsf``, ``pbs``, … if any.

    Identifiers are text, ranks and sizes numbers; what a launcher did not set is left out.
    """
    told: dict[str, Any] = {"pid": os.getpid(), "ppid": os.getppid()}
    for launcher, names in _LAUNCHERS.items():
        said = {key: _value(key, environ[name]) for key, name in names.items() if environ.get(name)}
        if said and (launcher not in _PROOF or environ.get(_PROOF[launcher])):
            told[launcher] = said
    for launcher, names in _MPI.items():
        said = {key: _value(key, environ[name]) for key, name in names.items() if environ.get(name)}
        if "rank" in said and "mpi" not in told:
            told["mpi"] = {"implementation": launcher, **said}
    kubernetes = probe(_kubernetes, environ, root)
    if kubernetes:
        told["kubernetes"] = kubernetes
    container = probe(_container, environ, root)
    if container:
        told["container"] = container
    return told


# Text, since a list of so many names, one a line, would bury the file.
ALLOWED = frozenset(
    """
    CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_DEVICE_MAX_CONNECTIONS CUDA_MODULE_LOADING
    CUBLAS_WORKSPACE_CONFIG CUDNN_DETERMINISTIC NVIDIA_TF32_OVERRIDE NVIDIA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES
    ROCR_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK NCCL_ALGO NCCL_DEBUG
    NCCL_IB_DISABLE NCCL_NTHREADS NCCL_P2P_DISABLE NCCL_P2P_LEVEL NCCL_PROTO NCCL_SHM_DISABLE NCCL_SOCKET_IFNAME
    TORCH_NCCL_ASYNC_ERROR_HANDLING TORCH_NCCL_BLOCKING_WAIT OMP_NUM_THREADS OMP_PLACES OMP_PROC_BIND OMP_SCHEDULE
    OMP_DYNAMIC KMP_AFFINITY KMP_BLOCKTIME KMP_DUPLICATE_LIB_OK MKL_NUM_THREADS MKL_DYNAMIC MKL_CBWR
    MKL_THREADING_LAYER MKL_SERVICE_FORCE_INTEL MKL_ENABLE_INSTRUCTIONS MKL_DEBUG_CPU_TYPE OPENBLAS_NUM_THREADS
    OPENBLAS_CORETYPE BLIS_NUM_THREADS GOTO_NUM_THREADS VECLIB_MAXIMUM_THREADS NUMEXPR_NUM_THREADS
    NUMEXPR_MAX_THREADS NUMBA_NUM_THREADS NUMBA_DISABLE_JIT NUMBA_THREADING_LAYER POLARS_MAX_THREADS
    RAYON_NUM_THREADS LOKY_MAX_CPU_COUNT PYTHONHASHSEED PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONUTF8
    PYTHONWARNINGS PYTHONDEVMODE PYTHON_GIL PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED PYTHONFAULTHANDLER
    PYTORCH_CUDA_ALLOC_CONF PYTORCH_ALLOC_CONF PYTORCH_ENABLE_MPS_FALLBACK PYTORCH_MPS_HIGH_WATERMARK_RATIO
    PYTORCH_NO_CUDA_MEMORY_CACHING PYTORCH_JIT TORCH_ALLOW_TF32_CUBLAS_OVERRIDE TORCH_COMPILE_DISABLE TORCH_LOGS
    TORCH_CUDNN_V8_API_DISABLED TORCH_DISTRIBUTED_DEBUG TORCHDYNAMO_DISABLE TORCHINDUCTOR_MAX_AUTOTUNE
    TORCH_CUDA_ARCH_LIST TF_CPP_MIN_LOG_LEVEL TF_CUDNN_DETERMINISTIC TF_DETERMINISTIC_OPS TF_ENABLE_ONEDNN_OPTS
    TF_FORCE_GPU_ALLOW_GROWTH TF_GPU_ALLOCATOR TF_NUM_INTEROP_THREADS TF_NUM_INTRAOP_THREADS TF_USE_LEGACY_KERAS
    TF_XLA_FLAGS KERAS_BACKEND XLA_FLAGS XLA_PYTHON_CLIENT_ALLOCATOR XLA_PYTHON_CLIENT_MEM_FRACTION
    XLA_PYTHON_CLIENT_PREALLOCATE JAX_PLATFORMS JAX_PLATFORM_NAME JAX_ENABLE_X64 JAX_DEFAULT_MATMUL_PRECISION
    JAX_DISABLE_JIT JAX_DEBUG_NANS JAX_THREEFRY_PARTITIONABLE TOKENIZERS_PARALLELISM TRANSFORMERS_OFFLINE
    HF_HUB_OFFLINE HF_DATASETS_OFFLINE HF_HOME ACCELERATE_MIXED_PRECISION ACCELERATE_USE_DEEPSPEED
    ACCELERATE_USE_FSDP FLASH_ATTENTION_DETERMINISTIC CONDA_DEFAULT_ENV CONDA_PREFIX VIRTUAL_ENV LD_LIBRARY_PATH
    LD_PRELOAD MALLOC_ARENA_MAX LANG LC_ALL LC_NUMERIC TZ SOURCE_DATE_EPOCH MUJOCO_GL SDL_VIDEODRIVER MPLBACKEND
    """.split()  # noqa: SIM905 - see above
)

_SLURM = {
    "job_id": "SLURM_JOB_ID",
    "job_name": "SLURM_JOB_NAME",
    "array_job_id": "SLURM_ARRAY_JOB_ID",
    "array_task_id": "SLURM_ARRAY_TASK_ID",
    "step_id": "SLURM_STEP_ID",
    "cluster": "SLURM_CLUSTER_NAME",
    "partition": "SLURM_JOB_PARTITION",
    "nodelist": "SLURM_JOB_NODELIST",
    "node": "SLURMD_NODENAME",
    "num_nodes": "SLURM_JOB_NUM_NODES",
    "num_tasks": "SLURM_NTASKS",
    "procid": "SLURM_PROCID",
    "localid": "SLURM_LOCALID",
    "restart_count": "SLURM_RESTART_COUNT",
}
_LAUNCHERS: dict[str, dict[str, str]] = {
    "slurm": _SLURM,
    "torchrun": {
        "run_id": "TORCHELASTIC_RUN_ID",
        "rank": "RANK",
        "local_rank": "LOCAL_RANK",
        "group_rank": "GROUP_RANK",
        "world_size": "WORLD_SIZE",
        "local_world_size": "LOCAL_WORLD_SIZE",
        "restart_count": "TORCHELASTIC_RESTART_COUNT",
        "max_restarts": "TORCHELASTIC_MAX_RESTARTS",
        "master_addr": "MASTER_ADDR",
        "master_port": "MASTER_PORT",
    },
    "lsf": {"job_id": "LSB_JOBID", "array_index": "LSB_JOBINDEX", "job_name": "LSB_JOBNAME", "queue": "LSB_QUEUE"},
    "pbs": {"job_id": "PBS_JOBID", "array_index": "PBS_ARRAY_INDEX", "job_name": "PBS_JOBNAME", "queue": "PBS_QUEUE"},
    "sge": {"job_id": "JOB_ID", "array_task_id": "SGE_TASK_ID", "job_name": "JOB_NAME", "queue": "QUEUE"},
    "ray": {"job_id": "RAY_JOB_ID"},
    "aws_batch": {
        "job_id": "AWS_BATCH_JOB_ID",
        "attempt": "AWS_BATCH_JOB_ATTEMPT",
        "array_index": "AWS_BATCH_JOB_ARRAY_INDEX",
    },
}
# Plain names such as RANK or JOB_ID count only beside the variable that nobody else sets.
_PROOF = {"torchrun": "WORLD_SIZE", "sge": "SGE_ROOT"}
_MPI = {
    "openmpi": {
        "rank": "OMPI_COMM_WORLD_RANK",
        "local_rank": "OMPI_COMM_WORLD_LOCAL_RANK",
        "world_size": "OMPI_COMM_WORLD_SIZE",
    },
    "mvapich2": {
        "rank": "MV2_COMM_WORLD_RANK",
        "local_rank": "MV2_COMM_WORLD_LOCAL_RANK",
        "world_size": "MV2_COMM_WORLD_SIZE",
    },
    "pmi": {"rank": "PMI_RANK", "local_rank": "MPI_LOCALRANKID", "world_size": "PMI_SIZE"},
}
_NUMBERS = {
    "rank",
    "local_rank",
    "group_rank",
    "world_size",
    "local_world_size",
    "restart_count",
    "max_restarts",
    "procid",
    "localid",
    "num_nodes",
    "num_tasks",
    "attempt",
}


def _value(key: str, text: str) -> Json:
    if key in _NUMBERS and text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    return encodable(text[:1024])


def _python() -> dict[str, Any]:
    version, _, rest = sys.version.partition(" ")
    facts: dict[str, Any] = {
        "version": version,
        "implementation": sys.implementation.name,
        "compiler": rest.rpartition("[")[2].rstrip("]") or None,
        "build": rest.partition("(")[2].partition(")")[0] or None,
        "executable": encodable(sys.executable or "") or None,
        "prefix": encodable(sys.prefix),
        "venv": sys.prefix != sys.base_prefix,
        "conda": os.environ.get("CONDA_PREFIX") == sys.prefix or None,
        "free_threaded": "free-threading" in sys.version,
        "gil": _gil(),
        "optimize": sys.flags.optimize,
        "hash_randomization": bool(sys.flags.hash_randomization),
        "utf8_mode": bool(sys.flags.utf8_mode),
        "dev_mode": sys.flags.dev_mode,
    }
    return known(facts)


def _gil() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return bool(enabled()) if callable(enabled) else True


def _platform(root: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"platform": sys.platform, "byteorder": sys.byteorder}
    if hasattr(os, "uname"):
        system = os.uname()
        facts |= {
            "system": system.sysname,
            "release": system.release,
            "version": system.version,
            "machine": system.machine,
        }
    else:
        import platform  # slow, and some of its questions start a program: only where there is no uname

        facts |= {
            "system": platform.system(),
            "release": platform.release(),
            "version": platform.version(),
            "machine": platform.machine(),
        }
    facts["libc"] = probe(_libc, root)
    facts["distribution"] = probe(_distribution, root)
    return known(facts)


def _libc(root: Path) -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError, AttributeError):
        return "musl" if any(root.glob("lib/ld-musl-*")) else None


def _distribution(root: Path) -> str | None:
    if sys.platform == "darwin":
        import platform

        return f"macOS {platform.mac_ver()[0]}"
    text = read_text(root / "etc/os-release") or read_text(root / "usr/lib/os-release")
    if text is None:
        return None
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    name = said.get("PRETTY_NAME") or said.get("NAME")
    return name.strip("\"' ") if name else None


def _kubernetes(environ: Mapping[str, str], root: Path) -> dict[str, Any]:
    if "KUBERNETES_SERVICE_HOST" not in environ:
        return {}
    # the token that lies beside the namespace is not looked at
    account = root / "var/run/secrets/kubernetes.io/serviceaccount/namespace"
    facts: dict[str, Any] = {
        "namespace": environ.get("POD_NAMESPACE") or (read_text(account, 512) or "").strip() or None,
        "pod": environ.get("POD_NAME") or environ.get("HOSTNAME") or hostname(),
        "node": environ.get("NODE_NAME"),
        "job_index": environ.get("JOB_COMPLETION_INDEX"),
    }
    return known(facts)


def _container(environ: Mapping[str, str], root: Path) -> str | None:
    if environ.get("APPTAINER_NAME") or environ.get("SINGULARITY_NAME"):
        return "apptainer"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    cgroup = read_text(root / "proc/1/cgroup", 8192) or ""
    for word in ("kubepods", "docker", "libpod", "lxc", "containerd"):
        if word in cgroup:
            return {"kubepods": "kubernetes", "libpod": "podman"}.get(word, word)
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    return environ.get("container") or None  # systemd-nspawn and others say so themselves
