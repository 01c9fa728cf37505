# SPDX-License-Identifier: Apache-2.0
"""The part of the page about the codec of packs: decoding and encoding by every backend, lossless beside others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from measure import median

__all__ = ["codec_section"]

STEPS: Final = ("energies", "levels", "histogram", "entropy code")
SUBJECTS: Final = {"gaussian": "Gaussian weights, 4096 x 4096", "encoder": "all-MiniLM-L6-v2, its matrices in bfloat16"}
BOUNDS: Final = (("c", "portable C", 1.0), ("avx512", "AVX-512", 2.0))


def speed(size: int, runs: Sequence[dict[str, float]], of: str = "median") -> float:
    """Return GB per CPU-second: of the median repeat, or of the quickest."""
    seconds = median(list(runs), "cpu") if of == "median" else min(run["cpu"] for run in runs)
    return size / seconds / 1e9


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is text."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def codec_section(result: dict[str, Any], source: str) -> Iterator[str]:
    """Yield the paragraphs of the section."""
    machine, five = result["machine"], result["five"]
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in ("numpy", "zipnn", "zstandard"))
    yield "## 9. The codec of packs"
    yield (
        f"`benchmarks/codec.py`, {source}, {result['parameters']['repeats']} rounds on {result['date']}; "
        f"{machine['cpu']} (family, model, stepping {machine['cpu_family_model_stepping']}); {versions}; one thread. "
        "GB of the tensor per "
        f"CPU-second, in the median round and, in brackets, the quickest. Load average {result['load_before'][0]:.1f} "
        f"before, {result['load_after'][0]:.1f} after: above the number of cores ({machine['cores']}) the caches are "
        "shared with others, and figures are low. Decoding is from a whole blob to the tensor: header, side section, "
        "tables and CRC-32 included, the digest of the tensor not; `five-v1` into memory that is there already, the "
        "lossless codecs into memory that each of them takes."
    )
    yield from _five(five)
    wide = ", ".join(f"{name} {_both(result['wide']['bytes'], r)}" for name, r in result["wide"]["decode"].items())
    yield f"Levels are within +-127. Where a table reaches beyond, no vector path decodes the words: {wide}."
    yield from _bounds(five)
    yield from _encoding(five)
    for name, words in SUBJECTS.items():
        yield from _lossless(result[name], words)


def _five(five: dict[str, Any]) -> Iterator[str]:
    yield (
        f"`five-v1`, bfloat16, {five['bits']:.3f} bits per weight with everything, {five['classes']} classes, scales "
        "of rows and columns:"
    )
    rows = [(name, _both(five["bytes"], runs)) for name, runs in five["decode"].items()]
    yield table(("decoding", "GB per CPU-s"), rows)


def _both(size: int, runs: Sequence[dict[str, float]]) -> str:
    return f"{speed(size, runs):.3f} ({speed(size, runs, 'least'):.3f})"


def _bounds(five: dict[str, Any]) -> Iterator[str]:
    rows = []
    for name, words, least in (*BOUNDS, ("numpy", "NumPy", 0.04)):
        if name not in five["decode"]:
            rows.append((words, "NOT RUN: not on this CPU", f"at least {least}", ""))
            continue
        found = speed(five["bytes"], five["decode"][name])
        rows.append((words, f"{found:.3f}", f"at least {least}", "met" if found >= least else "**not met**"))
    yield table(("decoding, per core", "measured", "goal", ""), rows)


def _encoding(five: dict[str, Any]) -> Iterator[str]:
    names = list(dict.fromkeys(case.split(":")[0] for case in five["encode"]))
    rows = []
    for name in names:
        runs = [five["encode"][f"{name}: {step}"] for step in STEPS]
        seconds = sum(median(r, "cpu") for r in runs)
        least = sum(min(run["cpu"] for run in r) for r in runs)
        each = [f"{speed(five['bytes'], r):.2f}" for r in runs]
        together = f"{five['bytes'] / seconds / 1e9:.3f} ({five['bytes'] / least / 1e9:.3f})"
        rows.append((name, *each, together))
    yield "What a data-free encoder does to every weight, bfloat16 to words (goal: 0.4 GB per CPU-second together):"
    yield table(("encoding", *STEPS, "together"), rows)


def _lossless(found: dict[str, Any], words: str) -> Iterator[str]:
    rows = []
    for name, runs in found["decompress"].items():
        kind = name if name in found["sizes"] else "exact-v1"
        size, compress = found["sizes"][kind], found["compress"].get(name)
        shown = f"{speed(found['bytes'], compress):.3f}" if compress else ""
        title = name if name in found["sizes"] else f"`exact-v1`, {name}"
        rows.append((title, f"{16 * size / found['bytes']:.2f}", _both(found["bytes"], runs), shown))
    ours = speed(found["bytes"], found["compress"]["exact-v1"])
    yield f"Lossless, {words}; `exact-v1` is compressed at {ours:.3f} GB per CPU-second (its histograms are NumPy's):"
    yield table(("", "bits per weight", "decompressing", "compressing"), rows)
