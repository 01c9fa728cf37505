# SPDX-License-Identifier: Apache-2.0
"""Digest Python code as it stands in memory: bytecode, constants and names, without file names and line numbers."""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Iterator
from typing import Final

import torch

from weighmaster.capture.torch_plain import plain_text

__all__ = ["class_binding", "class_functions", "code_digest", "function_table", "qualified_name"]

_MAX_FUNCTIONS: Final = 20_000
"""Functions followed from one model: beyond it something is wrong with the walk, and it stops with an error."""

_NOT_FOLLOWED: Final = ("torch", "weighmaster")
"""Packages whose functions are digested where a model names them, and not followed further: their files are in the
environment by digest."""

_LEFT_OUT: Final = sys.stdlib_module_names | frozenset(
    {
        "filelock",
        "fsspec",
        "httpcore2",
        "httpx",
        "httpx2",
        "huggingface_hub",
        "numpy",
        "packaging",
        "requests",
        "tqdm",
        "typing_extensions",
        "urllib3",
        "yaml",
    }
)
"""Packages whose functions are neither digested nor followed where code reaches them: they fetch, print and parse, fill
names while a process runs, and compute no output. (A function of theirs that a model holds itself is digested.)"""

_BELOW: Final = ("torch.nn", "torch.nn.functional")
"""Modules that are looked into where they are reached through another one (``torch.nn.functional.softmax``). Others are
not: a module that is imported while the process runs would change the structure."""

_FOLLOWED: Final = ("torch.nn.functional", "torch.nn.modules")
"""Parts of those packages that are followed all the same: layers call functions through module globals, which a patch
in memory replaces without touching a file."""


def qualified_name(thing: object) -> str:
    """Return ``module.qualname`` of a class or function, without the counter that torch.fx adds to class names."""
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def code_digest(code: types.CodeType) -> str:
    """Return SHA-256 over what a code object does: bytecode, constants (nested code included), names, flags."""
    state = hashlib.sha256()
    for part in _code_parts(code):
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


def _code_parts(code: types.CodeType) -> Iterator[str]:
    # co_code is the bytecode without the specialisations that the interpreter makes while it runs.
    yield code.co_code.hex()
    yield code.co_exceptiontable.hex()
    yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags}"
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        yield "\x00".join(names)
    for constant in code.co_consts:
        yield _constant(constant)


def _constant(value: object) -> str:
    """Return a text of a code constant that is the same in every process (sets have no order of their own)."""
    if isinstance(value, types.CodeType):
        return f"code {code_digest(value)}"
    if isinstance(value, float):
        return f"float {value.hex()}"
    if isinstance(value, complex):
        return f"complex {value.real.hex()} {value.imag.hex()}"
    if isinstance(value, tuple):
        return f"tuple({','.join(_constant(v) for v in value)})"
    if isinstance(value, frozenset):
        return f"frozenset({','.join(sorted(_constant(v) for v in value))})"
    return f"{type(value).__name__} {value!r}"


def class_functions(cls: type) -> Iterator[types.FunctionType]:
    """Yield the functions that a class and its bases define, up to and not including ``object``."""
    for base in cls.__mro__:
        if base is object:
            continue
        for value in list(vars(base).values()):
            yield from _functions_in(value)


def class_binding(base: type) -> str:
    """Return what one class itself binds its names to: functions by qualified name, plain values by text.

    The table of functions alone would not show that two methods were exchanged, nor another class-level value.
    """
    parts = []
    for name, value in sorted(vars(base).items()):
        text = None if name.startswith("__") else plain_text(value)
        bound = ",".join(qualified_name(f) for f in _functions_in(value)) or text
        if bound is not None:
            parts.append(f"{name}={bound}")
    return "; ".join(parts)


def _functions_in(value: object) -> Iterator[types.FunctionType]:
    if isinstance(value, types.FunctionType):
        yield value
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            yield wrapped
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _functions_in(value.__func__)
    elif isinstance(value, property):
        for accessor in (value.fget, value.fset, value.fdel):
            yield from _functions_in(accessor)
    elif isinstance(value, functools.partial):
        yield from _functions_in(value.func)


def _globals_named(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """Yield the functions that a function reaches through its globals and cells, and through modules it names."""
    names = sorted(set(_all_names(function.__code__)))
    spaces, seen = [function.__globals__], set[int]()
    while spaces:
        space = spaces.pop()
        for name in names:
            value = space.get(name)
            if isinstance(value, type) and issubclass(value, torch.autograd.Function):
                yield from class_functions(value)
            elif not isinstance(value, types.ModuleType):
                yield from _functions_in(value)
            elif id(value) not in seen and (space is function.__globals__ or value.__name__ in _BELOW):
                seen.add(id(value))
                spaces.append(vars(value))
    for cell in function.__closure__ or ():
        try:
            yield from _functions_in(cell.cell_contents)
        except ValueError:  # an empty cell: nothing to follow
            continue


def _all_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_names(constant)


def _package(function: types.FunctionType) -> str:
    return str(function.__module__).split(".", 1)[0]


def _is_followed(module: str) -> bool:
    return module.split(".", 1)[0] not in _NOT_FOLLOWED or module.startswith(_FOLLOWED)


def _function_digest(function: types.FunctionType) -> str:
    """Return the digest of a function's code and, where it has any, of its plain default values."""
    defaults = plain_text((function.__defaults__, function.__kwdefaults__))
    code = code_digest(function.__code__)
    if not (function.__defaults__ or function.__kwdefaults__) or defaults is None:
        return code
    return hashlib.sha256(f"{code} {defaults}".encode("utf-8", "surrogatepass")).hexdigest()


def function_table(start: Iterator[types.FunctionType]) -> dict[str, str]:
    """Return qualified name to digest of `start` and of every function that they reach through names.

    A name that leads to several functions gets one digest over theirs, sorted.

    Raises:
        RuntimeError: more functions than any model has.
    """
    found: dict[str, set[str]] = {}
    seen: set[int] = set()
    stack = list(start)
    while stack:
        function = stack.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        if len(seen) > _MAX_FUNCTIONS:
            raise RuntimeError(f"more than {_MAX_FUNCTIONS} functions reachable from one model")
        found.setdefault(qualified_name(function), set()).add(_function_digest(function))
        if _is_followed(str(function.__module__)):
            stack.extend(f for f in _globals_named(function) if _package(f) not in _LEFT_OUT)
    return {
        name: next(iter(digests))
        if len(digests) == 1
        else hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
        for name, digests in found.items()
    }
