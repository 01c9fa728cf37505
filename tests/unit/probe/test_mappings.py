# SPDX-License-Identifier: Apache-2.0
"""Reading maps: what is executed, and when a path cannot answer for it."""

from __future__ import annotations

import os

import pytest

from weighmaster.probe import mappings
from weighmaster.probe.mappings import MappedFile, anonymous_code, mapped_sha256, parse_maps, read_maps


def line(permissions: str, path: str, *, device: str = "fe:00", inode: int = 7) -> str:
    return f"7f0000000000-7f0000001000 {permissions} 00000000 {device} {inode}    {path}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (line("r-xp", "/lib/a.so"), [("/lib/a.so", True)]),
        (line("r--p", "/lib/a.so") + line("r-xp", "/lib/a.so") + line("rw-p", "/lib/a.so"), [("/lib/a.so", True)]),
        (line("r--p", "/data/model.safetensors"), []),
        (line("rw-s", "/dev/shm/x (deleted)"), []),
        (line("r-xp", "/lib/a.so (deleted)"), [("/lib/a.so", False)]),
        (line("r-xp", "/memfd:ffi (deleted)"), [("/memfd:ffi", False)]),
        (line("r-xp", "anon_inode:[perf]"), [("anon_inode:[perf]", False)]),
        (line("rwxp", "/lib/a.so"), [("/lib/a.so", False)]),
        (line("r-xp", "/lib/a.so") + line("rw-s", "/lib/a.so"), [("/lib/a.so", False)]),
        (line("r-xp", "/lib/a b.so"), [("/lib/a b.so", True)]),
        (line("r-xp", "/lib/a\\012b.so"), [("/lib/a\nb.so", True)]),
        ("7f0000000000-7f0000001000 r-xp 00000000 00:00 0    [vdso]\n", []),
        ("7f0000000000-7f0000001000 rwxp 00000000 00:00 0\n", []),
        ("", []),
    ],
)
def test_parse(text, found):
    assert [(file.path, file.fixed) for file in parse_maps(text)] == found


ANONYMOUS = "7f0000000000-7f0000001000 {} 00000000 00:00 0 {}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ANONYMOUS.format("r-xp", ""), "executable"),
        (ANONYMOUS.format("rwxp", ""), "writable and executable"),
        (ANONYMOUS.format("rwxp", "   [heap]"), "writable and executable"),
        (ANONYMOUS.format("r-xp", "   [anon:code]"), "executable"),
        (ANONYMOUS.format("rwxp", "   [stack]") + ANONYMOUS.format("r-xp", ""), "writable and executable"),
        (ANONYMOUS.format("rw-p", ""), None),
        (ANONYMOUS.format("r-xp", "   [vdso]"), None),
        (ANONYMOUS.format("--xp", "   [vsyscall]"), None),
        (line("r-xp", "/lib/a.so"), None),
        ("", None),
    ],
)
def test_code_without_a_file(text, found):
    assert anonymous_code(text) == found


def test_two_files_of_one_path_stay_two():
    files = parse_maps(line("r-xp", "/lib/a.so", inode=1) + line("r-xp", "/lib/a.so", inode=2))
    assert [file.inode for file in files] == [1, 2]


def test_a_file_deleted_and_linked_again_is_two_unless_neither_can_answer():
    files = parse_maps(line("r-xp", "/lib/a.so") + line("r-xp", "/lib/a.so (deleted)"))
    assert [file.fixed for file in files] == [True, False]
    assert len(parse_maps(line("rwxp", "/lib/a.so") + line("r-xp", "/lib/a.so (deleted)"))) == 1


def test_device_is_that_of_stat():
    (file,) = parse_maps(line("r-xp", "/lib/a.so", device="103:0a"))
    assert file.device == os.makedev(0x103, 0x0A)


@pytest.mark.parametrize(
    "text",
    [
        "r-xp 00000000 fe:00 7 8 /lib/a.so\n",
        line("r-xp", "/lib/a.so", device="fe"),
        line("r-xp", "/lib/a.so", device="zz:00"),
        line("r-xp", "/lib/a.so", device="ffffffffff:00"),
        line("r-xp", "/lib/a.so").replace(" 7 ", " 7f "),
    ],
)
def test_a_line_that_no_kernel_writes_is_not_guessed_at(text):
    with pytest.raises(ValueError, match=r"."):
        parse_maps(text)


class TestDigest:
    def mapped(self, path, **changes) -> MappedFile:
        stat = path.stat()
        fields = {"path": str(path), "device": stat.st_dev, "inode": stat.st_ino, "fixed": True}
        return MappedFile(**{**fields, **changes})

    def test_same_file(self, tmp_path):
        path = tmp_path / "a.so"
        path.write_bytes(b"abc")
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, example 1
        assert mapped_sha256(self.mapped(path)) == digest

    @pytest.mark.parametrize("changes", [{"inode": 1}, {"device": 1, "inode": 1}, {"device": 1}, {"fixed": False}])
    def test_another_file(self, tmp_path, changes):
        path = tmp_path / "a.so"
        path.write_bytes(b"abc")
        assert mapped_sha256(self.mapped(path, **changes)) is None

    def test_gone(self, tmp_path):
        path = tmp_path / "a.so"
        path.write_bytes(b"abc")
        file = self.mapped(path)
        path.unlink()
        assert mapped_sha256(file) is None

    @pytest.mark.parametrize("size", [1, 4096, 10_000])
    def test_compares_maps_with_maps_where_stat_disagrees(self, tmp_path, size):
        """btrfs and overlayfs show another device in maps than stat does."""
        path = tmp_path / "a.so"
        path.write_bytes(b"x" * size)
        stat = path.stat()
        with path.open("rb") as file:
            assert mappings.same_by_mapping(file.fileno(), stat.st_dev, stat.st_ino)
            assert not mappings.same_by_mapping(file.fileno(), stat.st_dev, stat.st_ino + 1)
            assert not mappings.same_by_mapping(file.fileno(), stat.st_dev + 1, stat.st_ino)

    def test_empty_file_is_never_the_mapped_one(self, tmp_path):
        path = tmp_path / "a.so"
        path.touch()
        with path.open("rb") as file:
            assert not mappings.same_by_mapping(file.fileno(), path.stat().st_dev, path.stat().st_ino)


def test_this_process():
    files = parse_maps(read_maps() or "")
    libc = [file for file in files if file.path.rsplit("/", 1)[-1].startswith(("libc.so", "libc-2"))]
    assert libc
    assert all(mapped_sha256(file) for file in libc)
