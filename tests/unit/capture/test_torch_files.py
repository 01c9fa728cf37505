# SPDX-License-Identifier: Apache-2.0
"""Pickled checkpoints: their tensors, and everything that a file may hold instead of them."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from weighmaster.capture import torch_files, torch_kind
from weighmaster.capture.open_model import open_model
from weighmaster.capture.torch_files import load_script, open_pickled
from weighmaster.capture.torch_kind import kind_of
from weighmaster.core.tensor import TensorView
from weighmaster.errors import MalformedArtefact, UsageError
from weighmaster.flows.weigh import weigh_files


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def content(view: TensorView) -> bytes:
    return bytes(view.read(0, view.nbytes))


def saved(value: object, path: Path, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def states() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3).to(torch.bfloat16), "n": torch.tensor(7)}


# -- tensors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".whatever"])
def test_reads_tensors(zipped: bool, suffix: str, tmp_path: Path) -> None:
    tensors = states()
    views = open_pickled(saved(tensors, tmp_path / f"m{suffix}", _use_new_zipfile_serialization=zipped))
    assert [v.name for v in views] == ["a.bias", "a.weight", "n"]
    assert [(v.dtype, v.shape, v.stride, v.nbytes) for v in views] == [
        ("bfloat16", (3,), (1,), 6),
        ("float32", (3, 4), (4, 1), 48),
        ("int64", (), (), 8),
    ]
    assert {(v.layout, v.role, v.extent) for v in views} == {("canonical", "file", None)}
    assert content(views[1]) == tensors["a.weight"].numpy().tobytes()


def test_nested_names_are_joined(tmp_path: Path) -> None:
    value = {"state": OrderedDict(w=torch.ones(1)), "step": 3, "lr": 0.1, "opt": [{0: torch.ones(2)}, (torch.ones(3),)]}
    views = open_pickled(saved(value, tmp_path / "m.pt"))
    assert [(v.name, v.shape) for v in views] == [("opt.0.0", (2,)), ("opt.1.0", (3,)), ("state.w", (1,))]


def test_a_bare_tensor_and_parameters(tmp_path: Path) -> None:
    (view,) = open_pickled(saved(nn.Parameter(torch.arange(3.0)), tmp_path / "m.pt"))
    assert (view.name, content(view)) == ("tensor", torch.arange(3.0).numpy().tobytes())


def test_transposes_and_slices_are_written_row_major(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    views = {v.name: v for v in open_pickled(saved({"b": base, "t": base.t(), "s": base[:, 1:3]}, tmp_path / "m.pt"))}
    assert (views["t"].shape, views["t"].stride) == ((4, 3), (3, 1))
    for name, tensor in (("t", base.t()), ("s", base[:, 1:3])):
        assert content(views[name]) == tensor.contiguous().numpy().tobytes()


def test_conjugates_are_resolved(tmp_path: Path) -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    (view,) = open_pickled(saved({"c": tensor.conj()}, tmp_path / "m.pt"))
    assert content(view) == tensor.conj().resolve_conj().numpy().tobytes()


def test_names_equal_those_of_safetensors_at_rest(tmp_path: Path) -> None:
    tensors = states()
    save_file(tensors, tmp_path / "m.safetensors")
    saved(tensors, tmp_path / "m.pth")
    identity: dict[str, Any] = {"product": "p", "version": "1", "serial": 1}
    pickled, plain = (weigh_files(tmp_path / n, **identity) for n in ("m.pth", "m.safetensors"))
    assert pickled.tables[0].root == plain.tables[0].root
    assert (pickled.statement.gate_stage, pickled.statement.gate_view) == ("S0", "logical")
    assert pickled.statement.method.loader == "torch-pickle"
    assert plain.statement.method.loader == "safetensors-files"
    (source,) = pickled.statement.sources
    assert source.sha256 == hashlib.sha256((tmp_path / "m.pth").read_bytes()).hexdigest()


def test_one_flipped_bit_is_another_root(tmp_path: Path) -> None:
    tensors = states()
    identity: dict[str, Any] = {"product": "p", "version": "1", "serial": 1}
    first = weigh_files(saved(tensors, tmp_path / "a.pt"), **identity)
    tensors["a.bias"].view(torch.int16)[2] ^= 1
    second = weigh_files(saved(tensors, tmp_path / "b.pt"), **identity)
    changed = [a.name for a, b in zip(first.tables[0].rows, second.tables[0].rows, strict=True) if a != b]
    assert changed == ["a.bias"]


def test_a_safetensors_file_of_another_name_is_still_weighed_at_rest(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "m.bin")
    manifest = weigh_files(tmp_path / "m.bin", product="p", version="1", serial=1)
    assert manifest.statement.method.loader == "safetensors-files"


# -- pickles that ask for more -------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-FIL-02")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_named_and_not_executed(zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = saved({"a": torch.ones(1), "b": Attack(marker)}, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    for attempt in (open_pickled, lambda p: weigh_files(p, product="p", version="1", serial=1)):
        with pytest.raises(UsageError) as caught:
            attempt(path)
        assert str(caught.value).startswith(f"{path}: its pickle asks for posix.system, ")
        assert "it was not executed" in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.requirement("REQ-FIL-02")
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_bare_malicious_pickle_is_not_executed(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    (tmp_path / "m.bin").write_bytes(pickle.dumps(Attack(marker), protocol=protocol))
    with pytest.raises((UsageError, MalformedArtefact)) as caught:
        open_pickled(tmp_path / "m.bin")
    assert str(tmp_path / "m.bin") in str(caught.value)
    assert "set to `False`" not in str(caught.value)
    assert not marker.exists()


def test_a_whole_pickled_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its pickle asks for torch\.nn\.modules\.linear\.Linear"):
        open_pickled(saved(nn.Linear(2, 2), tmp_path / "m.pt"))


@pytest.mark.requirement("REQ-FIL-02", "REQ-ADM-17")
def test_the_environment_does_not_switch_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "executed"
    with pytest.raises(UsageError, match=r"posix\.system"):
        open_pickled(saved({"b": Attack(marker)}, tmp_path / "m.pt"))
    assert not marker.exists()


# -- broken and crafted files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_truncation_is_noticed_everywhere(zipped: bool, tmp_path: Path) -> None:
    whole = saved(states(), tmp_path / "m.pt", _use_new_zipfile_serialization=zipped).read_bytes()
    path = tmp_path / "cut.pt"
    for length in (0, 1, 2, 20, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(MalformedArtefact) as caught:
            open_pickled(path)
        assert caught.value.file == str(path)


@pytest.mark.parametrize("data", [b"not a pickle", b"\x80\x02", b"\x80\x04.", b"\x80\x02}.", b"PK\x03\x04"])
def test_garbage_is_malformed(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(tmp_path / "m.bin")
    assert caught.value.expected == "a whole PyTorch checkpoint of tensors"


def test_a_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_kind, "MAX_INFLATED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"x")
        archive.writestr("m/data/0", bytes(2 << 20))
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(tmp_path / "m.pt")
    assert caught.value.expected == "compressed members of at most 1048576 bytes"
    assert caught.value.found == f"{(2 << 20) + 1} bytes"


def test_stored_members_that_overlap_are_refused(tmp_path: Path) -> None:
    path = saved({"w": torch.zeros(1000)}, tmp_path / "m.pt")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"m/data/0"))  # the entry of the central directory
    data[at + 20 : at + 28] = (1 << 30).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(path)
    assert caught.value.expected == f"members of at most {len(data)} bytes, as the file"


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = saved({"w": torch.zeros(2)}, tmp_path / "m.pt")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/data.pkl", b"x")
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(path)
    assert (caught.value.field, caught.value.expected) == ("'m/data.pkl'", "each member once")


def test_an_expanded_view_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(saved({"x": torch.zeros(1).expand(10**12)}, tmp_path / "m.pt"))
    assert (caught.value.field, caught.value.expected) == ("x", "a tensor with bytes of its own")
    assert caught.value.found == "shape [1000000000000] stride [0] over 4 bytes"


def test_many_transposes_of_one_storage_are_not_copied(tmp_path: Path) -> None:
    base = torch.zeros(64, 65536)
    crafted = {f"{i}": base[:, : 65536 - i].t() for i in range(8)}
    with pytest.raises(MalformedArtefact, match="a tensor with bytes of its own"):
        open_pickled(saved(crafted, tmp_path / "m.pt"))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), "has layout torch.sparse_coo"),
        (torch.zeros(3, device="meta"), "is on the meta device"),
        (torch.zeros(3, dtype=torch.complex32), "has element type torch.complex32"),
    ],
)
def test_tensors_without_plain_bytes_are_refused(tensor: torch.Tensor, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(saved({"deep": {"x": tensor}}, tmp_path / "m.pt"))
    assert caught.value.field == "deep.x"
    assert reason in caught.value.found


def test_one_name_for_two_tensors(tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(saved({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, tmp_path / "m.pt"))
    assert (caught.value.field, caught.value.found) == ("a.b", "the name twice")


@pytest.mark.parametrize("key", ["a\nb", "e\u0301", "\u200b", "a\x00"])
def test_names_that_deceive(key: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(saved({key: torch.ones(1)}, tmp_path / "m.pt"))
    assert caught.value.expected == "a printable name in NFC"
    assert caught.value.field.isascii()


def test_keys_that_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact) as caught:
        open_pickled(saved({"a": {(1, 2): torch.ones(1)}}, tmp_path / "m.pt"))
    assert (caught.value.field, caught.value.found) == ("a", "tuple (1, 2)")


def test_tensors_in_a_set(tmp_path: Path) -> None:
    with pytest.raises(MalformedArtefact, match="expected tensors with names, found a set"):
        open_pickled(saved({"a": {torch.ones(1)}}, tmp_path / "m.pt"))


def test_a_container_in_itself_ends(tmp_path: Path) -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    with pytest.raises(MalformedArtefact, match="nested at most 64 deep"):
        open_pickled(saved(circle, tmp_path / "m.pt"))


def test_containers_shared_many_times_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_files, "MAX_ENTRIES", 1000)
    value: list[Any] = []
    for _ in range(10):
        value = [value] * 10
    with pytest.raises(MalformedArtefact, match="at most 1000 values"):
        open_pickled(saved(value, tmp_path / "m.pt"))


@pytest.mark.parametrize("value", [{}, {"step": 3}, None, []])
def test_a_checkpoint_without_tensors(value: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no tensor"):
        open_pickled(saved(value, tmp_path / "m.pt"))


# -- other kinds ---------------------------------------------------------------------------------------------------


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    script = torch.jit.script(nn.Linear(2, 2).eval())
    script.save(str(tmp_path / "script.bin"))
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "program.pt2")
    (tmp_path / "program.pt2").rename(tmp_path / "program.pt")
    save_file({"w": torch.ones(1)}, tmp_path / "plain.bin")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("a/readme", b"x")
    kinds = {n: kind_of(tmp_path / n) for n in ("script.bin", "program.pt", "plain.bin", "some.zip")}
    assert kinds == {
        "script.bin": "torchscript",
        "program.pt": "torch-export",
        "plain.bin": "safetensors",
        "some.zip": "other",
    }


def test_a_model_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2).eval()).save(str(tmp_path / "m.pt"))
    with pytest.raises(UsageError, match="expected a pickled checkpoint of tensors, found a torchscript file"):
        weigh_files(tmp_path / "m.pt", product="p", version="1", serial=1)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.pt: no such file"):
        open_pickled(tmp_path / "nothing.pt")


def test_a_link_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.pt").symlink_to(saved(states(), tmp_path / "out.pt"))
    with pytest.raises(MalformedArtefact, match="a link that leads outside"):
        open_pickled(tmp_path / "in" / "m.pt")


def test_a_broken_script_is_a_usage_error_with_its_cause(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as whole, zipfile.ZipFile(tmp_path / "m.pt", "w") as broken:
        for info in whole.infolist():
            data = whole.read(info)
            broken.writestr(info.filename, b"oops(" if info.filename.endswith(".py") else data)
    assert kind_of(tmp_path / "m.pt") == "torchscript"
    with pytest.raises(UsageError) as caught:
        load_script(tmp_path / "m.pt")
    assert f"{tmp_path / 'm.pt'}: torch {torch.__version__} cannot load it as TorchScript: " in str(caught.value)
    assert caught.value.__cause__ is not None


# -- torch.export --------------------------------------------------------------------------------------------------


def rewritten(path: Path, edits: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, edits.get(name.partition("/")[2], data))
    return path


def program(path: Path) -> Path:
    torch.export.save(torch.export.export(nn.Linear(2, 2).eval(), (torch.ones(1, 2),)), path)
    return path


def test_a_rewritten_program_still_opens(tmp_path: Path) -> None:
    assert open_model(rewritten(program(tmp_path / "m.pt2"), {})).loader == "torch-export"


def test_example_inputs_of_a_program_are_not_executed(tmp_path: Path) -> None:
    marker, buffer = tmp_path / "executed", io.BytesIO()
    torch.save(((Attack(marker),), {}), buffer)
    path = rewritten(program(tmp_path / "m.pt2"), {"data/sample_inputs/model.pt": buffer.getvalue()})
    with pytest.raises(UsageError) as caught:
        open_model(path)
    assert "data/sample_inputs/model.pt is a pickle of more than tensors; it was not executed" in str(caught.value)
    assert not marker.exists()


@pytest.mark.requirement("REQ-FIL-02")
@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"use_pickle": false', b'"use_pickle": true'), (b'"path_name": "weight_0"', b'"path_name": "opaque_obj_0"')],
)
def test_pickled_payloads_of_a_program_are_refused(old: bytes, new: bytes, tmp_path: Path) -> None:
    path, name = program(tmp_path / "m.pt2"), "data/weights/model_weights_config.json"
    with zipfile.ZipFile(path) as archive:
        config = archive.read(f"m/{name}")
    assert old in config
    with pytest.raises(UsageError) as caught:
        open_model(rewritten(path, {name: config.replace(old, new)}))
    assert f"{name}: weight is a pickle of more than tensors" in str(caught.value)


def test_a_broken_program_is_a_usage_error_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_model(rewritten(program(tmp_path / "m.pt2"), {"models/model.json": b"{"}))
    assert "cannot load it as an exported program" in str(caught.value)
    assert caught.value.__cause__ is not None
