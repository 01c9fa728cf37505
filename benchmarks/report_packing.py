# SPDX-License-Identifier: Apache-2.0
"""The part of the page about packing: memory and disk for a large checkpoint, real bits, loading cold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from measure import median

__all__ = ["packing_section", "speedup"]

GIB: Final = 1 << 30
MOST_ANONYMOUS: Final = 3 * GIB
MOST_DISK: Final = 45e9
MOST_BITS: Final = 5.02
LOADS: Final = {
    "plain": "plain safetensors, every byte read once, SHA-256 of each file on the way",
    "pack_exact": "lossless pack, every tensor compared with its digest",
    "pack_5": "pack at 5.0 bits, every tensor compared with its digest",
}
FAST: Final = {
    "disk": "the plain files, read and dropped",
    "plain_fast": "plain safetensors and SHA-256, from the page cache",
    "pack_5_fast": "the pack at 5.0 bits, from the page cache",
}


def speedup(cold: Mapping[str, Any], pack: str) -> float:
    """Return how many times faster a pack is loaded than plain files, both through the bucket, by wall time."""
    return median(cold["runs"]["plain"], "wall") / median(cold["runs"][pack], "wall")


def packing_section(result: Mapping[str, Any], source: str) -> Iterator[str]:
    """Yield the paragraphs of the section."""
    yield "## 9. Packing"
    yield (
        f"`benchmarks/packing.py`, {source}. Weights are synthetic: Gaussian, each tensor with a scale of its own, "
        "bfloat16."
    )
    yield from _memory(result["memory"]) if "memory" in result else ("A checkpoint larger than memory: **NOT RUN**.",)
    if "bits" in result:
        yield _bits(result["bits"])
    yield from _cold(result["cold"]) if "cold" in result else ("Loading through a token bucket: **NOT RUN**.",)


def _verdict(*, met: bool) -> str:
    return "met" if met else "**not met**"


def _load(part: Mapping[str, Any]) -> str:
    return f"Load average {part['load_before'][0]:.0f} before, {part['load_after'][0]:.0f} after."


def _memory(part: Mapping[str, Any]) -> Iterator[str]:
    pack, sink, size = part["pack"], part["sink"], part["source"]["bytes"]
    beside = "more than" if size > part["memory"] else "**not more than**"
    bits = pack["child"]["bits"]
    peak = max(pack["peak_anonymous"], sink["peak_anonymous"])
    yield (
        f"A checkpoint of {size / 1e9:.1f} GB, {beside} the machine's memory ({part['memory'] / 1e9:.1f} GB), packed "
        "at 5.0 bits without data and read back into a sink that compares everything, each in a process of its own, "
        f"looked at twenty times a second (`RssAnon`). {_load(part)}"
    )
    rows = [
        ("peak anonymous memory, packing", f"{pack['peak_anonymous'] / GIB:.2f} GiB", ""),
        ("peak anonymous memory, sink", f"{sink['peak_anonymous'] / GIB:.2f} GiB", ""),
        ("the larger", f"{peak / GIB:.2f} GiB", f"under 3 GiB: {_verdict(met=peak < MOST_ANONYMOUS)}"),
        (
            "disk, source included",
            f"{part['disk_with_source'] / 1e9:.1f} GB",
            f"at most 45 GB: {_verdict(met=part['disk_with_source'] <= MOST_DISK)}",
        ),
        (
            "real bits per weight",
            f"{bits:.4f}",
            f"at most {MOST_BITS}: {_verdict(met=bits <= MOST_BITS)}",
        ),
        ("CPU-seconds, packing (with reading back)", f"{pack['child']['cpu']:.0f}", ""),
        ("CPU-seconds, sink", f"{sink['child']['cpu']:.0f}", ""),
    ]
    yield "\n".join(
        ("| figure | measured | must |", "| --- | --: | --- |", *(f"| {a} | {b} | {c} |" for a, b, c in rows))
    )


def _bits(part: Mapping[str, Any]) -> str:
    bits = part["pack"]["child"]["bits"]
    weights = part["source"]["elements"]
    verdict = _verdict(met=bits <= MOST_BITS)
    return f"{weights / 1e9:.2f} billion weights at 5.0 bits asked: {bits:.4f} real; at most {MOST_BITS}: {verdict}."


def _cold(part: Mapping[str, Any]) -> Iterator[str]:
    runs, size = part["runs"], part["source"]["bytes"]
    yield (
        f"A model of {size / 1e6:.0f} MB, cold, through one token bucket of {part['rate'] / 1e9:.1f} GB/s, "
        f"{len(runs['plain'])} rounds, medians; decoder `{part['decoder']}`. The plain files are read ahead of the "
        f"hash, so that neither waits for the other. Niceness {part['niceness']}. {_load(part)}"
    )
    rows = [(words, runs[name]) for name, words in (*LOADS.items(), *FAST.items())]
    yield "\n".join(
        (
            "| load | wall s | CPU-s |",
            "| --- | --: | --: |",
            *(f"| {words} | {median(held, 'wall'):.2f} | {median(held, 'cpu'):.2f} |" for words, held in rows),
        )
    )
    five, exact = speedup(part, "pack_5"), speedup(part, "pack_exact")
    yield (
        f"The pack at 5.0 bits is loaded {five:.2f} times as fast as the plain files (must: faster, "
        f"{_verdict(met=five > 1)}; goal: 2, {_verdict(met=five >= 2)}), the lossless one {exact:.2f} times."
    )
