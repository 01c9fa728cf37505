# SPDX-License-Identifier: Apache-2.0
"""The closed list of element types."""

from __future__ import annotations

import pytest
import torch

from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES, itemsize


@pytest.mark.parametrize("name", DTYPES)
def test_sizes_are_those_of_torch(name: str) -> None:
    dtype = getattr(torch, name, None)
    if dtype is not None:  # older versions of torch do not have the youngest types
        assert itemsize(name) == dtype.itemsize
        assert str(dtype) == f"torch.{name}"


def test_every_type_of_torch_is_listed_or_known_to_be_refused() -> None:
    """A type that torch adds shows up here, and is refused until a version of the scheme lists it."""
    refused = {"bits", "uint", "int", "complex32", "complexhalf", "quint4x2", "quint2x4", "float4", "float8"}
    kinds = {str(d).removeprefix("torch.") for d in vars(torch).values() if isinstance(d, torch.dtype)}
    assert {k for k in kinds - DTYPES.keys() if not any(k.startswith(r) for r in refused)} == set()


def test_names_of_safetensors_lead_to_listed_types() -> None:
    assert set(SAFETENSORS_NAMES.values()) <= DTYPES.keys()
    assert len(set(SAFETENSORS_NAMES.values())) == len(SAFETENSORS_NAMES)


@pytest.mark.parametrize("name", ["", "float", "torch.float32", "FLOAT32", "complex32", "uint4"])
def test_other_names_have_no_size(name: str) -> None:
    with pytest.raises(KeyError, match=f"^'{name}'$"):
        itemsize(name)
