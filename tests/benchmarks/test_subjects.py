# SPDX-License-Identifier: Apache-2.0
"""Weights are replaced whole or not at all, every byte of a pack is counted, and a measurement is kept by pack root."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def subjects(script):
    return script("subjects.py")


@pytest.fixture
def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))


def test_rebuilt_tensors_take_the_place_of_a_model_s_own(subjects, model):
    tensors = {name: torch.full(p.shape, 0.25, dtype=torch.bfloat16) for name, p in model.named_parameters()}
    subjects.replace(model, tensors)
    assert all((p == 0.25).all() and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("0.weight"), "0.weight: missing among the rebuilt tensors"),
        (
            lambda tensors: tensors.update({"0.weight": torch.zeros(3, 2)}),
            r"0.weight: shape \(3, 2\), expected \(2, 3\)",
        ),
    ],
)
def test_a_tensor_that_is_missing_or_misshapen_is_named(subjects, model, change, message):
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    change(tensors)
    with pytest.raises(ValueError, match=message):
        subjects.replace(model, tensors)


def test_real_bits_count_shards_and_indices_and_nothing_else(script, subjects, tmp_path):
    source, pack = tmp_path / "source", tmp_path / "pack"
    for directory in (source, pack):
        directory.mkdir()
    safetensors.save_file({"a": torch.zeros(10, 7), "b": torch.zeros(())}, source / "one.safetensors")
    safetensors.save_file({"c": torch.zeros(29, dtype=torch.int64)}, source / "two.safetensors")
    assert subjects.elements(source) == 100
    sizes = {"model-1.safetensors": 40, "model-2.safetensors": 30, "model.safetensors.index.json": 20, "pack.index": 10}
    for name, size in (sizes | {"tokenizer.json": 1000, "config.json": 100}).items():
        (pack / name).write_bytes(bytes(size))
    assert script("own_packs.py").real_bits(pack, source) == 8 * 100 / 100


def test_a_measurement_is_kept_by_pack_root_and_subject(script, subjects, tmp_path):
    plan = subjects.Plan(models=Path(), half="report", sequences=1, texts=1, wanted=(), work=tmp_path)
    rebuilt = script("peers/__init__.py").Rebuilt
    calls = []

    def measure(method):
        calls.append(method.key)
        return {"kl": [len(calls)]}

    def kept(subject, key):
        method = rebuilt(name="n", what="w", nbytes=1, tensors={}, key=key)
        return plan.kept(subject, method, measure)["kl"]

    assert [kept("s", "root"), kept("s", "root"), kept("t", "root"), kept("s", "other")] == [[1], [1], [2], [3]]
    assert [kept("s", ""), kept("s", "")] == [[4], [5]]  # a peer has no root: measured each time
    assert calls == ["root", "root", "other", "", ""]
