# SPDX-License-Identifier: Apache-2.0
"""Generated inputs fit the model that they are generated for, and are the same everywhere."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from weighmaster.capture.probe_auto import auto_probe
from weighmaster.errors import UsageError


def test_causal_models_get_prefill_at_two_batches_and_cached_steps(llama: Any) -> None:
    model = llama()
    probe = auto_probe(model)
    assert probe.kind == "causal-lm"
    assert [c["kwargs"].get("past_key_values") for c in probe.calls] == [None, None, {"past": True}, {"past": True}]
    outputs = probe.run(model)
    assert [tuple(o.logits.shape[:2]) for o in outputs] == [(2, 16), (1, 16), (1, 1), (1, 1)]
    assert outputs[-1].past_key_values.get_seq_length() == 18


def test_encoders_get_masks_at_two_batches(bert: Any) -> None:
    model = bert()
    probe = auto_probe(model)
    assert probe.kind == "encoder"
    assert [tuple(o.last_hidden_state.shape) for o in probe.run(model)] == [(1, 16, 32), (2, 16, 32)]


def test_sequences_fit_short_models(bert: Any, llama: Any) -> None:
    for model in (bert(max_position_embeddings=8), llama(max_position_embeddings=8)):
        probe = auto_probe(model)
        probe.run(model)
        assert max(t.shape[-1] for t in probe.inputs()) == 6


def test_encoder_decoder_models_run() -> None:
    from transformers import T5Config, T5Model

    model = T5Model(T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).eval()
    probe = auto_probe(model)
    assert probe.kind == "encoder-decoder"
    assert len(probe.run(model)) == 2


def test_image_models_run_in_their_own_type() -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    model = ViTModel(config).eval()
    probe = auto_probe(model)
    assert probe.kind == "image"
    assert tuple(probe.inputs()[0].shape) == (1, 3, 16, 16)
    assert len(probe.run(model)) == 2


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Linear(5, 2), (1, 5)),
        (torch.nn.Conv1d(2, 3, 3), (1, 2, 128)),
        (torch.nn.Conv2d(3, 4, 3), (1, 3, 32, 32)),
        (torch.nn.Conv3d(1, 2, 3), (1, 1, 32, 32, 32)),
        (torch.nn.Embedding(7, 3), (1, 16)),
    ],
)
def test_without_a_configuration_the_first_layer_says_it(layer: torch.nn.Module, shape: tuple[int, ...]) -> None:
    probe = auto_probe(torch.nn.Sequential(layer))
    assert tuple(probe.inputs()[0].shape) == shape
    assert len(probe.run(torch.nn.Sequential(layer))) == 2


def test_a_half_precision_layer_gets_half_precision_inputs() -> None:
    assert auto_probe(torch.nn.Linear(2, 2).to(torch.bfloat16)).inputs()[0].dtype == torch.bfloat16


def test_it_is_refused_where_nothing_says_it() -> None:
    with pytest.raises(UsageError, match=r"cannot tell what LayerNorm takes as input.*example_inputs"):
        auto_probe(torch.nn.LayerNorm(3))


def test_inputs_do_not_depend_on_the_random_state(bert: Any, small: Any) -> None:
    for make in (bert, small):
        torch.manual_seed(1)
        first = auto_probe(make()).to_bytes()
        torch.manual_seed(2)
        torch.rand(3)
        assert auto_probe(make()).to_bytes() == first


def test_a_configuration_without_a_vocabulary_falls_back_to_layers() -> None:
    model: Any = torch.nn.Linear(3, 1)
    model.config = types.SimpleNamespace(model_type="x")
    assert auto_probe(model).kind == "features"
