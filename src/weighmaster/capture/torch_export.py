# SPDX-License-Identifier: Apache-2.0
"""Open ``torch.export`` programs: the module that runs the graph, its example inputs, and the graph's mode."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from weighmaster.capture.probe_set import from_examples
from weighmaster.errors import Fault, StageFault, UsageError

__all__ = ["load_program", "open_program"]

_PLAIN: Final = ("weight_", "tensor_")
"""Names of payloads that are raw bytes of tensors; the others are pickles."""

_MODE_ARGUMENTS: Final = frozenset({"train", "training"})
_SHOWN: Final = 200


def load_program(path: Path) -> tuple[torch.nn.Module, object, tuple[Fault, ...]]:
    """Load a ``.pt2`` file (the archive of torch 2.8 and later) and return what `open_program` does.

    Pickled parts are refused: ``torch.export.load`` would run them. The graph is a program all the same: load only
    files that you would run.

    Raises:
        UsageError: it holds pickled objects, or torch cannot load it.
    """
    try:
        _refuse_pickles(path)
        program = torch.export.load(str(path))
    except UsageError:
        raise
    except Exception as error:  # whatever its reader raises on a broken file
        raise UsageError(
            f"{path}: torch {torch.__version__} cannot load it as an exported program: "
            f"{type(error).__name__}: {ascii(str(error))[1:-1][:_SHOWN]}"
        ) from error
    return open_program(program)


def open_program(program: Any) -> tuple[torch.nn.Module, object, tuple[Fault, ...]]:
    """Return the module of an exported program, its example inputs (or ``"auto"``), and a fault per training operator.

    Export fixes the mode in the graph: the flags of the module say nothing, so the operators are asked.
    """
    module = program.module()
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"the program's module is of type {type(module).__qualname__}, no torch.nn.Module")
    return module, _examples(program.example_inputs), tuple(_training(module))


def _examples(given: Any) -> object:
    if given is None:
        return "auto"
    args, kwargs = given
    if not kwargs:
        return tuple(args) if args else "auto"
    if not args:
        return dict(kwargs)
    try:
        first, second = from_examples(tuple(args)), from_examples(dict(kwargs))
    except UsageError:  # a float or an object among them: the caller gives inputs, and is told why
        return "auto"
    call = {"args": first.calls[0]["args"], "kwargs": second.calls[0]["kwargs"]}
    return replace(first, calls=(call,), tensors=tuple(sorted((*first.tensors, *second.tensors))))


def _training(module: torch.nn.Module) -> Iterator[Fault]:
    for path, part in module.named_modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload) and _trains(node):
                yield StageFault(
                    f"{path}.{node.name}" if path else node.name,
                    f"the program was exported in training mode: operator {node.target}; export it after eval()",
                    expected="evaluation mode",
                    found="training mode",
                )


def _trains(node: Any) -> bool:
    for i, argument in enumerate(node.target._schema.arguments):
        if argument.name in _MODE_ARGUMENTS:
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
            return given is True
    return False


def _refuse_pickles(path: Path) -> None:
    """Look at every part that torch would unpickle, with torch's own reader of the archive, before it does."""
    reader = torch._C.PyTorchFileReader(str(path))
    for name in reader.get_all_records():
        if name.startswith(("data/weights/", "data/constants/")):
            if name.endswith(".pt"):
                raise _pickled(path, name)
            if name.endswith("_config.json"):
                _refuse_payloads(path, name, reader.get_record(name))
        elif name.startswith("data/sample_inputs/"):
            _refuse_inputs(path, name, reader.get_record(name))


def _refuse_payloads(path: Path, name: str, data: bytes) -> None:
    for key, entry in json.loads(data)["config"].items():
        if entry["use_pickle"] is not False or not entry["path_name"].startswith(_PLAIN):
            raise _pickled(path, f"{name}: {key}")


def _refuse_inputs(path: Path, name: str, data: bytes) -> None:
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a crafted file makes the unpickler raise anything
        raise _pickled(path, name) from error


def _pickled(path: Path, name: str) -> UsageError:
    return UsageError(
        f"{path}: {ascii(name)[1:-1][:_SHOWN]} is a pickle of more than tensors; it was not executed. Load it as "
        "production does, in a module:callable"
    )
