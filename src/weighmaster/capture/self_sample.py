# SPDX-License-Identifier: Apache-2.0
"""Tokens to calibrate on: written by the model itself from a seed, so that no one's data enters a pack; or given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from weighmaster.capture.calibration import collect, is_causal, named_as, token_digest
from weighmaster.durable import read_whole
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.pack.statistics import Statistics

__all__ = ["COUNT", "LENGTH", "SEED", "Calibration", "calibrate", "read_tokens", "self_sample", "words_sample"]

COUNT, LENGTH, SEED = 64, 256, 42
"""Sequences, tokens of each, and seed, of a calibration on the model's own text."""

_MOST_BYTES: Final = 1 << 28
_TOKENS: Final = (".npy", ".json")
_WORD_MARKS: Final = "#\u0120\u2581"
_ZIPF_SHIFT: Final = 2.7
"""Of the Zipf-Mandelbrot law of word frequencies."""

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Statistics by the names of a checkpoint, and what they were taken on.

    Attributes:
        statistics: for `pack.plan.plan_calibrated`.
        kind: ``self`` or ``file``.
        sha256: of the tokens, as the index of a pack has it.
        tokens: their number.
    """

    statistics: Statistics
    kind: str
    sha256: str
    tokens: int


def calibrate(
    model: torch.nn.Module,
    names: Sequence[str],
    *,
    tokenizer: Any = None,
    file: Path | None = None,
    work: Path | None = None,
) -> Calibration:
    """Calibrate a model on its own text, or on a file.

    Args:
        model: in float32 and evaluation mode, on the CPU.
        names: of the tensors of its checkpoint.
        tokenizer: of the model; needed for a file of text, and for the words of an encoder.
        file: text, or tokens as `read_tokens` reads them; None for the model's own text.
        work: an existing directory for large matrices.

    Raises:
        UsageError: text without a tokenizer, or a model that cannot be calibrated.
        MalformedArtefact: the file does not hold tokens of the model.
    """
    if file is not None:
        sequences = read_tokens(file, _vocabulary(model), tokenizer=tokenizer, length=_longest(model))
    elif is_causal(model):
        sequences = list(self_sample(model, COUNT, _longest(model), SEED))
    else:
        sequences = words_sample(model, tokenizer, 4 * COUNT, _longest(model) // 4, SEED)
    statistics = collect(model, sequences, seed=SEED, work=work)
    return Calibration(
        statistics=named_as(statistics, names),
        kind="self" if file is None else "file",
        sha256=token_digest(sequences),
        tokens=sum(map(len, sequences)),
    )


def self_sample(model: torch.nn.Module, count: int, length: int, seed: int) -> Tokens:
    """Return text that a causal language model writes: int64 [count, length].

    Each sequence begins with a token drawn evenly from the vocabulary; each next one is drawn from the model's
    distribution as it is. The same model and seed give the same text on one machine.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(_vocabulary(model), (count, 1), generator=generator)
    state, last = None, tokens
    with torch.no_grad():
        for _ in range(length - 1):
            answer: Any = model(input_ids=last, past_key_values=state, use_cache=True)
            state = answer.past_key_values
            last = torch.multinomial(torch.softmax(answer.logits[:, -1].float(), -1), 1, generator=generator)
            tokens = torch.cat([tokens, last], 1)
    return tokens.numpy()


