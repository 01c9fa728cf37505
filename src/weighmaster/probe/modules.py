# SPDX-License-Identifier: Apache-2.0
"""Which files the imported modules of this process were loaded from."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

__all__ = ["LoadedModule", "in_standard_library", "loaded_modules", "members", "resolver", "standard_folder"]

_INSTALLED: Final = ("site-packages/", "dist-packages/")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModule:
    """A module that was loaded from a file.

    Attributes:
        name: its full name; that of its specification where it runs as ``__main__``.
        path: absolute path of the file; a source, a shared object, or bytecode without a source.
        cached: path at which the interpreter keeps the bytecode of the source, whether it is there or not.
    """

    name: str
    path: str
    cached: str | None

    @property
    def top(self) -> str:
        """First part of the name."""
        return self.name.partition(".")[0]


def members(modules: Iterable[LoadedModule], packages: Iterable[str]) -> frozenset[LoadedModule]:
    """Return which of these modules are one of these packages, or below one."""
    exact = frozenset(packages)
    below = tuple(f"{package}." for package in exact)
    return frozenset(module for module in modules if module.name in exact or module.name.startswith(below))


def loaded_modules(modules: Mapping[str, ModuleType] | None = None) -> tuple[LoadedModule, ...]:
    """Return the modules that have a file, sorted by name; modules made in memory have none.

    Args:
        modules: by default `sys.modules`.
    """
    loaded = dict(sys.modules if modules is None else modules)
    found = (_loaded(_name(name, module, loaded), module) for name, module in loaded.items())
    return tuple(sorted((m for m in found if m is not None), key=lambda m: m.name))


def _name(name: str, module: ModuleType, loaded: Mapping[str, ModuleType]) -> str:
    """Return the name that ``python -m NAME`` runs under as ``__main__``, unless it is imported beside that."""
    spec: Any = getattr(module, "__spec__", None)
    main = name == "__main__" and isinstance(spec, ModuleSpec) and spec.name not in loaded
    return spec.name if main else name


def _loaded(name: str, module: ModuleType) -> LoadedModule | None:
    spec: Any = getattr(module, "__spec__", None)
    located = isinstance(spec, ModuleSpec) and spec.has_location
    path = spec.origin if located else getattr(module, "__file__", None)
    if not isinstance(path, str) or not path.startswith("/"):
        return None
    cached = spec.cached if located and path.endswith(".py") else None
    return LoadedModule(name=name, path=path, cached=cached)


def resolver() -> Callable[[str], str]:
    """Return a function that resolves links as `os.path.realpath` does, and asks about each folder once."""
    folders: dict[str, str] = {}

    def resolve(path: str) -> str:
        folder, _, name = path.rpartition("/")
        if not folder or name in {"", ".", ".."} or os.path.islink(path):  # noqa: PTH114  # thousands of paths
            return os.path.realpath(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return f"{folders[folder].rstrip('/')}/{name}"

    return resolve


def in_standard_library(path: str) -> bool:
    """Tell whether a resolved path lies in the interpreter's own library; its ``site-packages`` is not part of it."""
    folder = next((f for f in _standard_folders() if path.startswith(f)), None)
    return folder is not None and not path.removeprefix(folder).startswith(_INSTALLED)


def standard_folder() -> str:
    """Return the folder of the standard library's sources."""
    return sysconfig.get_path("stdlib")


@functools.cache
def _standard_folders() -> tuple[str, ...]:
    # Not the archive that stands before them on the search path (pythonXY.zip): nobody digests what lies in it.
    named = (standard_folder(), sysconfig.get_config_var("DESTSHARED"))
    return tuple(os.path.realpath(folder).rstrip("/") + "/" for folder in named if folder)
