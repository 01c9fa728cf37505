# SPDX-License-Identifier: Apache-2.0
"""The release comes out the same twice; one changed byte, time or mode does show, or does not, as it must."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import weighmaster as wm

ROOT = Path(__file__).parents[2]
EPOCH = 1_700_000_000


def load(name):
    spec = spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


release = load("release")

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "pebble"
version = "1.0"
[project.optional-dependencies]
release = ["setuptools=={pin}"]
[tool.setuptools.packages.find]
where = ["src"]
"""


@pytest.fixture
def tree(tmp_path):
    """A project of one package."""
    folder = tmp_path / "tree"
    (folder / "src/pebble").mkdir(parents=True)
    pin = release.tools()["setuptools"]
    (folder / "pyproject.toml").write_text(PROJECT.format(pin=pin), encoding="utf-8")
    (folder / "src/pebble/__init__.py").write_text("a = 1\n", encoding="utf-8")
    return folder


def built(tree, out):
    release.build_tree(tree, out, EPOCH)
    return out


def archive(names, *, mtime=0, mode=0o600, owner="root"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode, info.uname, info.uid = len(name), mtime, mode, owner, mtime % 100
            tar.addfile(info, io.BytesIO(name.encode()))
    return out.getvalue()


def test_packing_does_not_show_order_time_mode_or_owner():
    one = release.repack(archive(["p/a", "p/b"]), EPOCH)
    other = release.repack(archive(["p/b", "p/a"], mtime=99, mode=0o664, owner="someone"), EPOCH)
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        assert [(m.name, m.mtime, m.mode, m.uid, m.uname) for m in tar] == [
            ("p/a", EPOCH, 0o644, 0, ""),
            ("p/b", EPOCH, 0o644, 0, ""),
        ]


def test_packing_shows_content_name_and_time_of_the_commit():
    one = release.repack(archive(["p/a", "p/b"]), EPOCH)
    assert release.repack(archive(["p/a", "p/c"]), EPOCH) != one
    assert release.repack(archive(["p/a"]), EPOCH) != one
    assert release.repack(archive(["p/a", "p/b"]), EPOCH + 1) != one


@pytest.mark.slow
@pytest.mark.requirement("REQ-REL-01")
def test_touched_files_make_no_difference_and_a_changed_byte_does(tree, tmp_path):
    first = built(tree, tmp_path / "1")
    os.utime(tree / "src/pebble/__init__.py", (1, 1))
    (tree / "src/pebble/__init__.py").chmod(0o600)
    release.settle_modes(tree)
    release.require_same(first, built(tree, tmp_path / "2"))
    (tree / "src/pebble/__init__.py").write_text("a = 2\n", encoding="utf-8")
    with pytest.raises(release.ReleaseError) as caught:
        release.require_same(first, built(tree, tmp_path / "3"))
    assert re.search(
        r"pebble-1\.0-py3-none-any\.whl: not the same twice; differing: .*pebble/__init__\.py", str(caught.value)
    )


@pytest.mark.slow
def test_the_sdist_makes_the_same_wheel_until_it_is_edited(tree, tmp_path):
    out = built(tree, tmp_path / "1")
    sdist, wheel = next(out.glob("*.tar.gz")), next(out.glob("*.whl"))
    release.require_same_file(wheel, release.wheel_of_sdist(sdist, tmp_path / "2", EPOCH))
    edited = tmp_path / "edited"
    with tarfile.open(sdist) as tar:
        tar.extractall(edited, filter="data")
    (edited / "pebble-1.0/src/pebble/more.py").write_text("", encoding="utf-8")
    with tarfile.open(sdist, "w:gz") as tar:
        tar.add(edited / "pebble-1.0", "pebble-1.0")
    with pytest.raises(release.ReleaseError, match=r"differing: .*pebble/more\.py"):
        release.require_same_file(wheel, release.wheel_of_sdist(sdist, tmp_path / "3", EPOCH))


def test_another_backend_than_the_pinned_one_is_refused(tree, tmp_path):
    text = (tree / "pyproject.toml").read_text(encoding="utf-8")
    (tree / "pyproject.toml").write_text(re.sub(r"setuptools==[\w.]+", "setuptools==1.0", text), encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"^setuptools: expected 1\.0, found \d"):
        built(tree, tmp_path / "out")
    (tree / "pyproject.toml").write_text(text.replace("==", ">="), encoding="utf-8")
    with pytest.raises(release.ReleaseError, match="expected a pin in the extra release"):
        built(tree, tmp_path / "out")


def test_a_missing_file_is_a_difference(tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(release.ReleaseError, match="expected one wheel and one sdist"):
        release.require_same(tmp_path / "1", tmp_path / "2")


def test_equal_members_in_another_compression_are_still_a_difference(tmp_path):
    for name, order in (("1", ["p/a", "p/b"]), ("2", ["p/b", "p/a"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x-1.0.tar.gz").write_bytes(archive(order))
    with pytest.raises(release.ReleaseError, match="differing: no member: order or compression"):
        release.require_same_file(tmp_path / "1/x-1.0.tar.gz", tmp_path / "2/x-1.0.tar.gz")


@pytest.mark.slow
@pytest.mark.requirement("REQ-REL-01")
def test_a_commit_of_this_project_is_built_the_same_twice(tmp_path):
    """On a repository made of the working tree, so that it needs no history: a shallow or exported copy has none."""
    repository = tmp_path / "repository"
    names = subprocess.run(
        ["git", "ls-files", "-z", "src", "pyproject.toml", "README.md", "LICENSE", "tools"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, names.stdout.decode().split("\0")):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes((ROOT / name).read_bytes())
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], cwd=repository, check=True)
    published = tmp_path / "published"
    files = release.build("HEAD", published, repository)
    assert sorted(name.rsplit("-", 1)[-1] for name in files) == [f"{wm.__version__}.tar.gz", "any.whl"]
    assert release.verify("HEAD", published, repository) == files
    with pytest.raises(release.ReleaseError, match="exists already"):
        release.build("HEAD", published, repository)
    shutil.copytree(published, tmp_path / "edited")
    sdist = next((tmp_path / "edited").glob("*.tar.gz"))
    sdist.write_bytes(release.repack(sdist.read_bytes(), 1))
    with pytest.raises(release.ReleaseError, match="not the same twice"):
        release.require_same(tmp_path / "edited", published)


def wheel_with(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"")
    return path


def test_a_wheel_of_a_platform_without_its_extension_is_refused(tmp_path):
    """An optional extension whose build fails leaves such a wheel, and no error."""
    bare = wheel_with(tmp_path / "pebble-1.0-cp311-abi3-linux_x86_64.whl", "pebble/__init__.py")
    with pytest.raises(release.ReleaseError, match="expected the compiled codec, found no compiled file"):
        release.require_extension(bare)
    release.require_extension(wheel_with(bare, "pebble/__init__.py", "pebble/_native.abi3.so"))
    release.require_extension(wheel_with(tmp_path / "pebble-1.0-py3-none-any.whl", "pebble/__init__.py"))
