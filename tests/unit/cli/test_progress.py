# SPDX-License-Identifier: Apache-2.0
"""The progress bar: on terminals only, never on standard output."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from weighmaster.cli.progress import ProgressBar, StageBar, amount, duration
from weighmaster.flows.packing import Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bytes_done_of_total_and_rate():
    clock = iter([0.0, 0.0, 2.0])
    stream = Terminal()
    with ProgressBar(4_000_000_000, stream, lambda: next(clock)) as bar:
        bar(1_000_000_000)
    assert stream.getvalue() == "\r\x1b[K1.00 GB / 4.00 GB  25 %  500.00 MB/s  6 s left\r\x1b[K"


def test_without_a_total_and_at_most_ten_times_a_second():
    clock = iter([0.0, 0.0, 0.05, 0.5])
    stream = Terminal()
    with ProgressBar(None, stream, lambda: next(clock)) as bar:
        bar(500)
        bar(500)
    assert stream.getvalue() == "\r\x1b[K1.00 kB  2.00 kB/s\r\x1b[K"


def test_nothing_where_it_is_no_terminal():
    stream = io.StringIO()
    with ProgressBar(10, stream, iter([0.0, 0.0, 9.0]).__next__) as bar:
        bar(10)
    assert stream.getvalue() == ""


def test_more_than_expected_stays_at_100_percent():
    assert "100 %" in (bar := ProgressBar(10, Terminal())).line(1.0) or bar(20) is None
    assert "100 %" in bar.line(1.0)


def test_threads_are_counted_together():
    bar = ProgressBar(None, io.StringIO())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bar, [3] * 1000))
    assert bar.line(1e9).startswith("3.00 kB")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_234_000_000, "1.23 GB"), (10**19, "10000.00 PB")],
)
def test_amounts(nbytes, text):
    assert amount(nbytes) == text


def test_stages_count_bytes_and_tensors_each_anew():
    times = iter([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 4.0])
    stream = Terminal()
    with StageBar(stream, lambda: next(times)) as bar:
        bar(Step(stage="digest", nbytes=500, total=1000))
        bar(Step(stage="digest", nbytes=500, total=1000))
        bar(Step(stage="pack", nbytes=1000, total=4000, tensors=1, of_tensors=3))
    shown = [line for line in stream.getvalue().split("\r\x1b[K") if line]
    assert shown == [
        "digest  500 B / 1.00 kB  50 %  500 B/s  1 s left",
        "digest  1.00 kB / 1.00 kB  100 %  500 B/s",
        "pack  1 of 3 tensors  1.00 kB / 4.00 kB  25 %  500 B/s  6 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (125, "2 min 05 s"), (3600, "1 h 00 min"), (12_059, "3 h 20 min")],
)
def test_duration(seconds: int, text: str):
    assert duration(seconds) == text
