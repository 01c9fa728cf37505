# SPDX-License-Identifier: Apache-2.0
"""Tables: codes of frequencies, reading, writing, fitting, and what each fault is called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighmaster.errors import MalformedArtefact
from weighmaster.pack.tables import CLASSES, MAX_LEVEL, Table, fit_table, frequency_of, read_tables, table_bytes

histograms = st.lists(st.integers(0, 10_000), min_size=1, max_size=511).filter(any)


def read_one(data: bytes, *, levels: bool = True, bits: int = 12) -> Table | None:
    tables, at = read_tables(data + bytes(CLASSES - 1), levels=levels, table_bits=bits, file="f")
    assert at == len(data) + CLASSES - 1
    return tables[0]


def same(a: Table | None, b: Table | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.lowest == b.lowest and a.frequencies.tolist() == b.frequencies.tolist()


def test_codes_are_floats_of_five_bits() -> None:
    codes = np.array([0, *range(16, 256)], np.uint8)
    expected = [0] + [int((1 + (code % 16) / 16) * 2 ** (code // 16 - 1)) for code in range(16, 256)]
    assert frequency_of(codes).tolist() == expected
    assert expected[-1] == 31 << 10
    assert sorted(expected) == expected


@pytest.mark.parametrize("symmetric", [False, True])
@settings(max_examples=40, deadline=None)
@given(histogram=histograms, bits=st.integers(11, 14))
def test_every_symbol_that_occurs_has_a_frequency(symmetric: bool, histogram: list[int], bits: int) -> None:
    counts = np.array(histogram, np.int64)
    lowest = -(len(histogram) // 2) if symmetric else 0
    if symmetric:
        counts[-lowest] += 1
    table = fit_table(counts, lowest, bits, symmetric=symmetric)
    assert table is not None
    assert int(table.frequencies.sum()) == 1 << bits
    assert (table.frequencies >= 0).all()
    for i in np.flatnonzero(counts):
        assert table.frequencies[lowest + i - table.lowest] >= 1
    if symmetric:
        assert table.lowest == -table.highest
        assert table.frequencies.tolist() == table.frequencies[::-1].tolist()


@pytest.mark.parametrize("symmetric", [False, True])
@settings(max_examples=40, deadline=None)
@given(histogram=histograms, bits=st.integers(11, 14))
def test_a_fitted_table_is_read_as_it_was_written(symmetric: bool, histogram: list[int], bits: int) -> None:
    counts = np.array(histogram, np.int64)
    lowest = -(len(histogram) // 2)
    counts[-lowest] += 1
    table = fit_table(counts, lowest, bits, symmetric=symmetric)
    assert same(read_one(table_bytes(table), bits=bits), table)


@settings(max_examples=40, deadline=None)
@given(histogram=st.lists(st.integers(0, 99), min_size=1, max_size=256).filter(any), bits=st.integers(11, 14))
def test_tables_of_bytes_are_read_as_they_were_written(histogram: list[int], bits: int) -> None:
    table = fit_table(np.array(histogram, np.int64), 0, bits, symmetric=False)
    assert same(read_one(table_bytes(table), levels=False, bits=bits), table)


@pytest.mark.parametrize("bits", [11, 12, 13, 14])
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0, 9.0])
@pytest.mark.parametrize("law", ["normal", "laplace"])
def test_a_fitted_table_costs_little_more_than_the_entropy(law: str, scale: float, bits: int) -> None:
    """Within 1 %, the table itself counted, of 4 Mi symbols; of the wide ones the 11 bits cost up to 2 %."""
    random = np.random.default_rng(5)
    levels = np.clip(np.rint(getattr(random, law)(0, scale, 1 << 20)), -MAX_LEVEL, MAX_LEVEL).astype(int)
    counts = 4 * np.bincount(levels + MAX_LEVEL, minlength=511)
    table = fit_table(counts, -MAX_LEVEL, bits, symmetric=True)
    assert table is not None
    there = counts[counts > 0] / counts.sum()
    entropy = float(-(there * np.log2(there)).sum()) * counts.sum()
    own = table.frequencies[np.flatnonzero(counts) - MAX_LEVEL - table.lowest] / (1 << bits)
    cost = float(-(counts[counts > 0] * np.log2(own)).sum()) + 8 * len(table_bytes(table))
    assert cost >= entropy
    assert cost <= (1.01 if bits > 11 or scale < 9 else 1.02) * entropy


def test_a_class_that_does_not_occur_has_no_table() -> None:
    assert fit_table(np.zeros(5, np.int64), 0, 12, symmetric=False) is None
    assert table_bytes(None) == b"\0"
    assert read_one(b"\0") is None


def test_one_symbol_takes_everything() -> None:
    table = fit_table(np.array([0, 0, 7]), 10, 12, symmetric=False)
    assert table is not None
    assert (table.lowest, table.highest, table.frequencies.tolist()) == (12, 12, [4096])
    assert same(read_one(table_bytes(table)), table)


def test_a_table_of_the_byte_0_alone_is_no_symmetric_one() -> None:
    """Of bytes there are no negative ones: a reader of codec 2 refuses that kind."""
    table = fit_table(np.array([20] + [0] * 255), 0, 12, symmetric=False)
    assert same(read_one(table_bytes(table), levels=False), table)


def test_a_symmetric_table_costs_half() -> None:
    counts = np.array([1, 5, 40, 90, 200, 91, 41, 6, 2])
    one, two = (fit_table(counts, -4, 12, symmetric=symmetric) for symmetric in (True, False))
    assert len(table_bytes(one)) == 3 + 5
    assert len(table_bytes(two)) == 7 + 9


def test_a_frequency_without_a_code_is_not_written() -> None:
    with pytest.raises(ValueError, match="frequency 33 has no code"):
        table_bytes(Table(lowest=0, frequencies=np.array([4096 - 33 - 35, 33, 35])))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.integers(11, 14))
def test_any_bytes_are_refused_or_are_tables_that_sum(data: bytes, levels: bool, bits: int) -> None:
    found = outcome(data, levels=levels, bits=bits)
    if isinstance(found, MalformedArtefact):
        assert (found.file, found.field[:20]) == ("f", "side section: table ")
        return
    tables, at = found
    assert at <= len(data)
    least, most = (-MAX_LEVEL, MAX_LEVEL) if levels else (0, 255)
    for table in tables:
        if table is not None:
            assert int(table.frequencies.sum()) == 1 << bits
            assert least <= table.lowest <= table.highest <= most


def outcome(data: bytes, *, levels: bool, bits: int) -> tuple[tuple[Table | None, ...], int] | MalformedArtefact:
    try:
        return read_tables(data, levels=levels, table_bits=bits, file="f")
    except MalformedArtefact as error:
        return error


@pytest.mark.parametrize("cut", range(24))
def test_a_table_that_is_cut_is_refused(cut: int) -> None:
    table = fit_table(np.array([3, 1, 4, 1, 5, 9, 2, 6]), -2, 12, symmetric=False)
    data = table_bytes(table) + table_bytes(None) * 7 + b"xx"
    assert len(data) == 7 + 8 + 7 + 2
    if cut < 22:
        with pytest.raises(MalformedArtefact, match="to its end"):
            read_tables(data[:cut], levels=True, table_bits=12, file="f")
    else:
        assert read_tables(data[:cut], levels=True, table_bits=12, file="f")[1] == 22
