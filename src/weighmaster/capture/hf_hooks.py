# SPDX-License-Identifier: Apache-2.0
"""The four places of transformers where a pack must be met, and nothing else of it is changed.

1. ``utils.hub.cached_files``: every file of a local directory is located by it. Files of a pack are compared with its
   index before they are opened.
2. ``dynamic_module_utils.get_class_from_dynamic_module``: all code that comes with a model is imported by it. Code of a
   pack is taken from verified bytes, and only where the pack was found trusted.
3. ``GenerationConfig.from_pretrained``, which opens its file without the first.
4. ``PreTrainedModel._load_pretrained_model``: tensors come from the pack, not from its shards.

In a context where packs are judged, nothing but packs is loaded.

A version of transformers in which one of them is called otherwise is refused when this is imported.
"""

from __future__ import annotations

import functools
import inspect
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import transformers
from transformers import dynamic_module_utils, modeling_utils
from transformers.utils import hub

from weighmaster.capture.hf_directory import check_files, pack_of, require_no_judge, trusted_code
from weighmaster.capture.hf_quantizer import PackQuantizer
from weighmaster.errors import UsageError

__all__ = ["install"]

_MARK: Final = "__weighmaster__"


def install() -> None:
    """Put the hooks in place; a second call changes nothing.

    Raises:
        UsageError: this version of transformers is not known.
    """
    if hasattr(hub.cached_files, _MARK):
        return
    _require(hub.cached_files, ["path_or_repo_id", "filenames"])
    _require(dynamic_module_utils.get_class_from_dynamic_module, ["class_reference", "pretrained_model_name_or_path"])
    load = modeling_utils.PreTrainedModel._load_pretrained_model  # noqa: SLF001  # there is no public place for it
    _require(load, ["model", "state_dict", "checkpoint_files", "load_config"])
    _replace(hub.cached_files, _checked(hub.cached_files))
    code = dynamic_module_utils.get_class_from_dynamic_module
    _replace(code, _guarded(code))
    generation = transformers.GenerationConfig
    _require(generation.from_pretrained, ["pretrained_model_name", "config_file_name"])
    setattr(generation, "from_pretrained", classmethod(_generation(generation.from_pretrained.__func__)))  # noqa: B010
    setattr(modeling_utils.PreTrainedModel, load.__name__, staticmethod(_from_pack(load)))


def _require(function: Callable[..., Any], names: Sequence[str]) -> None:
    found = list(inspect.signature(function).parameters)[: len(names)]
    if found != list(names):
        raise UsageError(
            f"transformers {transformers.__version__} cannot load packs: expected {function.__name__} to take {names}, "
            f"found {found}"
        )


def _replace(before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Put a function in the place of another in every module of transformers that was imported."""
    setattr(after, _MARK, True)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "transformers" and module is not None:
            for key in [key for key, value in vars(module).items() if value is before]:
                setattr(module, key, after)


def _checked(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def cached_files(path_or_repo_id: Any, filenames: Any, *args: Any, **kwargs: Any) -> Any:
        root = pack_of(path_or_repo_id)
        if root is None:
            require_no_judge(str(path_or_repo_id), f"asks for {filenames}")
        found = before(path_or_repo_id, filenames, *args, **kwargs)
        if found and root is not None:
            check_files(root, found)
        return found

    return cached_files


def _generation(before: Callable[..., Any]) -> Callable[..., Any]:
    """Compare the generation configuration of a pack, which transformers opens without `cached_files`."""

    @functools.wraps(before)
    def from_pretrained(
        cls: Any, pretrained_model_name: Any, config_file_name: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if (root := pack_of(pretrained_model_name)) is None:
            require_no_judge(str(pretrained_model_name), "asks for a generation configuration")
        else:
            path = Path(pretrained_model_name) / (config_file_name or "generation_config.json")
            check_files(root, [str(path)] if path.exists() else [])
        return before(cls, pretrained_model_name, config_file_name, *args, **kwargs)

    return from_pretrained


def _guarded(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def get_class_from_dynamic_module(
        class_reference: str, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any
    ) -> Any:
        root = pack_of(pretrained_model_name_or_path)
        if root is None:
            require_no_judge(str(pretrained_model_name_or_path), f"asks for code ({class_reference})")
            return before(class_reference, pretrained_model_name_or_path, *args, **kwargs)
        with tempfile.TemporaryDirectory() as folder, trusted_code(root, class_reference, Path(folder)) as code:
            return before(class_reference, str(code), local_files_only=True)

    return get_class_from_dynamic_module


def _from_pack(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        quantizer = load_config.hf_quantizer
        if not isinstance(quantizer, PackQuantizer):
            require_no_judge(str(load_config.pretrained_model_name_or_path), "asks for tensors")
            _require_no_pack(checkpoint_files)
            return before(model, state_dict, checkpoint_files, load_config, *args, **kwargs)
        _require_no_disk(load_config.device_map)
        with quantizer.tensors(load_config.pretrained_model_name_or_path, checkpoint_files) as tensors:
            return before(model, tensors, checkpoint_files, load_config, *args, **kwargs)

    return _load_pretrained_model


def _require_no_pack(files: Any) -> None:
    if files and (root := pack_of(Path(files[0]).parent)) is not None:
        raise UsageError(f"{root}: is a pack, and the configuration given for it does not say so (quantization_config)")


def _require_no_disk(device_map: Any) -> None:
    if device_map is not None and "disk" in {str(place) for place in device_map.values()}:
        raise UsageError("device_map: parts of a pack cannot be kept on disk: that would be a decoded copy")
