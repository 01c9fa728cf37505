# SPDX-License-Identifier: Apache-2.0
"""Fuzz one parser in this process, under atheris: ``python -m fuzz.child PARSER [libFuzzer options] [CORPUS...]``."""

from __future__ import annotations

import sys

import atheris

from fuzz import json_mutator

with atheris.instrument_imports(include=["weighmaster"]):  # before anything of the package is imported
    from fuzz import harness

    NAME = sys.argv[1]
    PARSER = harness.parser(NAME)


def _mutate(data: bytes, max_size: int, seed: int) -> bytes:
    return json_mutator.mutate(data, max_size, seed, atheris.Mutate)


def main() -> None:
    """Hand the process to libFuzzer, which ends it."""
    options = {"custom_mutator": _mutate} if getattr(PARSER, "JSON", False) else {}
    # libFuzzer starts itself again, by this text, to merge corpora.
    atheris.Setup([f"{sys.executable} -m fuzz.child {NAME}", *sys.argv[2:]], PARSER.one, **options)
    atheris.Fuzz()


main()
