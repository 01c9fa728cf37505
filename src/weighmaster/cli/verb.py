# SPDX-License-Identifier: Apache-2.0
"""What a verb is made of: a parser with examples in its help, an action, and an outcome for print."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from weighmaster.errors import UsageError

__all__ = ["COMMON", "Outcome", "Parser", "Verb", "build_parser", "common"]

COMMON: Final = (
    ("--json", "print one canonical JSON document (RFC 8785) on standard output instead of text"),
    ("--traceback", "show where in the program an error was raised"),
)
"""Options that every verb has, and their help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a verb found, in both forms. Only this goes to standard output.

    Attributes:
        document: for ``--json``; no floats in it (`core.canonical`).
        text: for people, without the last line feed.
        exit_code: 0, unless the outcome itself is a difference.
    """

    document: Mapping[str, object]
    text: str
    exit_code: int = 0


class Parser(argparse.ArgumentParser):
    """An argument parser that raises what every other part raises, and takes no abbreviated options."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with the message and the usage of this parser."""
        usage = " ".join(self.format_usage().split())
        raise UsageError(f"{message}\n{usage}")


class Verb(Protocol):
    """A module of this folder that is a verb."""

    DESCRIPTION: str
    """What the verb does, guarantees and does not guarantee: paragraphs for its help."""

    EXAMPLES: tuple[tuple[str, str], ...]
    """Pairs of a command line and what it does."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> Outcome:
        """Do it."""


def build_parser(name: str, verb: Verb) -> Parser:
    """Return the parser of one verb, with its examples in the epilogue of the help."""
    parser = Parser(
        prog=f"weighmaster {name}",
        description=verb.DESCRIPTION,
        epilog="examples:\n" + "\n".join(f"  {command}\n      {what}" for command, what in verb.EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_arguments(parser)
    common(parser)
    parser.set_defaults(json=False, traceback=False)
    return parser


def common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every verb and every verb below a verb has."""
    for option, text in COMMON:
        # Suppressed, so that the default of an inner parser does not undo what stands before it.
        parser.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=text)
