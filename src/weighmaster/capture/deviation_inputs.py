# SPDX-License-Identifier: Apache-2.0
"""The token sequences that two models are compared on: a user's own, or, weaker, made up from a fixed seed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weighmaster.core.canonical import loads
from weighmaster.durable import read_whole
from weighmaster.errors import MalformedArtefact

__all__ = ["SEED", "Inputs", "cut", "random_tokens", "read_texts", "read_tokens", "sample_tokens", "spread"]

SEED: Final = 20_240_301
"""Of made-up sequences: another one than calibration uses, so that nothing is measured on what it was fitted to."""

_LIMIT: Final = 1 << 28
"""Bytes of a file of tokens or texts."""

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Token sequences and where they are from.

    Attributes:
        kind: ``tokens`` or ``texts`` (files of the user), ``self`` (sampled from the reference), ``random`` (uniform).
        seed: of what was made up, else None.
        available: sequences that there were, of which `sequences` are all or an even spread.
        sequences: each int64 [length].
    """

    kind: str
    seed: int | None
    available: int
    sequences: tuple[Tokens, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(map(len, self.sequences))

    @property
    def sha256(self) -> str:
        """Digest of the tokens, one sequence after another, as little-endian 32-bit integers."""
        hasher = hashlib.sha256()
        for sequence in self.sequences:
            hasher.update(sequence.astype("<i4").tobytes())
        return hasher.hexdigest()


def read_tokens(path: Path, *, length: int, vocabulary: int) -> tuple[Tokens, ...]:
    """Read token ids: ``.npy`` [tokens] or [sequences, length], or JSON, an array of ids or of arrays of them.

    A flat run of tokens is cut into sequences of `length`; what is left at its end is dropped.

    Raises:
        MalformedArtefact: the file holds something else, or an id outside of the vocabulary.
        StorageError: it cannot be read.
    """
    rows = _from_npy(path) if path.suffix == ".npy" else _from_json(path)
    for i, row in enumerate(rows):
        if len(row) and not 0 <= int(row.min()) <= int(row.max()) < vocabulary:
            found = f"{int(row.min())} to {int(row.max())}"
            raise MalformedArtefact(str(path), f"[{i}]", expected=f"ids from 0 to {vocabulary - 1}", found=found)
    return cut(rows[0], length) if len(rows) == 1 else tuple(rows)


def _from_npy(path: Path) -> list[Tokens]:
    data = read_whole(path, limit=_LIMIT)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise MalformedArtefact(str(path), "", expected="a .npy file without objects", found=str(error)) from None
    if array.dtype.kind not in "iu" or array.ndim not in {1, 2}:
        found = f"{array.dtype} with {array.ndim} dimensions"
        raise MalformedArtefact(str(path), "", expected="integers in one or two dimensions", found=found)
    return list(np.atleast_2d(array.astype(np.int64)))


def _from_json(path: Path) -> list[Tokens]:
    value: Any = loads(read_whole(path, limit=_LIMIT), str(path))
    if not isinstance(value, list) or not value:
        raise MalformedArtefact(str(path), "", expected="an array of token ids, or of arrays", found="something else")
    rows = value if isinstance(value[0], list) else [value]
    for i, row in enumerate(rows):
        if not isinstance(row, list) or not all(type(token) is int for token in row):
            raise MalformedArtefact(str(path), f"[{i}]", expected="an array of token ids", found="something else")
    return [np.array(row, np.int64) for row in rows]


def cut(tokens: Tokens, length: int) -> tuple[Tokens, ...]:
    """Return sequences of `length` from a run of tokens; a run that is shorter stays one sequence."""
    if len(tokens) <= length:
        return (tokens,)
    return tuple(tokens[: len(tokens) // length * length].reshape(-1, length))


def spread(sequences: Sequence[Tokens], count: int) -> tuple[Tokens, ...]:
    """Return `count` of the sequences, evenly spaced, the first among them; all of them if there are no more."""
    if len(sequences) <= count:
        return tuple(sequences)
    return tuple(sequences[i * len(sequences) // count] for i in range(count))


def read_texts(path: Path, tokenizer: Any, *, length: int, lines: bool) -> tuple[Tokens, ...]:
    """Read UTF-8 text and tokenise it as the model does.

    Args:
        path: the text.
        tokenizer: of transformers.
        length: a sequence's tokens, at most.
        lines: each line that is not blank is a sequence, with the tokenizer's special tokens, cut off at `length`.
            Else the whole text is one run, cut into sequences.

    Raises:
        MalformedArtefact: it is not UTF-8, or there is nothing in it.
        StorageError: it cannot be read.
    """
    try:
        text = read_whole(path, limit=_LIMIT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedArtefact(str(path), f"byte {error.start}", expected="UTF-8", found="another byte") from None
    if not text.strip():
        raise MalformedArtefact(str(path), "", expected="text", found="none")
    if not lines:
        return cut(np.array(tokenizer(text, verbose=False)["input_ids"], np.int64), length)
    kept = [line for line in text.splitlines() if line.strip()]
    ids = tokenizer(kept, truncation=True, max_length=length, verbose=False)["input_ids"]
    return tuple(np.array(row, np.int64) for row in ids)


def random_tokens(*, count: int, length: int, vocabulary: int) -> tuple[Tokens, ...]:
    """Return `count` sequences of `length` ids, uniform over the vocabulary, from `SEED`."""
    raw = np.asarray(np.random.PCG64(SEED).random_raw(count * length), np.uint64)
    return tuple((raw % np.uint64(vocabulary)).astype(np.int64).reshape(count, length))


def sample_tokens(
    model: torch.nn.Module, *, count: int, length: int, vocabulary: int, start: int | None
) -> tuple[Tokens, ...]:
    """Return `count` sequences of `length` tokens that the model wrote itself, at temperature 1, from `SEED`.

    Args:
        model: a causal language model of transformers, with a cache.
        count: sequences.
        length: tokens of each.
        vocabulary: number of ids.
        start: the first token of each sequence; by default uniform.
    """
    source = np.random.Generator(np.random.PCG64(SEED))
    first = source.integers(0, vocabulary, count) if start is None else np.full(count, start)
    device = next(model.parameters()).device
    columns, past = [torch.from_numpy(first.astype(np.int64)).to(device)], None
    with torch.inference_mode():
        for _ in range(length - 1):
            output: Any = model(input_ids=columns[-1][:, None], past_key_values=past, use_cache=True)
            past = output.past_key_values
            below = torch.softmax(output.logits[:, -1].double(), -1).cumsum(-1)
            drawn = torch.from_numpy(source.random((count, 1))).to(device) * below[:, -1:]
            columns.append(torch.searchsorted(below, drawn, right=True)[:, 0].clamp(max=below.shape[-1] - 1))
    return tuple(torch.stack(columns, 1).cpu().numpy())
