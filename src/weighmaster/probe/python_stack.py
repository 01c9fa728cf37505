# SPDX-License-Identifier: Apache-2.0
"""Facts about the interpreter and the distributions that compute, load or tokenize: version, RECORD against disk."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Literal, TypeAlias

from weighmaster.core.environment import Fact
from weighmaster.probe.bytecode import bytecode_fact
from weighmaster.probe.imports import import_facts
from weighmaster.probe.mappings import parse_maps, read_maps
from weighmaster.probe.modules import (
    LoadedModule,
    in_standard_library,
    loaded_modules,
    members,
    resolver,
    standard_folder,
)
from weighmaster.probe.records import installer_text, parse_record, record_value, tree_value
from weighmaster.probe.startup import customization_facts, pth_facts

__all__ = ["DISTRIBUTIONS", "Kind", "python_facts"]

Kind: TypeAlias = Literal["installed", "imported", "never"]

DISTRIBUTIONS: Final[dict[str, tuple[Kind, tuple[str, ...]]]] = {
    "accelerate": ("installed", ("accelerate",)),
    "bitsandbytes": ("imported", ("bitsandbytes",)),
    "compressed-tensors": ("imported", ("compressed_tensors",)),
    "flash-attn": ("imported", ("flash_attn", "flash_attn_2_cuda")),
    "gptqmodel": ("imported", ("gptqmodel",)),
    "hqq": ("imported", ("hqq",)),
    "numpy": ("installed", ("numpy",)),
    "optimum-quanto": ("imported", ("optimum.quanto",)),
    "safetensors": ("installed", ("safetensors",)),
    "sglang": ("imported", ("sglang",)),
    "tokenizers": ("installed", ("tokenizers",)),
    "torch": ("imported", ("torch", "torchgen", "functorch")),
    "torchao": ("imported", ("torchao",)),
    "transformers": ("imported", ("transformers",)),
    "triton": ("imported", ("triton",)),
    "vllm": ("imported", ("vllm",)),
    "weighmaster": ("never", ("weighmaster",)),
    "xformers": ("imported", ("xformers",)),
}
"""Distribution: when its facts are class facts, and the packages that it brings.

``imported``: when a module of it is in this process. ``installed``: whenever it is installed, because it is imported
on demand (a tokenizer, a weight file), so that whether it is there depends on what the process did before. ``never``:
a newer verifier must be able to admit an older manifest.
"""


_ASIDE: Final = frozenset(
    [
        "__pycache__",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "site-packages",
        "test",
        "tkinter",
        "turtledemo",
    ]
)
"""Folders of the standard library that a system installs apart from it, and that nothing here is served with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Used:
    """What this process has of the packages of one distribution.

    Attributes:
        folders: folders of the imported packages.
        files: files that modules were loaded from.
    """

    folders: tuple[str, ...]
    files: frozenset[str]


def python_facts(modules: Mapping[str, ModuleType] | None = None) -> tuple[Fact, ...]:
    """Return the facts of the group ``python``.

    Args:
        modules: imported modules; by default `sys.modules`.
    """
    imported = dict(sys.modules if modules is None else modules)
    loaded = loaded_modules(imported)
    mapped = [file.path for file in parse_maps(read_maps() or "")]
    packages = [package for _, names in DISTRIBUTIONS.values() for package in names]
    facts = [*_interpreter(), *customization_facts(loaded), *pth_facts()]
    for name, (kind, names) in DISTRIBUTIONS.items():
        facts += _distribution(name, kind, _used(names, imported, loaded, mapped))
    resolve = resolver()
    standard = {module for module in loaded if in_standard_library(resolve(module.path))}
    facts += [_standard_library(), bytecode_fact(members(loaded, packages) | standard)]
    return (*facts, *import_facts(loaded, mapped, covered=packages))


def _interpreter() -> tuple[Fact, ...]:
    return (
        Fact.of("python.implementation", platform.python_implementation()),
        Fact.of("python.optimize", str(sys.flags.optimize)),
        Fact.of("python.version", platform.python_version()),
        Fact.of("python.compiler", platform.python_compiler(), scope="instance"),
    )


def _standard_library() -> Fact:
    value = tree_value([standard_folder()], without=_ASIDE)
    return Fact.unreadable("python.stdlib") if value is None else Fact.of("python.stdlib", value)


def _used(
    packages: tuple[str, ...], imported: Mapping[str, ModuleType], loaded: tuple[LoadedModule, ...], mapped: list[str]
) -> _Used | None:
    """Return what is in use of these packages, or None where none of them is imported."""
    here = [package for package in packages if package in imported]
    if not here:
        return None
    folders = tuple(f for package in here for f in list(getattr(imported[package], "__path__", ())))
    below = tuple(f"{os.path.realpath(folder)}/" for folder in folders)
    used = {path for path in mapped if path.startswith(below)}
    used |= {module.path for module in members(loaded, here)}
    return _Used(folders=folders, files=frozenset(used))


def _distribution(name: str, kind: Kind, used: _Used | None) -> tuple[Fact, ...]:
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    bound = kind == "installed" or (kind == "imported" and used is not None)
    scope: Literal["class", "instance"] = "class" if bound else "instance"
    version = f"python.{name}.version"
    if found is None:
        facts: tuple[Fact, ...] = (Fact.absent(version, scope=scope),)
    else:
        text = _version(found)
        facts = (Fact.unreadable(version, scope=scope) if text is None else Fact.of(version, text, scope=scope),)
    if used is None and (found is None or not bound):
        return facts
    value = _value(found, used)
    record = f"python.{name}.record"
    return (*facts, Fact.unreadable(record, scope=scope) if value is None else Fact.of(record, value, scope=scope))


def _version(found: importlib.metadata.Distribution) -> str | None:
    """Return the version, or None where its metadata are gone or damaged; such folders stay behind now and then."""
    try:
        text: object = found.version
    except (KeyError, OSError, ValueError):
        return None
    return text if isinstance(text, str) and text else None


def _value(found: importlib.metadata.Distribution | None, used: _Used | None) -> str | None:
    text = None if found is None else installer_text(found, "RECORD")
    if found is None or text is None or _editable(found):
        return None if used is None else tree_value(used.folders)
    record, root = parse_record(text), str(found.locate_file(""))
    return None if record is None else record_value(record, root, () if used is None else used.files)


def _editable(found: importlib.metadata.Distribution) -> bool:
    try:
        origin = json.loads(installer_text(found, "direct_url.json") or "{}")
    except (ValueError, RecursionError):
        return False
    about = origin.get("dir_info") if isinstance(origin, dict) else None
    return isinstance(about, dict) and bool(about.get("editable"))
