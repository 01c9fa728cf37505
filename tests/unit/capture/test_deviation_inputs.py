# SPDX-License-Identifier: Apache-2.0
"""Token sequences of the user, and made-up ones."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weighmaster.capture.deviation_inputs import (
    Inputs,
    cut,
    random_tokens,
    read_texts,
    read_tokens,
    sample_tokens,
    spread,
)
from weighmaster.errors import MalformedArtefact


def lists(sequences):
    return [list(map(int, sequence)) for sequence in sequences]


def test_npy_of_one_dimension_is_cut(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(10, dtype=np.uint16))
    assert lists(read_tokens(tmp_path / "t.npy", length=4, vocabulary=10)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert lists(read_tokens(tmp_path / "t.npy", length=99, vocabulary=10)) == [list(range(10))]


def test_rows_stay_as_they_are(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(6).reshape(2, 3))
    assert lists(read_tokens(tmp_path / "t.npy", length=2, vocabulary=6)) == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "t.json").write_text(json.dumps([[1, 2, 3], [4, 5]]))
    assert lists(read_tokens(tmp_path / "t.json", length=2, vocabulary=6)) == [[1, 2, 3], [4, 5]]
    (tmp_path / "t.json").write_text(json.dumps([1, 2, 3, 4, 5]))
    assert lists(read_tokens(tmp_path / "t.json", length=2, vocabulary=6)) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([1.0, 2.0]), "integers in one or two dimensions"),
        (np.zeros((1, 1, 1), int), "integers in one or two dimensions"),
        (np.array([1, -1]), "ids from 0 to 4"),
        (np.array([1, 5]), "ids from 0 to 4"),
        (np.array([{}, None], dtype=object), "a .npy file without objects"),
    ],
)
def test_npy_of_something_else(tmp_path, array, expected):
    np.save(tmp_path / "t.npy", array, allow_pickle=True)
    with pytest.raises(MalformedArtefact, match=expected):
        read_tokens(tmp_path / "t.npy", length=2, vocabulary=5)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '["a"]', "[1, [2]]", "[[1], 2]", "[1.5]", "[true]", "[", "[1,1] x", "[9]"]
)
def test_json_of_something_else(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(MalformedArtefact, match=r"t\.json"):
        read_tokens(tmp_path / "t.json", length=2, vocabulary=5)


def test_a_file_that_only_says_npy(tmp_path):
    (tmp_path / "t.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(MalformedArtefact, match=r"a \.npy file without objects"):
        read_tokens(tmp_path / "t.npy", length=2, vocabulary=5)


def test_an_even_spread_begins_with_the_first():
    every = tuple(np.array([i]) for i in range(10))
    assert lists(spread(every, 4)) == [[0], [2], [5], [7]]
    assert spread(every, 10) == every == spread(every, 99)
    assert lists(cut(np.arange(5), 5)) == [[0, 1, 2, 3, 4]]


class Words:
    """As a tokenizer: lengths of words, 9 before each text."""

    def __call__(self, text, *, truncation=False, max_length=None, verbose=True):
        if isinstance(text, list):
            assert truncation
            return {"input_ids": [[9, *map(len, line.split())][:max_length] for line in text]}
        return {"input_ids": [9, *map(len, text.split())]}


def test_texts(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("a bb ccc\n\n  \ndddd e\n", encoding="utf-8")
    assert lists(read_texts(file, Words(), length=3, lines=True)) == [[9, 1, 2], [9, 4, 1]]
    assert lists(read_texts(file, Words(), length=3, lines=False)) == [[9, 1, 2], [3, 4, 1]]
    file.write_bytes(b"ab\xff")
    with pytest.raises(MalformedArtefact, match="byte 2: expected UTF-8"):
        read_texts(file, Words(), length=3, lines=True)
    file.write_bytes(b" \n")
    with pytest.raises(MalformedArtefact, match="expected text, found none"):
        read_texts(file, Words(), length=3, lines=True)


def test_digest_is_of_little_endian_32_bit_integers():
    inputs = Inputs(kind="tokens", seed=None, available=2, sequences=(np.array([1, 2]), np.array([70000])))
    assert inputs.sha256 == hashlib.sha256(struct.pack("<3i", 1, 2, 70000)).hexdigest()
    assert inputs.tokens == 3


def test_random_tokens_are_the_same_everywhere():
    found = random_tokens(count=2, length=3, vocabulary=1000)
    assert lists(found) == lists(random_tokens(count=2, length=3, vocabulary=1000))
    assert lists(found) == RANDOM


RANDOM = [[662, 243, 156], [46, 308, 603]]


class Chain(torch.nn.Module):
    """Token n is followed by n + 1 or n + 2, and the cache has to be handed on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps = []

    def forward(self, input_ids, past_key_values, use_cache):
        self.steps.append((tuple(input_ids.shape), past_key_values, use_cache))
        logits = torch.full((*input_ids.shape, 50), -torch.inf)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            logits[row, -1, (token + 1) % 50] = logits[row, -1, (token + 2) % 50] = 0.0
        return SimpleNamespace(logits=logits, past_key_values=len(self.steps))


def test_a_model_writes_its_own_tokens():
    model = Chain()
    found = lists(sample_tokens(model, count=20, length=10, vocabulary=50, start=3))
    assert all(len(sequence) == 10 and sequence[0] == 3 for sequence in found)
    steps = {(b - a) % 50 for sequence in found for a, b in itertools.pairwise(sequence)}
    assert steps == {1, 2}
    assert len({tuple(sequence) for sequence in found}) > 10
    assert found == lists(sample_tokens(Chain(), count=20, length=10, vocabulary=50, start=3))
    assert model.steps == [((20, 1), i or None, True) for i in range(9)]
    free = lists(sample_tokens(Chain(), count=20, length=2, vocabulary=50, start=None))
    assert len({sequence[0] for sequence in free}) > 5
