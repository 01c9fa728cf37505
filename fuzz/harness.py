# SPDX-License-Identifier: Apache-2.0
"""What holds for every parser: a documented refusal or a value, the same twice, and what is accepted is read again."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

from weighmaster.errors import MalformedArtefact

__all__ = [
    "ROOT",
    "Finding",
    "corpus",
    "names",
    "parser",
    "read_again",
    "refused_or_read",
    "require",
    "round_trip",
    "seeds",
]

T = TypeVar("T")
Refusals = tuple[type[Exception], ...]

ROOT: Final = Path(__file__).parents[1]
MALFORMED: Final[Refusals] = (MalformedArtefact,)
MAX_SEED: Final = 1 << 15
_MAX_MESSAGE: Final = 1 << 20


class Finding(AssertionError):
    """A parser broke one of its promises. Any other exception that leaves ``one`` is a finding too."""


def require(holds: bool, what: str) -> None:  # noqa: FBT001  # reads as an assertion
    """Raise a `Finding` unless `holds`; unlike ``assert`` it stays under ``python -O``."""
    if not holds:
        raise Finding(what)


def _outcome(read: Callable[[bytes], T], data: bytes, refusals: Refusals) -> tuple[T | None, Exception | None]:
    try:
        return read(data), None
    except refusals as refusal:
        return None, refusal


def refused_or_read(data: bytes, read: Callable[[bytes], T], refusals: Refusals = MALFORMED) -> T | None:
    """Read `data` twice and return the value, or None where it was refused both times, in the same printable words."""
    value, refusal = _outcome(read, data, refusals)
    again, refusal_again = _outcome(read, data, refusals)
    require((type(refusal), str(refusal)) == (type(refusal_again), str(refusal_again)), "refused in two ways")
    if refusal is not None:
        text = str(refusal)
        require(0 < len(text) <= _MAX_MESSAGE, f"a message of {len(text)} characters")
        text.encode("utf-8")  # a message that no log can hold is a second fault in place of the first
        return None
    require(_same(value, again), "read as two values")
    return value


def _same(a: object, b: object) -> bool:
    return bool(a == b)


def round_trip(
    data: bytes,
    *,
    read: Callable[[bytes], T],
    write: Callable[[T], bytes],
    canonical: bool = True,
    refusals: Refusals = MALFORMED,
) -> None:
    """Require that accepted bytes are exactly what would be written (`canonical`), or at least are read as the same."""
    value = refused_or_read(data, read, refusals)
    if value is None:
        return
    written = write(value)
    require(written == data or not canonical, "accepted, and written otherwise than it was read")
    require(write(read(written)) == written, "what was written is read as something else")
    require(_same(read(written), value), "what was written is read as another value")


def read_again(data: bytes, *, read: Callable[[bytes], T], respell: Callable[[bytes], bytes]) -> None:
    """Require that another spelling of the same document is read as the same value."""
    value = refused_or_read(data, read)
    if value is not None:
        require(_same(read(respell(data)), value), "another spelling is read as another value")


def names() -> list[str]:
    """Return the names of all parsers that have a fuzzer."""
    return sorted(path.stem for path in (ROOT / "fuzz" / "parsers").glob("[a-z]*.py"))


def parser(name: str) -> ModuleType:
    """Return the module of one parser."""
    return importlib.import_module(f"fuzz.parsers.{name}")


def seeds(module: ModuleType) -> Iterator[bytes]:
    """Yield the inputs to begin with: files of the vectors that ``SEEDS`` name, then ``INPUTS``, each content once."""
    found = [path.read_bytes() for pattern in module.SEEDS for path in sorted(ROOT.glob(pattern))]
    yield from dict.fromkeys(data for data in (*found, *getattr(module, "INPUTS", ())) if len(data) <= MAX_SEED)


def corpus(name: str) -> list[Path]:
    """Return the files of the corpus kept for a parser."""
    return sorted((ROOT / "fuzz" / "corpus" / name).glob("*"))
