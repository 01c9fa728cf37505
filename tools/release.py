# SPDX-License-Identifier: Apache-2.0
"""Build the wheel and the sdist of a commit, and show that they come out the same every time.

``build`` makes both from a clean export of the commit, so that nothing that lies in the working tree gets in.
``verify`` runs ``build`` twice, in folders of other names, under another umask, time zone, locale and hash seed, makes
the wheel once more from the sdist, and compares bit for bit; with ``--against DIR`` also with files published earlier.

What setuptools leaves open, and how it is fixed here: file times by ``SOURCE_DATE_EPOCH`` (the time of the commit),
file modes by the umask of the build and by modes set in the export, and the sdist by packing it once more with sorted
members, one time, no owners. The version of setuptools is the one that the extra ``release`` pins.

What is not fixed: the bytes that another zlib or Python compresses to. ``buildinfo.json`` names both versions.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BUILDINFO: Final = "buildinfo.json"


class ReleaseError(Exception):
    """The release cannot be built, or is not the same twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Circumstances of a build that must not show in its result."""

    folder: str
    umask: int
    variables: Mapping[str, str]


CONDITIONS: Final = (
    Condition(folder="a", umask=0o022, variables={"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0"}),
    Condition(
        folder="a folder of another name",
        umask=0o077,
        variables={"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4294967295"},
    ),
)


# -- build ----------------------------------------------------------------------------------------------------------


def commit_of(name: str, repository: Path = ROOT) -> tuple[str, int]:
    """Return the full id of a commit and its time, in seconds since 1970."""
    done = _run(["git", "log", "-1", "--format=%H %ct", name], cwd=repository)
    commit, time = done.split()
    return commit, int(time)


def export(commit: str, folder: Path, repository: Path = ROOT) -> None:
    """Write the files of a commit to a new folder, with modes that do not depend on the umask."""
    archive = subprocess.run(["git", "archive", commit], cwd=repository, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    settle_modes(folder)


def settle_modes(folder: Path) -> None:
    """Give every folder and program mode 0755, and every other file 0644."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def require_backend(tree: Path) -> None:
    """Refuse another build backend than the pinned one: it may write other bytes.

    Raises:
        ReleaseError: another version of setuptools is installed than the extra ``release`` of `tree` names.
    """
    extras = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pins = [m[1] for entry in extras["release"] if (m := re.fullmatch(r"setuptools==([\w.]+)", entry))]
    found = importlib.metadata.version("setuptools")
    if pins != [found]:
        raise ReleaseError(f"setuptools: expected {' or '.join(pins) or 'a pin in the extra release'}, found {found}")


def build_tree(tree: Path, out: Path, epoch: int) -> None:
    """Build sdist and wheel of an exported tree into `out`."""
    _backend(tree, out, epoch, "--sdist", "--wheel")
    require_extension(_one(out, "*.whl"))
    sdist = _one(out, "*.tar.gz")
    sdist.write_bytes(repack(sdist.read_bytes(), epoch))


def require_extension(wheel: Path) -> None:
    """Refuse a wheel for one platform that holds no compiled code: an optional extension failed to build, in silence.

    Raises:
        ReleaseError: there is none.
    """
    with zipfile.ZipFile(wheel) as file:
        compiled = any(name.endswith((".so", ".pyd")) for name in file.namelist())
    if not compiled and not wheel.name.endswith("-any.whl"):
        raise ReleaseError(f"{wheel.name}: expected the compiled codec, found no compiled file; is there a compiler?")


def wheel_of_sdist(sdist: Path, folder: Path, epoch: int) -> Path:
    """Build the wheel from an sdist, as an installer does, and return its path."""
    with tarfile.open(sdist) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    settle_modes(folder / "unpacked")
    (tree,) = (folder / "unpacked").iterdir()
    _backend(tree, folder / "out", epoch, "--wheel")
    return _one(folder / "out", "*.whl")


def _backend(tree: Path, out: Path, epoch: int, *kinds: str) -> None:
    require_backend(tree)
    passed = ("HOME", "LC_ALL", "PATH", "PYTHONHASHSEED", "TZ")
    variables = {name: os.environ[name] for name in passed if name in os.environ}
    _run(
        [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(out), str(tree)],
        cwd=tree,
        env={**variables, "SOURCE_DATE_EPOCH": str(epoch)},
        umask=0o022,
    )


