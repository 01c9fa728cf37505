# SPDX-License-Identifier: Apache-2.0
"""Load TorchScript files, and read the tensors of pickled checkpoints without running their pickles."""

from __future__ import annotations

import os
import pickle
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from weighmaster.capture.probe_script import script_probe
from weighmaster.capture.sources import FileState, open_regular, resolve_directory, resolve_within
from weighmaster.capture.torch_kind import kind_of
from weighmaster.capture.torch_storage import tensor_view, unreadable
from weighmaster.core.tensor import TensorView
from weighmaster.errors import Fault, MalformedArtefact, UsageError

__all__ = ["MAX_DEPTH", "MAX_ENTRIES", "load_script", "open_pickled"]

MAX_DEPTH: Final = 64
"""Containers within containers of a checkpoint."""

MAX_ENTRIES: Final = 1_000_000
"""Values and containers of a checkpoint, counted as often as they are reached."""

_SHOWN: Final = 200
_REFUSED: Final = re.compile(r"(?:GLOBAL|unrecognized function|unsupported class|but got) (<[^>\n]+>|[\w.]+)")
_REASON: Final = "WeightsUnpickler error:"


def load_script(path: Path) -> tuple[torch.nn.Module, object, tuple[Fault, ...]]:
    """Load a TorchScript file onto the CPU, in evaluation mode; return it, a probe for it, and no faults.

    Raises:
        UsageError: torch cannot load it.
    """
    try:
        model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's own lack
    except Exception as error:  # whatever its reader raises on a broken file
        raise UsageError(f"{path}: torch {torch.__version__} cannot load it as TorchScript: {_first(error)}") from error
    if _in_training(model):
        model.eval()
    return model, script_probe(model) or "auto", ()


def _in_training(model: Any) -> bool:
    """Tell whether `eval` has something to do: freezing may leave no flag at all, since it fixes the mode."""
    return any(getattr(module, "training", False) for module in model.modules())


def open_pickled(path: Path | str) -> tuple[TensorView, ...]:
    """Return the tensors of a pickled checkpoint (``.bin .pt .pth .ckpt``), row-major, ordered by UTF-8 of their names.

    Names of nested containers are joined with ``.``; positions in lists are numbers. What is no tensor (step counts,
    names) is left out. Views share the memory that they were read into; the file is closed. Nothing in the file is
    executed: the unpickler of ``torch.load(weights_only=True)`` builds tensors and plain containers alone.

    Raises:
        UsageError: there is no such file; it holds no tensor, or a model; or it needs more than tensors and plain
            containers, and the message names what it asks for.
        MalformedArtefact: it is truncated or broken, or holds tensors that it has no bytes for.
        SourceFault: it changed while it was read.
        StorageError: it cannot be read.
    """
    given = Path(path)
    kind = kind_of(given)
    if kind != "checkpoint":
        found = {"other": "no PyTorch checkpoint", "safetensors": "a safetensors file"}.get(kind, f"a {kind} file")
        raise UsageError(f"{given}: expected a pickled checkpoint of tensors, found {found}")
    named: dict[str, torch.Tensor] = {}
    for name, tensor in _tensors(_unpickle(given), given):
        if name in named:
            raise MalformedArtefact(str(given), _show(name), expected="each name once", found="the name twice")
        named[name] = tensor
    if not named:
        raise UsageError(f"{given}: holds no tensor")
    copies = _Copies(given)
    return tuple(_view(name, named[name], copies, given) for name in sorted(named, key=lambda n: n.encode("utf-8")))


def _unpickle(path: Path) -> object:
    resolved = resolve_within(resolve_directory(path.parent), path)
    with os.fdopen(open_regular(resolved), "rb") as file:
        before = FileState.of(file.fileno())
        try:
            value = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
        except Exception as error:  # a crafted file makes the unpickler raise anything
            raise _refusal(path, error) from error
        before.require_same(FileState.of(file.fileno()), str(path))
    return value


