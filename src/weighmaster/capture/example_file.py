# SPDX-License-Identifier: Apache-2.0
"""Example inputs from a safetensors file: a probe set of ours, or tensors that are one call's keyword arguments."""

from __future__ import annotations

from pathlib import Path

from weighmaster.capture.probe_set import ProbeSet, from_examples, parse_probe_set
from weighmaster.capture.safetensors_files import open_file
from weighmaster.capture.torch_storage import tensor_of
from weighmaster.durable import read_whole
from weighmaster.errors import MalformedArtefact

__all__ = ["read_examples"]

_KEY = "probe-set"


def read_examples(path: Path | str) -> ProbeSet:
    """Return the probe set that a safetensors file holds.

    A file whose metadata has ``probe-set`` is one of ours and gives exactly its calls. Any other is one call: each
    tensor is the keyword argument of its name.

    Raises:
        UsageError: there is no such file.
        MalformedArtefact: it breaks the format, or there is no tensor in it.
    """
    with open_file(path) as file:
        if _KEY not in dict(file.header.metadata):
            tensors = {v.name: tensor_of(bytes(v.read(0, v.nbytes)), v.dtype, v.shape) for v in file.views()}
            if not tensors:
                raise MalformedArtefact(str(path), "", expected="at least one tensor", found="none")
            return from_examples(tensors)
    return parse_probe_set(read_whole(Path(path)), str(path))
