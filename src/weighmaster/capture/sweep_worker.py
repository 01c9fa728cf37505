# SPDX-License-Identifier: Apache-2.0
"""Run a model in one configuration of a sweep and keep what came out; a process of its own for each.

    python -m weighmaster.capture.sweep_worker MODEL CONFIGURATION FILE

The file is safetensors: float64 copies of the outputs, one per case, and in the metadata a JSON document with the form
and digest of each case, the outputs of the leaf modules in order, and the environment. Widening to float64 is exact.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._pytree import tree_leaves

from weighmaster.capture.answer_runs import require_evaluation
from weighmaster.capture.float64_run import Watch, Widen
from weighmaster.capture.module_trace import ModuleOutput, ModuleTrace, subsystem
from weighmaster.capture.open_model import Opened, open_model
from weighmaster.capture.probe_auto import auto_probe
from weighmaster.capture.probe_set import SEED, ProbeSet, from_examples
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.capture.torch_trace import value_digest
from weighmaster.core.canonical import dumps
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.core.sweep import BASELINE, CONFIGURATIONS, NOT_HERE, RUN_SCHEME, Configuration
from weighmaster.durable import write_atomically
from weighmaster.errors import UsageError, WeighmasterError
from weighmaster.probe.collect import collect
from weighmaster.probe.variables import unlike

__all__ = ["main"]

_PREFILL: Final = (1, 3, 5, 48)
_BATCHES: Final = (1, 2, 4)
_CONTEXT, _STEPS, _ROWS = 8, 4, 4


class _NotHereError(Exception):
    """There is no such configuration of this model, or on this machine."""


def main(arguments: Sequence[str]) -> int:
    """Run one configuration; return the exit code."""
    spec, name, out = arguments
    try:
        write_atomically(Path(out), _measure(spec, _configuration(name)))
    except _NotHereError as error:
        print(error, file=sys.stderr)
        return NOT_HERE
    except WeighmasterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _configuration(name: str) -> Configuration:
    found = next((c for c in (Configuration(name=BASELINE), *CONFIGURATIONS) if c.name == name), None)
    if found is None:
        raise UsageError(f"no such configuration: {name}")
    wanted = dict(found.variables)
    for variable in unlike(wanted):
        raise UsageError(f"{name}: {variable} is not {wanted[variable]} in this process")
    return found


def _measure(spec: str, configuration: Configuration) -> bytes:
    switches = dict(configuration.switches)
    _set(switches)
    opened = open_model(spec)
    _require_steady(opened)
    cases = _cases(opened)
    model = _apply(opened.model, switches)
    tensors, lines, watch = [], [], Watch()
    with contextlib.ExitStack() as modes:
        if switches.get("dtype") == "float64":
            modes.enter_context(Widen())
            modes.enter_context(watch)
        for name, probe in cases:
            output, traced = _run(model, _prepared(probe, switches), switches)
            tensors.append((name, "float64", tuple(output.shape), output.to(torch.float64).numpy().tobytes()))
            lines.append(_line(name, output, traced))
    document = {
        "cases": lines,
        "configuration": configuration.name,
        "environment": collect(torch_facts()).to_bytes().decode("utf-8"),
        "narrow": sorted(watch.narrow),
        "scheme": RUN_SCHEME,
    }
    return safetensors_bytes(tensors, {"sweep": dumps(document).decode("utf-8")})


def _require_steady(opened: Opened) -> None:
    if opened.faults:
        raise UsageError(f"the model did not load cleanly: {opened.faults[0]}")
    require_evaluation(opened.model)


def _set(switches: Mapping[str, str]) -> None:
    """Set what belongs to the process, before the model is opened."""
    if switches.get("device") == "cuda" and not torch.cuda.is_available():
        raise _NotHereError("torch sees no CUDA device")
    if "matmul" in switches:
        torch.set_float32_matmul_precision(switches["matmul"])
    if "mkldnn" in switches:
        setattr(torch.backends.mkldnn, "enabled", False)  # noqa: B010  # a property of the module object
    if "deterministic" in switches or "cuda-deterministic" in switches:
        torch.use_deterministic_algorithms(mode=True)
    if "tf32" in switches:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if "cudnn-benchmark" in switches:
        torch.backends.cudnn.benchmark = True
    if "reduced-bf16" in switches:
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _apply(model: torch.nn.Module, switches: Mapping[str, str]) -> Any:
    """Change the model as the switches say."""
    if "attention" in switches:
        if not hasattr(model, "set_attn_implementation"):
            raise _NotHereError("the model has no attention backend to choose")
        model.set_attn_implementation(switches["attention"])  # type: ignore[operator]  # of transformers
    if "dtype" in switches:
        model = model.to(getattr(torch, switches["dtype"]))
    if "device" in switches:
        model = model.to(switches["device"])
    return torch.compile(model) if "compile" in switches else model


def _cases(opened: Opened) -> Iterator[tuple[str, ProbeSet]]:
    """Return names and calls: causal models are prefilled and decode step by step, others run their probe."""
    probe = auto_probe(opened.model) if opened.probe == "auto" else from_examples(opened.probe)
    if probe.kind == "causal-lm":
        return iter(_causal(opened.model.config))
    return _split(probe)


def _split(probe: ProbeSet) -> Iterator[tuple[str, ProbeSet]]:
    """Yield each call with those after it that use its cache."""
    starts = [i for i, call in enumerate(probe.calls) if i == 0 or not _uses_past(call)]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(probe.calls)], strict=True)):
        yield f"call-{number}", replace(probe, calls=probe.calls[start:end])


def _uses_past(call: Mapping[str, Any]) -> bool:
    return any("past" in plan for plan in (*call["args"], *call["kwargs"].values()))


def _causal(config: Any) -> list[tuple[str, ProbeSet]]:
    random = torch.Generator().manual_seed(SEED)
    longest = int(getattr(config, "max_position_embeddings", 0) or max(_PREFILL))

    def tokens(batch: int, length: int) -> torch.Tensor:
        return torch.randint(0, int(config.vocab_size), (batch, length), generator=random)

    prefill = [(f"prefill-{n}", _sequence([tokens(1, n)])) for n in _PREFILL if n <= longest]
    if longest < _CONTEXT + _STEPS:
        return prefill
    lengths = (_CONTEXT, *[1] * _STEPS)
    return [*prefill, *((f"decode-batch-{b}", _sequence([tokens(b, n) for n in lengths])) for b in _BATCHES)]


def _sequence(pieces: list[torch.Tensor]) -> ProbeSet:
    calls = []
    for i in range(len(pieces)):
        past: dict[str, Any] = {"past_key_values": {"past": True}} if i else {}
        calls.append({"args": [], "kwargs": {"input_ids": {"tensor": str(i)}, "use_cache": {"value": True}, **past}})
    named = tuple((str(i), piece) for i, piece in enumerate(pieces))
    return ProbeSet(kind="causal-lm", seed=SEED, calls=tuple(calls), tensors=named)


def _prepared(probe: ProbeSet, switches: Mapping[str, str]) -> ProbeSet:
    """Return the calls with inputs of the dtype, on the device, and in the company that the switches ask for."""

    def one(tensor: torch.Tensor) -> torch.Tensor:
        if "dtype" in switches and tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, switches["dtype"]))
        if "batch-row" in switches and tensor.dim():
            tensor = torch.cat([tensor] * _ROWS)
        return tensor.to(switches.get("device", "cpu"))

    return replace(probe, tensors=tuple((name, one(tensor)) for name, tensor in probe.tensors))


def _run(model: Any, probe: ProbeSet, switches: Mapping[str, str]) -> tuple[torch.Tensor, list[ModuleOutput]]:
    """Return the outputs of all calls in one row, on the CPU, and those of the leaf modules."""
    if "compile" in switches:  # hooks would break the compiled graph into pieces
        return _flat(probe.run(model), switches), []
    with ModuleTrace(model) as trace:
        outputs = probe.run(model)
    return _flat(outputs, switches), [] if "batch-row" in switches else trace.outputs


def _flat(outputs: tuple[Any, ...], switches: Mapping[str, str]) -> torch.Tensor:
    pieces = [_row(tensor, switches).reshape(-1) for output in outputs for tensor in _floats(output)]
    if not pieces:
        raise UsageError("the model returns no floating-point tensor: there is nothing to compare")
    return torch.cat(pieces).detach().cpu().contiguous()


def _floats(output: Any) -> list[torch.Tensor]:
    """Return the floating-point tensors of an output, its cache left out."""
    if isinstance(output, Mapping):
        output = [value for key, value in output.items() if key != "past_key_values"]
    return [t for t in tree_leaves(output) if isinstance(t, torch.Tensor) and t.is_floating_point()]


def _row(tensor: torch.Tensor, switches: Mapping[str, str]) -> torch.Tensor:
    if "batch-row" not in switches:
        return tensor
    if not tensor.dim() or tensor.shape[0] % _ROWS:
        raise _NotHereError(f"an output of shape {tuple(tensor.shape)} has no rows of a batch")
    return tensor[-(tensor.shape[0] // _ROWS) :]


def _line(name: str, output: torch.Tensor, traced: list[ModuleOutput]) -> dict[str, object]:
    trace = [[o.module, o.dtype, list(o.shape), o.sha256, subsystem(o.kind, o.module)] for o in traced]
    return {"dtype": str(output.dtype), "id": name, "sha256": value_digest(output), "trace": trace}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
