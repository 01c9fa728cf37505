# SPDX-License-Identifier: Apache-2.0
"""Packing: what comes out, what is refused, what a second run goes on with."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.packs import TinyEncoder, pack_tiny, read_index, tiny, values, write_model, write_sharded

from weighmaster.capture.safetensors_files import open_checkpoint
from weighmaster.core.dtype import DTYPES, SAFETENSORS_NAMES
from weighmaster.errors import MalformedArtefact, NotAdmitted, SourceFault, StorageError, UsageError
from weighmaster.flows import packing
from weighmaster.flows.pack_verification import verify_pack
from weighmaster.flows.packing import Step, pack_model
from weighmaster.pack.journal import JOURNAL
from weighmaster.pack.plan import Coded
from weighmaster.pack.reader import open_pack

FILES = {
    "config.json": '{"eps": 1e-05, "architectures": ["X"]}',
    "code/modeling.py": "raise SystemExit\n",
    "vocab.txt": "a",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same_tensors(pack: Path, source: Path) -> None:
    with open_pack(pack) as opened, open_checkpoint(source) as checkpoint:
        for view in checkpoint.views():
            rebuilt = opened.read(view.name)
            assert (rebuilt.dtype, rebuilt.shape) == (view.dtype, view.shape)
            assert rebuilt.data.tobytes() == bytes(view.read(0, view.nbytes))


# -- what comes out ----------------------------------------------------------------------------------------------------


def every_kind() -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Tensors of every dtype that safetensors has, of odd shapes and odd values."""
    rng = np.random.default_rng(5)
    out = {}
    for dtype in sorted(SAFETENSORS_NAMES.values()):
        for shape in [(), (0,), (3, 0, 2), (1, 700), (700, 1), (37, 41), (2, 5, 7, 9), (4099,)]:
            size = int(np.prod(shape)) * DTYPES[dtype]
            out[f"{dtype}.{'x'.join(map(str, shape))}"] = (dtype, shape, rng.bytes(size))
    special = np.array([0x7FC1, 0xFF80, 0x7F80, 0x8000, 0x0001, 0x7F7F] * 512, "<u2")
    out["nan, inf, -0, denormal"] = ("bfloat16", (48, 64), special.tobytes())
    out["denormal only"] = ("bfloat16", (64, 64), np.full(4096, 3, "<u2").tobytes())
    out["constant"] = ("float32", (64, 64), np.full(4096, 0.125, "<f4").tobytes())
    out["zeros"] = ("float16", (64, 64), bytes(8192))
    out["tied.a"] = out["tied.b"] = ("bfloat16", (64, 64), values("bfloat16", (64, 64)))
    out["widened"] = ("float32", (64, 64), (np.frombuffer(out["tied.a"][2], "<u2").astype("<u4") << 16).tobytes())
    return out


@pytest.mark.requirement("REQ-PAC-05")
@pytest.mark.slow
def test_every_kind_of_tensor_is_kept_exactly(tmp_path: Path):
    source = write_model(tmp_path / "m", every_kind())
    result = pack_model(source, tmp_path / "p", shard_bytes=100_000)
    same_tensors(tmp_path / "p", source)
    codecs = {tensor.name: tensor.codec for tensor in result.index.tensors}
    assert {codecs[n] for n in ("widened", "tied.a", "tied.b", "zeros", "constant", "denormal only")} == {"exact-v1"}
    assert {codecs[n] for n in codecs if n.split(".")[0] in {"int64", "float64", "complex64", "bool"}} == {"raw-v1"}
    assert len(result.index.shards) > 2
    verify_pack(tmp_path / "p")


