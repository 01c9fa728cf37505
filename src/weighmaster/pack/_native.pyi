# SPDX-License-Identifier: Apache-2.0
from typing import Any, TypeAlias

import numpy.typing as npt

Buffer: TypeAlias = npt.NDArray[Any] | memoryview | bytes

def paths() -> tuple[str, ...]: ...
def decode(
    path: str,
    head: tuple[int, int, int, int, int],
    tables: Buffer,
    frequencies: Buffer,
    row_scale: Buffer,
    col_scale: Buffer,
    row_class: Buffer,
    col_class: Buffer,
    chunks: Buffer,
    blob: Buffer,
    out: Buffer,
    /,
) -> tuple[int, int]: ...
def encode(
    path: str,
    head: tuple[int, int, int, int, int],
    band: int,
    tables: Buffer,
    frequencies: Buffer,
    row_class: Buffer,
    col_class: Buffer,
    symbols: Buffer,
    /,
) -> list[tuple[int, bytes]]: ...
def energies(path: str, dtype: int, rows: int, cols: int, data: Buffer, row: Buffer, col: Buffer, /) -> bool: ...
def quantize(
    path: str, dtype: int, rows: int, cols: int, data: Buffer, row_scale: Buffer, col_scale: Buffer, levels: Buffer, /
) -> None: ...
def histogram(levels: Buffer, row_class: Buffer, col_class: Buffer, counts: Buffer, /) -> None: ...
def crc32(data: Buffer, plain: bool, /) -> int: ...
