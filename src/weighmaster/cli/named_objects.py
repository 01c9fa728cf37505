# SPDX-License-Identifier: Apache-2.0
"""``module:callable`` on the command line: import the module, call the callable."""

from __future__ import annotations

import contextlib
import importlib
import operator
import re
import sys
from pathlib import Path
from typing import Any, Final

from weighmaster.errors import UsageError, WeighmasterError

__all__ = ["call_named", "is_named"]

_NAMED: Final = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def is_named(text: str) -> bool:
    """Tell whether `text` is written as ``module:callable``."""
    return _NAMED.fullmatch(text) is not None


def call_named(text: str, option: str) -> Any:
    """Return what ``module:callable`` returns; the current directory is first on the path, as with ``open_model``.

    Args:
        text: ``module:callable``, dots allowed on both sides.
        option: of the command line, for messages.

    Raises:
        UsageError: no such module or callable, or it raises; the cause is chained.
    """
    module, _, attribute = text.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))()
    except WeighmasterError:
        raise
    except Exception as error:  # foreign code raises anything
        raise UsageError(f"{option}: {text}: {type(error).__name__}: {error}") from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