def test_files_of_a_pack(tmp_path: Path):
    source = write_model(tmp_path / "m", tiny(), FILES)
    (source / "README.md").write_text("not a source")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.onnx").write_bytes(b"x")
    result = pack_model(source, tmp_path / "p")
    assert result.left == ("onnx/model.onnx", "pytorch_model.bin")
    found = contents(tmp_path / "p")
    assert set(found) == {
        "pack.index",
        "model.safetensors",
        "config.json",
        "vocab.txt",
        *(f"source/{path}" for path in FILES),
    }
    for path, text in FILES.items():
        assert found[f"source/{path}"] == text.encode()
    assert found["vocab.txt"] == FILES["vocab.txt"].encode()
    method = {"quant_method": "weighmaster", "format": "weighmaster-pack-v1"}
    assert json.loads(found["config.json"]) == {**json.loads(FILES["config.json"]), "quantization_config": method}
    assert [f.path for f in result.index.source] == ["model.safetensors"]
    assert result.index.source[0].size == (source / "model.safetensors").stat().st_size


def test_a_file_alone(tmp_path: Path):
    source = write_model(tmp_path / "m", tiny()) / "model.safetensors"
    result = pack_model(source, tmp_path / "p")
    assert set(contents(tmp_path / "p")) == {"pack.index", "model.safetensors"}
    assert (result.left, result.index.encoder.profile, result.index.encoder.bits) == ((), "exact", None)


def test_deviation_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_model(tmp_path / "m", tiny())
    result = pack_tiny(monkeypatch, source, tmp_path / "p", profile="datafree")
    index = result.index
    assert {t.name: t.codec for t in index.tensors}["a.weight"] == "five-v1"
    assert (index.encoder.bits, index.encoder.parameters) == ("5", (("step", "0.0078125"),))
    with open_pack(tmp_path / "p") as opened:
        rebuilt = opened.read("a.weight").data
    was, now = (
        (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
        for data in (tiny()["a.weight"][2], rebuilt.tobytes())
    )
    assert float(index.relative_squared_error) == pytest.approx(((was - now) ** 2).sum() / (was**2).sum(), abs=1e-11)
    assert isinstance(result.bits_per_weight, Fraction)


def test_progress_adds_up(tmp_path: Path):
    steps: list[Step] = []
    source = write_sharded(tmp_path / "m", [tiny(), {"z": ("int8", (100,), bytes(100))}])
    pack_model(source, tmp_path / "p", shard_bytes=512, watch=steps.append)
    nbytes = sum(len(data) for _, _, data in tiny().values()) + 100
    files = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    for stage, total, tensors in [("pack", nbytes, 4), ("read back", nbytes, 4)]:
        mine = [s for s in steps if s.stage == stage]
        assert {(s.total, s.of_tensors) for s in mine} == {(total, tensors)}
        assert (sum(s.nbytes for s in mine), sum(s.tensors for s in mine)) == (total, tensors)
    assert {s.total for s in steps if s.stage == "digest"} == {files}
    assert sum(s.nbytes for s in steps if s.stage == "digest") >= files
    assert list(dict.fromkeys(s.stage for s in steps)) == ["digest", "pack", "read back"]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": "2.9"}, "bits: expected 3 to 8 in steps of 0.1, found 2.9"),
        ({"bits": 8.1}, "bits: expected 3 to 8 in steps of 0.1, found 8.1"),
        ({"bits": "4.55"}, "bits: expected 3 to 8 in steps of 0.1, found 4.55"),
        ({"bits": "five"}, "bits: expected a number, found 'five'"),
        ({"bits": "NaN"}, "bits: expected 3 to 8 in steps of 0.1, found NaN"),
        ({"profile": "magic"}, "profile: expected exact, datafree or calibrated, found 'magic'"),
        ({"profile": "exact", "bits": 5}, "profile exact: expected no bits, found 5 bits"),
        ({"profile": "datafree"}, "profile datafree: expected bits, 3 to 8, found no bits"),
        ({"bits": 5, "calibration": "self"}, "calibration: has no meaning for the profile datafree"),
    ],
)
def test_wishes_that_do_not_fit_together(tmp_path: Path, options: dict[str, Any], said: str):
    source = write_model(tmp_path / "m", tiny())
    with pytest.raises(UsageError) as caught:
        pack_model(source, tmp_path / "p", **options)
    assert str(caught.value) == said
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("path", ["pack.index", "signer-1.sigstore.json", "source/x"])
def test_names_that_packs_keep(tmp_path: Path, path: str):
    source = write_model(tmp_path / "m", tiny(), {path: "x"})
    with pytest.raises(UsageError, match=r"has a name that a pack keeps for itself|is a pack already"):
        pack_model(source, tmp_path / "p")