def repack(data: bytes, epoch: int) -> bytes:
    """Return a ``.tar.gz`` with the same files: sorted, of one time, without owners, with modes 0644 and 0755."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as before,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in sorted(before.getmembers(), key=lambda m: m.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.linkname = member.type, member.size, member.linkname
            plain.mtime, plain.mode = epoch, 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            after.addfile(plain, before.extractfile(member) if member.isfile() else None)
    return out.getvalue()


def build(name: str, out: Path, repository: Path = ROOT) -> dict[str, str]:
    """Build a commit into the new folder `out`; return SHA-256 by file name."""
    commit, epoch = commit_of(name, repository)
    if out.exists():
        raise ReleaseError(f"{out}: exists already and is not overwritten")
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        export(commit, tree, repository)
        build_tree(tree, out, epoch)
    files = digests(out)
    info = {"commit": commit, "sourceDateEpoch": epoch, **tools(), "files": files}
    (out / BUILDINFO).write_text(json.dumps(info, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return files


def tools() -> dict[str, str]:
    """Return the versions of everything that writes bytes of the release."""
    return {
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "setuptools": importlib.metadata.version("setuptools"),
        "build": importlib.metadata.version("build"),
    }


def digests(folder: Path) -> dict[str, str]:
    """Return SHA-256 of each wheel and sdist in `folder`, by file name."""
    paths = sorted(p for p in folder.iterdir() if p.name.endswith((".whl", ".tar.gz")))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# -- verify ---------------------------------------------------------------------------------------------------------


def verify(name: str, against: Path | None = None, repository: Path = ROOT) -> dict[str, str]:
    """Build a commit under every condition, and the wheel from the sdist; return SHA-256 by file name.

    Raises:
        ReleaseError: two of the results differ; the message names the files inside of them that do.
    """
    commit, epoch = commit_of(name, repository)
    with tempfile.TemporaryDirectory() as folder:
        outs = [_build_under(condition, commit, Path(folder), repository) for condition in CONDITIONS]
        require_same(outs[0], outs[1])
        sdist, wheel = _one(outs[0], "*.tar.gz"), _one(outs[0], "*.whl")
        require_same_file(wheel, wheel_of_sdist(sdist, Path(folder) / "from sdist", epoch))
        if against is not None:
            require_same(against, outs[0])
        return digests(outs[0])


def _build_under(condition: Condition, commit: str, folder: Path, repository: Path) -> Path:
    """Run the very command of a release in a process of its own, under `condition`."""
    out = folder / condition.folder / "out"
    out.parent.mkdir()
    _run(
        [sys.executable, __file__, "--repository", str(repository), "build", commit, "--out", str(out)],
        cwd=repository,
        env={**os.environ, **condition.variables, "TMPDIR": str(out.parent)},
        umask=condition.umask,
    )
    return out


def require_same(first: Path, second: Path) -> None:
    """Raise unless both folders hold the same wheel and sdist, by name and bit for bit."""
    names, others = list(digests(first)), list(digests(second))
    if names != others or len(names) != len(("sdist", "wheel")):
        raise ReleaseError(f"expected one wheel and one sdist of the same names, found {names} and {others}")
    for name in names:
        require_same_file(first / name, second / name)


def require_same_file(first: Path, second: Path) -> None:
    """Raise where two archives differ, and name the members that do."""
    if first.read_bytes() == second.read_bytes():
        return
    before, after = dict(members(first)), dict(members(second))
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    what = ", ".join(differing) or "no member: order or compression"
    raise ReleaseError(f"{first.name}: not the same twice; differing: {what}")


def members(archive: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield what an archive holds: names, and mode, time and content of each."""
    if archive.name.endswith(".whl"):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                yield info.filename, (info.external_attr, info.date_time, file.read(info))
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member)
                yield member.name, (member.mode, member.mtime, content.read() if content else b"")


# -- command line ---------------------------------------------------------------------------------------------------


def _run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, umask: int = -1) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, umask=umask, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ReleaseError(f"{pattern}: expected one file, found {[p.name for p in found]}")
    return found[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--repository", type=Path, default=ROOT, help="where the commit is; by default this one")
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("build", help="build wheel and sdist of a commit")
    making.add_argument("commit", nargs="?", default="HEAD")
    making.add_argument("--out", type=Path, default=Path("dist"), help="new folder")
    checking = verbs.add_parser("verify", help="build twice and compare")
    checking.add_argument("commit", nargs="?", default="HEAD")
    checking.add_argument("--against", type=Path, help="folder with a wheel and an sdist that were published")
    args = parser.parse_args(argv)
    try:
        if args.verb == "build":
            files = build(args.commit, args.out, args.repository)
        else:
            files = verify(args.commit, args.against, args.repository)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{name} {version}" for name, version in tools().items()))
    for name, digest in files.items():
        print(f"{digest}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
