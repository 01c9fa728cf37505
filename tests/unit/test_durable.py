# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all, whatever stops the writer."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weighmaster import durable
from weighmaster.durable import locked, new_directory, read_whole, write_atomically
from weighmaster.errors import MalformedArtefact, StorageError, UsageError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class TestWriting:
    def test_whole_and_alone(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "f", b"abc")
        assert (tmp_path / "f").read_bytes() == b"abc"
        assert names(tmp_path) == ["f"]

    def test_pieces_are_joined(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "f", (bytes([i]) * 3 for i in range(4)))
        assert (tmp_path / "f").read_bytes() == bytes(3) + b"\1\1\1\2\2\2\3\3\3"

    def test_replaces_by_default(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"old")
        write_atomically(tmp_path / "f", b"new")
        assert (tmp_path / "f").read_bytes() == b"new"

    def test_a_link_is_replaced_and_its_target_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_bytes(b"old")
        (tmp_path / "f").symlink_to("target")
        write_atomically(tmp_path / "f", b"new")
        assert (tmp_path / "target").read_bytes() == b"old"
        assert not (tmp_path / "f").is_symlink()

    @pytest.mark.parametrize("kind", ["file", "link", "dangling"])
    def test_without_replace_nothing_is_overwritten(self, kind: str, tmp_path: Path) -> None:
        if kind == "file":
            (tmp_path / "f").write_bytes(b"old")
        else:
            (tmp_path / "f").symlink_to("target")
            if kind == "link":
                (tmp_path / "target").write_bytes(b"old")
        before = names(tmp_path)
        with pytest.raises(UsageError, match=r"/f: exists already and is not overwritten$"):
            write_atomically(tmp_path / "f", b"new", replace=False)
        assert names(tmp_path) == before
        assert kind == "dangling" or (tmp_path / "f").read_bytes() == b"old"

    def test_without_replace_a_free_name_is_taken(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "f", b"new", replace=False)
        assert names(tmp_path) == ["f"]
        assert (tmp_path / "f").stat().st_nlink == 1

    def test_a_name_taken_while_writing_is_left_alone(self, tmp_path: Path) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"new"
            (tmp_path / "f").write_bytes(b"other")

        with pytest.raises(UsageError, match="exists already"):
            write_atomically(tmp_path / "f", pieces(), replace=False)
        assert (tmp_path / "f").read_bytes() == b"other"
        assert names(tmp_path) == ["f"]

    def test_mode_holds_from_the_first_moment(self, tmp_path: Path) -> None:
        def pieces() -> Iterator[bytes]:
            (partial,) = tmp_path.iterdir()
            assert stat.S_IMODE(partial.stat().st_mode) == 0o600
            yield b"secret"

        write_atomically(tmp_path / "key", pieces(), mode=0o600)
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600

    @pytest.mark.requirement("REQ-DUR-01")
    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError("model")])
    def test_an_exception_in_the_pieces_leaves_nothing(self, error: BaseException, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"old")

        def pieces() -> Iterator[bytes]:
            yield bytes(1 << 20)
            raise error

        with pytest.raises(BaseException) as caught:  # noqa: PT011
            write_atomically(tmp_path / "f", pieces())
        assert caught.type in (KeyboardInterrupt, MemoryError, RuntimeError)
        assert (tmp_path / "f").read_bytes() == b"old"
        assert names(tmp_path) == ["f"]

    @pytest.mark.requirement("REQ-DUR-02")
    def test_data_are_on_the_medium_before_the_name_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file is synchronised before the rename, the directory after it."""
        seen: list[tuple[str, list[str]]] = []

        def fsync(fd: int) -> None:
            kind = "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
            seen.append((kind, [n for n in names(tmp_path) if not n.startswith(".")]))

        monkeypatch.setattr(durable.os, "fsync", fsync)
        write_atomically(tmp_path / "f", b"x")
        assert seen == [("file", []), ("directory", ["f"])]

    def test_a_missing_directory_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"/none/f: cannot be written: No such file or directory$") as caught:
            write_atomically(tmp_path / "none" / "f", b"x")
        assert caught.value.exit_code == 70


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from weighmaster.durable import write_atomically
from weighmaster.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
pieces = [bytes(60_000)] * 4 if sys.argv[2] == "pieces" else bytes(240_000)
try:
    write_atomically(Path(sys.argv[1]), pieces)
except StorageError as error:
    sys.exit(str(error))
"""