def words_sample(model: torch.nn.Module, tokenizer: Any, count: int, length: int, seed: int) -> list[Tokens]:
    """Return sequences of words for an encoder, which cannot write: as frequent as words of their rank are (Zipf).

    Vocabularies are in the order of frequency, nearly; without a tokenizer every token counts as a word.
    """
    words = _words(tokenizer) if tokenizer is not None else np.arange(_vocabulary(model))
    weights = 1.0 / (np.arange(len(words)) + _ZIPF_SHIFT)
    generator = np.random.default_rng(seed)
    lengths = generator.integers(max(2, length // 8), length + 1, count) // 4 * 4 + 2
    bodies = [generator.choice(words, int(n), p=weights / weights.sum()) for n in lengths]
    return [_framed(body, tokenizer) for body in bodies]


def _words(tokenizer: Any) -> Tokens:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    ids = [i for text, i in vocabulary.items() if len(word := text.strip(_WORD_MARKS)) > 1 and word.isalpha()]
    return np.array(sorted(ids) or sorted(vocabulary.values()), np.int64)


def _framed(body: Tokens, tokenizer: Any) -> Tokens:
    ends = [getattr(tokenizer, name, None) for name in ("cls_token_id", "sep_token_id")]
    first, last = ([] if i is None else [i] for i in ends)
    return np.concatenate([np.array(first, np.int64), body.astype(np.int64), np.array(last, np.int64)])


def read_tokens(file: Path, vocabulary: int, *, tokenizer: Any, length: int) -> list[Tokens]:
    """Read what to calibrate on: ``.npy`` or ``.json`` with token numbers, any other name text in UTF-8.

    Token numbers are one list, which is cut into sequences, or a list of lists.

    Raises:
        UsageError: text, and no tokenizer.
        MalformedArtefact: something else is in it, or a number outside the vocabulary.
        StorageError: it cannot be read.
    """
    data = read_whole(file, limit=_MOST_BYTES) if file.suffix != ".npy" else b""
    if file.suffix == ".npy":
        lists = _from_numpy(file)
    elif file.suffix == ".json":
        lists = _from_json(data, file)
    elif tokenizer is None:
        raise UsageError(f"{file}: text is turned into tokens by the model's tokenizer, and there is none")
    else:
        lists = [np.array(tokenizer.encode(_text(data, file)), np.int64)]
    sequences = [piece for tokens in lists for piece in _pieces(tokens, length)]
    for i, tokens in enumerate(sequences):
        if int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary:
            found = str(int(tokens.min() if int(tokens.min()) < 0 else tokens.max()))
            raise MalformedArtefact(str(file), f"sequence {i}", expected=f"tokens below {vocabulary}", found=found)
    if not sequences:
        raise MalformedArtefact(str(file), "", expected="a sequence of at least two tokens", found="none")
    return sequences


def _pieces(tokens: Tokens, length: int) -> Iterator[Tokens]:
    pieces = (tokens[i : i + length] for i in range(0, len(tokens), length))
    return (piece for piece in pieces if len(piece) > 1)


def _text(data: bytes, file: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedArtefact(str(file), "", expected="text in UTF-8", found=f"byte {error.start}") from None


def _from_numpy(file: Path) -> list[Tokens]:
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise MalformedArtefact(str(file), "", expected="a NumPy array", found=str(error)) from None
    if array.dtype.kind not in "iu" or array.ndim not in {1, 2}:
        found = f"{array.dtype}, {array.ndim} dimensions"
        raise MalformedArtefact(str(file), "", expected="integers in one or two dimensions", found=found)
    return list(np.atleast_2d(array).astype(np.int64))


def _from_json(data: bytes, file: Path) -> list[Tokens]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise MalformedArtefact(str(file), "", expected="JSON", found=str(error)) from None
    lists = value if isinstance(value, list) and value and all(isinstance(v, list) for v in value) else [value]
    for i, tokens in enumerate(lists):
        if not isinstance(tokens, list) or not all(type(t) is int for t in tokens):
            raise MalformedArtefact(str(file), f"[{i}]", expected="a list of integers", found=type(tokens).__name__)
    return [np.array(tokens, np.int64) for tokens in lists]


def _vocabulary(model: torch.nn.Module) -> int:
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if not isinstance(size, int):
        raise UsageError("calibration: the model's configuration has no vocab_size; use the profile datafree")
    return size


def _longest(model: torch.nn.Module) -> int:
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    return min(LENGTH, most) if isinstance(most, int) else LENGTH
