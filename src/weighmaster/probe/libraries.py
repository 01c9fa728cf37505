# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of every shared object that this process executes; which of them validation is bound to is decided here.

Libraries load lazily: collect after the warm-up. The rules are numbered in spec/environment.md, "Libraries".
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final
from urllib.parse import quote

from weighmaster.core.environment import Fact, Scope
from weighmaster.probe.mappings import MappedFile, anonymous_code, mapped_sha256, parse_maps, read_maps

__all__ = ["NUMERIC_PACKAGES", "Origins", "anonymous_fact", "library_facts", "preloaded", "real_origins"]

NUMERIC_PACKAGES: Final = (
    "bitsandbytes",
    "compressed_tensors",
    "flash_attn",
    "flashinfer",
    "functorch",
    "gptqmodel",
    "hqq",
    "numpy",
    "optimum.quanto",
    "sgl_kernel",
    "sglang",
    "torch",
    "torchao",
    "triton",
    "vllm",
    "xformers",
)
"""Import names of packages whose machine code computes, or is loaded to compute, the answer."""

_VENDOR_PACKAGES: Final = ("nvidia", "cusparselt")
"""Folders beside torch in which wheels of CUDA libraries are installed."""

_NUMERIC_NAMES: Final = (
    "ld-2",
    "ld-linux",
    "ld-musl",
    "libc-2",
    "libc.so",
    "libm-2",
    "libm.so",
    "libmvec",
    "libstdc++",
    "libpython",
    "libgomp",
    "libiomp",
    "libomp",
    "libgfortran",
    "libquadmath",
    "libmkl",
    "libdnnl",
    "libonednn",
    "libopenblas",
    "libscipy_openblas",
    "libblas",
    "libcblas",
    "liblapack",
    "libblis",
    "libnvpl",
    "libarmpl",
    "libtbb",
    "libtorch",
    "libc10",
    "libcuda",
    "libcudart",
    "libcublas",
    "libcudnn",
    "libcufft",
    "libcurand",
    "libcusolver",
    "libcusparse",
    "libnccl",
    "libnvrtc",
    "libnvjitlink",
    "libnvidia-ptxjitcompiler",
    "libamdhip",
    "libhsa-runtime",
    "librocblas",
    "libhipblas",
    "libmiopen",
)
"""Beginnings of the names (in lower case) of numeric libraries that an operating system or a toolkit installs."""

_LAZY: Final = ("numpy/random/", "numpy/fft/", "numpy/_core/_multiarray_tests.", "numpy/core/_multiarray_tests.")
"""Parts of numeric packages that other things than inference load on demand."""

_SYSTEM: Final = (
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where files come from; all folders are resolved and end with a slash.

    Attributes:
        numeric: folders of numeric packages.
        installed: folders of installed distributions (site-packages) and of the interpreter's extension modules.
        system: folders of the operating system's and the interpreter's shared objects.
        preloaded: base names that the dynamic loader was told to load first.
    """

    numeric: tuple[str, ...]
    installed: tuple[str, ...]
    system: tuple[str, ...]
    preloaded: frozenset[str]

    def scope(self, path: str) -> Scope:
        """Return ``class`` unless the file's origin is known and has nothing to do with inference."""
        name = os.path.basename(path)  # noqa: PTH119  # not every mapped name is a path
        if name in self.preloaded:  # (1)
            return "class"
        if path.startswith(self.numeric):  # (2)
            return "instance" if any(f"/{part}" in path for part in _LAZY) else "class"
        if path.startswith(self.installed):  # (3)
            return "instance"
        if name.lower().startswith(_NUMERIC_NAMES):  # (4)
            return "class"
        return "instance" if path.startswith(self.system) else "class"  # (5), (6)


def library_facts(maps: str | None = None, origins: Origins | None = None) -> tuple[Fact, ...]:
    """Return one fact per executed file: ``lib.NAME`` with its SHA-256.

    Args:
        maps: text of a maps file; by default that of this process.
        origins: where files come from; by default those of this process.
    """
    text = read_maps() if maps is None else maps
    if text is None:
        return (Fact.unreadable("lib.maps"),)
    where = real_origins() if origins is None else origins
    groups: dict[str, set[tuple[bool, str, Scope]]] = {}
    for file in parse_maps(text):
        groups.setdefault(_key(file), set()).add(_found(file, where))
    return tuple(fact for key, found in groups.items() for fact in _numbered(key, found))


def anonymous_fact(maps: str | None = None) -> Fact:
    """Return ``process.anonymous_code``: whether this process has executable memory that is in no file.

    Args:
        maps: as for `library_facts`.
    """
    name, text = "process.anonymous_code", read_maps() if maps is None else maps
    if text is None:
        return Fact.unreadable(name, scope="instance")
    found = anonymous_code(text)
    return Fact.absent(name, scope="instance") if found is None else Fact.of(name, found, scope="instance")


def _key(file: MappedFile) -> str:
    base = file.path.rsplit("/", 1)[-1]
    return "lib." + quote(base.encode("utf-8", "surrogateescape"), safe="+:,=@()-_.~!$&")


def _found(file: MappedFile, origins: Origins) -> tuple[bool, str, Scope]:
    digest = mapped_sha256(file)
    # Two unreadable files of one name stay two facts: the inode tells them apart, and goes no further than this set.
    return digest is None, digest or f"{file.device}:{file.inode}", origins.scope(file.path)


def _numbered(key: str, found: Iterable[tuple[bool, str, Scope]]) -> Iterable[Fact]:
    # Class facts first, so that their numbers do not depend on what else is loaded.
    for number, (unreadable, digest, scope) in enumerate(sorted(found, key=lambda f: (f[2], f[0], f[1])), start=1):
        name = key if number == 1 else f"{key}#{number}"
        yield Fact.unreadable(name, scope=scope) if unreadable else Fact.of(name, digest, scope=scope)


def real_origins(modules: Mapping[str, ModuleType] | None = None) -> Origins:
    """Return the origins of this process: its imported numeric packages, its site-packages, its interpreter."""
    loaded = sys.modules if modules is None else modules
    installed = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    installed += [
        *site.getsitepackages(),
        site.getusersitepackages(),
        f"{sysconfig.get_path('platstdlib')}/lib-dynload",
    ]
    base = f"{sysconfig.get_config_var('installed_platbase') or sys.base_prefix}"
    installed += [f"{base}/{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}/lib-dynload"]
    return Origins(
        numeric=_folders(_package_folders(loaded)),
        installed=_folders(installed),
        system=_folders([*_SYSTEM, f"{base}/lib"]),
        preloaded=preloaded(os.environ.get("LD_PRELOAD", "")),
    )


def _package_folders(modules: Mapping[str, ModuleType]) -> Iterable[str]:
    for package in NUMERIC_PACKAGES:
        module = modules.get(package)
        for folder in list(getattr(module, "__path__", ())):
            yield folder
            yield f"{folder}.libs"
            if package == "torch":
                yield from (str(Path(folder).parent / vendor) for vendor in _VENDOR_PACKAGES)


def _folders(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({os.path.realpath(path).rstrip("/") + "/" for path in paths}))


def preloaded(variable: str, file: Path = Path("/etc/ld.so.preload")) -> frozenset[str]:
    """Return the base names that LD_PRELOAD and the loader's own file ask for, links resolved as well as not."""
    try:
        listed = file.read_text("utf-8", "replace")
    except OSError:
        listed = ""
    entries = [*variable.replace(":", " ").split(), *listed.replace(":", " ").split()]
    return frozenset(Path(p).name for entry in entries for p in (entry, os.path.realpath(entry)))
