# SPDX-License-Identifier: Apache-2.0
"""Run the source and the packed model side by side, if that can be done here, on given or on made-up tokens.

torch and transformers are imported when they are needed: without them a report says that outputs were not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from weighmaster.core.pack_report import MetricLine, NoOutputs, Outputs
from weighmaster.core.tensor import TensorView
from weighmaster.errors import UsageError, WeighmasterError

if TYPE_CHECKING:
    from weighmaster.capture.deviation_inputs import Inputs
    from weighmaster.capture.deviation_models import Shape

__all__ = ["LENGTH", "SEQUENCES", "Ran", "ReportRun", "Tensors", "run_models"]

LENGTH: Final = 512
SEQUENCES: Final = 256

_MADE_UP: Final = (32, 128)
"""Sequences, and tokens of each, where the user gave none."""

_TEXTS_MADE_UP: Final = (256, 32)
"""The same for encoders of texts."""

_SHOWN: Final = 300
_MEMINFO: Final = Path("/proc/meminfo")
_AVAILABLE: Final = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)

Tensors = dict[str, tuple[npt.NDArray[np.uint8], str, tuple[int, ...]]]
"""Name to bytes, dtype and shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRun:
    """What to run both models on.

    Attributes:
        tokens: file of token ids (`capture.deviation_inputs.read_tokens`).
        texts: file of text, which the source's tokenizer cuts into tokens; for encoders one text a line.
        length: tokens of a sequence, at most; less where the model takes less.
        sequences: number of sequences, at most; of more, an even spread is measured.
        metrics: name to a callable that takes a model and gives a number, or a number for each of its items.
        device: of torch, that holds both models.
    """

    tokens: Path | None = None
    texts: Path | None = None
    length: int = LENGTH
    sequences: int = SEQUENCES
    metrics: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if self.tokens is not None and self.texts is not None:
            raise UsageError("give token ids or texts, not both")
        if self.length < 2 or self.sequences < 1:  # noqa: PLR2004  # a token, and the one it predicts
            raise UsageError(f"expected a length of at least 2 and a sequence; found {self.length}, {self.sequences}")

    @property
    def asked(self) -> bool:
        """Tell whether the user gave anything to run: then that it cannot be run is an error."""
        return self.tokens is not None or self.texts is not None or bool(self.metrics)

    def require_possible(self, source: Path, *, elements: int, itemsize: int) -> str | None:
        """Return why the models cannot be run here, or None.

        Args:
            source: model directory, or a file of tensors.
            elements: of the model.
            itemsize: bytes of an element in the checkpoint.

        Raises:
            UsageError: they cannot, and the user asked for it.
        """
        reason = _impossible(source, elements * (8 + itemsize), self.device)
        if reason is not None and self.asked:
            raise UsageError(reason)
        return reason


def _impossible(source: Path, needed: int, device: str) -> str | None:
    if not (source / "config.json").is_file():
        return f"{source.name} has no config.json, so there is no model to run"
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (pip install 'weighmaster[hf]')"
    free = _free_memory()
    if device == "cpu" and free is not None and needed > free:
        return f"both models in float32 would take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
    return None


