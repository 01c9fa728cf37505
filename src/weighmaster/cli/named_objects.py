# SPDX-License-Identifier: Apache-2.0
"""``module:callable`` on the command line: import the module, call the callable."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any, Final

from weighmaster.errors import UsageError

__all__ = ["call_named", "is_named"]

_NAMED: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_named(text: str) -> bool:
    """Tell whether `text` is written as ``module:callable``."""
    return _NAMED.fullmatch(text) is not None


def call_named(text: str, option: str) -> Any:
    """Return what ``module:callable`` returns; modules of the working directory are found, as with ``python -m``.

    Args:
        text: ``module:callable``, dots allowed on both sides.
        option: of the command line, for messages.

    Raises:
        UsageError: no such module or callable. What the callable itself raises is passed on.
    """
    module_name, _, path = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):
            raise
        raise UsageError(f"{option}: {text}: no module named {error.name!r} here or on PYTHONPATH") from None
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UsageError(f"{option}: {text}: expected a callable, found {type(found).__name__}")
    return found()
