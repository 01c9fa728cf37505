# SPDX-License-Identifier: Apache-2.0
"""Bytes are read where they lie; what cannot be read so is a fault; mapped pages become private in place."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.capture.torch_storage import (
    file_mappings,
    is_dense,
    make_private,
    mapped_ranges,
    memory_extent,
    tensor_view,
    unreadable,
)
from weighmaster.errors import StageFault


def whole(view: Any) -> bytes:
    return bytes(view.read(0, view.nbytes))


def test_a_contiguous_tensor_is_read_in_place_and_read_only() -> None:
    tensor = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    view = tensor_view("t", "parameter", tensor)
    assert whole(view) == bytes([0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0])
    assert (view.dtype, view.shape, view.stride, view.nbytes, view.layout) == ("int16", (2, 3), (3, 1), 12, "strided")
    tensor[0, 0] = 513
    assert bytes(view.read(0, 2)) == b"\x01\x02"
    assert view.read(0, 2).readonly


def test_a_permuted_dense_tensor_is_read_as_it_lies() -> None:
    tensor = torch.arange(6, dtype=torch.uint8).reshape(2, 3).t()
    view = tensor_view("t", "parameter", tensor)
    assert (view.shape, view.stride) == ((3, 2), (1, 3))
    assert whole(view) == bytes(range(6))


def test_a_view_starts_at_its_own_first_byte() -> None:
    base = torch.arange(8, dtype=torch.uint8)
    assert whole(tensor_view("t", "buffer", base[3:6])) == bytes([3, 4, 5])
    assert memory_extent(base[3:6]).address == base.data_ptr() + 3


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (torch.arange(8)[::2], "shape [4] stride [2]"),
        (torch.ones(1).expand(3), "shape [3] stride [0]"),
        (torch.arange(9).as_strided((2, 3), (2, 1)), "shape [2, 3] stride [2, 1]"),
        (torch.arange(9).reshape(3, 3)[:, :2], "shape [3, 2] stride [3, 1]"),
    ],
)
def test_gaps_and_overlaps_are_faults_unless_a_copy_is_asked_for(tensor: torch.Tensor, found: str) -> None:
    assert not is_dense(tensor)
    with pytest.raises(StageFault) as caught:
        tensor_view("t", "buffer", tensor)
    assert (caught.value.subject, caught.value.found) == ("t", found)
    assert caught.value.expected == "a dense, non-overlapping extent"
    view = tensor_view("t", "buffer", tensor, materialize=True)
    assert view.layout == "materialized-v1"
    assert whole(view) == tensor.contiguous().numpy().tobytes()


def test_conjugate_and_negative_views_are_resolved() -> None:
    tensor = torch.tensor([1 + 2j]).conj()
    view = tensor_view("t", "buffer", tensor)
    assert view.layout == "resolved-v1"
    assert whole(view) == torch.tensor([1 - 2j]).numpy().tobytes()
    assert whole(tensor_view("t", "buffer", tensor.imag)) == torch.tensor([-2.0]).numpy().tobytes()


@pytest.mark.requirement("REQ-CAP-04")
@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.ones(2, device="meta"), "is on the meta device"),
        (torch.eye(2).to_sparse(), "has layout torch.sparse_coo"),
        (torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint4x2), "has element type torch.quint4x2"),
    ],
)
def test_what_has_no_bytes_of_its_own_is_a_fault(tensor: torch.Tensor, reason: str) -> None:
    assert (unreadable(tensor) or "").startswith(reason)
    with pytest.raises(StageFault, match=reason):
        tensor_view("t", "buffer", tensor)


def test_an_emptied_storage_is_a_fault() -> None:
    tensor = torch.ones(4)
    tensor.untyped_storage().resize_(0)
    assert "readable storage" in (unreadable(tensor) or "")


def test_zero_elements_read_as_nothing() -> None:
    view = tensor_view("t", "buffer", torch.empty(0, 3))
    assert (view.nbytes, view.shape, view.stride) == (0, (0, 3), (3, 1))
    assert memory_extent(torch.empty(0, 3)).nbytes == 0


def test_strides_of_single_elements_are_written_canonically() -> None:
    assert tensor_view("t", "buffer", torch.ones(4).as_strided((1, 4), (99, 1))).stride == (4, 1)


def mapped_file(path: Path, count: int) -> torch.Tensor:
    path.write_bytes(bytes(i % 251 for i in range(count)))
    return torch.from_file(str(path), shared=True, size=count, dtype=torch.uint8)


def edit(path: Path, at: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([value]))


@pytest.mark.parametrize("count", [10, mmap.PAGESIZE, 3 * mmap.PAGESIZE + 7])
def test_mapped_pages_become_private_in_place(count: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    tensor = mapped_file(path, count)
    before, address = bytes(tensor.tolist()), tensor.data_ptr()
    ((extent, mapping),) = mapped_ranges(iter([memory_extent(tensor)]))
    assert mapping.path == str(path)
    edit(path, 5, 255)
    assert tensor[5] == 255, "the file is mapped shared: an edit reaches the tensor"
    edit(path, 5, before[5])
    assert make_private(iter([extent])) >= count
    assert mapped_ranges(iter([memory_extent(tensor)])) == ()
    edit(path, 5, 255)
    assert bytes(tensor.tolist()) == before
    assert tensor.data_ptr() == address
    tensor[0] = 7  # still writable, and not written through
    assert path.read_bytes()[0] == before[0]


def test_only_the_pages_under_the_extent_are_replaced(tmp_path: Path) -> None:
    tensor = mapped_file(tmp_path / "w.bin", 4 * mmap.PAGESIZE)
    make_private(iter([memory_extent(tensor[: mmap.PAGESIZE])]))
    edit(tmp_path / "w.bin", 0, 255)
    edit(tmp_path / "w.bin", 3 * mmap.PAGESIZE, 255)
    assert tensor[0] != 255
    assert tensor[3 * mmap.PAGESIZE] == 255


def test_mappings_name_a_file_of_this_process(tmp_path: Path) -> None:
    tensor = mapped_file(tmp_path / "with space.bin", 100)
    (found,) = [m for m in file_mappings() if m.path.endswith("with space.bin")]
    assert found.start <= tensor.data_ptr() < found.stop
    assert found.writable
    assert mapped_ranges(iter([memory_extent(torch.ones(10_000))])) == ()
