# SPDX-License-Identifier: Apache-2.0
"""Tell whether cached bytecode is what its source compiles to.

`bytecode` runs this file as a script in processes of its own, so it imports nothing but what every interpreter holds:
``python -I -S compiled.py``, one marshalled request on standard input, one marshalled answer on standard output.
"""

import gc
import marshal
import os
import sys

__all__ = ["AS_SOURCE", "DIFFERS", "UNREADABLE", "judge", "same_code"]

AS_SOURCE, DIFFERS, UNREADABLE = 0, 1, 2

_HEADER = 16
"""Bytes before the code: magic number, flags, mtime and size or hash of the source (PEP 552)."""
_FLAGS = 0b11
_NORMAL = 2
"""Version of marshal's format in which equal objects give equal bytes: later ones mark shared objects by use counts."""

_Code = type((lambda: 0).__code__)


def judge(pairs: list[tuple[str, str]], magic: bytes, optimize: int) -> list[int]:
    """Compare each pair of source file and bytecode file, in order.

    Bytecode that the interpreter would not take (another version's, or older than its source by the header) is as if it
    were not there. Everything else must be what the source compiles to, whatever the header says about the source.

    Args:
        pairs: paths of source and of its bytecode.
        magic: `importlib.util.MAGIC_NUMBER`.
        optimize: `sys.flags.optimize` of the process that loaded the modules.

    Returns:
        `AS_SOURCE`, `DIFFERS`, or `UNREADABLE` where one of the two files could not be read.
    """
    return [_verdict(source, cached, magic, optimize) for source, cached in pairs]


def _verdict(source: str, cached: str, magic: bytes, optimize: int) -> int:
    try:
        text, data, stat = _content(source), _content(cached), os.stat(source)  # noqa: PTH116  # nor of pathlib
    except OSError:
        return UNREADABLE
    if not _is_taken(data, magic, int(stat.st_mtime), stat.st_size):
        return AS_SOURCE
    try:
        found = marshal.loads(memoryview(data)[_HEADER:])  # noqa: S302  # makes objects, runs nothing
        if type(found) is not _Code:
            return DIFFERS
        # As importlib does it; the file's name is part of the code, and another where the image was built elsewhere.
        expected = compile(text, found.co_filename, "exec", dont_inherit=True, optimize=optimize)
    except (EOFError, TypeError, ValueError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return DIFFERS  # the last two: what is nested too deeply
    return AS_SOURCE if same_code(expected, found) else DIFFERS


def _is_taken(data: bytes, magic: bytes, mtime: int, size: int) -> bool:
    """Tell whether the interpreter loads this bytecode (PEP 552); one that is checked by hash counts as loaded."""
    flags, *about = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12))
    if data[:4] != magic or len(data) < _HEADER or flags > _FLAGS:
        return False
    return flags != 0 or about == [mtime & 0xFFFFFFFF, size & 0xFFFFFFFF]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123  # no import of pathlib here
        return file.read()


def same_code(expected: object, found: object) -> bool:
    """Compare two code objects, constants or tuples in all that can be written to a file, line numbers included."""
    try:
        return marshal.dumps(expected, _NORMAL) == marshal.dumps(found, _NORMAL)  # type: ignore[arg-type]
    except ValueError:  # a slice is a constant from Python 3.14 on, and has no place in that version of the format
        return type(expected) is type(found) and _same_parts(expected, found)


def _same_parts(expected: object, found: object) -> bool:
    if isinstance(expected, slice) and isinstance(found, slice):
        one, two = ((s.start, s.stop, s.step) for s in (expected, found))
        return same_code(one, two)
    if isinstance(expected, tuple) and isinstance(found, tuple):
        return len(expected) == len(found) and all(map(same_code, expected, found))
    if isinstance(expected, _Code) and isinstance(found, _Code):
        bare = (code.replace(co_consts=()) for code in (expected, found))
        return same_code(*bare) and same_code(expected.co_consts, found.co_consts)
    return False


def main() -> None:
    """Answer one request: what `judge` gives for its three arguments."""
    gc.disable()  # a compiler makes many objects and no cycles
    request = marshal.loads(sys.stdin.buffer.read())  # noqa: S302  # from the process that started this one
    sys.stdout.buffer.write(marshal.dumps(judge(*request)))


if __name__ == "__main__":
    main()
