# SPDX-License-Identifier: Apache-2.0
"""The quantization method ``weighmaster`` of transformers: tensors of a pack, rebuilt and checked when asked for.

transformers sees a lazy state dict whose values behave as slices of safetensors files do. What it makes of them
(renames, merges of experts, casts, devices) comes after a tensor was compared with its digest, as with any checkpoint.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch

from weighmaster.capture.hf_directory import open_judged, pack_of, read_beside
from weighmaster.core.derivation import PACK_FORMAT
from weighmaster.core.dtype import SAFETENSORS_NAMES
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.pack.index_rules import SHARD_INDEX
from weighmaster.pack.packed import PackedTensor
from weighmaster.pack.reader import Pack

try:
    from transformers.quantizers import HfQuantizer
    from transformers.quantizers.auto import register_quantization_config, register_quantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin
except ImportError as _error:
    raise UsageError("packs are loaded with transformers 5: pip install 'weighmaster[hf]'") from _error

__all__ = ["METHOD", "LoadedPack", "PackConfig", "PackQuantizer", "loaded_from"]

METHOD: Final = "weighmaster"
_SAFETENSORS: Final = {ours: theirs for theirs, ours in SAFETENSORS_NAMES.items()}
_LOG: Final = logging.getLogger("weighmaster.hf")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPack:
    """What a model was loaded from.

    Attributes:
        root: pack root.
        path: of the pack.
        tensors: names of the tensors of the pack that were rebuilt, checked and taken, ascending.
        unused: names of those that the model did not ask for, ascending.
        cast: name, dtype in the pack and dtype in the model, for each that was cast after it was checked: of these, the
            model does not hold the packed bytes.
        vouched: who vouches for the pack, in words; None where its origin was not checked.
    """

    root: str
    path: Path
    tensors: tuple[str, ...]
    unused: tuple[str, ...]
    cast: tuple[tuple[str, str, str], ...]
    vouched: str | None


_LOADED: Final[WeakKeyDictionary[torch.nn.Module, LoadedPack]] = WeakKeyDictionary()


def loaded_from(model: torch.nn.Module) -> LoadedPack | None:
    """Return what a model was loaded from; None for one that was not loaded from a pack in this process."""
    return _LOADED.get(model)


@register_quantization_config(METHOD)
class PackConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers has no types
    """What stands under ``quantization_config`` in the ``config.json`` of a pack: a method and a format, no options."""

    def __init__(self, **stated: Any) -> None:
        expected = {"quant_method": METHOD, "format": PACK_FORMAT}
        if stated != expected:
            raise MalformedArtefact(
                "config.json", "quantization_config", expected=str(expected), found=str(stated)[:300]
            )
        self.quant_method, self.format = METHOD, PACK_FORMAT


class PackedSlice:
    """A tensor of a pack in the form in which transformers takes slices of safetensors files."""

    def __init__(self, pack: Pack, tensor: PackedTensor, taken: set[str], lock: threading.Lock) -> None:
        self.tensor, self._pack, self._taken, self._lock = tensor, pack, taken, lock

    def get_shape(self) -> list[int]:
        """Return the shape."""
        return list(self.tensor.shape)

    def get_dtype(self) -> str:
        """Return the dtype as safetensors spells it."""
        return _SAFETENSORS[self.tensor.dtype]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype."""
        return torch_dtype(self.tensor.dtype)

    def __getitem__(self, key: Any) -> torch.Tensor:
        """Rebuild the whole tensor, compare it with its digest, then index it.

        Raises:
            TensorFault: its bytes are not those of the index.
            MalformedArtefact: its blob breaks the format.
        """
        rebuilt = self._pack.read(self.tensor.name, threads=1)  # transformers reads several tensors at once
        made = torch.empty(rebuilt.data.nbytes, dtype=torch.uint8)  # aligned as torch does, on which results depend
        made.numpy()[:] = rebuilt.data
        with self._lock:
            self._taken.add(self.tensor.name)
        return made.view(self.dtype).reshape(rebuilt.shape)[key]


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's object for a name of `core.dtype.DTYPES`."""
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise TypeError(name)
    return found


@dataclass(slots=True)
class _Loading:
    """One load: the open pack, who vouches for it, what was taken, and what is to be cast."""

    pack: Pack
    vouched: str | None
    taken: set[str] = field(default_factory=set)
    cast: dict[str, str] = field(default_factory=dict)


