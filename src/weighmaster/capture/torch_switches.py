# SPDX-License-Identifier: Apache-2.0
"""Facts about torch: its build, its threads, and every switch that changes how it computes.

Reading changes no switch and makes no CUDA context. Autocast, flush-to-zero and inference mode belong to the thread:
call in the thread that serves. A getter that this torch does not have gives ``absent``, one that raises ``unreadable``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch

from weighmaster.core.environment import Fact

__all__ = ["torch_facts"]

_ATTRIBUTES: Final = {
    "torch.build.cuda": "version.cuda",
    "torch.build.debug": "version.debug",
    "torch.build.git": "version.git_version",
    "torch.build.hip": "version.hip",
    "torch.build.version": "version.__version__",
    "torch.cudnn.benchmark": "backends.cudnn.benchmark",
    "torch.cudnn.deterministic": "backends.cudnn.deterministic",
    "torch.cudnn.enabled": "backends.cudnn.enabled",
    "torch.deterministic.fill_uninitialized": "utils.deterministic.fill_uninitialized_memory",
    "torch.mkldnn.deterministic": "backends.mkldnn.deterministic",
    "torch.mkldnn.enabled": "backends.mkldnn.enabled",
    "torch.opt_einsum.enabled": "backends.opt_einsum.enabled",
    "torch.precision.all": "backends.fp32_precision",
    "torch.precision.cuda_matmul": "backends.cuda.matmul.fp32_precision",
    "torch.precision.cudnn": "backends.cudnn.fp32_precision",
    "torch.precision.cudnn_conv": "backends.cudnn.conv.fp32_precision",
    "torch.precision.cudnn_rnn": "backends.cudnn.rnn.fp32_precision",
    "torch.precision.mkldnn": "backends.mkldnn.fp32_precision",
    "torch.precision.mkldnn_conv": "backends.mkldnn.conv.fp32_precision",
    "torch.precision.mkldnn_matmul": "backends.mkldnn.matmul.fp32_precision",
    "torch.precision.mkldnn_rnn": "backends.mkldnn.rnn.fp32_precision",
    "torch.quantized.engine": "backends.quantized.engine",
    "torch.reduced.bf16": "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "torch.reduced.bf16_split_k": "backends.cuda.matmul.allow_bf16_reduced_precision_reduction_split_k",
    "torch.reduced.fp16": "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "torch.reduced.fp16_accumulation": "backends.cuda.matmul.allow_fp16_accumulation",
    "torch.reduced.fp16_split_k": "backends.cuda.matmul.allow_fp16_reduced_precision_reduction_split_k",
}
"""Fact to the attribute below ``torch`` that is its value."""

_CALLS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "torch.autocast.cpu": ("is_autocast_enabled", ("cpu",)),
    "torch.autocast.cpu_dtype": ("get_autocast_dtype", ("cpu",)),
    "torch.autocast.cuda": ("is_autocast_enabled", ("cuda",)),
    "torch.autocast.cuda_dtype": ("get_autocast_dtype", ("cuda",)),
    "torch.cpu.capability": ("backends.cpu.get_cpu_capability", ()),
    "torch.default.device": ("get_default_device", ()),
    "torch.default.dtype": ("get_default_dtype", ()),
    "torch.deterministic.enabled": ("are_deterministic_algorithms_enabled", ()),
    "torch.deterministic.warn_only": ("is_deterministic_algorithms_warn_only_enabled", ()),
    "torch.mha.fastpath": ("backends.mha.get_fastpath_enabled", ()),
    "torch.preferred.blas": ("backends.cuda.preferred_blas_library", ()),
    "torch.preferred.linalg": ("backends.cuda.preferred_linalg_library", ()),
    "torch.sdp.cudnn": ("backends.cuda.cudnn_sdp_enabled", ()),
    "torch.sdp.flash": ("backends.cuda.flash_sdp_enabled", ()),
    "torch.sdp.math": ("backends.cuda.math_sdp_enabled", ()),
    "torch.sdp.math_reduced": ("backends.cuda.fp16_bf16_reduction_math_sdp_allowed", ()),
    "torch.sdp.mem_efficient": ("backends.cuda.mem_efficient_sdp_enabled", ()),
    "torch.sdp.priority": ("_C._get_sdp_priority_order", ()),
    "torch.threads.interop": ("get_num_interop_threads", ()),
    "torch.threads.intraop": ("get_num_threads", ()),
}
"""Fact to the getter below ``torch`` and its arguments."""

_LEGACY: Final = {
    "torch.legacy.cudnn_tf32": "backends.cudnn.allow_tf32",
    "torch.legacy.matmul_tf32": "backends.cuda.matmul.allow_tf32",
}
"""Read only where the switches of ``torch.precision`` do not exist: torch refuses these getters once both are used."""

_CONFIG: Final = {
    "torch.build.mkl": r"(Intel\(R\).*Math Kernel Library.*|Intel\(R\) MKL .*)",
    "torch.build.onednn": r"Intel\(R\) MKL-DNN (.*)",
    "torch.build.openmp": r"OpenMP (\d.*)",
    "torch.threads.backend": r"ATen parallel backend: (.*)",
    "torch.threads.mkl": r"mkl_get_max_threads\(\) : (\d+)",
    "torch.threads.openmp": r"omp_get_max_threads\(\) : (\d+)",
}
"""Fact to the line of ``torch.__config__.parallel_info()`` that says it: versions as linked, threads as in effect."""

_DEVICES: Final = {
    "torch.cuda.capabilities": ("cuda.get_device_capability", True),
    "torch.cuda.cudnn": ("backends.cudnn.version", False),
    "torch.cuda.names": ("cuda.get_device_name", True),
    "torch.cuda.nccl": ("cuda.nccl.version", False),
}
"""Fact to the getter below ``torch``, and whether it is asked once per visible device."""


def torch_facts() -> tuple[Fact, ...]:
    """Return all facts of the group ``torch``; all are class facts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a getter that is on its way out still answers
        return (
            *(_read(name, _get, path) for name, path in _ATTRIBUTES.items()),
            *(_read(name, _call, *call) for name, call in _CALLS.items()),
            *_older(),
            *_linked(),
            _read("torch.flush_denormal", _flushes),
            *_cuda(),
        )


