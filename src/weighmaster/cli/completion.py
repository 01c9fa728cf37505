# SPDX-License-Identifier: Apache-2.0
"""``weighmaster completion``: print a completion script for a shell."""

from __future__ import annotations

import argparse
from typing import Final

from weighmaster.cli.verb import Outcome

DESCRIPTION: Final = """\
Print a script that completes verbs and options. It needs the package shtab (pip install 'weighmaster[completion]')."""

EXAMPLES: Final = (
    (
        "weighmaster completion bash > ~/.local/share/bash-completion/completions/weighmaster",
        "for bash, from the next shell on",
    ),
    ("weighmaster completion zsh > ~/.zfunc/_weighmaster", "for zsh, where ~/.zfunc is on fpath"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="for which shell")


def run(args: argparse.Namespace) -> Outcome:
    """Print the script."""
    import shtab  # noqa: PLC0415  # an extra; main says what to install

    from weighmaster.cli.reference import full_parser  # noqa: PLC0415  # imports every verb

    script = str(shtab.complete(full_parser(), args.shell)).rstrip("\n")
    return Outcome(document={"result": "completion", "shell": args.shell, "script": script}, text=script)
