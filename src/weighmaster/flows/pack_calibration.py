# SPDX-License-Identifier: Apache-2.0
"""Load a model that is to be packed, and find out on tokens what its weights do to its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighmaster.capture.sources import role_of
from weighmaster.errors import StorageError, UsageError
from weighmaster.flows.pack_source import ModelFiles
from weighmaster.pack.index_rules import CONFIG
from weighmaster.pack.packed import Calibration

if TYPE_CHECKING:
    from weighmaster.pack.statistics import Statistics

__all__ = ["calibrate_on"]


def calibrate_on(model: ModelFiles, tokens: str, work: Path) -> tuple[Statistics, Calibration]:
    """Run a model, in float32 on the CPU, and return what its weights matter, by their names in the checkpoint.

    Args:
        model: a Hugging Face directory.
        tokens: ``self`` for text that the model writes, or the name of a file.
        work: a directory to make for the matrices.

    Raises:
        UsageError: it is no directory with a model that transformers loads, or cannot be calibrated so.
        MalformedArtefact: the file does not hold tokens of the model.
        StorageError: the directory cannot be made.
    """
    if not model.path.is_dir() or not any(file.path == CONFIG for file in model.others):
        raise UsageError(f"{model.path}: is calibrated by running it, so it has to be a directory with a {CONFIG}")
    from weighmaster.capture.open_model import open_model  # noqa: PLC0415  # imports torch, other profiles do not
    from weighmaster.capture.self_sample import calibrate  # noqa: PLC0415

    try:
        work.mkdir()
    except OSError as error:
        raise StorageError(f"{work}: cannot be made: {error.strerror or error}") from error
    done = calibrate(
        open_model(model.path).model.float(),
        [view.name for view in model.views],
        tokenizer=_tokenizer(model),
        file=None if tokens == "self" else Path(tokens),
        work=work,
    )
    return done.statistics, Calibration(kind=done.kind, sha256=done.sha256, tokens=done.tokens)


def _tokenizer(model: ModelFiles) -> Any:
    """Return the model's tokenizer, or None where no file of one is there."""
    if not any(role_of(Path(file.path).name) == "tokenizer" for file in model.others):
        return None
    from weighmaster.capture.deviation_models import load_tokenizer  # noqa: PLC0415  # imports transformers

    return load_tokenizer(model.path)