def test_a_pack_is_not_packed_again(tmp_path: Path):
    pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p")
    with pytest.raises(UsageError, match="is a pack already"):
        pack_model(tmp_path / "p", tmp_path / "q")


def test_nothing_to_pack(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no tensor"):
        pack_model(write_model(tmp_path / "m", {}), tmp_path / "p")
    with pytest.raises(UsageError):
        pack_model(tmp_path / "missing", tmp_path / "p")


def test_a_config_that_is_none(tmp_path: Path):
    source = write_model(tmp_path / "m", tiny(), {"config.json": "[]"})
    with pytest.raises(MalformedArtefact, match="expected a JSON object, found list"):
        pack_model(source, tmp_path / "p")


def test_links_of_the_source_that_lead_outside(tmp_path: Path):
    source = write_model(tmp_path / "m", tiny())
    (source / "tokenizer.json").symlink_to("/etc/passwd")
    with pytest.raises(MalformedArtefact, match="a link that leads outside"):
        pack_model(source, tmp_path / "p")


def finished(out: Path) -> None:
    pack_model(write_model(out.parent / "other", tiny()), out)


def strange(out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")


def a_file(out: Path) -> None:
    out.write_text("mine")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [(finished, "holds a pack already"), (strange, "it holds notes.txt"), (a_file, "is no directory")],
)
def test_what_is_there_is_not_overwritten(tmp_path: Path, prepare: Callable[[Path], None], said: str):
    prepare(tmp_path / "p")
    before = contents(tmp_path)
    source = write_model(tmp_path / "m", tiny())
    with pytest.raises(UsageError, match=said):
        pack_model(source, tmp_path / "p")
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before


@pytest.mark.requirement("REQ-PAC-08")
def test_two_packers_on_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_model(tmp_path / "m", tiny())
    reached, go = threading.Event(), threading.Event()

    class Waiting(TinyEncoder):
        def encode(self, view: Any) -> Coded:
            reached.set()
            assert go.wait(60)
            return super().encode(view)

    monkeypatch.setattr(packing, "new_encoder", lambda *_: (Waiting(), None))
    first = threading.Thread(target=pack_model, args=(source, tmp_path / "p"))
    first.start()
    try:
        assert reached.wait(60)
        with pytest.raises(UsageError, match=r"p: another process is at work in it$"):
            pack_model(source, tmp_path / "p")
    finally:
        go.set()
        first.join()
    same_tensors(tmp_path / "p", source)


def test_a_lock_that_the_file_system_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def none(*_: Any) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StorageError, match="cannot be locked: Bad file descriptor"):
        pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p")


# -- a source that changes ---------------------------------------------------------------------------------------------


