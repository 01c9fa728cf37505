# SPDX-License-Identifier: Apache-2.0
"""The probe set: the inputs after which a model counts as steady. Build it, keep it in a file, run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils._pytree import tree_leaves

from weighmaster.capture.torch_storage import dtype_name, raw_bytes, tensor_of
from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.fields import Fields
from weighmaster.core.safetensors_header import parse_file
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.errors import MalformedArtefact, UsageError

__all__ = ["SCHEME", "SEED", "ProbeSet", "from_examples", "parse_probe_set"]

SCHEME: Final = "probe-set-v1"
SEED: Final = 20_480
"""Seed of generated inputs; any fixed number serves, and it is recorded in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSet:
    """Calls of the model, in order, and the tensors that they are made of.

    Attributes:
        kind: what the inputs are, such as ``causal-lm``, ``encoder``, ``image``, ``features`` or ``given``.
        seed: of generated inputs; -1 where they were given.
        calls: one plan per call: ``{"args": [...], "kwargs": {...}}``, whose leaves are ``{"tensor": name}``,
            ``{"value": plain}``, ``{"list": [...]}``, ``{"dict": {...}}`` or ``{"past": true}`` (the cache that the
            call before it returned).
        tensors: pairs of name and tensor, on the CPU.
    """

    kind: str
    seed: int
    calls: tuple[Mapping[str, Any], ...]
    tensors: tuple[tuple[str, torch.Tensor], ...]

    def to_bytes(self) -> bytes:
        """Return the safetensors file, the same for equal probe sets."""
        plan = dumps({"calls": self.calls, "kind": self.kind, "scheme": SCHEME, "seed": self.seed})
        entries = (
            (name, dtype_name(t), tuple(t.shape), raw_bytes(t)) for name, t in sorted(self.tensors, key=lambda p: p[0])
        )
        return safetensors_bytes(entries, {"probe-set": plan.decode("utf-8")})

    def run(self, model: Callable[..., Any], device: torch.device | None = None) -> tuple[Any, ...]:
        """Call `model` with each call's inputs, without gradients; return the outputs in order.

        The random state of torch is put back afterwards.
        """
        tensors = {name: t.to(device) if device is not None else t for name, t in self.tensors}
        outputs: list[Any] = []
        state = torch.random.get_rng_state()
        try:
            with torch.no_grad():
                for call in self.calls:
                    past = _cache_of(outputs[-1]) if outputs else None
                    args = [_build(a, tensors, past) for a in call["args"]]
                    kwargs = {k: _build(a, tensors, past) for k, a in call["kwargs"].items()}
                    outputs.append(model(*args, **kwargs))
        finally:
            torch.random.set_rng_state(state)
        return tuple(outputs)

    def inputs(self, device: torch.device | None = None) -> tuple[torch.Tensor, ...]:
        """Return the tensors alone."""
        return tuple(t.to(device) if device is not None else t for _, t in self.tensors)


