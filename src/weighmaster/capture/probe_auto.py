# SPDX-License-Identifier: Apache-2.0
"""Build a probe set for a model from its configuration, with a stated seed (probe-set v1, kind by kind)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from weighmaster.capture.probe_set import SEED, ProbeSet
from weighmaster.errors import UsageError

__all__ = ["auto_probe"]

_LENGTH: Final = 16
"""Tokens per generated sequence."""

_SIDE: Final = 32
"""Pixels per side where no configuration states them."""


def auto_probe(model: torch.nn.Module) -> ProbeSet:
    """Return generated inputs: batch 1 and 2, and for causal language models two cached decode steps as well.

    The kind is read from the Hugging Face configuration; without one, from the first layer that has weights.

    Raises:
        UsageError: neither says what the model takes; give ``example_inputs``.
    """
    config = getattr(model, "config", None)
    if type(model).__name__ == "SentenceTransformer":
        return _sentence(model)
    if config is None or not hasattr(config, "model_type"):
        return _from_layers(model)
    if getattr(config, "is_encoder_decoder", False):
        return _encoder_decoder(config)
    if getattr(model, "main_input_name", "input_ids") == "pixel_values" or hasattr(config, "image_size"):
        return _image(config)
    if not hasattr(config, "vocab_size"):
        return _from_layers(model)
    if _is_causal(model, config):
        return _causal(config)
    return _encoder(config)


def _is_causal(model: torch.nn.Module, config: Any) -> bool:
    generate = getattr(model, "can_generate", None)
    causal_class = any("CausalLM" in a for a in (getattr(config, "architectures", None) or ()))
    return bool(generate()) if callable(generate) else causal_class


class _Builder:
    """Names generated tensors and collects calls."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.random = torch.Generator().manual_seed(SEED)
        self.tensors: dict[str, torch.Tensor] = {}
        self.calls: list[Mapping[str, Any]] = []

    def tokens(self, vocabulary: int, batch: int, length: int) -> torch.Tensor:
        return torch.randint(0, vocabulary, (batch, length), generator=self.random)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, generator=self.random).to(dtype)

    def call(self, args: tuple[torch.Tensor, ...] = (), **kwargs: Any) -> None:
        """Add a call; tensors among the values are named after it."""
        i = len(self.calls)
        plan_args = [self._leaf(f"call.{i}.args.{j}", a) for j, a in enumerate(args)]
        plan_kwargs = {k: self._leaf(f"call.{i}.{k}", v) for k, v in kwargs.items()}
        self.calls.append({"args": plan_args, "kwargs": plan_kwargs})

    def _leaf(self, name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, torch.Tensor):
            self.tensors[name] = value
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {"dict": {k: self._leaf(f"{name}.{k}", v) for k, v in value.items()}}
        return {"past": True} if value is _PAST else {"value": value}

    def done(self) -> ProbeSet:
        return ProbeSet(kind=self.kind, seed=SEED, calls=tuple(self.calls), tensors=tuple(sorted(self.tensors.items())))


_PAST: Final = object()


def _causal(config: Any) -> ProbeSet:
    build, vocabulary = _Builder("causal-lm"), int(config.vocab_size)
    length = min(_LENGTH, int(getattr(config, "max_position_embeddings", _LENGTH) or _LENGTH) - 2)
    for batch in (2, 1):
        build.call(input_ids=build.tokens(vocabulary, batch, length), use_cache=True)
    for _step in range(2):
        build.call(input_ids=build.tokens(vocabulary, 1, 1), past_key_values=_PAST, use_cache=True)
    return build.done()


def _encoder(config: Any) -> ProbeSet:
    build, vocabulary = _Builder("encoder"), int(config.vocab_size)
    length = min(_LENGTH, int(getattr(config, "max_position_embeddings", _LENGTH) or _LENGTH) - 2)
    for batch in (1, 2):
        mask = torch.ones(batch, length, dtype=torch.int64)
        build.call(input_ids=build.tokens(vocabulary, batch, length), attention_mask=mask)
    return build.done()


def _sentence(model: Any) -> ProbeSet:
    build = _Builder("encoder")
    vocabulary = int(model[0].auto_model.config.vocab_size)
    for batch in (1, 2):
        mask = torch.ones(batch, _LENGTH, dtype=torch.int64)
        features = {"input_ids": build.tokens(vocabulary, batch, _LENGTH), "attention_mask": mask}
        i = len(build.calls)
        build.calls.append({"args": [build._leaf(f"call.{i}.args.0", features)], "kwargs": {}})
    return build.done()


def _encoder_decoder(config: Any) -> ProbeSet:
    build, vocabulary = _Builder("encoder-decoder"), int(config.vocab_size)
    for batch in (1, 2):
        source, target = build.tokens(vocabulary, batch, _LENGTH), build.tokens(vocabulary, batch, 4)
        build.call(input_ids=source, decoder_input_ids=target)
    return build.done()


def _image(config: Any) -> ProbeSet:
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", _SIDE)
    height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
    build = _Builder("image")
    dtype = getattr(config, "dtype", None) or torch.float32
    for batch in (1, 2):
        build.call(
            pixel_values=build.normal(batch, int(getattr(vision, "num_channels", 3)), height, width, dtype=dtype)
        )
    return build.done()


def _from_layers(model: torch.nn.Module) -> ProbeSet:
    """Read the input's kind from the first layer that has weights."""
    for module in model.modules():
        shape = _layer_input(module)
        if shape is None:
            continue
        build = _Builder("tokens" if isinstance(module, torch.nn.Embedding) else "features")
        dtype = module.weight.dtype if isinstance(module.weight, torch.Tensor) else torch.float32
        for batch in (1, 2):
            if isinstance(module, torch.nn.Embedding):
                build.call((build.tokens(module.num_embeddings, batch, _LENGTH),))
            else:
                build.call((build.normal(batch, *shape, dtype=dtype),))
        return build.done()
    raise UsageError(
        f"cannot tell what {type(model).__qualname__} takes as input: it has no configuration and no layer that says "
        "so; give example_inputs (or --example FILE or module:callable)"
    )


def _layer_input(module: torch.nn.Module) -> tuple[int, ...] | None:
    if isinstance(module, torch.nn.Embedding):
        return ()
    if isinstance(module, torch.nn.Linear):
        return (module.in_features,)
    if isinstance(module, torch.nn.Conv1d):
        return (module.in_channels, 4 * _SIDE)
    if isinstance(module, torch.nn.Conv2d):
        return (module.in_channels, _SIDE, _SIDE)
    if isinstance(module, torch.nn.Conv3d):
        return (module.in_channels, _SIDE, _SIDE, _SIDE)
    return None
