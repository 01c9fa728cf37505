# SPDX-License-Identifier: Apache-2.0
"""Shards are planned by names and sizes alone, and have one header each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
from tests.packs import tiny, values, write_model, write_sharded

from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.core.safetensors_header import parse_header
from weighmaster.core.tensor import TensorView, view_of_bytes
from weighmaster.flows.packing import pack_model
from weighmaster.pack.index_rules import shard_names
from weighmaster.pack.packed import PackedFile, PackedTensor
from weighmaster.pack.reader import open_pack
from weighmaster.pack.shards import fixed_bytes, plan_shards, shard_header, shard_index_bytes, stored_form


def view(name: str, nbytes: int) -> TensorView:
    return view_of_bytes(name, bytes(nbytes))


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([1, 2, 3], [[1, 2, 3]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([11, 1], [[11], [1]]),
        ([1, 11, 1], [[1], [11], [1]]),
        ([0, 0, 10, 0], [[0, 0, 10, 0]]),
    ],
)
def test_groups_keep_the_order_and_the_limit(sizes: list[int], groups: list[list[int]]):
    planned = plan_shards([view(str(i), n) for i, n in enumerate(sizes)], limit=10)
    assert [[v.nbytes for v in group] for group in planned] == groups
    assert [v.name for group in planned for v in group] == [str(i) for i in range(len(sizes))]


def test_names_of_shards():
    assert shard_names(1) == ("model.safetensors",)
    assert shard_names(12)[10] == "model-00011-of-00012.safetensors"


def packed(name: str, codec: str, dtype: str, shape: tuple[int, ...]) -> PackedTensor:
    return PackedTensor(name=name, dtype=dtype, shape=shape, codec=codec, shard=0, blob="", sha256="", fsverity64k="")


def test_a_header_has_blobs_as_bytes_after_wider_elements():
    forms = [
        stored_form(packed("z", "five-v1", "float32", (4, 4)), 100),
        stored_form(packed("a", "exact-v1", "bfloat16", (4, 4)), 50),
        stored_form(packed("n", "raw-v1", "float64", (2,)), 16),
    ]
    front = shard_header(forms)
    assert shard_header(reversed(forms)) == front
    assert len(front) % 8 == 0
    assert int.from_bytes(front[:8], "little") == len(front) - 8
    header = parse_header(front[8:], "x")
    assert header.metadata == (("format", "pt"),)
    found = [(e.name, e.dtype, e.shape, e.begin) for e in header.entries]
    assert found == [("n", "float64", (2,), 0), ("a", "uint8", (50,), 16), ("z", "uint8", (100,), 66)]


def test_other_readers_open_a_shard(tmp_path: Path):
    pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p")
    with safetensors.safe_open(tmp_path / "p" / "model.safetensors", "pt") as shard:
        assert sorted(shard.keys()) == ["a.bias", "a.weight", "steps"]
        assert shard.get_tensor("a.bias").shape == (6,)


def test_the_index_of_shards():
    data = shard_index_bytes(("s1", "s2"), [("a", 1), ("b", 0)], 77)
    assert json.loads(data) == {"metadata": {"total_size": 77}, "weight_map": {"a": "s2", "b": "s1"}}


@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_not_blobs_is_known_beforehand(tmp_path: Path, shards: int):
    big = {f"layers.{i}.weight": ("bfloat16", (64, 64), values("bfloat16", (64, 64), i)) for i in range(24)}
    parts = [dict(list(big.items())[i::shards]) for i in range(shards)]
    model = write_sharded(tmp_path / "m", parts)
    result = pack_model(model, tmp_path / "p", shard_bytes=8192 * 24 // shards)
    with open_checkpoint(model) as checkpoint:
        groups = plan_shards(checkpoint.views(), 8192 * 24 // shards)
        assert len(groups) == shards == len(result.index.shards)
        source = tuple(PackedFile(path=f.path.name, sha256="0" * 64, size=10**6) for f in checkpoint.files)
        planned = fixed_bytes(groups, source=source, others=(), calibrated=False)
    with open_pack(tmp_path / "p") as pack:
        real = pack.nbytes() - sum(pack.blob_size(name) for name in pack)
    # A kilobyte more than it takes: room for parameters, which this encoder has none of.
    assert 0 <= planned - real <= 1_200