@register_quantizer(METHOD)
class PackQuantizer(HfQuantizer):  # type: ignore[misc]  # transformers has no types
    """Gives transformers the tensors of a pack. It leaves the model as a checkpoint of plain tensors would."""

    requires_calibration = False

    def __init__(self, quantization_config: PackConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._loading: _Loading | None = None
        if not self.pre_quantized:
            raise UsageError("a model is packed by `weighmaster pack`, not while it is loaded")

    @contextmanager
    def tensors(self, directory: Any, checkpoint_files: list[str]) -> Iterator[dict[str, PackedSlice]]:
        """Open the pack that a model is loaded from, and give its tensors by name, none of them read yet.

        Args:
            directory: as the caller of ``from_pretrained`` gave it.
            checkpoint_files: the shards that transformers found; they have to be this pack's.

        Files beside the shards are compared with the index first: transformers passes over some that cannot be read.

        Raises:
            MalformedArtefact: there is no pack, or it breaks spec/pack.md.
            SourceFault: a file beside the shards is not that of the index.
            NotAdmitted: it is not trusted.
        """
        root = pack_of(directory)
        if root is None:
            file = checkpoint_files[0] if checkpoint_files else "(no file)"
            raise MalformedArtefact(file, "", expected="a shard of a pack, beside its pack.index", found="no pack")
        pack, vouched = open_judged(root)
        with pack:
            read_beside(pack)
            _require_shards(pack, root, checkpoint_files)
            self._loading, lock = _Loading(pack=pack, vouched=vouched), threading.Lock()
            yield {t.name: PackedSlice(pack, t, self._loading.taken, lock) for t in pack.index.tensors}
            pack.check_unchanged()

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """Cast as transformers does with a plain checkpoint, and note that it is one."""
        del converter
        if self._loading is not None and isinstance(param, PackedSlice) and dtype not in {None, param.dtype}:
            self._loading.cast[param.tensor.name] = str(dtype).removeprefix("torch.")
        return dtype

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Take no blob for the dtype of the model, where the configuration names none."""
        if not dtype.is_floating_point and not dtype.is_complex:
            raise UsageError(
                f"config.json names no dtype: say dtype=... in from_pretrained, for {dtype} is that of blobs"
            )
        return dtype

    def preprocess_model(self, model: Any, dtype: Any = None, **kwargs: Any) -> None:
        """Leave the model as it is: its layers are those of the source."""

    def postprocess_model(self, model: Any, **kwargs: Any) -> None:
        """Take the traces of the method off the model, and note what it was loaded from.

        Raises:
            UsageError: the tensors did not come from here.
        """
        del kwargs
        loading = self._loading
        if loading is None:
            raise UsageError("the tensors of the pack were not taken from it: import weighmaster.hf before loading")
        for module in model.modules():
            _plain(module)
        names = {tensor.name: tensor.dtype for tensor in loading.pack.index.tensors}
        cast = tuple((n, names[n], to) for n, to in sorted(loading.cast.items()) if n in loading.taken)
        if cast:
            _LOG.warning(
                "%s: %d of %d tensors were cast after they were checked (%s: %s to %s, ...): the model does not hold "
                "their packed bytes; dtype='auto' keeps them",
                *(loading.pack.path, len(cast), len(loading.taken), *cast[0]),
            )
        _LOADED[model] = LoadedPack(
            root=loading.pack.root,
            path=loading.pack.path,
            tensors=tuple(sorted(loading.taken)),
            unused=tuple(sorted(names.keys() - loading.taken)),
            cast=cast,
            vouched=loading.vouched,
        )
        self._loading = None

    def is_serializable(self) -> bool:
        """A loaded model holds plain tensors."""
        return True

    @property
    def is_trainable(self) -> bool:
        """A loaded model holds plain tensors."""
        return True


def _require_shards(pack: Pack, root: Path, files: list[str]) -> None:
    """Require that transformers was led to the shards of this pack: its own index of shards can name others."""
    shards = {root / name for name in pack.index.shards}
    for file in files:
        if Path(file).resolve() not in shards:
            raise MalformedArtefact(str(root / SHARD_INDEX), "weight_map", expected="shards of this pack", found=file)


def _plain(module: Any) -> None:
    """Remove what transformers notes about quantization, so that the model is one of plain tensors."""
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):
        module.__dict__.pop(name, None)
    config = getattr(module, "config", None)
    if config is not None and isinstance(getattr(config, "quantization_config", None), PackConfig):
        del config.quantization_config
