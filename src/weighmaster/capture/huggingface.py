# SPDX-License-Identifier: Apache-2.0
"""Load a Hugging Face model directory exactly as its configuration says, and keep the loading report."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.durable import read_whole
from weighmaster.errors import Fault, Faults, MalformedArtefact, StageFault, UsageError, WeighmasterError
from weighmaster.pack.packed import INDEX
from weighmaster.pack.reader import open_pack

try:
    import transformers
except ImportError as _error:
    raise UsageError("a Hugging Face directory is loaded with transformers: pip install 'weighmaster[hf]'") from _error

__all__ = ["load_directory", "loading_faults", "model_class", "quiet"]

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_INSTEAD: Final = "load it as production does, in a module:callable"
_SHOWN: Final = 300


def load_directory(directory: Path) -> tuple[torch.nn.Module, object, tuple[Fault, ...]]:
    """Load the class and the element types that ``config.json`` names, onto the CPU, in evaluation mode.

    Returns the model, ``"auto"``, and a fault per line of the loading report.

    Remote code is off and nothing is downloaded. transformers takes ``model.safetensors``, then its index, then
    ``pytorch_model.bin`` (with ``weights_only``: nothing in a pickle is executed). A quantization in the configuration
    is applied by transformers. The tensors of a pack are rebuilt, each compared with its digest, and so are the other
    files of a pack that are read; its origin is not checked here.

    Not reported, because the class declares it so: keys that it leaves out of its checkpoints
    (``_keys_to_ignore_on_load_missing``, ``..._unexpected``) and tied weights that the checkpoint holds once. Casts to
    the configured element type are none of the faults. All of these show in the digests.

    Raises:
        UsageError: the class is unknown or needs remote code, or transformers cannot load it; the cause is chained.
        MalformedArtefact: ``config.json`` or a safetensors file breaks its format, or a pack does.
        TensorFault: a tensor of a pack is not that of its index.
        SourceFault: another file of a pack is not that of its index.
        StorageError: a file cannot be read.
    """
    if (directory / INDEX).exists():
        _prepare_pack(directory)
    loader = model_class(directory)
    _check_safetensors(directory)
    try:
        with quiet():
            model, report = loader.from_pretrained(
                str(directory),
                dtype="auto",
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # else the first report is an error without names; each is a fault below
            )
    except (WeighmasterError, Faults):  # of a pack: a tensor that is not that of the index, say
        raise
    except Exception as error:  # foreign code raises anything; it is chained
        what = f"{type(error).__name__}: {_show(error)}"
        raise UsageError(f"{directory}: transformers {transformers.__version__} cannot load it: {what}") from error
    return model.eval(), "auto", loading_faults(report)


def loading_faults(report: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Return one fault per entry of a report of ``from_pretrained(output_loading_info=True)``, ordered by key."""
    faults = [
        *(
            StageFault(
                key,
                "is missing from the checkpoint: transformers initialised it at random",
                expected="a tensor of the checkpoint",
            )
            for key in _keys(report, "missing_keys")
        ),
        *(
            StageFault(key, "is in the checkpoint, and the model does not take it", found="a tensor of the checkpoint")
            for key in _keys(report, "unexpected_keys")
        ),
        *(
            StageFault(
                key,
                "has another shape in the checkpoint: transformers initialised it at random",
                expected=f"shape {list(wanted)}",
                found=f"shape {list(held)}",
            )
            for key, held, wanted in sorted(report.get("mismatched_keys", ()), key=lambda entry: str(entry[0]))
        ),
        *(StageFault("(checkpoint)", f"the loader reports: {_show(text)}") for text in report.get("error_msgs", ())),
    ]
    return tuple(faults)


def _keys(report: Mapping[str, Any], name: str) -> Iterable[str]:
    return sorted(str(key) for key in report.get(name, ()))


def _config(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(read_whole(file, limit=1 << 24).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MalformedArtefact(str(file), "", expected="one JSON object in UTF-8", found=_show(error)) from error
    if not isinstance(config, dict):
        raise MalformedArtefact(str(file), "", expected="a JSON object", found=type(config).__name__)
    return config


def model_class(directory: Path) -> Any:
    """Return the class named by ``architectures[0]``; `AutoModel` where the configuration names none.

    Raises:
        UsageError: transformers does not have it, or it is remote code.
        MalformedArtefact: ``config.json`` breaks its format.
        StorageError: it cannot be read.
    """
    config, file = _config(directory / "config.json"), str(directory / "config.json")
    names = config.get("architectures")
    if names is None or names == []:
        if "auto_map" in config:
            raise UsageError(f"{file}: names no class, and its auto_map is remote code, which is off; {_INSTEAD}")
        return transformers.AutoModel
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise MalformedArtefact(file, "architectures", expected="a list of class names", found=_show(names))
    try:
        found = getattr(transformers, names[0], None)
    except (ImportError, RuntimeError) as error:  # the class is known, and what it imports is not there
        raise UsageError(f"{file}: {names[0]} cannot be imported: {_show(error)}") from error
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    why = ", and the code that comes with the model is remote code, which is off" if "auto_map" in config else ""
    raise UsageError(
        f"{file}: transformers {transformers.__version__} has no model class {_show(names[0])}{why}; {_INSTEAD}"
    )


def _prepare_pack(directory: Path) -> None:
    """Register the loading of packs, and check the files of this one that transformers will read."""
    from weighmaster.capture.hf_directory import read_beside  # noqa: PLC0415
    from weighmaster.capture.hf_hooks import install  # noqa: PLC0415  # changes transformers: only where there is a pack

    install()
    with open_pack(directory) as pack:
        read_beside(pack)


def _check_safetensors(directory: Path) -> None:
    """Read the headers by our strict rules first: errors then name file and field."""
    if (directory / _SINGLE).exists():
        open_checkpoint(directory / _SINGLE).close()
    elif (directory / _INDEX).exists():
        open_checkpoint(directory).close()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars out of logs; put the setting back."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _show(value: object) -> str:
    return ascii(str(value))[1:-1][:_SHOWN]
