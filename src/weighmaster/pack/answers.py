# SPDX-License-Identifier: Apache-2.0
"""Known answers of a codec: small matrices of every dtype, coded and rebuilt, by their digests. Integers throughout."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from weighmaster.errors import MalformedArtefact, SelfTestFault
from weighmaster.pack.coder import Backend
from weighmaster.pack.layout import LEVELS, PLANES, STATES, Chunk, Layout, Shape, raw_planes
from weighmaster.pack.tables import CLASSES, Table

__all__ = ["COUNT", "codec_faults"]

_ROWS, _COLS, _BAND = 11, 75, 4
"""Two whole strips and a part of one; two whole chunks and a lower one."""

_CLASSES_USED: Final = 3

_FIRST_SCALE: Final = 0x3880
"""Bits of 2^-14, of the first row; the first column has 2^-6: subnormal and normal float16 are among the products."""

COUNT: Final = 22
"""Comparisons made by `codec_faults`: it cannot shrink in silence."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A small matrix of `symbols` different symbols, and SHA-256 of its chunks and of what they are rebuilt to."""

    codec: int
    dtype: str
    table_bits: int
    variant: int
    symbols: int
    coded: str
    rebuilt: str

    @property
    def name(self) -> str:
        return (
            f"{self.dtype}, codec {self.codec}, variant {self.variant}, B = {self.table_bits}, {self.symbols} symbols"
        )


_CASES: Final = (
    _Case(
        LEVELS,
        "bfloat16",
        12,
        0,
        61,
        "5a667475fafe3a037e6a44e50e7bf8d89c3d12688c713a9aa914ab83d3eb7115",
        "4822394b6c62d70cc4cbd4dae0a8b60ae4c15966e753e735f258046078ae67cb",
    ),
    _Case(
        LEVELS,
        "float16",
        12,
        0,
        61,
        "5a667475fafe3a037e6a44e50e7bf8d89c3d12688c713a9aa914ab83d3eb7115",
        "8aae36389e616bc9badf372e81182f2faad1b88e90fe92bd524aaaec0d46b042",
    ),
    _Case(
        LEVELS,
        "float32",
        11,
        0,
        101,
        "ed7c6d271219f8532c7d204d17b1baa1ce9a8be4f55307ac14246f605288c57c",
        "3bbffc875068139e28d12cfc1ae815c328889323f7afecb8b97dccdcf4914a30",
    ),
    _Case(
        LEVELS,
        "float32",
        14,
        0,
        511,
        "0fb024b2f7b8cfcc0b1ea637765de79f1bc7ea5dacec9143752ae38af9a756a7",
        "9eb9a1cb42e59600f5f8262a2d037d97fa73324a7e17a5adcf2f698d1d278f7e",
    ),
    _Case(
        PLANES,
        "bfloat16",
        12,
        0,
        40,
        "4ad2a6f6c546eed041d2e14d682c05c1a286d7b896afd4bb00903eb45a6705ca",
        "cec151089894967e6051a0def2a516b3b7b21f1ef8ac1e53dc2daf52092bb862",
    ),
    _Case(
        PLANES,
        "float16",
        12,
        0,
        256,
        "6ff0d3438b08ad5e82592ef43b1fc5525acc275339fdfa87c06f83a9464de80a",
        "f6e7f8459812633d3901380113abc63ec58047fa9468f7258bab012b2bb1697c",
    ),
    _Case(
        PLANES,
        "float32",
        12,
        0,
        40,
        "6415552f294f1276d355f0c94613a1323f4aa659d42ded6424ac332de3fdab4b",
        "1f62c137cacf815b9d8b68b440236b9e87233a9623c7332669ae5a494598711b",
    ),
    _Case(
        PLANES,
        "float32",
        12,
        1,
        40,
        "4ad2a6f6c546eed041d2e14d682c05c1a286d7b896afd4bb00903eb45a6705ca",
        "7b16258b26acee21cf29e37c5e5876f5f0888ee58e6689989f7f7832007cd745",
    ),
    _Case(
        PLANES,
        "float8_e4m3fn",
        13,
        0,
        256,
        "55aa4923f0a283034668c45321891faa78d8e9af5de5bdd92a5cf4031566f0a3",
        "a27812e65bda05daabf9600c6a10a0be1c2f696b71438cc4aa4f9e5b8efd5aac",
    ),
)


def codec_faults(backend: Backend) -> tuple[SelfTestFault, ...]:
    """Have a codec code and rebuild known matrices, and find damage; return a fault for each wrong answer."""
    checks: list[tuple[str, str, str]] = []
    for case in _CASES:
        layout, symbols = _matrix(case)
        bodies = [_with_rest(layout, i, words, body) for i, (words, body) in enumerate(backend.encode(layout, symbols))]
        chunks, blob = _laid(layout, bodies)
        checks.append((f"{case.name}: chunks", case.coded, hashlib.sha256(blob).hexdigest()))
        out = np.zeros(_ROWS * _COLS * layout.shape.itemsize, np.uint8)
        backend.decode(layout, memoryview(blob), chunks, out)
        checks.append((f"{case.name}: rebuilt", case.rebuilt, hashlib.sha256(out.tobytes()).hexdigest()))
    checks += _damages(backend)
    faults = [SelfTestFault(f"codec {backend.name}", w, expected=e, found=f) for w, e, f in checks if e != f]
    if len(checks) != COUNT:
        faults.append(SelfTestFault("codec", "tests are missing", expected=str(COUNT), found=str(len(checks))))
    return tuple(faults)