def _refusal(path: Path, error: Exception) -> UsageError | MalformedArtefact:
    if not isinstance(error, pickle.UnpicklingError):
        return _broken(path, _first(error))
    # The advice in torch's message, to load with weights_only=False, is not passed on.
    named = _REFUSED.search(str(error))
    if named is None:
        return _broken(path, _first(pickle.UnpicklingError(str(error).partition(_REASON)[2])))
    return UsageError(
        f"{path}: its pickle asks for {named[1]}, which is more than tensors and plain containers; it was not "
        "executed. Save the tensors as safetensors where the file comes from"
    )


def _broken(path: Path, found: str) -> MalformedArtefact:
    return MalformedArtefact(str(path), "", expected="a whole PyTorch checkpoint of tensors", found=found)


def _tensors(value: object, path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and tensor of everything nested in `value`, without recursion: the file decides how deep it goes."""
    stack: list[tuple[tuple[str, ...], object]] = [((), value)]
    count = 1
    while stack:
        parts, item = stack.pop()
        count += len(item) if isinstance(item, (Mapping, list, tuple)) else 0  # before they are put on the stack
        if count > MAX_ENTRIES or len(parts) > MAX_DEPTH:
            expected = f"at most {MAX_ENTRIES} values, nested at most {MAX_DEPTH} deep"
            raise MalformedArtefact(str(path), _show(".".join(parts)), expected=expected, found="more")
        if isinstance(item, torch.Tensor):
            yield _name(parts, path), item
        elif isinstance(item, Mapping):
            stack.extend(((*parts, _key(key, parts, path)), inner) for key, inner in item.items())
        elif isinstance(item, (list, tuple)):
            stack.extend(((*parts, str(i)), inner) for i, inner in enumerate(item))
        elif isinstance(item, (set, frozenset)) and any(isinstance(i, torch.Tensor) for i in item):
            raise MalformedArtefact(str(path), _show(".".join(parts)), expected="tensors with names", found="a set")


def _key(key: object, parts: tuple[str, ...], path: Path) -> str:
    if isinstance(key, (str, int)) and not isinstance(key, bool):
        return str(key)
    found = f"{type(key).__name__} {ascii(key)[:_SHOWN]}"
    raise MalformedArtefact(str(path), _show(".".join(parts)), expected="keys of text or integers", found=found)


def _name(parts: tuple[str, ...], path: Path) -> str:
    name = ".".join(parts) or "tensor"
    if not name.isprintable() or not unicodedata.is_normalized("NFC", name):
        raise MalformedArtefact(str(path), _show(name), expected="a printable name in NFC", found="another")
    return name


class _Copies:
    """Makes row-major copies, each tensor once, and refuses more of them than the file can account for."""

    def __init__(self, path: Path) -> None:
        """Allow copies of four times the bytes of `path`: transposes that share a storage are rare, and small."""
        self.path, self.left = path, 4 * path.stat().st_size
        self._made: dict[tuple[object, ...], torch.Tensor] = {}

    def row_major(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return `tensor`, or a copy whose elements lie in row-major order."""
        if tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg():
            return tensor
        nbytes, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        shape, stride = tuple(tensor.shape), tensor.stride()
        place = (tensor.data_ptr(), tensor.dtype, shape, stride, tensor.is_conj(), tensor.is_neg())
        if place not in self._made:
            self.left -= nbytes
            if nbytes > held or self.left < 0:
                expected = "a tensor with bytes of its own"
                found = f"shape {list(shape)} stride {list(stride)} over {held} bytes"
                raise MalformedArtefact(str(self.path), _show(name), expected=expected, found=found)
            self._made[place] = tensor.resolve_conj().resolve_neg().contiguous()
        return self._made[place]


def _view(name: str, tensor: torch.Tensor, copies: _Copies, path: Path) -> TensorView:
    reason = "is of a quantized type; its scales are no bytes" if tensor.is_quantized else unreadable(tensor)
    if reason:
        found = f"one that {reason}"
        raise MalformedArtefact(str(path), _show(name), expected="a plain tensor with bytes", found=found)
    view = tensor_view(name, "file", copies.row_major(name, tensor.detach()))
    return replace(view, layout="canonical", extent=None)


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {_show(lines[0])}" if lines else type(error).__name__


def _show(text: str) -> str:
    return ascii(text)[1:-1][:_SHOWN]