class Meddler(TinyEncoder):
    """Changes something when the first tensor is coded."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change: Callable[[], None] | None = change

    def encode(self, view: Any) -> Coded:
        if self._change is not None:
            self._change()
            self._change = None
        return super().encode(view)


def touched(source: Path) -> None:
    data = bytearray((source / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (source / "model.safetensors").write_bytes(data)


def replaced(source: Path) -> None:
    data = (source / "model.safetensors").read_bytes()
    (source / "new").write_bytes(data)
    (source / "new").rename(source / "model.safetensors")


def other_config(source: Path) -> None:
    (source / "config.json").write_text("{ }")


@pytest.mark.requirement("REQ-PAC-08")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (touched, "the file changed while it was read"),
        (replaced, "the file"),
        (other_config, "the file changed while it was packed"),
    ],
)
def test_a_source_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], said: str
):
    source = write_model(tmp_path / "m", tiny())
    monkeypatch.setattr(packing, "new_encoder", lambda *_: (Meddler(lambda: change(source)), None))
    with pytest.raises(SourceFault, match=said):
        pack_model(source, tmp_path / "p")
    assert not (tmp_path / "p" / "pack.index").exists()
    assert change is other_config or set(contents(tmp_path / "p")) == {JOURNAL}  # no shard got its name


# -- what was not written as it should be ------------------------------------------------------------------------------


def test_an_encoder_that_loses_what_it_calls_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Lossy(TinyEncoder):
        def encode(self, view: Any) -> Coded:
            zeros = bytes(view.nbytes)
            if view.name == "a.weight":
                view = type(view)(
                    **{f: getattr(view, f) for f in view.__slots__} | {"read": lambda a, b: memoryview(zeros)[a:b]}
                )
            return super().encode(view)

    monkeypatch.setattr(packing, "new_encoder", lambda *_: (Lossy(), None))
    with pytest.raises(NotAdmitted) as caught:
        pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p")
    assert [fault.subject for fault in caught.value.faults] == ["a.weight"]
    assert not (tmp_path / "p" / "pack.index").exists()


@pytest.mark.requirement("REQ-PAC-07")
def test_a_disk_that_does_not_keep_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = packing.append

    def rot(directory: Path, finished: Any) -> None:
        real(directory, finished)
        path = directory / finished.file.path
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    source = write_model(tmp_path / "m", tiny())
    with monkeypatch.context() as patch:
        patch.setattr(packing, "append", rot)
        with pytest.raises((NotAdmitted, MalformedArtefact), match=r"a\.weight"):
            pack_tiny(monkeypatch, source, tmp_path / "p")
    assert not (tmp_path / "p" / "pack.index").exists()
    assert pack_tiny(monkeypatch, source, tmp_path / "p").resumed == 0  # the shard is not what was noted: made again
    same_tensors(tmp_path / "p", source)


# -- a full disk -------------------------------------------------------------------------------------------------------


def refuse_after(count: int, calls: list[int], real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    return call


def attempt(call: Callable[[], object]) -> StorageError | None:
    try:
        call()
    except StorageError as error:
        return error
    return None


@pytest.mark.requirement("REQ-PAC-06")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["write", "fsync", "replace", "mkdir"])
def test_a_full_disk_at_every_call_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """Each refusal is a StorageError, leaves no index, and what was finished is gone on with to the same pack."""
    source = write_model(tmp_path / "m", tiny(), {"config.json": "{}", "a/vocab.txt": "x"})
    pack_tiny(monkeypatch, source, tmp_path / "whole", shard_bytes=500)
    whole = contents(tmp_path / "whole")
    owner: Any = os if name in {"write", "fsync"} else Path
    for count in range(200):
        out, calls = tmp_path / f"p{count}", []
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refuse_after(count, calls, getattr(owner, name)))
            refusal = attempt(lambda: pack_tiny(monkeypatch, source, out, shard_bytes=500))  # noqa: B023
        if refusal is None:
            break
        assert "No space left on device" in str(refusal)
        assert not (out / "pack.index").exists() or (out / JOURNAL).exists()
        left = contents(out) if out.exists() else {}
        assert [path for path in left if path != JOURNAL and whole.get(path) != left[path]] == []
        pack_tiny(monkeypatch, source, out, shard_bytes=500)
        assert contents(out) == whole
    else:
        pytest.fail("never finished")
    assert count >= {"write": 4, "fsync": 9, "replace": 6, "mkdir": 3}[name]


def test_a_limit_on_the_size_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel itself refuses, in the middle of the second shard's spool."""
    parts = [{"a": ("int8", (3000,), bytes(3000))}, {"b": ("int8", (90_000,), bytes(90_000))}]
    source = write_sharded(tmp_path / "m", parts)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            pack_tiny(monkeypatch, source, tmp_path / "p", shard_bytes=4000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert set(contents(tmp_path / "p")) == {JOURNAL, "model-00001-of-00002.safetensors"}
    assert pack_tiny(monkeypatch, source, tmp_path / "p", shard_bytes=4000).resumed == 1


# -- an unfinished run -------------------------------------------------------------------------------------------------


class Dying(TinyEncoder):
    """Stops the run at the tensor of this name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def encode(self, view: Any) -> Coded:
        if view.name == self.name:
            raise KeyboardInterrupt
        return super().encode(view)


PARTS = [tiny(), {"z": ("bfloat16", (4, 40), values("bfloat16", (4, 40), 9))}]


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A source, and the directory of a run that finished one shard of two."""
    source, out = write_sharded(tmp_path / "m", PARTS), tmp_path / "p"
    (source / "config.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(packing, "new_encoder", lambda *_: (Dying("z"), None))
        with pytest.raises(KeyboardInterrupt):
            pack_model(source, out, shard_bytes=600)
    assert set(contents(out)) == {JOURNAL, "model-00001-of-00002.safetensors"}
    return source, out


def test_finished_shards_are_not_made_again(
    unfinished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source, out = unfinished
    inode = (out / "model-00001-of-00002.safetensors").stat().st_ino
    monkeypatch.setattr(packing, "resumed_encoder", lambda *_: Dying("a.weight"))  # coded already: never asked for
    assert pack_model(source, out, shard_bytes=600).resumed == 1
    assert (out / "model-00001-of-00002.safetensors").stat().st_ino == inode
    pack_tiny(monkeypatch, source, tmp_path / "whole", shard_bytes=600)
    assert contents(out) == contents(tmp_path / "whole")


def test_half_written_files_are_removed(unfinished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    source, out = unfinished
    (out / "source").mkdir()
    for path in (".model.safetensors.0123abcd.partial", "source/.config.json.01234567.partial"):
        (out / path).write_bytes(b"half")
    pack_tiny(monkeypatch, source, out, shard_bytes=600)
    assert not [path for path in contents(out) if path.endswith(".partial")]


def test_a_finished_shard_that_was_changed_is_made_again(
    unfinished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    source, out = unfinished
    path = out / "model-00001-of-00002.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert pack_tiny(monkeypatch, source, out, shard_bytes=600).resumed == 0
    assert path.read_bytes() == data


def edit_source(source: Path) -> None:
    touched_file = source / "model-00002-of-00002.safetensors"
    data = bytearray(touched_file.read_bytes())
    data[-1] ^= 1
    touched_file.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (edit_source, {}, r"SHA-256 of model-00002-of-00002\.safetensors: [0-9a-f]{64} there, [0-9a-f]{64} now"),
        (other_config, {}, r"SHA-256 of config\.json: "),
        (lambda source: (source / "vocab.txt").write_text("x"), {}, r"SHA-256 of vocab\.txt: None there"),
        (
            lambda source: (source / "config.json").unlink(),
            {},
            r"SHA-256 of config\.json: [0-9a-f]{64} there, None now",
        ),
        (lambda _: None, {"shard_bytes": 700}, "bytes of the source per shard: 600 there, 700 now"),
        (lambda _: None, {"bits": "5"}, "profile: exact there, datafree now"),
    ],
)
def test_another_model_or_wish_is_not_gone_on_with(
    unfinished: tuple[Path, Path], change: Callable[[Path], object], options: dict[str, Any], said: str
):
    source, out = unfinished
    change(source)
    before = contents(out)
    with pytest.raises(UsageError, match=said):
        pack_model(source, out, **{"shard_bytes": 600} | options)
    assert contents(out) == before


def test_a_strange_file_in_an_unfinished_pack(unfinished: tuple[Path, Path]):
    source, out = unfinished
    (out / "x").write_text("mine")
    with pytest.raises(UsageError, match="is not empty: it holds x, which is no part of an unfinished pack"):
        pack_model(source, out, shard_bytes=600)


def test_the_index_of_a_finished_pack_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed after the index was written and before the journal went: the same call finishes it."""
    source, out = write_model(tmp_path / "m", tiny()), tmp_path / "p"
    with monkeypatch.context() as patch:
        patch.setattr(packing.Output, "finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pack_tiny(monkeypatch, source, out)
    with pytest.raises(MalformedArtefact, match=r"\.pack\.journal: expected only files that the index lists"):
        open_pack(out)
    index = read_index(out)
    assert pack_tiny(monkeypatch, source, out).index == index
    verify_pack(out)