def _free_memory() -> int | None:
    try:
        found = _AVAILABLE.search(_MEMINFO.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return int(found[1]) * 1024 if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of it, and with which versions and on which device."""

    outputs: Outputs
    metrics: tuple[MetricLine, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


def run_models(source: Path, views: Mapping[str, TensorView], rebuilt: Tensors, run: ReportRun) -> Ran:
    """Build both models, run them on the same tokens, and return the figures.

    Args:
        source: model directory.
        views: tensors of its files, by name.
        rebuilt: tensors of the pack, by name; emptied once the model has them.
        run: what to run.

    Raises:
        UsageError: what the user gave cannot be run; the cause is chained.
        WeighmasterError: a file of the user or of the source is not as it should be.
    """
    try:
        return _run(source, views, rebuilt, run)
    except WeighmasterError as error:
        if run.asked or not isinstance(error, UsageError):
            raise
        return Ran(outputs=NoOutputs(reason=str(error)))
    except Exception as error:  # a model's own code raises anything
        reason = f"the models do not run here: {type(error).__name__}: {error}"
        if run.asked:
            raise UsageError(reason) from error
        return Ran(outputs=NoOutputs(reason=reason[:_SHOWN]))


def _run(source: Path, views: Mapping[str, TensorView], rebuilt: Tensors, run: ReportRun) -> Ran:
    from weighmaster.capture import deviation, deviation_models  # noqa: PLC0415  # imports torch
    from weighmaster.flows.report_outputs import metric_line  # noqa: PLC0415

    read = {name: (_bytes_of(view), view.dtype, view.shape) for name, view in views.items()}
    models = []
    for tensors in (read, rebuilt):
        state = {name: deviation_models.as_tensor(*tensor) for name, tensor in tensors.items()}
        tensors.clear()
        models.append(deviation_models.load_with(source, state, device=run.device))
    reference, packed = models
    lines = tuple(
        metric_line(name, deviation.measure_metric(run.metrics[name], reference, packed))
        for name in sorted(run.metrics)
    )
    return Ran(
        outputs=_compare(source, reference, packed, run),
        metrics=lines,
        versions=deviation_models.versions(run.device),
    )


def _bytes_of(view: TensorView) -> npt.NDArray[np.uint8]:
    return np.frombuffer(view.read(0, view.nbytes), np.uint8)


def _compare(source: Path, reference: Any, packed: Any, run: ReportRun) -> Outputs:
    from weighmaster.capture.deviation import measure_embeddings, measure_tokens  # noqa: PLC0415
    from weighmaster.capture.deviation_models import shape_of  # noqa: PLC0415
    from weighmaster.flows.report_outputs import encoder_outputs, language_outputs  # noqa: PLC0415

    try:
        shape = shape_of(reference, source)
    except UsageError as error:
        if run.tokens is not None or run.texts is not None:
            raise
        return NoOutputs(reason=str(error))
    inputs = _inputs(source, reference, shape, run)
    if shape.kind == "causal-lm":
        return language_outputs(measure_tokens(reference, packed, inputs.sequences), inputs)
    distances = measure_embeddings(reference, packed, inputs.sequences, pooling=shape.pooling)
    return encoder_outputs(distances, inputs, pooling=shape.pooling)


def _inputs(source: Path, reference: Any, shape: Shape, run: ReportRun) -> Inputs:
    from weighmaster.capture import deviation_inputs as given  # noqa: PLC0415
    from weighmaster.capture.deviation_models import load_tokenizer  # noqa: PLC0415

    length = min(run.length, shape.longest or run.length)
    if run.tokens is not None:
        found = given.read_tokens(run.tokens, length=length, vocabulary=shape.vocabulary)
        kind, seed = "tokens", None
    elif run.texts is not None:
        lines = shape.kind == "encoder"
        found = given.read_texts(run.texts, load_tokenizer(source), length=length, lines=lines)
        kind, seed = "texts", None
    else:
        return _made_up(reference, shape)
    chosen = given.spread(found, run.sequences)
    return given.Inputs(kind=kind, seed=seed, available=len(found), sequences=chosen)


def _made_up(reference: Any, shape: Shape) -> Inputs:
    from weighmaster.capture import deviation_inputs as given  # noqa: PLC0415

    if shape.kind == "causal-lm":
        count, length = _MADE_UP
        sequences = given.sample_tokens(
            reference,
            count=count,
            length=min(length, shape.longest or length),
            vocabulary=shape.vocabulary,
            start=shape.start,
        )
        return given.Inputs(kind="self", seed=given.SEED, available=count, sequences=sequences)
    count, length = _TEXTS_MADE_UP
    drawn = given.random_tokens(count=count, length=min(length, shape.longest or length), vocabulary=shape.vocabulary)
    return given.Inputs(kind="random", seed=given.SEED, available=count, sequences=drawn)
