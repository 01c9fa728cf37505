# SPDX-License-Identifier: Apache-2.0
"""What RECORD says, against what is on disk."""

from __future__ import annotations

import base64
import hashlib

import pytest

from weighmaster.probe.records import parse_record, record_value, tree_value


def entry(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}\n"


RECORD = entry("pkg/__init__.py", b"a = 1\n") + entry("pkg/b.py", b"b = 1\n")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_bytes(b"a = 1\n")
    (tmp_path / "pkg/b.py").write_bytes(b"b = 1\n")
    return tmp_path


def value(root, *names, record=RECORD):
    return record_value(parse_record(record), str(root), [str(root / name) for name in names])


def test_value_is_that_of_the_specification(root):
    lines = "".join(
        f"{p},{hashlib.sha256(c).hexdigest()}\n" for p, c in (("pkg/__init__.py", b"a = 1\n"), ("pkg/b.py", b"b = 1\n"))
    )
    assert value(root) == f"record:{hashlib.sha256(lines.encode()).hexdigest()}"


@pytest.mark.parametrize(
    "extra",
    [
        entry("../../../bin/run", b"#!/opt/venv/bin/python"),
        entry("pkg-1.dist-info/INSTALLER", b"pip"),
        entry("pkg/__pycache__/b.cpython-311.pyc", b"\0"),
        "pkg/__pycache__/b.cpython-312.pyc,,\n",
        "pkg-1.dist-info/RECORD,,\n",
        entry("/absolute/path.py", b""),
        "\n",
    ],
)
def test_what_an_installer_adds_makes_no_difference(root, extra):
    assert value(root, record=RECORD + extra) == value(root)
    assert value(root, record=extra + RECORD) == value(root)


def test_order_makes_no_difference_and_content_does(root):
    swapped = "".join(reversed(RECORD.splitlines(keepends=True)))
    assert value(root, record=swapped) == value(root)
    assert value(root, record=RECORD + entry("pkg/c.py", b"")) != value(root)
    assert value(root, record=RECORD.replace("pkg/b.py", "pkg/d.py")) != value(root)


def test_used_files_that_agree_do_not_change_the_value(root):
    assert value(root, "pkg/__init__.py", "pkg/b.py") == value(root)


def test_modified_file_is_named(root):
    (root / "pkg/b.py").write_bytes(b"b = 22\n")
    changed = hashlib.sha256(f"pkg/b.py,{hashlib.sha256(b'b = 22').hexdigest()}\n".encode()).hexdigest()
    found = value(root, "pkg/__init__.py", "pkg/b.py")
    assert found.startswith(f"{value(root)} modified:pkg/b.py files:1 sha256:")
    assert changed not in found  # the line feed belongs to the file
    (root / "pkg/b.py").write_bytes(b"b = 333\n")
    assert value(root, "pkg/__init__.py", "pkg/b.py") != found


def test_all_modified_files_are_in_the_value(root):
    (root / "pkg/b.py").write_bytes(b"b = 22\n")
    one = value(root, "pkg/__init__.py", "pkg/b.py")
    (root / "pkg/__init__.py").write_bytes(b"a = 22\n")
    assert " modified:pkg/__init__.py files:2 sha256:" in value(root, "pkg/__init__.py", "pkg/b.py")
    assert value(root, "pkg/__init__.py", "pkg/b.py").split()[0] == one.split()[0]


def test_unlisted_and_outside_and_unreadable(root, tmp_path_factory):
    (root / "pkg/new.py").write_bytes(b"")
    assert " modified:pkg/new.py files:1 " in value(root, "pkg/new.py")
    other = tmp_path_factory.mktemp("shadow") / "b.py"
    other.write_bytes(b"b = 1\n")
    found = record_value(parse_record(RECORD), str(root), [str(other)])
    assert " modified:outside/b.py files:1 " in found
    assert value(root, "pkg/gone.py") is None


def test_file_reached_through_links_is_the_file(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("links")
    (elsewhere / "root").symlink_to(root)
    (elsewhere / "b.py").symlink_to(root / "pkg/b.py")
    used = [str(elsewhere / "root/pkg/__init__.py"), str(elsewhere / "b.py")]
    assert record_value(parse_record(RECORD), str(elsewhere / "root"), used) == value(root)


@pytest.mark.parametrize("digest", ["sha256=!!!", "sha256=", "sha256=YWJj", "md5=abc"])
def test_digest_that_is_none_agrees_with_no_file(root, digest):
    found = value(root, "pkg/b.py", record=f"pkg/b.py,{digest},6\n")
    assert " modified:pkg/b.py files:1 " in found


def test_a_record_that_csv_does_not_take_is_none():
    """A field beyond csv's limit ended every weighing and every gate with an error of the csv module."""
    assert parse_record(RECORD + "x" * (1 << 18) + ",sha256=AAAA,3\n") is None


def test_tree(root):
    first = tree_value([str(root / "pkg")])
    assert first.startswith("tree:")
    (root / "pkg/notes.txt").write_bytes(b"x")
    assert tree_value([str(root / "pkg")]) == first
    (root / "pkg/sub").mkdir()
    (root / "pkg/sub/c.py").write_bytes(b"")
    second = tree_value([str(root / "pkg")])
    assert second != first
    (root / "pkg/sub/c.py").rename(root / "pkg/sub/d.py")
    assert tree_value([str(root / "pkg")]) not in {first, second}
    assert tree_value([]) is None


def test_tree_without_some_folders_right_below(root):
    first = tree_value([str(root / "pkg")])
    for folder in ("pkg/aside", "pkg/sub/aside"):
        (root / folder).mkdir(parents=True)
    (root / "pkg/aside/c.py").write_bytes(b"")
    assert tree_value([str(root / "pkg")], without=frozenset({"aside"})) == first
    (root / "pkg/sub/aside/c.py").write_bytes(b"")
    assert tree_value([str(root / "pkg")], without=frozenset({"aside"})) != first


def test_tree_is_that_of_the_specification(root):
    lines = "".join(
        f"pkg/{name},{hashlib.sha256(text).hexdigest()}\n"
        for name, text in (("__init__.py", b"a = 1\n"), ("b.py", b"b = 1\n"))
    )
    assert tree_value([str(root / "pkg")]) == f"tree:{hashlib.sha256(lines.encode()).hexdigest()}"
