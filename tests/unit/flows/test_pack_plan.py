# SPDX-License-Identifier: Apache-2.0
"""Which encoder a wish leads to, and what a calibrated run leaves behind: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.packs import TinyEncoder, tiny, write_model

from weighmaster.errors import StorageError, UsageError
from weighmaster.flows import pack_plan
from weighmaster.flows.packing import pack_model
from weighmaster.pack.journal import JOURNAL
from weighmaster.pack.packed import Calibration
from weighmaster.pack.plan import Coded

ON = Calibration(kind="self", sha256="a" * 64, tokens=7)
WISH: dict[str, Any] = {"bits": "5", "profile": "calibrated"}


class Calibrated(TinyEncoder):
    """Reads what the calibration wrote for every tensor; dies at the tensor of the name given."""

    def __init__(self, statistics: Path, dies: str | None = None) -> None:
        super().__init__("datafree")
        self.profile, self.statistics, self.dies = "calibrated", statistics, dies

    def encode(self, view: Any) -> Coded:
        assert (self.statistics / "moments").read_text() == "x"
        if view.name == self.dies:
            raise KeyboardInterrupt
        return super().encode(view)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Put a calibration in place that makes a folder, and return what it is asked for."""
    calls: list[tuple[str, Path]] = []

    def calibrate(_model: Any, tokens: str, work: Path) -> tuple[Any, Calibration]:
        work.mkdir()
        (work / "moments").write_text("x")
        calls.append((tokens, work))
        return work, ON

    monkeypatch.setattr(pack_plan, "calibrate_on", calibrate)
    monkeypatch.setattr(pack_plan, "plan_calibrated", lambda _views, held, **_: Calibrated(held))
    monkeypatch.setattr(pack_plan, "resume", lambda _state, held: Calibrated(held))
    return calls


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_calibrated_pack(tmp_path: Path, asked: list[tuple[str, Path]]):
    result = pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p", **WISH)
    assert (result.index.calibration, result.index.encoder.profile) == (ON, "calibrated")
    assert [tokens for tokens, _ in asked] == ["self"]
    assert asked[0][1].parent == tmp_path / "p"
    assert names(tmp_path / "p") == ["config.json", "model.safetensors", "pack.index", "source"]


def test_a_file_of_tokens(tmp_path: Path, asked: list[tuple[str, Path]]):
    pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p", calibration=tmp_path / "ids.json", **WISH)
    assert asked[0][0] == str(tmp_path / "ids.json")


def test_an_unfinished_calibrated_pack_is_gone_on_with(
    tmp_path: Path, asked: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
):
    source = write_model(tmp_path / "m", tiny())
    with monkeypatch.context() as patch:
        patch.setattr(pack_plan, "plan_calibrated", lambda _views, held, **_: Calibrated(held, "a.weight"))
        with pytest.raises(KeyboardInterrupt):
            pack_model(source, tmp_path / "p", **WISH)
    assert names(tmp_path / "p") == [JOURNAL]
    left = tmp_path / "p" / ".calibration.01234567.partial"  # as a killed run leaves it
    left.mkdir()
    (left / "moments-000001").write_text("x")
    pack_model(source, tmp_path / "p", **WISH)
    assert len(asked) == 2
    assert names(tmp_path / "p") == ["config.json", "model.safetensors", "pack.index", "source"]


def test_other_tokens_are_not_gone_on_with(
    tmp_path: Path, asked: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
):
    source = write_model(tmp_path / "m", tiny())
    with monkeypatch.context() as patch:
        patch.setattr(pack_plan, "plan_calibrated", lambda _views, held, **_: Calibrated(held, "a.weight"))
        with pytest.raises(KeyboardInterrupt):
            pack_model(source, tmp_path / "p", **WISH)
    monkeypatch.setitem(globals(), "ON", Calibration(kind="self", sha256="b" * 64, tokens=8))
    said = f"begun on other tokens: 7, SHA-256 {'a' * 64} there, 8, SHA-256 {'b' * 64} now"
    with pytest.raises(UsageError, match=said):
        pack_model(source, tmp_path / "p", **WISH)
    assert asked[-1][0] == "self"
    assert names(tmp_path / "p") == [JOURNAL]


def test_a_file_alone_cannot_be_run(tmp_path: Path):
    source = write_model(tmp_path / "m", tiny()) / "model.safetensors"
    with pytest.raises(UsageError, match=r"has to be a directory with a config\.json$"):
        pack_model(source, tmp_path / "p", **WISH)


def test_no_room_for_the_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = Path.mkdir

    def full(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.name.startswith(".calibration"):
            raise OSError(28, "No space left on device")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match="cannot be made: No space left on device"):
        pack_model(write_model(tmp_path / "m", tiny()), tmp_path / "p", **WISH)
