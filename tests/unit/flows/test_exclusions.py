# SPDX-License-Identifier: Apache-2.0
"""State may be left out, weights only up to the cap, and a weight never as state."""

from __future__ import annotations

import pytest

from weighmaster.core.statement import EXCLUSION_REASONS, Exclusion
from weighmaster.core.tensor import TensorView
from weighmaster.flows.exclusions import STATE_REASONS, exclusion_faults, role_faults


def exclusion(name: str, nbytes: int, reason: str) -> Exclusion:
    return Exclusion(name=name, dtype="uint8", shape=(nbytes,), nbytes=nbytes, reason=reason)


def view(role: str) -> TensorView:
    return TensorView(
        name="t",
        dtype="uint8",
        shape=(1,),
        stride=(1,),
        nbytes=1,
        layout="strided",
        role=role,
        extent=None,
        read=lambda _a, _b: memoryview(b"x"),
    )


OTHER = sorted(set(EXCLUSION_REASONS) - STATE_REASONS)


@pytest.mark.requirement("REQ-CAP-06")
def test_reasons_of_state_are_part_of_the_closed_list() -> None:
    assert set(EXCLUSION_REASONS) > STATE_REASONS
    assert OTHER == ["opaque-handle"]


@pytest.mark.parametrize("reason", OTHER)
def test_the_cap_counts_bytes_of_weights_together(reason: str) -> None:
    two = [exclusion("a", 60, reason), exclusion("b", 41, reason)]
    assert exclusion_faults(two, cap=101) == ()
    (fault,) = exclusion_faults(two, cap=100)
    assert (fault.subject, fault.expected, fault.found) == ("exclusions", "at most 100 bytes", "101 bytes")
    assert "(a, b)" in fault.detail
    assert (fault.step, fault.exit_code) == (10, 18)


@pytest.mark.parametrize("reason", sorted(STATE_REASONS))
def test_state_is_not_counted(reason: str) -> None:
    assert exclusion_faults([exclusion("a", 10**9, reason)], cap=0) == ()


@pytest.mark.requirement("REQ-CAP-06")
@pytest.mark.parametrize("reason", sorted(STATE_REASONS))
@pytest.mark.parametrize("role", ["parameter", "constant", "inner"])
def test_weights_are_no_state(role: str, reason: str) -> None:
    (fault,) = role_faults([view(role)], {"t": reason})
    assert (fault.subject, fault.expected, fault.found) == ("t", "a buffer or plain state", role)
    assert f"a tensor of role {role} cannot be excluded as {reason}" in fault.detail


@pytest.mark.parametrize("role", ["buffer", "non-persistent-buffer", "attribute", "extra"])
def test_buffers_and_plain_state_may_be(role: str) -> None:
    assert role_faults([view(role)], {"t": "kv-cache"}) == ()


def test_a_weight_under_another_reason_is_left_to_the_cap() -> None:
    assert role_faults([view("parameter")], {"t": OTHER[0]}) == ()
