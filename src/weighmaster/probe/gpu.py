# SPDX-License-Identifier: Apache-2.0
"""Facts about NVIDIA GPUs and their driver, through NVML. Not run on hardware yet: see spec/environment.md."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from typing import Any, Final

from weighmaster.core.environment import Fact, Scope

__all__ = ["gpu_facts"]

_LIBRARY: Final = "libnvidia-ml.so.1"

_SYSTEM: Final[tuple[tuple[str, str, Scope], ...]] = (
    ("gpu.driver", "nvmlSystemGetDriverVersion", "class"),
    ("gpu.cuda_driver", "nvmlSystemGetCudaDriverVersion_v2", "class"),
    ("gpu.confidential_computing", "nvmlSystemGetConfComputeState", "class"),
)
_DEVICE: Final[tuple[tuple[str, str, Scope], ...]] = (
    ("gpu.names", "nvmlDeviceGetName", "class"),
    ("gpu.compute_capabilities", "nvmlDeviceGetCudaComputeCapability", "class"),
    ("gpu.cores", "nvmlDeviceGetNumGpuCores", "class"),
    ("gpu.ecc_modes", "nvmlDeviceGetEccMode", "class"),
    ("gpu.mig_modes", "nvmlDeviceGetMigMode", "class"),
    ("gpu.board_parts", "nvmlDeviceGetBoardPartNumber", "instance"),
    ("gpu.gsp_firmware", "nvmlDeviceGetGspFirmwareVersion", "instance"),
    ("gpu.gsp_modes", "nvmlDeviceGetGspFirmwareMode", "instance"),
    ("gpu.inforom", "nvmlDeviceGetInforomImageVersion", "instance"),
    ("gpu.memory", "nvmlDeviceGetMemoryInfo", "instance"),
    ("gpu.power_limits", "nvmlDeviceGetEnforcedPowerLimit", "instance"),
    ("gpu.serials", "nvmlDeviceGetSerial", "instance"),
    ("gpu.uuids", "nvmlDeviceGetUUID", "instance"),
    ("gpu.vbios", "nvmlDeviceGetVbiosVersion", "instance"),
)
"""Facts over all GPUs that NVML shows: the different values, sorted, so that their number and order do not matter."""

_FIELDS: Final = {
    "nvmlSystemGetConfComputeState": ("environment", "ccFeature", "devToolsMode"),
    "nvmlDeviceGetMemoryInfo": ("total",),
}
"""Getters that answer with a structure, and what is read from it."""


def gpu_facts(nvml: Any = None) -> tuple[Fact, ...]:
    """Return the facts of the group ``gpu``.

    Without a driver all are absent; with a driver but without the ``pynvml`` module (``nvidia-ml-py``) all are
    unreadable: there is a GPU that nobody looked at.

    Args:
        nvml: the module; by default ``pynvml`` where it can be imported.
    """
    module = _module() if nvml is None else nvml
    if module is None:
        return _all(Fact.unreadable if _driver_is_there() else Fact.absent)
    try:
        module.nvmlInit()
    except module.NVMLError as error:
        none = {"NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded"}
        return _all(Fact.absent if type(error).__name__ in none else Fact.unreadable)
    try:
        return _read(module)
    finally:
        module.nvmlShutdown()


def _module() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _driver_is_there() -> bool:
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _all(make: Callable[..., Fact]) -> tuple[Fact, ...]:
    facts = tuple(make(name, scope=scope) for name, _, scope in (*_SYSTEM, *_DEVICE))
    return (*facts, make("gpu.count", scope="instance"))


def _read(nvml: Any) -> tuple[Fact, ...]:
    facts = [_fact(nvml, name, scope, [()], getter) for name, getter, scope in _SYSTEM]
    try:
        handles = [(nvml.nvmlDeviceGetHandleByIndex(i),) for i in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return (*facts, *(Fact.unreadable(name, scope=scope) for name, _, scope in _DEVICE))
    facts += [_fact(nvml, name, scope, handles, getter) for name, getter, scope in _DEVICE]
    return (*facts, Fact.of("gpu.count", str(len(handles)), scope="instance"))


def _fact(nvml: Any, name: str, scope: Scope, arguments: list[tuple[Any, ...]], getter: str) -> Fact:
    """Return the different answers of one getter over all devices; what a device does not support is ``none``.

    A function that this module or this driver does not have is absent: there is no such thing to ask.
    """
    call, answers = getattr(nvml, getter, None), set()
    if call is None or not arguments:
        return Fact.absent(name, scope=scope)
    for argument in arguments:
        try:
            answers.add(_text(call(*argument), _FIELDS.get(getter, ())))
        except nvml.NVMLError as error:
            if type(error).__name__ == "NVMLError_FunctionNotFound":
                return Fact.absent(name, scope=scope)
            if type(error).__name__ != "NVMLError_NotSupported":
                return Fact.unreadable(name, scope=scope)
            answers.add("none")
    return Fact.of(name, "; ".join(sorted(answers)), scope=scope)


def _text(answer: object, fields: tuple[str, ...]) -> str:
    if fields:
        return " ".join(f"{field}={getattr(answer, field)}" for field in fields)
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    return ".".join(str(part) for part in answer) if isinstance(answer, (tuple, list)) else str(answer)
