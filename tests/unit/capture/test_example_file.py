# SPDX-License-Identifier: Apache-2.0
"""Example inputs from files: a probe set of ours stays as it is, other tensors become one call's keyword arguments."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from weighmaster.capture.example_file import read_examples
from weighmaster.capture.probe_set import from_examples
from weighmaster.errors import MalformedArtefact, UsageError


def test_probe_set_of_ours_is_taken_byte_for_byte(tmp_path):
    probe = from_examples([(torch.arange(6).reshape(2, 3), {"flag": True}), {"x": torch.ones(1, dtype=torch.bfloat16)}])
    path = tmp_path / "probe.safetensors"
    path.write_bytes(probe.to_bytes())
    assert read_examples(path).to_bytes() == probe.to_bytes()


def test_other_tensors_are_keyword_arguments_bit_for_bit(tmp_path):
    tensors = {
        "input_ids": torch.tensor([[101, 7, 102]]),
        "nan": torch.tensor([0x7FC00001, -0x80000000], dtype=torch.int32).view(torch.float32),
        "empty": torch.empty(0, 4),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    (out,) = read_examples(tmp_path / "x.safetensors").run(lambda **kwargs: kwargs)
    assert set(out) == set(tensors)
    for name, tensor in tensors.items():
        assert (out[name].dtype, out[name].shape) == (tensor.dtype, tensor.shape)
        assert out[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_files_that_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_examples(tmp_path / "absent.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(MalformedArtefact, match=r"none\.safetensors: expected at least one tensor, found none"):
        read_examples(tmp_path / "none.safetensors")
    save_file({"x": torch.ones(2)}, tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-1])
    with pytest.raises(
        MalformedArtefact, match=r"cut\.safetensors: expected \d+ bytes, found \d+: the file is truncated"
    ):
        read_examples(tmp_path / "cut.safetensors")
    save_file({"x": torch.ones(2)}, tmp_path / "plan.safetensors", metadata={"probe-set": '{"scheme":"probe-set-v9"}'})
    with pytest.raises(
        MalformedArtefact, match=r"plan\.safetensors: scheme: expected .*probe-set-v1.*, found .*probe-set-v9"
    ):
        read_examples(tmp_path / "plan.safetensors")
