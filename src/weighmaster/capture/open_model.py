# SPDX-License-Identifier: Apache-2.0
"""Open a model by name: a Hugging Face directory, a TorchScript or torch.export file, or ``module:callable``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch

from weighmaster.capture.torch_kind import FileKind, kind_of
from weighmaster.errors import Fault, UsageError

__all__ = ["Opened", "open_model"]

_ADAPTERS: Final[dict[str, tuple[str, str]]] = {
    "callable": ("weighmaster.capture.callables", "call_for_model"),
    "huggingface": ("weighmaster.capture.huggingface", "load_directory"),
    "torch-export": ("weighmaster.capture.torch_export", "load_program"),
    "torchscript": ("weighmaster.capture.torch_files", "load_script"),
}
"""Loader to the module and function that opens: (spec) to (model, probe, faults). Imported when needed."""

_AT_REST: Final = "it can be weighed at rest (weigh_files)"
_NO_MODEL: Final[dict[FileKind, str]] = {
    "checkpoint": f"a checkpoint of tensors has no model to run; {_AT_REST}, or be opened by a module:callable",
    "safetensors": f"a safetensors file has no model to run; {_AT_REST}; give the directory with its config.json",
    "other": "is no TorchScript or torch.export file; give a module:callable that loads it as production does",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A model, opened as its files say, and what the loader reported.

    Attributes:
        model: in evaluation mode, save that a ``callable``'s is as the callable left it.
        loader: ``huggingface``, ``torchscript``, ``torch-export`` or ``callable``.
        source: directory or file that it was loaded from, for ``weigh(source=...)``; None for a callable.
        faults: one per key that is missing, unexpected or mismatched, or per operator in training mode, for
            ``weigh(loading_faults=...)``. A model with faults holds weights that nobody validated.
        probe: ``"auto"``, or example inputs that came with the model, for ``weigh(example_inputs=...)``.
    """

    model: torch.nn.Module
    loader: str
    source: Path | None
    faults: tuple[Fault, ...]
    probe: object


def open_model(spec: str | Path) -> Opened:
    """Open the model that `spec` names, on the CPU; nothing is downloaded.

    An existing path goes first: a directory with ``config.json`` is loaded by transformers; a file by what its archive
    holds, whatever its name. Else ``module:callable`` is imported, the current directory first on the path, and called
    without arguments; it returns a module, or (module, example inputs), or a `torch.export.ExportedProgram`.

    A TorchScript or torch.export file is a program, and so is a callable: open only what you would run. Pickles are
    not run.

    Raises:
        UsageError: there is no such thing, or no model in it, or it cannot be loaded; the cause is chained.
        MalformedArtefact: a file breaks its format.
        StorageError: a file cannot be read.
    """
    path = Path(spec)
    if path.is_dir():
        _require_model_directory(path)
        return _open("huggingface", path, source=path)
    if path.exists():
        kind = kind_of(path)
        if kind not in _ADAPTERS:
            raise UsageError(f"{path}: {_NO_MODEL[kind]}")
        return _open(kind, path, source=path)
    if isinstance(spec, str) and ":" in spec:
        return _open("callable", spec, source=None)
    raise UsageError(
        f"{spec}: no such file or directory, and no module:callable; models are opened from here, none is downloaded"
    )


def _open(loader: str, spec: str | Path, *, source: Path | None) -> Opened:
    module, function = _ADAPTERS[loader]
    load: Callable[[Any], tuple[torch.nn.Module, object, tuple[Fault, ...]]] = getattr(import_module(module), function)
    model, probe, faults = load(spec)
    return Opened(model=model, loader=loader, source=source, faults=faults, probe=probe)


def _require_model_directory(path: Path) -> None:
    if (path / "config.json").is_file():
        return
    if any(path.glob("*.safetensors")):
        raise UsageError(f"{path}: no config.json: a checkpoint without it has no model to run; {_AT_REST}")
    raise UsageError(f"{path}: no config.json: this is no Hugging Face model directory")
