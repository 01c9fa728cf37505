# SPDX-License-Identifier: Apache-2.0
"""The switch is closed, opens for a lease, and never opens again once revoked."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from weighmaster.errors import IdentityFault, NotAdmitted
from weighmaster.flows.guard import Guard, boot_clock


def blocked(guard: Guard) -> IdentityFault:
    with pytest.raises(NotAdmitted, match="forward pass blocked") as caught:
        guard.check()
    (fault,) = caught.value.faults
    assert isinstance(fault, IdentityFault)
    assert (fault.subject, fault.expected, caught.value.exit_code) == ("admission", "an admission in force", 14)
    return fault


@pytest.mark.requirement("REQ-ADM-16")
def test_it_begins_closed(fake_clock: Any) -> None:
    guard = Guard(fake_clock)
    assert "has not been admitted" in blocked(guard).detail
    assert guard.remaining == 0.0


def test_it_is_open_for_the_lease_and_not_a_moment_longer(fake_clock: Any) -> None:
    guard = Guard(fake_clock)
    guard.open(10)
    fake_clock.now += 9.999
    guard.check()
    assert guard.remaining == pytest.approx(0.001)
    fake_clock.now += 0.001
    fault = blocked(guard)
    assert (fault.detail, fault.found) == (
        "the lease ran out before a re-verification renewed it",
        "0.0 s after its end",
    )
    assert guard.remaining == 0.0
    guard.open(5)
    guard.check()


@pytest.mark.requirement("REQ-REV-03")
def test_a_revocation_is_for_good_and_keeps_the_first_reason(fake_clock: Any) -> None:
    guard = Guard(fake_clock)
    guard.open(10)
    guard.revoke("first")
    guard.revoke("second")
    guard.open(10)
    assert (blocked(guard).found, guard.revoked, guard.remaining) == ("first", "first", 0.0)


@pytest.mark.requirement("REQ-REV-04")
def test_the_wall_clock_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    guard.open(1000)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    guard.check()
    first = boot_clock()
    assert boot_clock() >= first
    assert first == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)


def test_probe_runs_of_this_thread_pass_and_others_do_not() -> None:
    guard, outcome = Guard(), []

    def elsewhere() -> None:
        try:
            guard.check()
        except NotAdmitted:
            outcome.append("blocked")

    with Guard.probing():
        guard.check()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert outcome == ["blocked"]
    blocked(guard)


def test_a_fault_in_a_probe_run_closes_the_door_behind_it() -> None:
    guard = Guard()
    with pytest.raises(ValueError, match="x"), Guard.probing():
        raise ValueError("x")
    blocked(guard)
