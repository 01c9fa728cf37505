# SPDX-License-Identifier: Apache-2.0
"""Coverage is counted in bytes of distinct memory, and nothing is counted twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.capture.torch_coverage import Intervals, coverage_of, naive_extents
from weighmaster.capture.torch_storage import tensor_view
from weighmaster.capture.torch_trace import Trace
from weighmaster.core.tensor import Extent


def extent(start: int, size: int, device: str = "cpu") -> Extent:
    return Extent(device=device, address=start, nbytes=size)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(spans, st.tuples(st.integers(0, 60), st.integers(0, 20)))
def test_intervals_are_a_union_of_bytes(parts: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    truth = {b for start, size in parts for b in range(start, start + size)}
    union = Intervals(extent(*p) for p in parts)
    assert union.total() == len(truth)
    assert union.overlap(extent(*asked)) == len(truth & set(range(asked[0], asked[0] + asked[1])))
    assert sum(e.nbytes for e in union.extents()) == len(truth)


def test_devices_are_apart() -> None:
    union = Intervals([extent(0, 10, "cuda:0")])
    assert union.overlap(extent(0, 10, "cpu")) == 0
    assert union.overlap(extent(0, 10, "cuda:0")) == 10


BASE = torch.arange(100, dtype=torch.uint8)


def traced(*operands: torch.Tensor) -> Trace:
    with Trace({}, ()) as trace:
        for operand in operands:
            operand + 1
    return trace


def count(trace: Trace, held: Any = (), excluded: Any = (), gappy: Any = None) -> Any:
    views = tuple(tensor_view(n, "attribute", t) for n, t in held)
    out = tuple(tensor_view(n, "attribute", t) for n, t in excluded)
    return coverage_of(trace, views, out, {v.name: "workspace" for v in out}, gappy or {}, Intervals([]))


def test_a_part_that_is_held_does_not_cover_the_whole() -> None:
    coverage, faults = count(traced(BASE), held=[("half", BASE[:50])])
    assert len(faults) == 1
    assert "(100 bytes) that no walk names" in faults[0].detail
    assert (coverage.consumed_bytes, coverage.consumed_hashed_bytes) == (100, 50)


def test_two_parts_cover_a_whole() -> None:
    coverage, faults = count(traced(BASE), held=[("a", BASE[:50]), ("b", BASE[50:])])
    assert faults == ()
    assert coverage.consumed_hashed_bytes == 100


def test_the_same_half_digested_and_excluded_is_still_one_half() -> None:
    _, faults = count(traced(BASE), held=[("a", BASE[:50])], excluded=[("b", BASE[:50])])
    assert len(faults) == 1


def test_an_exclusion_beside_a_digest_covers_the_rest() -> None:
    coverage, faults = count(traced(BASE), held=[("a", BASE[:50])], excluded=[("b", BASE[50:])])
    assert faults == ()
    assert [(e.name, e.nbytes, e.reason) for e in coverage.excluded] == [("b", 50, "workspace")]
    assert coverage.excluded_bytes == 50


def test_aliases_and_overlaps_are_counted_once() -> None:
    coverage, _ = count(traced(BASE, BASE[:50], BASE[25:75]), held=[("a", BASE), ("b", BASE)])
    assert (coverage.consumed, coverage.consumed_bytes) == (3, 100)
    assert (coverage.hashed, coverage.hashed_bytes) == (1, 100)


def test_what_is_held_and_not_consumed_is_counted_apart() -> None:
    coverage, faults = count(traced(BASE), held=[("a", BASE), ("idle", torch.ones(3)), ("none", torch.empty(0))])
    assert faults == ()
    assert (coverage.unconsumed, coverage.unconsumed_bytes, coverage.empty) == (1, 12, 1)


def test_equal_faults_are_reported_once() -> None:
    hidden = torch.ones(4)
    _, faults = count(traced(hidden, hidden.clone(), hidden.clone()))
    assert len({str(f) for f in faults}) == len(faults)


@pytest.mark.parametrize("named", [True, False])
def test_a_materialized_tensor_covers_exactly_what_operators_saw(named: bool) -> None:
    gap = BASE[::2]
    trace = traced(gap)
    coverage, faults = count(trace, gappy=dict.fromkeys(trace.consumed, "gap") if named else {})
    assert (len(faults) == 0) is named
    assert coverage.consumed_hashed_bytes == (99 if named else 0)


def test_the_naive_view_is_parameters_and_buffers(head: Any) -> None:
    model = head()
    model.attribute = torch.ones(100)
    assert naive_extents(model).total() == (16 + 4) * 4
