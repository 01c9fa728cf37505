# SPDX-License-Identifier: Apache-2.0
"""Get a model from ``module:callable``, as production loads it."""

from __future__ import annotations

import contextlib
import importlib
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from weighmaster.capture.torch_export import open_program
from weighmaster.errors import Fault, UsageError, WeighmasterError

__all__ = ["call_for_model", "find_callable"]

_WANTED: Final = "a torch.nn.Module, (torch.nn.Module, example inputs) or a torch.export.ExportedProgram"
_PAIR: Final = 2


def call_for_model(spec: str) -> tuple[torch.nn.Module, object, tuple[Fault, ...]]:
    """Import the module before the colon, call what stands after it, and return (model, probe, faults).

    The current directory is first on `sys.path` during import and call, and taken off afterwards. Dots after the colon
    lead to attributes. The mode of the model stays as the callable left it.

    Raises:
        UsageError: no such module or attribute; it is not callable, raises, or returns something else.
        WeighmasterError: as the callable raised it.
    """
    with _current_directory():
        function = _find(spec)
        try:
            result = function()
        except WeighmasterError:
            raise
        except Exception as error:  # foreign code raises anything; it is chained
            raise UsageError(f"{spec}: the call raised {type(error).__name__}: {error}") from error
    return _model(result, spec)


def find_callable(spec: str) -> Any:
    """Import the module before the colon, the current directory first on the path, and return what stands after it.

    Raises:
        UsageError: no such module or attribute, or it is not callable.
    """
    with _current_directory():
        return _find(spec)


def _find(spec: str) -> Any:
    module, _, attribute = spec.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise UsageError(f"{spec}: expected module:callable, such as serving.app:load_model, and no such file is there")
    return _attribute(_import(module, spec), attribute, spec)


@contextlib.contextmanager
def _current_directory() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the callable took it off itself
            sys.path.remove(here)


def _import(module: str, spec: str) -> Any:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"{spec}: no module named {error.name!r} in {Path.cwd()} or on the path") from error
        raise UsageError(f"{spec}: module {module!r} needs {error.name!r}, which is not installed") from error
    except Exception as error:  # foreign code raises anything; it is chained
        raise UsageError(f"{spec}: the import raised {type(error).__name__}: {error}") from error


def _attribute(module: Any, attribute: str, spec: str) -> Any:
    try:
        function = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise UsageError(f"{spec}: module {module.__name__!r} has no attribute {attribute!r}") from error
    if isinstance(function, torch.nn.Module):
        raise UsageError(f"{spec}: is a model itself; name a callable without arguments that returns it")
    if not callable(function):
        raise UsageError(f"{spec}: expected a callable, found {type(function).__qualname__}")
    return function


def _model(result: Any, spec: str) -> tuple[torch.nn.Module, object, tuple[Fault, ...]]:
    given, examples = result if isinstance(result, tuple) and len(result) == _PAIR else (result, "auto")
    if isinstance(given, torch.nn.Module):
        return given, examples, ()
    if isinstance(given, torch.export.ExportedProgram):
        model, probe, faults = open_program(given)
        return model, probe if isinstance(examples, str) else examples, faults
    found = f"{type(result).__module__}.{type(result).__qualname__}"
    raise UsageError(f"{spec}: expected the call to return {_WANTED}, found {found}")
