# SPDX-License-Identifier: Apache-2.0
"""Known answers of a validated configuration, as a document (answers v1, "Format"). Tensors are in a side file.

Numbers that were measured are decimal strings (`core.number`); constructors refuse parts that do not fit together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import MAX_SAFE_INTEGER, dumps
from weighmaster.core.dtype import DTYPES
from weighmaster.core.number import is_decimal_text

__all__ = ["CACHES", "FACTOR", "KINDS", "MODES", "PADS", "SCHEME", "Answers", "Case", "ModuleLine", "Schedule", "TopK"]

SCHEME: Final = "answers-v1"
FACTOR: Final = 2
"""An output may lie so many times as far from the oracle as that of the validated environment does."""

KINDS: Final = ("callable", "causal-lm", "classifier", "encoder")
MODES: Final = ("call", "chunked", "decode", "prefill")
PADS: Final = ("left", "none", "right")
CACHES: Final = ("cold", "none", "warm")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def _require_digest(what: str, text: str | None) -> None:
    if text is not None and not _DIGEST.fullmatch(text):
        raise ValueError(f"{what}: expected 64 lowercase hexadecimal digits, found {text!r}")


def _require_number(what: str, text: str | None) -> None:
    if text is not None and not is_decimal_text(text):
        raise ValueError(f"{what}: expected a number in plain decimal notation, found {text!r}")


def _require_magnitude(what: str, text: str | None) -> None:
    _require_number(what, text)
    if text is not None and text.startswith("-"):
        raise ValueError(f"{what}: expected a number that is not negative, found {text!r}")


def _require_choice(what: str, text: str, choices: tuple[str, ...]) -> None:
    if text not in choices:
        raise ValueError(f"{what}: expected one of {', '.join(choices)}, found {text!r}")


def _require_text(what: str, text: str) -> None:
    if not text:
        raise ValueError(f"{what}: expected a text that is not empty")


def _require_counts(what: str, numbers: Iterable[int], minimum: int = 0) -> None:
    for number in numbers:
        if not minimum <= number <= MAX_SAFE_INTEGER:
            raise ValueError(f"{what}: expected {minimum} to {MAX_SAFE_INTEGER}, found {number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleLine:
    """Output of one execution of a leaf module: path, class, dtype, shape, SHA-256, largest magnitude, L2 norm."""

    module: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    absmax: str
    l2: str

    def __post_init__(self) -> None:
        """Refuse what is no line.

        Raises:
            ValueError: names the field.
        """
        _require_text("kind", self.kind)
        _require_choice("dtype", self.dtype, tuple(DTYPES))
        _require_counts("shape", self.shape)
        _require_digest("sha256", self.sha256)
        _require_magnitude("absmax", self.absmax)
        _require_magnitude("l2", self.l2)

    def to_json(self) -> dict[str, object]:
        """Return the line as it stands in the document."""
        return {
            "module": self.module,
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "sha256": self.sha256,
            "absmax": self.absmax,
            "l2": self.l2,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a case is run.

    Attributes:
        mode: ``prefill`` at once; ``decode`` a prompt, then token by token; ``chunked`` pieces; ``call`` no tokens.
        batch: sequences that are run together.
        row: which of them is observed, from 0.
        pad: on which side of the observed sequence padding stands.
        padded: tokens of the observed row with padding.
        cache: ``none`` kept; ``cold`` made in this case; ``warm`` copied from an earlier pass before it is used.
        chunk: tokens of a piece, or of the prompt; 0 where all are run at once.
    """

    mode: str
    batch: int
    row: int
    pad: str
    padded: int
    cache: str
    chunk: int

    def __post_init__(self) -> None:
        """Refuse what is no schedule.

        Raises:
            ValueError: names the field.
        """
        _require_choice("mode", self.mode, MODES)
        _require_choice("pad", self.pad, PADS)
        _require_choice("cache", self.cache, CACHES)
        _require_counts("padded", (self.padded, self.chunk))
        if not 0 <= self.row < self.batch:
            raise ValueError(f"row: expected 0 to {self.batch - 1}, found {self.row}")
        stepwise = self.mode in ("chunked", "decode")
        if stepwise != (self.chunk > 0) or stepwise != (self.cache != "none"):
            raise ValueError(f"chunk and cache: do not fit mode {self.mode}, found {self.chunk} and {self.cache}")
        if stepwise and self.chunk > self.padded:
            raise ValueError(f"chunk: expected at most {self.padded} tokens, found {self.chunk}")

    def to_json(self) -> dict[str, object]:
        """Return the schedule as it stands in the document."""
        return {
            "mode": self.mode,
            "batch": self.batch,
            "row": self.row,
            "pad": self.pad,
            "padded": self.padded,
            "cache": self.cache,
            "chunk": self.chunk,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """The highest values of one position, with their places, descending."""

    position: int
    ids: tuple[int, ...]
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what is no list.

        Raises:
            ValueError: names the field.
        """
        _require_counts("position and ids", (self.position, *self.ids))
        if len(self.ids) != len(self.values) or not self.ids or len(set(self.ids)) != len(self.ids):
            raise ValueError("ids and values: expected as many of the one as of the other, each id once")
        for value in self.values:
            _require_number("values", value)

    def to_json(self) -> dict[str, object]:
        """Return the list as it stands in the document."""
        return {"position": self.position, "ids": list(self.ids), "values": list(self.values)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One known answer.

    Attributes:
        id: unique.
        schedule: how it is run.
        length: tokens of the observed row; 0 where the inputs are no tokens.
        inputs: pairs of keyword and tensor of the side file; empty where the inputs are private.
        commitment: HMAC-SHA256 of private inputs, or None.
        output: tensor of the side file.
        dtype: of the output.
        shape: [positions, features] of the output.
        sha256: over the output's elements, row-major, little-endian.
        top: highest values of the last positions.
        absmax: largest magnitude of the output.
        oracle: float64 tensor of the side file, or None.
        error: largest absolute difference between output and oracle, or None.
        trace: leaf module outputs in the order of execution.
    """

    id: str
    schedule: Schedule
    length: int
    inputs: tuple[tuple[str, str], ...]
    commitment: str | None
    output: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    top: tuple[TopK, ...]
    absmax: str
    oracle: str | None
    error: str | None
    trace: tuple[ModuleLine, ...]

    def __post_init__(self) -> None:
        """Refuse what is no case.

        Raises:
            ValueError: names the field.
        """
        for what in ("id", "output"):
            _require_text(what, getattr(self, what))
        _require_choice("dtype", self.dtype, tuple(DTYPES))
        _require_counts("length", (self.length,))
        _require_digest("sha256", self.sha256)
        _require_digest("commitment", self.commitment)
        _require_magnitude("absmax", self.absmax)
        _require_magnitude("error", self.error)
        if len(self.shape) != 2 or min(self.shape) < 1:  # noqa: PLR2004  # positions and features
            raise ValueError(f"shape: expected positions and features, found {list(self.shape)}")
        if (self.oracle is None) != (self.error is None):
            raise ValueError("oracle and error: expected both or neither")
        if bool(self.inputs) == (self.commitment is not None):
            raise ValueError("inputs and commitment: expected one of the two")
        keys = [key for key, _ in self.inputs]
        if keys != sorted(set(keys)):
            raise ValueError("inputs: expected keywords in ascending order, each once")
        if self.length > self.schedule.padded:
            raise ValueError(f"length: expected at most {self.schedule.padded}, found {self.length}")
        if any(not 0 <= t.position < self.shape[0] or max(t.ids) >= self.shape[1] for t in self.top):
            raise ValueError("top: expected positions and ids of the output")

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors of the side file that belong to this case."""
        oracle = () if self.oracle is None else (self.oracle,)
        return (*(name for _, name in self.inputs), self.output, *oracle)

    def to_json(self) -> dict[str, object]:
        """Return the case as it stands in the document."""
        return {
            "id": self.id,
            "schedule": self.schedule.to_json(),
            "length": self.length,
            "inputs": [{"key": key, "tensor": name} for key, name in self.inputs],
            "commitment": self.commitment,
            "output": self.output,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "sha256": self.sha256,
            "top": [t.to_json() for t in self.top],
            "absmax": self.absmax,
            "oracle": self.oracle,
            "error": self.error,
            "trace": [line.to_json() for line in self.trace],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Known answers, and what they are bound to.

    Attributes:
        kind: one of `KINDS`.
        seed: of generated inputs.
        private: whether inputs are commitments only.
        root: Merkle root of the weights that answered, in steady state.
        structure: structure digest of the model that answered, or None.
        class_digest: of the environment in which it answered.
        environment: SHA-256 of the environment document.
        tokenizer: digest over the tokenizer's files, or None.
        dtype: of the outputs.
        oracle: ``float64`` or ``none``.
        oracle_note: how the oracle was made and checked, or why there is none.
        side_sha256: of the side file.
        side_bytes: its size.
        cases: at least one.
    """

    kind: str
    seed: int
    private: bool
    root: str
    structure: str | None
    class_digest: str
    environment: str
    tokenizer: str | None
    dtype: str
    oracle: str
    oracle_note: str
    side_sha256: str
    side_bytes: int
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        """Refuse what is no document.

        Raises:
            ValueError: names the field.
        """
        _require_choice("kind", self.kind, KINDS)
        _require_choice("oracle", self.oracle, ("float64", "none"))
        for what in ("root", "structure", "class_digest", "environment", "tokenizer", "side_sha256"):
            _require_digest(what, getattr(self, what))
        _require_choice("dtype", self.dtype, tuple(DTYPES))
        _require_text("oracle_note", self.oracle_note)
        _require_counts("seed", (self.seed,))
        if self.side_bytes < 0:
            raise ValueError(f"side_bytes: expected a number that is not negative, found {self.side_bytes}")
        if not self.cases:
            raise ValueError("cases: expected at least one, found none")
        _require_once("id", [case.id for case in self.cases])
        _require_once("tensor", [name for case in self.cases for name in case.tensors])
        if any((case.oracle is None) != (self.oracle == "none") for case in self.cases):
            raise ValueError(f"cases: expected {'no' if self.oracle == 'none' else 'an'} oracle in each")
        if any((case.commitment is not None) != self.private for case in self.cases):
            raise ValueError(f"cases: expected {'a' if self.private else 'no'} commitment in each")

    def to_bytes(self) -> bytes:
        """Return the RFC 8785 bytes of the document."""
        return dumps(
            {
                "scheme": SCHEME,
                "kind": self.kind,
                "seed": self.seed,
                "private": self.private,
                "root": self.root,
                "structure": self.structure,
                "classDigest": self.class_digest,
                "environment": self.environment,
                "tokenizer": self.tokenizer,
                "dtype": self.dtype,
                "oracle": self.oracle,
                "oracleNote": self.oracle_note,
                "side": {"sha256": self.side_sha256, "bytes": str(self.side_bytes)},
                "cases": [case.to_json() for case in self.cases],
            }
        )


def _require_once(what: str, texts: list[str]) -> None:
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise ValueError(f"cases: the {what} {text!r} stands twice")
        seen.add(text)
