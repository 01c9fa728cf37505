# SPDX-License-Identifier: Apache-2.0
"""A model of a Hugging Face directory with tensors put in by name: those of its files, or those of a pack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
import transformers

from weighmaster.capture.huggingface import loading_faults, model_class, quiet
from weighmaster.durable import read_whole
from weighmaster.errors import UsageError

__all__ = ["Shape", "as_tensor", "load_tokenizer", "load_with", "shape_of", "versions"]

_POOLING: Final = "1_Pooling/config.json"
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a model takes and gives.

    Attributes:
        kind: ``causal-lm`` (next-token logits), or ``encoder`` (hidden states of a text).
        vocabulary: number of token ids.
        longest: tokens of a sequence, at most; None where the configuration does not say.
        start: token that a sequence begins with, where the configuration names one.
        pooling: of an encoder's hidden states, ``mean`` or ``cls``.
    """

    kind: Literal["causal-lm", "encoder"]
    vocabulary: int
    longest: int | None
    start: int | None
    pooling: Literal["mean", "cls"]


def as_tensor(data: npt.NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return bytes as a tensor, over the same memory where that may be written."""
    if not data.size:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.from_numpy(data if data.flags.writeable else data.copy()).view(getattr(torch, dtype)).reshape(shape)


def load_with(directory: Path, tensors: Mapping[str, torch.Tensor], *, device: str = "cpu") -> torch.nn.Module:
    """Build the class that ``config.json`` names, put `tensors` in by their names in the checkpoint, in float32.

    All arithmetic is then float32, whatever the checkpoint's type: what differs between two such models is what their
    weights do, not how a narrower type rounds. transformers converts names and layouts as for the files.

    Raises:
        UsageError: the class is unknown or needs remote code, or a tensor is missing, left over or of another shape.
        MalformedArtefact: ``config.json`` breaks its format.
        StorageError: it cannot be read.
    """
    cls = model_class(directory)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False
            )
            known = {"config": config, "state_dict": dict(tensors), "dtype": torch.float32}
            model, report = cls.from_pretrained(
                None, **known, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True
            )
    except Exception as error:  # foreign code raises anything; it is chained
        what = f"{type(error).__name__}: {ascii(str(error))[1:-1][:_SHOWN]}"
        raise UsageError(f"{directory}: transformers {transformers.__version__} cannot build it: {what}") from error
    faults = loading_faults(report)
    if faults:
        raise UsageError(f"{directory}: the model does not take the tensors as they are: {faults[0]}")
    loaded: torch.nn.Module = model.eval().to(device)
    return loaded


def shape_of(model: Any, directory: Path) -> Shape:
    """Return what a model takes and gives, from its class and configuration.

    Raises:
        UsageError: it is neither a causal language model nor an encoder of texts.
    """
    name, config = type(model).__name__, model.config.get_text_config()
    vocabulary = getattr(config, "vocab_size", None)
    if getattr(model, "main_input_name", "") != "input_ids" or not isinstance(vocabulary, int):
        raise UsageError(f"{name} takes no text: give a metric of your own")
    if getattr(model.config, "is_encoder_decoder", False):
        raise UsageError(f"{name} has an encoder and a decoder: give a metric of your own")
    longest, start = getattr(config, "max_position_embeddings", None), getattr(config, "bos_token_id", None)
    return Shape(
        kind="causal-lm" if model.can_generate() else "encoder",
        vocabulary=vocabulary,
        longest=longest if isinstance(longest, int) and longest > 0 else None,
        start=start if isinstance(start, int) and 0 <= start < vocabulary else None,
        pooling=_pooling(directory),
    )


def _pooling(directory: Path) -> Literal["mean", "cls"]:
    """Return what sentence-transformers' configuration asks for; the mean where there is none."""
    try:
        asked = json.loads(read_whole(directory / _POOLING, limit=1 << 20)) if (directory / _POOLING).exists() else {}
    except (ValueError, RecursionError):
        asked = {}
    return "cls" if isinstance(asked, dict) and asked.get("pooling_mode_cls_token") is True else "mean"


def load_tokenizer(directory: Path) -> Any:
    """Return the tokenizer of a model directory; nothing is downloaded and no code of the model is run.

    Raises:
        UsageError: there is none that transformers can load.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # foreign code raises anything; it is chained
        what = ascii(str(error))[1:-1][:_SHOWN]
        raise UsageError(f"{directory}: has no tokenizer for these texts ({what}); give token ids") from error


def versions(device: str) -> tuple[tuple[str, str], ...]:
    """Return the libraries that compute, their threads, and the device by name."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return (
        ("device", name),
        ("threads", str(torch.get_num_threads())),
        ("torch", str(torch.__version__)),
        ("transformers", str(transformers.__version__)),
    )
