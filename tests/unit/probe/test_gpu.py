# SPDX-License-Identifier: Apache-2.0
"""GPU facts from a stand-in for NVML; nothing here has met a driver."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from weighmaster.core.environment import Fact
from weighmaster.probe import gpu
from weighmaster.probe.gpu import gpu_facts


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801  # the names of pynvml
    pass


class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801
    pass


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801
    pass


def refuse(error):
    def call(*_):
        raise error

    return call


def nvml(**changes):
    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: b"550.1",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12040,
        "nvmlSystemGetConfComputeState": lambda: SimpleNamespace(environment=1, ccFeature=2, devToolsMode=0),
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _: "NVIDIA H200",
        "nvmlDeviceGetCudaComputeCapability": lambda _: (9, 0),
        "nvmlDeviceGetNumGpuCores": lambda _: 16896,
        "nvmlDeviceGetEccMode": lambda _: [1, 1],
        "nvmlDeviceGetMigMode": refuse(NVMLError_NotSupported()),
        "nvmlDeviceGetBoardPartNumber": lambda _: "692-2G520-0200-000",
        "nvmlDeviceGetGspFirmwareMode": lambda _: [1, 1],
        "nvmlDeviceGetInforomImageVersion": lambda _: "G520.0200.00.05",
        "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(total=150754820096, free=index, used=index),
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700000,
        "nvmlDeviceGetVbiosVersion": lambda index: f"96.0{index}",
        "nvmlDeviceGetUUID": lambda index: f"GPU-{1 - index}",
        "nvmlDeviceGetSerial": lambda index: f"{index}",
    }
    return SimpleNamespace(**{**functions, **changes})


def facts(module):
    return {fact.name: fact for fact in gpu_facts(module)}


def test_values_over_all_devices():
    assert {name: fact.value for name, fact in facts(nvml()).items()} == {
        "gpu.driver": "550.1",
        "gpu.cuda_driver": "12040",
        "gpu.confidential_computing": "environment=1 ccFeature=2 devToolsMode=0",
        "gpu.names": "NVIDIA H200",
        "gpu.compute_capabilities": "9.0",
        "gpu.cores": "16896",
        "gpu.ecc_modes": "1.1",
        "gpu.mig_modes": "none",
        "gpu.vbios": "96.00; 96.01",
        "gpu.board_parts": "692-2G520-0200-000",
        "gpu.gsp_firmware": None,
        "gpu.gsp_modes": "1.1",
        "gpu.inforom": "G520.0200.00.05",
        "gpu.memory": "total=150754820096",
        "gpu.power_limits": "700000",
        "gpu.uuids": "GPU-0; GPU-1",
        "gpu.serials": "0; 1",
        "gpu.count": "2",
    }


def test_number_and_identity_of_devices_are_not_class_facts():
    two, one = facts(nvml()), facts(nvml(nvmlDeviceGetCount=lambda: 1))
    assert {n: f for n, f in two.items() if f.scope == "class"} == {n: f for n, f in one.items() if f.scope == "class"}
    assert two["gpu.uuids"] != one["gpu.uuids"]


def test_getter_that_fails_is_unreadable():
    found = facts(nvml(nvmlDeviceGetName=refuse(NVMLError("lost"))))
    assert found["gpu.names"] == Fact.unreadable("gpu.names")
    found = facts(nvml(nvmlDeviceGetCount=refuse(NVMLError("lost"))))
    assert found["gpu.names"] == Fact.unreadable("gpu.names")


def test_function_that_an_older_driver_lacks_is_absent():
    found = facts(nvml(nvmlSystemGetConfComputeState=refuse(NVMLError_FunctionNotFound())))
    assert found["gpu.confidential_computing"] == Fact.absent("gpu.confidential_computing")


def test_confidential_computing_with_tools_for_developers_is_another_class():
    state = SimpleNamespace(environment=1, ccFeature=2, devToolsMode=1)
    found = facts(nvml(nvmlSystemGetConfComputeState=lambda: state))["gpu.confidential_computing"]
    assert (found.scope, found.value) == ("class", "environment=1 ccFeature=2 devToolsMode=1")


@pytest.mark.parametrize(("error", "status"), [(NVMLError_DriverNotLoaded(), "absent"), (NVMLError("?"), "unreadable")])
def test_without_a_driver(error, status):
    assert {fact.status for fact in gpu_facts(nvml(nvmlInit=refuse(error)))} == {status}


@pytest.mark.parametrize(("there", "status"), [(True, "unreadable"), (False, "absent")])
def test_without_the_python_module(monkeypatch, there, status):
    monkeypatch.setattr(gpu, "_module", lambda: None)
    monkeypatch.setattr(gpu, "_driver_is_there", lambda: there)
    found = gpu_facts()
    assert {fact.status for fact in found} == {status}
    assert sorted(fact.name for fact in found) == sorted(facts(nvml()))
