"""Environment variables that change which kernels run, or how fast, behind a runtime's back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

# What begins the name of a fact of the environment. Null is a known fact: the variable is unset.
PREFIX = "env."

_ONEDNN = ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE", "PRIMITIVE_CACHE_CAPACITY")
# Not here: what latkit sets itself in every measurement (numbers of threads), or reads back.
VARIABLES = (
    # oneDNN, under its present and its former name
    *(f"ONEDNN_{name}" for name in _ONEDNN),
    *(f"DNNL_{name}" for name in _ONEDNN),
    "LRU_CACHE_CAPACITY",
    # BLAS
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_DISABLE_FAST_MM",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_THREADING_LAYER",
    "BLIS_ARCH_TYPE",
    "OPENBLAS_CORETYPE",
    # OpenMP: how threads wait, where they run, who gets which share
    "OMP_DYNAMIC",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_SCHEDULE",
    "OMP_WAIT_POLICY",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_HW_SUBSET",
    "KMP_LIBRARY",
    # PyTorch
    "ATEN_CPU_CAPABILITY",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "THP_MEM_ALLOC_ENABLE",
    "TORCHINDUCTOR_COORDINATE_DESCENT_TUNING",
    "TORCHINDUCTOR_CPP_WRAPPER",
    "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "TORCH_CUDNN_V8_API_DISABLED",
    # CUDA
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_FORCE_PTX_JIT",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
    # memory allocators
    "DYLD_INSERT_LIBRARIES",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_CONF",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_PERTURB_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
)
_LIBRARIES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES")


def environment_facts(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Of each of ``VARIABLES``, a fact with its value, None where it is unset or empty.

    Preloaded libraries are named without their folders, which differ between machines.
    """
    facts: dict[str, str | None] = {}
    for name in VARIABLES:
        value = environment.get(name, "").strip()
        if name in _LIBRARIES:
            value = " ".join(PurePath(path).name for path in value.replace(":", " ").split())
        facts[f"{PREFIX}{name}"] = value or None
    return facts


def is_variable(fact: str) -> bool:
    """Whether a fact of a fingerprint is a variable of the environment."""
    return fact.startswith(PREFIX)


def set_variables(fingerprint: Mapping[str, object]) -> dict[str, object]:
    """The variables that were set according to a fingerprint, with their values."""
    return {
        name[len(PREFIX) :]: value
        for name, value in fingerprint.items()
        if is_variable(name) and value is not None
    }