def _damages(backend: Backend) -> Iterator[tuple[str, str, str]]:
    layout, symbols = _matrix(_CASES[0])
    bodies = [_with_rest(layout, i, words, body) for i, (words, body) in enumerate(backend.encode(layout, symbols))]
    out = np.zeros(_ROWS * _COLS * layout.shape.itemsize, np.uint8)
    for what, at, field in (
        ("a state below 2^16", 2, "chunk 1: entropy code"),
        ("another word", STATES, "chunk 1: entropy code"),
        ("patches that do not ascend", -1, "chunk 1: patches"),
    ):
        damaged = bytearray(bodies[1][2])
        damaged[at - 8 if at < 0 else at] ^= 0xFF
        damaged[at - 7 if at < 0 else at + 1] ^= 0xFF
        chunks, blob = _laid(layout, [bodies[0], (*bodies[1][:2], bytes(damaged)), bodies[2]])
        yield what, field, _fault_of(backend, layout, chunks, blob, out)
    chunks, blob = _laid(layout, bodies)
    wrong = dataclasses.replace(chunks[2], crc=chunks[2].crc ^ 1)
    yield "another CRC-32", "chunk 2: CRC-32", _fault_of(backend, layout, [*chunks[:2], wrong], blob, out)


def _fault_of(
    backend: Backend, layout: Layout, chunks: Sequence[Chunk], blob: bytes, out: npt.NDArray[np.uint8]
) -> str:
    try:
        backend.decode(layout, memoryview(blob), chunks, out)
    except MalformedArtefact as fault:
        return fault.field
    return "none"


def _noise(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return numbers of 16 random bits: the upper half of a linear congruential sequence."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        out.append(state >> 16)
    return np.array(out, np.int64)


def _matrix(case: _Case) -> tuple[Layout, npt.NDArray[np.int16]]:
    """Return the layout and the symbols of a case: its lowest and highest symbols are rare, those between are not."""
    lowest = -(case.symbols // 2) if case.codec == LEVELS else 256 - case.symbols
    two = _noise(2 * _ROWS * _COLS, case.symbols).reshape(2, _ROWS, _COLS) % case.symbols
    symbols = (two.sum(axis=0) // 2 + lowest).astype(np.int16)
    shares = np.full(case.symbols, 4)
    table = Table(lowest=lowest, frequencies=shares)
    shares[case.symbols // 2] += (1 << case.table_bits) - int(shares.sum())
    levels = case.codec == LEVELS
    layout = Layout(
        shape=Shape(
            codec=case.codec,
            dtype=case.dtype,
            table_bits=case.table_bits,
            variant=case.variant,
            rows=_ROWS,
            cols=_COLS,
            band=_BAND,
        ),
        tables=(table,) * _CLASSES_USED + (None,) * (CLASSES - _CLASSES_USED),
        row_scale=(_FIRST_SCALE + 37 * np.arange(_ROWS if levels else 0)).astype(np.uint16),
        col_scale=(_FIRST_SCALE + 0x400 + 5 * np.arange(_COLS if levels else 0)).astype(np.uint16),
        row_class=(np.arange(_ROWS) % 5 - 3).astype(np.int8),
        col_class=(np.arange(_COLS) % 3 - 1).astype(np.int8),
        chunks=(),
        file="known answer",
    )
    return layout, symbols


def _with_rest(layout: Layout, number: int, words: int, body: bytes) -> tuple[int, int, bytes]:
    """Put raw planes, or two patches, after the words."""
    shape = layout.shape
    count = min(_BAND, _ROWS - number * _BAND) * _COLS
    if shape.codec == PLANES:
        return words, 0, body + _noise(raw_planes(shape) * count, number).astype(np.uint8).tobytes()
    patches = np.array([7, count - 1], "<u4").tobytes() + bytes(range(2 * shape.itemsize))
    return words, 2, body + patches


def _laid(layout: Layout, bodies: Sequence[tuple[int, int, bytes]]) -> tuple[list[Chunk], bytes]:
    """Lay bodies one after another, as in a blob."""
    chunks, begin = [], 0
    for i, (words, patches, body) in enumerate(bodies):
        row = i * _BAND
        rows, stop = min(_BAND, _ROWS - row), begin + len(body)
        crc = zlib.crc32(body)
        chunks.append(Chunk(begin=begin, stop=stop, row=row, rows=rows, words=words, patches=patches, crc=crc))
        begin = stop
    return chunks, b"".join(body for _, _, body in bodies)
