# SPDX-License-Identifier: Apache-2.0
"""The trace of leaf modules: order, digests, and where two runs part."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch

from weighmaster.capture.module_trace import ModuleTrace, first_divergence, subsystem


def _model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2)).eval()


def test_outputs_stand_in_the_order_of_execution_and_hooks_go_away() -> None:
    model, x = _model(), torch.ones(3, 4)
    with torch.no_grad(), ModuleTrace(model, keep=True) as trace:
        y = model(x)
    assert [(o.index, o.module, o.kind, o.shape) for o in trace.outputs] == [
        (0, "0", "Linear", (3, 8)),
        (1, "1", "LayerNorm", (3, 8)),
        (2, "2", "Linear", (3, 2)),
    ]
    assert trace.outputs[-1].sha256 == hashlib.sha256(y.numpy().tobytes()).hexdigest()
    assert trace.outputs[-1].absmax == float(y.abs().max())
    assert torch.equal(trace.values[-1], y.double())
    assert not any(m._forward_hooks for m in model.modules())


def test_hooks_change_no_bit_of_the_output() -> None:
    model, x = _model(), torch.randn(5, 4)
    with torch.no_grad():
        plain = model(x)
        with ModuleTrace(model):
            traced = model(x)
    assert torch.equal(plain, traced)


def test_hooks_go_away_when_the_model_raises() -> None:
    model = _model()
    with pytest.raises(RuntimeError), ModuleTrace(model):
        model(torch.ones(3, 5))
    assert not any(m._forward_hooks for m in model.modules())


def test_one_flipped_bit_is_located() -> None:
    model, x = _model(), torch.ones(3, 4)
    with torch.no_grad(), ModuleTrace(model) as before:
        model(x)
    norm = model[1]
    assert isinstance(norm, torch.nn.LayerNorm)
    norm.weight.data.view(torch.int32)[0] ^= 1 << 20
    with torch.no_grad(), ModuleTrace(model) as after:
        model(x)
    assert first_divergence(before.outputs, before.outputs) is None
    assert first_divergence(before.outputs, after.outputs) == 1
    assert first_divergence(before.outputs, before.outputs[:2]) == 2
    assert first_divergence(before.outputs, before.outputs[1:]) == 0


def test_a_nan_is_not_hidden_by_the_magnitude() -> None:
    model = torch.nn.Identity()
    with ModuleTrace(model) as trace:
        model(torch.tensor([1.0, math.nan]))
    assert math.isnan(trace.outputs[0].absmax)


@pytest.mark.parametrize(
    ("kind", "module", "word"),
    [
        ("LayerNorm", "embeddings.LayerNorm", "normalisation"),
        ("LlamaRMSNorm", "model.norm", "normalisation"),
        ("Linear", "model.layers.0.self_attn.q_proj", "GEMM"),
        ("Linear", "model.layers.0.self_attn.o_proj", "attention backend"),
        ("Linear", "encoder.layer.0.attention.output.dense", "attention backend"),
        ("Linear", "encoder.layer.0.intermediate.dense", "GEMM"),
        ("GELUActivation", "encoder.layer.0.intermediate.intermediate_act_fn", "activation"),
        ("Embedding", "model.embed_tokens", "look-up"),
        ("Softplus", "gate", "kernels of Softplus"),
    ],
)
def test_the_subsystem_that_a_module_points_to(kind: str, module: str, word: str) -> None:
    assert word in subsystem(kind, module)