@pytest.mark.requirement("REQ-DUR-01")
@pytest.mark.parametrize("kind", ["pieces", "whole"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the kernel refuses in the middle of the write."""
    (tmp_path / "f").write_bytes(b"old")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "f"), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (1, f"{tmp_path / 'f'}: cannot be written: File too large")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


class TestReading:
    def test_whole(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"abc")
        assert read_whole(tmp_path / "f") == b"abc"
        assert read_whole(tmp_path / "f", limit=3) == b"abc"

    @pytest.mark.requirement("REQ-DUR-03")
    def test_larger_than_allowed(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"abcd")
        with pytest.raises(MalformedArtefact) as caught:
            read_whole(tmp_path / "f", limit=3)
        assert (caught.value.file, caught.value.expected, caught.value.found) == (
            str(tmp_path / "f"),
            "at most 3 bytes",
            "more",
        )

    @pytest.mark.parametrize(
        ("name", "message"),
        [("none", "No such file or directory"), ("", "is no regular file"), ("f/g", "Not a directory")],
    )
    def test_nothing_to_read(self, name: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"")
        with pytest.raises(UsageError, match=f": {message}$"):
            read_whole(tmp_path / name)

    @pytest.mark.requirement("REQ-DUR-03")
    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match=r"/pipe: is no regular file$"):
            read_whole(tmp_path / "pipe")

    @pytest.mark.requirement("REQ-DUR-03")
    def test_a_device_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"^/dev/zero: is no regular file$"):
            read_whole(Path("/dev/zero"))

    def test_a_socket_cannot_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            with pytest.raises(StorageError, match=r"^s: cannot be read: No such device or address$"):
                read_whole(Path("s"))

    def test_no_descriptor_is_left_open(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"abcd")
        before = len(names(Path("/proc/self/fd")))
        for path in (tmp_path / "f", tmp_path, tmp_path / "none"):
            for _ in range(5):
                try:
                    read_whole(path, limit=2)
                except (UsageError, MalformedArtefact):
                    continue
        assert len(names(Path("/proc/self/fd"))) == before


class TestLock:
    def test_a_process_forked_meanwhile_does_not_keep_it(self, tmp_path: Path) -> None:
        """The child has the same open directory, and with it the lock, until it ends: a worker may never end."""
        with locked(tmp_path):
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
        other = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other)
            os.close(writer)
            os.close(reader)
            os.waitpid(child, 0)

    def test_not_waiting_for_another(self, tmp_path: Path) -> None:
        with (
            locked(tmp_path),
            pytest.raises(UsageError, match="another process is at work in it"),
            locked(tmp_path, wait=False),
        ):
            pytest.fail("entered without the lock")
        with locked(tmp_path, wait=False):
            pass

    def test_a_file_system_without_such_a_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EBADF, "Bad file descriptor")

        monkeypatch.setattr(durable.fcntl, "flock", refuse)
        with pytest.raises(StorageError, match="cannot be locked: Bad file descriptor"), locked(tmp_path):
            pytest.fail("entered without the lock")


class TestNewDirectory:
    @staticmethod
    def _fill(folder: Path, error: Exception | None = None) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "one").write_bytes(folder.name.encode())
        if error is not None:
            raise error

    def test_appears_whole(self, tmp_path: Path) -> None:
        with new_directory(tmp_path / "a" / "out") as temporary:
            (temporary / "one").write_bytes(b"1")
            assert not (tmp_path / "a" / "out").exists()
        assert (tmp_path / "a" / "out" / "one").read_bytes() == b"1"
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("bad")])
    def test_or_not_at_all(self, tmp_path: Path, error: Exception) -> None:
        expected = StorageError if isinstance(error, OSError) else ValueError
        with pytest.raises(expected), new_directory(tmp_path / "out") as temporary:
            self._fill(temporary, error)
        assert list(tmp_path.iterdir()) == []

    def test_over_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        (tmp_path / "there").mkdir()
        for name in ("link", "there"):
            with pytest.raises(UsageError, match="is not overwritten"), new_directory(tmp_path / name):
                pytest.fail("entered")

    def test_made_by_another_meanwhile_is_left_alone(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError), new_directory(tmp_path / "out") as temporary:
            self._fill(temporary.parent / "out")
        assert (tmp_path / "out" / "one").read_bytes() == b"out"
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
