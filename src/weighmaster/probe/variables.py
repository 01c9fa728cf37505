# SPDX-License-Identifier: Apache-2.0
"""Environment variables that numeric libraries read: a closed list of names, and every name with a known beginning."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from weighmaster.core.environment import MAX_VALUE, Fact, Scope

__all__ = ["EXEMPT", "NAMED", "NUMERIC_PREFIXES", "for_child", "scope_of", "unlike", "variable_facts"]

NAMED: Final = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "GLIBC_TUNABLES",
    "LD_AUDIT",
    "LD_PRELOAD",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)
"""Class facts that are recorded even where the variable is not set."""

NUMERIC_PREFIXES: Final = (
    "ACCELERATE_",
    "ATEN_",
    "BITSANDBYTES_",
    "BLIS_",
    "BNB_",
    "CUBLAS",
    "CUDA_",
    "CUDNN",
    "DNNL_",
    "FLASHINFER_",
    "FLASH_ATTENTION_",
    "GOMP_",
    "GOTO_",
    "HIP_",
    "KMP_",
    "MIOPEN_",
    "MKL_",
    "NCCL_",
    "NPY_",
    "NVPL_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "RCCL_",
    "ROCBLAS_",
    "SGLANG_",
    "SGL_",
    "TORCHAO_",
    "TORCHDYNAMO_",
    "TORCHINDUCTOR_",
    "TORCH_",
    "TRITON_",
    "VLLM_",
    "XFORMERS_",
)
"""A variable that begins so is a class fact, known or not: the next release of a library may read it."""

EXEMPT: Final = frozenset(
    (
        "CUDA_CACHE_PATH",
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_VERSION",
        "CUDA_VISIBLE_DEVICES",
        "FLASHINFER_WORKSPACE_BASE",
        "HIP_VISIBLE_DEVICES",
        "KMP_DUPLICATE_LIB_OK",
        "KMP_INIT_AT_FORK",
        "NCCL_DEBUG",
        "NCCL_DEBUG_FILE",
        "NCCL_SOCKET_IFNAME",
        "TORCHINDUCTOR_CACHE_DIR",
        "TORCH_CUDA_ARCH_LIST",
        "TORCH_EXTENSIONS_DIR",
        "TORCH_HOME",
        "TORCH_LOGS",
        "TRITON_CACHE_DIR",
        "TRITON_HOME",
        "VLLM_API_KEY",
        "VLLM_CACHE_ROOT",
        "VLLM_CONFIG_ROOT",
        "VLLM_HOST_IP",
        "VLLM_LOGGING_LEVEL",
        "VLLM_NO_USAGE_STATS",
        "VLLM_PORT",
    )
)
"""Exceptions to the beginnings: places, ports, logs, devices by index, secrets. No kernel computes by them.

The two of KMP_ are set by importing scikit-learn. A second OpenMP runtime, which one permits, is a library fact.
"""

_SERVICE_LINK: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)")
"""Variables that Kubernetes derives from the names of services; a service named ``vllm`` is enough."""

_INSTANCE_PREFIXES: Final = ("HF_", "MALLOC_", "TRANSFORMERS_")
_INSTANCE_NAMES: Final = frozenset({"LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED"})

_SECRET: Final = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"//[^/\s]*@")  # user:password in a URL
_COUNT: Final = re.compile(r"-?[0-9]{1,9}|true|false", re.IGNORECASE)
_START: Final = Path("/proc/self/environ")


def scope_of(name: str) -> Scope | None:
    """Return the scope of a variable by its name, or None where it is not recorded."""
    if name in NAMED:
        return "class"
    if name in EXEMPT or name in _INSTANCE_NAMES or name.startswith(_INSTANCE_PREFIXES):
        return "instance"
    if not name.startswith(NUMERIC_PREFIXES):
        return None
    return "instance" if _SERVICE_LINK.fullmatch(name) else "class"


def variable_facts(now: Mapping[str, str] | None = None, start: Mapping[str, str] | None = None) -> tuple[Fact, ...]:
    """Return ``env.NAME``, and ``env.start.NAME`` where the process was started with something else.

    Args:
        now: variables as they are; by default `os.environ`.
        start: variables as the process was started; by default those of /proc/self/environ.
    """
    current = dict(os.environ if now is None else now)
    initial = read_start() if start is None else dict(start)
    facts = []
    for name in sorted({*current, *(initial or ()), *NAMED}):
        scope = scope_of(name)
        if scope is not None:
            facts.append(_fact(f"env.{_spelled(name)}", name, current, scope))
            if initial is not None and initial.get(name) != current.get(name):
                facts.append(_fact(f"env.start.{_spelled(name)}", name, initial, scope))
    if initial is None:
        facts.append(Fact.unreadable("env.start", scope="instance"))
    return tuple(facts)


def read_start() -> dict[str, str] | None:
    """Return the variables that the process was started with.

    None where they cannot be read, or where the area was overwritten (programs that set their own title do that).
    """
    try:
        data = _START.read_bytes()
    except OSError:
        return None
    entries = [os.fsdecode(entry).partition("=") for entry in data.split(b"\0") if entry]
    if not all(name and equals for name, equals, _ in entries):
        return None
    return {name: value for name, _, value in reversed(entries)}  # getenv(3) gives the first of two


def _fact(fact: str, name: str, variables: Mapping[str, str], scope: Scope) -> Fact:
    value = variables.get(name)
    return Fact.absent(fact, scope=scope) if value is None else Fact.of(fact, _shown(name, value), scope=scope)


def _spelled(name: str) -> str:
    return quote(os.fsencode(name), safe="()[]{}:,;+*/!$&'")


def _shown(name: str, value: str) -> str:
    """Return a value as it is recorded: never a secret, always text, never longer than a fact may be."""
    secret = _SECRET.search(name) and not ("TOKENS" in name.upper() and _COUNT.fullmatch(value))
    if secret or _SECRET_VALUE.search(value):
        return "set"
    raw = os.fsencode(value)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return value if len(raw) <= MAX_VALUE else f"sha256:{hashlib.sha256(raw).hexdigest()}"


def for_child(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child process: that of this one, with `variables` set."""
    return {**os.environ, **variables}


def unlike(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of those of `variables` that have another value in this process, or none."""
    return tuple(sorted(name for name, value in variables.items() if os.environ.get(name) != value))
