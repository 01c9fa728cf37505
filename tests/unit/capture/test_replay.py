# SPDX-License-Identifier: Apache-2.0
"""Outputs are equal where every bit is, and the kind and shape as well."""

from __future__ import annotations

import itertools

import pytest
import torch

from weighmaster.capture.replay import output_sha256
from weighmaster.errors import UsageError

X = torch.arange(6, dtype=torch.float32)


def test_equal_bits_give_equal_digests():
    grown = torch.stack([X, X + 1]).t().contiguous().t()
    assert output_sha256({"a": (X, None)}) == output_sha256({"a": [X.clone(), None]})
    assert output_sha256(grown) == output_sha256(grown.contiguous())
    assert output_sha256(torch.tensor(float("nan"))) == output_sha256(torch.tensor(float("nan")))
    assert output_sha256(X.bfloat16()) == output_sha256(X.bfloat16())


def test_whatever_differs_gives_another_digest():
    flipped = X.clone()
    flipped.view(torch.int32)[3] ^= 1
    values = [
        X,
        flipped,
        X.reshape(2, 3),
        X.view(torch.int32),
        [X],
        [X, X],
        {"a": X},
        {"b": X},
        torch.tensor(0.0),
        torch.tensor(-0.0),
        "1",
        b"1",
        1,
        True,
        None,
        [],
        [[]],
        [b"12", b""],
        [b"1", b"2"],
    ]
    digests = [output_sha256(value) for value in values]
    assert [
        pair for pair in itertools.combinations(range(len(values)), 2) if len({digests[i] for i in pair}) == 1
    ] == []


@pytest.mark.parametrize("value", [1.5, object(), [{"a": {1, 2}}]])
def test_what_has_no_bytes_of_ours_is_refused(value):
    with pytest.raises(UsageError, match="replay: expected tensors, bytes, text or whole numbers, found"):
        output_sha256(value)
