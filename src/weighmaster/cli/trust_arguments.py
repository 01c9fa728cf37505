# SPDX-License-Identifier: Apache-2.0
"""Arguments of ``weighmaster trust``: moments, thresholds, a person with a key."""

from __future__ import annotations

import argparse
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from weighmaster.core.instant import parse_instant

__all__ = ["moment", "named_key", "threshold"]

_ROLES: Final = ("approver", "signer")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def moment(text: str) -> datetime:
    """Return the moment of ``YYYY-MM-DDTHH:MM:SSZ``, or the first of a day given as ``YYYY-MM-DD``."""
    try:
        return parse_instant(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError as error:
        expected = "expected YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ"
        raise argparse.ArgumentTypeError(f"{expected}, found {text!r} ({error})") from None


def threshold(text: str) -> tuple[str, int]:
    """Return role and number of ``ROLE=N``."""
    role, equals, number = text.partition("=")
    if role not in _ROLES or not equals or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"expected ROLE=N, with a role of {', '.join(_ROLES)}, found {text!r}")
    return role, int(number)


def named_key(text: str) -> tuple[str, Path]:
    """Return person and file of ``PERSON=PUB``."""
    person, equals, path = text.partition("=")
    if not person or not equals or not path:
        raise argparse.ArgumentTypeError(f"expected PERSON=PUB, found {text!r}")
    return person, Path(path)
