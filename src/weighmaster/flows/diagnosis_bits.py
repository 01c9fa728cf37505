# SPDX-License-Identifier: Apache-2.0
"""What was done to the bytes of a tensor, from its validated bytes and those found; a word only where it is sure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from weighmaster.core.dtype import itemsize

__all__ = ["FLIP_BITS", "Answer", "explain", "values_of"]

Answer: TypeAlias = tuple[str, str, dict[str, Any]]
"""Kind, one line, figures."""

FLIP_BITS: Final = 64
"""More differing bits than this are no longer called single flips: 16 random bytes differ in about 64 bits."""

WITNESS: Final = 8
"""Elements or bytes that must agree with a word, so that it is hardly by chance where they are independent."""

WINDOW: Final = 32
"""Bytes that are looked for elsewhere."""

MAX_SIDE: Final = 2048
"""Largest smaller side of a matrix whose rank is taken."""


def values_of(data: bytes, dtype: str) -> Any:
    """Return the elements as float64, or None for a type without plain values here."""
    if dtype == "bfloat16":
        wide = np.frombuffer(data, dtype="<u2").astype("<u4") << 16
        return wide.view("<f4").astype(np.float64)
    if dtype in ("float16", "float32", "float64", "int8", "uint8", "int16", "int32"):
        return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.float64)
    return None


def round_to(values: Any, bits: int, lowest: int, largest: float) -> Any:
    """Round float64 values to `bits` of significand, exponents from `lowest`, saturating at `largest`; ties to even."""
    _, exponent = np.frexp(values)
    step = np.ldexp(1.0, np.maximum(exponent - 1, lowest) - (bits - 1))
    return np.clip(np.rint(values / step) * step, -largest, largest)


CASTS: Final[dict[str, tuple[int, int, float]]] = {
    "bfloat16": (8, -126, 3.3895313892515355e38),
    "float16": (11, -14, 65504.0),
    "float8_e4m3fn": (4, -6, 448.0),
}
PRECISION: Final = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def explain(before: bytes, after: bytes, dtype: str, shape: tuple[int, ...]) -> Answer:
    """Name what turned `before` into `after`, equally long and different; ``undetermined`` where nothing fits.

    Exact explanations stand first: they hold for every byte or are not given.
    """
    old, new = values_of(before, dtype), values_of(after, dtype)
    numeric = old is not None and bool(np.isfinite(old).all() and np.isfinite(new).all())
    steps: list[Callable[[], Answer | None]] = []
    if numeric and dtype in PRECISION:
        steps.append(lambda: _recast(old, new))
    steps += [lambda: _zero_tail(before, after), lambda: _flips(before, after, dtype), lambda: _shifted(before, after)]
    if numeric and dtype in PRECISION and len(shape) == 2:  # noqa: PLR2004  # a matrix
        steps.append(lambda: _requantized(old.reshape(shape), new.reshape(shape)))
        steps.append(lambda: _low_rank(old.reshape(shape), new.reshape(shape), PRECISION[dtype]))
    if numeric:
        steps.append(lambda: _others(before, after, old, new))
    for step in steps:
        answer = step()
        if answer is not None:
            return answer
    return "undetermined", "bytes differ in a way that no rule explains", {}


def _recast(old: Any, new: Any) -> Answer | None:
    differing = int((old != new).sum())
    if differing < WITNESS:
        return None
    for name, (bits, lowest, largest) in CASTS.items():
        if np.array_equal(round_to(old, bits, lowest, largest), new):
            return "recast", f"the values are the validated ones rounded to {name}", {"through": name}
    return None


def _zero_tail(before: bytes, after: bytes) -> Answer | None:
    old, new = np.frombuffer(before, np.uint8), np.frombuffer(after, np.uint8)
    start = int(np.flatnonzero(old != new)[0])
    lost = int(np.count_nonzero(old[start:]))
    if new[start:].any() or lost < WITNESS or start == 0:
        return None
    return "truncated-tail", f"zeros from byte {start} to the end", {"offset": start, "fill": "zeros"}


def _flips(before: bytes, after: bytes, dtype: str) -> Answer | None:
    old, new = np.frombuffer(before, np.uint8), np.frombuffer(after, np.uint8)
    where = np.flatnonzero(old != new)
    total = int(np.unpackbits(old[where] ^ new[where]).sum())
    # Other values differ in about a quarter of all bits or more: a sixteenth keeps clear of that in small tensors.
    if total > min(FLIP_BITS, max(2, len(before) // 2)):
        return None
    size, a, b = itemsize(dtype), values_of(before, dtype), values_of(after, dtype)
    flips = []
    for at in (int(i) for i in where):
        index = at // size
        was, now = ("", "") if a is None else (repr(float(a[index])), repr(float(b[index])))
        changed = int(old[at] ^ new[at])
        flips += [
            {"index": index, "bit": 8 * (at % size) + bit, "before": was, "after": now}
            for bit in range(8)
            if changed >> bit & 1
        ]
    return (
        "flipped-bits",
        f"{total} bit(s) differ, first in element {flips[0]['index']}",
        {
            "bits": total,
            "flips": flips,
        },
    )


def _shifted(before: bytes, after: bytes) -> Answer | None:
    at = len(before) // 2
    window = before[at : at + WINDOW]
    if len(window) < WINDOW or len(set(window)) < WITNESS:
        return None
    n = after.find(window) - at
    if after.count(window) != 1 or n == 0:
        return None
    same = before[:-n] == after[n:] if n > 0 else before[-n:] == after[:n]
    return ("shifted", f"the validated bytes stand {n} bytes further", {"bytes": n}) if same else None


def _requantized(old: Any, new: Any) -> Answer | None:
    columns = old.shape[1]
    for block in sorted({b for b in (columns, 128, 64, 32) if b >= 32 and columns % b == 0}, reverse=True):  # noqa: PLR2004
        a, b = old.reshape(-1, block), np.sort(new.reshape(-1, block), axis=1)
        gaps = np.diff(b, axis=1)
        levels = int((gaps > 0).sum(axis=1).max()) + 1
        known = int(np.median((np.diff(np.sort(a, axis=1), axis=1) > 0).sum(axis=1))) + 1
        error = np.abs(new.reshape(-1, block) - a).max(axis=1)
        if 2 < levels <= 16 and known >= 1.5 * levels and bool((error <= gaps.max(axis=1)).all()):  # noqa: PLR2004
            text = f"at most {levels} levels per block of {block}, error below one step"
            return "requantized", text, {"levels": levels, "block": block, "error": repr(float(error.max()))}
    return None


def _low_rank(old: Any, new: Any, bits: int) -> Answer | None:
    """Count singular values above what rounding leaves: noise of deviation s has norm near s (sqrt m + sqrt n)."""
    change, side = new - old, min(old.shape)
    touched = change != 0
    if not 8 <= side <= MAX_SIDE or min(touched.any(axis=0).mean(), touched.any(axis=1).mean()) < 0.5:  # noqa: PLR2004
        return None
    ulp = np.ldexp(np.abs(new), 1 - bits)
    noise = 2 * float(np.sqrt((ulp**2).mean() / 12)) * sum(n**0.5 for n in old.shape)
    rank = int((np.linalg.svd(change, compute_uv=False) > noise).sum())
    if not 1 <= rank <= side // 4:
        return None
    return "adapter-merged", f"the difference has rank {rank} of {side}", {"rank": rank, "noise": repr(noise)}


def _others(before: bytes, after: bytes, old: Any, new: Any) -> Answer | None:
    """Other values from the start, or from an offset on: uncorrelated within five standard errors."""
    start = int(np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8))[0])
    first = start * old.size // len(before)
    a, b = old[first:], new[first:]
    if a.size < 64 or (a != b).mean() < 0.9 or not a.std() or not b.std():  # noqa: PLR2004
        return None
    with np.errstate(all="ignore"):
        correlation = float(np.corrcoef(a, b)[0, 1])
    if not abs(correlation) < min(0.5, 5 / a.size**0.5):
        return None
    if first < WITNESS:
        return "replaced", f"other values throughout, correlation {correlation:.3f}", {"correlation": repr(correlation)}
    if not old[:first].any():
        return None
    return "truncated-tail", f"other values from byte {start} to the end", {"offset": start, "fill": "others"}
