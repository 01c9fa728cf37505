# SPDX-License-Identifier: Apache-2.0
"""Plain values have one text in every process, and different values have different texts."""

from __future__ import annotations

import enum
import logging
import pathlib
import threading
import types

import numpy as np
import pytest
import torch

from weighmaster.capture.torch_plain import is_opaque, long_value, plain_text


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (1, "1"),
        (0.1, "0x1.999999999999ap-4"),
        (-0.0, "-0x0.0p+0"),
        (float("nan"), "nan"),
        (1 + 2j, "0x1.0000000000000p+0+0x1.0000000000000p+1j"),
        ("a'b", '"a\'b"'),
        (Colour.RED, "Colour.RED"),
        (torch.float16, "torch.float16"),
        (torch.device("cpu"), "cpu"),
        (torch.Size([1, 2]), "Size(1, 2)"),
        (slice(1, None), "slice(1, None, None)"),
        (pathlib.PurePosixPath("/home/a/model"), "path 'model'"),
        (torch.nn.Linear, "class torch.nn.modules.linear.Linear"),
        (np.float32(0.5), "float32 0000003f"),
        ([1, (2, "x")], "list(1, tuple(2, 'x'))"),
        ({"b": 1, "a": 2}, "dict('b': 1, 'a': 2)"),
        ({"x"}, "set('x')"),
        (types.MappingProxyType({"a": 1}), "dict('a': 1)"),
        (b"", f"bytes sha256:{'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'} (0 bytes)"),
        (len, "builtin builtins.len"),
    ],
)
def test_text_of_plain_values(value: object, text: str) -> None:
    assert plain_text(value) == text


def test_sets_are_written_in_one_order() -> None:
    assert plain_text({"b", "a", "c"}) == "set('a', 'b', 'c')"


@pytest.mark.parametrize(
    "value", [torch.ones(1), [torch.ones(1)], {"k": object()}, object(), lambda: 1, {(): [object()]}]
)
def test_what_is_not_plain_has_no_text(value: object) -> None:
    assert plain_text(value) is None


def test_a_list_that_holds_itself_has_no_text() -> None:
    ring: list[object] = []
    ring.append(ring)
    assert plain_text(ring) is None


def test_opaque_are_things_without_tensors() -> None:
    assert all(is_opaque(v) for v in (logging.getLogger("x"), threading.Lock(), torch.Generator(), iter([1])))
    walked = ([torch.ones(1)], (torch.ones(1),), {}, types.MappingProxyType({}), lambda: 1, types.SimpleNamespace())
    assert not any(is_opaque(v) for v in walked)


def test_long_and_unprintable_texts_become_digests() -> None:
    assert long_value("x" * 512) == "x" * 512
    assert long_value("x" * 513).startswith("sha256:")
    assert long_value("x" * 513).endswith("(513 bytes)")
    assert long_value("a\x00").startswith("sha256:")
    assert long_value("\ud800").startswith("sha256:")
    assert long_value("x" * 513) != long_value("y" * 513)