def output_tensors(outputs: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
    """Return the tensors of outputs, in order; what is no tensor is left out."""
    return tuple(t for t in tree_leaves(outputs) if isinstance(t, torch.Tensor))


def _cache_of(output: Any) -> Any:
    if isinstance(output, Mapping) and "past_key_values" in output:
        return output["past_key_values"]
    return getattr(output, "past_key_values", None)


def _build(plan: Any, tensors: Mapping[str, torch.Tensor], past: Any) -> Any:
    if "tensor" in plan:
        return tensors[plan["tensor"]]
    if "value" in plan:
        return plan["value"]
    if "list" in plan:
        return [_build(p, tensors, past) for p in plan["list"]]
    if "dict" in plan:
        return {k: _build(p, tensors, past) for k, p in plan["dict"].items()}
    return past


def from_examples(example: Any) -> ProbeSet:
    """Return the probe set of inputs given by the caller.

    A call is a tensor, a tuple of arguments or a dict of keyword arguments; a list holds several calls.

    Raises:
        UsageError: there is nothing in it, or something that cannot be kept in a file.
    """
    calls = example if isinstance(example, list) else [example]
    if not calls:
        raise UsageError("example_inputs is empty: give at least one call")
    tensors: dict[str, torch.Tensor] = {}
    plans = []
    for i, call in enumerate(calls):
        args = call if isinstance(call, tuple) else () if isinstance(call, Mapping) else (call,)
        kwargs = call if isinstance(call, Mapping) else {}
        plans.append(
            {
                "args": [_plan(a, f"call.{i}.args.{j}", tensors) for j, a in enumerate(args)],
                "kwargs": {k: _plan(a, f"call.{i}.{k}", tensors) for k, a in kwargs.items()},
            }
        )
    made = ProbeSet(kind="given", seed=-1, calls=tuple(plans), tensors=tuple(sorted(tensors.items())))
    return parse_probe_set(made.to_bytes(), "example_inputs")  # what runs here is what every gate will read and run


def _plan(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if value is None or isinstance(value, (bool, int, str)):
        return {"value": value}
    if isinstance(value, (list, tuple)):
        return {"list": [_plan(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"dict": {str(k): _plan(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    raise UsageError(
        f"example_inputs: {name} is of type {type(value).__name__}; give tensors, integers, strings, lists, dicts"
    )


def parse_probe_set(data: bytes, file: str) -> ProbeSet:
    """Parse a probe-set file, strictly.

    Raises:
        MalformedArtefact: it is no safetensors file of this scheme, or a call names a tensor that is not in it.
    """
    entries, metadata = _read_small(data, file)
    if set(metadata) != {"probe-set"}:
        raise MalformedArtefact(file, "__metadata__", expected="the one key 'probe-set'", found=str(sorted(metadata)))
    plan = Fields(loads_canonical(metadata["probe-set"].encode("utf-8"), file), file=file)
    plan.text("scheme", choices=(SCHEME,))
    kind, seed = plan.text("kind"), plan.integer("seed", minimum=-1)
    tensors = {name: tensor_of(raw, dtype, shape) for name, dtype, shape, raw in entries}
    calls = plan.objects("calls", lambda f: _read_call(f, tensors))
    plan.done()
    if not calls:  # a model that is not run consumes nothing, and nothing of it would be traced
        raise plan.fault("calls", "at least one call", "none")
    return ProbeSet(kind=kind, seed=seed, calls=calls, tensors=tuple(sorted(tensors.items())))


def _read_small(data: bytes, file: str) -> tuple[list[tuple[str, str, tuple[int, ...], bytes]], dict[str, str]]:
    """Read a safetensors file that is in memory, by the same strict header rules as a checkpoint."""
    entries, metadata = parse_file(data, file)
    return [(e.name, e.dtype, e.shape, raw) for e, raw in entries], dict(metadata)


def _read_call(fields: Fields, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, Any]:
    args, kwargs = fields.any("args"), fields.any("kwargs")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise fields.fault("args", "an array of arguments and an object of keyword arguments", "something else")
    for plan in (*args, *kwargs.values()):
        _check_plan(plan, tensors, fields)
    return {"args": args, "kwargs": kwargs}


def _check_plan(plan: object, tensors: Mapping[str, torch.Tensor], fields: Fields) -> None:
    if not isinstance(plan, dict) or len(plan) != 1:
        raise fields.fault("args", "an object with one of: tensor, value, list, dict, past", repr(plan)[:80])
    (key, value), *_ = plan.items()
    if key == "tensor" and isinstance(value, str) and value in tensors:
        return
    if key == "value" and (value is None or isinstance(value, (bool, int, str))):
        return
    if key == "past" and value is True:
        return
    if key == "list" and isinstance(value, list):
        for item in value:
            _check_plan(item, tensors, fields)
        return
    if key == "dict" and isinstance(value, dict):
        for item in value.values():
            _check_plan(item, tensors, fields)
        return
    raise fields.fault("args", "a tensor of this file, a plain value, list, dict, or past", repr(plan)[:80])