def _get(path: str) -> object:
    value: Any = torch
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _call(path: str, arguments: tuple[str, ...]) -> object:
    getter: Any = _get(path)
    return getter(*arguments)


def _read(name: str, read: Callable[..., object], *arguments: object) -> Fact:
    """Return what `read` gives as a fact; None and a missing attribute are ``absent``, other errors ``unreadable``."""
    try:
        value = read(*arguments)
    except AttributeError:
        return Fact.absent(name)
    except Exception:  # noqa: BLE001  # whatever a getter of a foreign library raises, the fact was not read
        return Fact.unreadable(name)
    return Fact.absent(name) if value is None else Fact.of(name, str(value))


def _older() -> tuple[Fact, ...]:
    """Return the switches that newer ones replace.

    torch raises when they are read after both kinds were set; the newer ones then say all, so this is no unread fact.
    """
    newer = _read("torch.precision.cuda_matmul", _get, "backends.cuda.matmul.fp32_precision").status == "value"
    name = "torch.precision.float32_matmul"
    matmul = _read(name, _call, "get_float32_matmul_precision", ())
    if newer:
        matmul = Fact.of(name, "superseded") if matmul.status == "unreadable" else matmul
        return (matmul, *(Fact.absent(legacy) for legacy in _LEGACY))
    return (matmul, *(_read(legacy, _get, path) for legacy, path in _LEGACY.items()))


def _linked() -> tuple[Fact, ...]:
    try:
        torch.get_num_threads()  # sets up the thread pool's size, which the text reports
        text = torch.__config__.parallel_info()
    except Exception:  # noqa: BLE001  # as in _read
        return tuple(Fact.unreadable(name) for name in _CONFIG)
    found = {name: re.search(rf"^\s*{pattern}\s*$", text, re.MULTILINE) for name, pattern in _CONFIG.items()}
    return tuple(Fact.of(name, m[1].strip()) if m else Fact.absent(name) for name, m in found.items())


def _flushes() -> bool:
    """Tell whether this thread takes subnormal results for zero; there is no getter, so it is measured."""
    return bool((torch.full((1,), 2.0**-100, dtype=torch.float32) * torch.full((1,), 2.0**-40)).item() == 0.0)


def _cuda() -> tuple[Fact, ...]:
    """Return facts of the visible CUDA devices: different values, sorted; absent where CUDA is not available.

    Where it is available and this process has not used it, that is the fact: asking further would make a context.
    """
    if not torch.cuda.is_available():
        return tuple(Fact.absent(name) for name in _DEVICES)
    if not _call("cuda.is_initialized", ()):
        return tuple(Fact.of(name, "not in use") for name in _DEVICES)
    return tuple(_read(name, _device, getter, each) for name, (getter, each) in _DEVICES.items())


def _device(getter: str, each: bool) -> object:  # noqa: FBT001  # a column of _DEVICES
    if not each:
        return _call(getter, ())
    read: Any = _get(getter)
    return "; ".join(sorted({str(read(index)) for index in range(torch.cuda.device_count())}))
