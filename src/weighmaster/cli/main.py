# SPDX-License-Identifier: Apache-2.0
"""The command ``weighmaster``: find the verb, import it alone, run it, and turn what comes back into an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Final, cast

from weighmaster import __version__
from weighmaster.cli.failure import Failure, describe
from weighmaster.cli.printing import print_error, print_result
from weighmaster.cli.verb import Outcome, Verb, build_parser
from weighmaster.errors import StorageError, UsageError

__all__ = ["VERBS", "load_verb", "main"]

VERBS: Final[dict[str, tuple[str, str]]] = {
    "weigh": ("weighmaster.cli.weigh", "digest every tensor that the kernels of a model consume; write its manifest"),
    "sign": ("weighmaster.cli.sign", "put a person's signature beside a manifest"),
    "timestamp": ("weighmaster.cli.timestamp", "show when a signature was there, by a timestamp authority"),
    "keygen": ("weighmaster.cli.keygen", "make a key pair for signing"),
    "trust": ("weighmaster.cli.trust", "say whose signatures count, and which weights each product may run"),
    "verify": ("weighmaster.cli.verify", "check a manifest's seal, and files or a load against it; or a whole pack"),
    "show": ("weighmaster.cli.show", "print what a manifest or a pack says"),
    "diff": ("weighmaster.cli.diff", "say how two manifests differ, tensor by tensor and fact by fact"),
    "dump": ("weighmaster.cli.dump", "write the live tensors as files that sha256sum and fsverity can check"),
    "pack": (
        "weighmaster.cli.pack",
        "write a model as a pack: near-lossless or lossless, rebuilt bit for bit anywhere",
    ),
    "report": (
        "weighmaster.cli.report",
        "measure what a pack does to a model's outputs, and write it up with pictures",
    ),
    "answers": (
        "weighmaster.cli.answers",
        "record what a model computes here, verify it elsewhere, explain differences, sweep configurations",
    ),
    "unpack": ("weighmaster.cli.unpack", "write the model of a pack as plain safetensors files again"),
    "export": ("weighmaster.cli.export", "write what is weighed in formats that tools of others check"),
    "environment": ("weighmaster.cli.environment", "print the facts about machine, libraries and switches"),
    "waive": ("weighmaster.cli.waive", "sign one's consent to differences from the validated environment, until a day"),
    "triage": ("weighmaster.cli.triage", "preserve the evidence of an incident, and find what an output comes from"),
    "selftest": ("weighmaster.cli.selftest", "put known questions to the digests of this installation"),
    "completion": ("weighmaster.cli.completion", "print a completion script for a shell"),
}
"""Verb to its module and to its line in the help; nothing is imported before its verb is typed."""

_TAGLINE: Final = "Prove that the weights a kernel executes are bit for bit the weights that were validated."
_SIGINT: Final = 130
_CLOSED_PIPE: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; results go to standard output, all else to standard error."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]):
        return _print(Outcome(document={}, text=overview()), as_json=False)
    if words[:1] == ["--version"]:
        return _print(Outcome(document={}, text=f"weighmaster {__version__}"), as_json=False)
    as_json, trace = "--json" in words, "--traceback" in words
    try:
        return _print(_run(words), as_json=as_json)
    except _Help:
        return 0
    except BaseException as error:  # noqa: BLE001  # the last line of defence: whatever it is, the exit code is not 0
        if trace:
            traceback.print_exception(error, file=sys.stderr)
        return _fail(describe(error, words[0] if words else ""), as_json=as_json)


class _Help(BaseException):
    """The parser printed its help."""


def _run(words: list[str]) -> Outcome:
    if not words or words[0] not in VERBS:
        found = f"found {words[0]!r}" if words else "found none"
        raise UsageError(f"expected a verb: {', '.join(VERBS)}; {found}")
    verb = load_verb(words[0])
    args = _parse(words[0], verb, words[1:])
    with _results_only():
        return verb.run(args)


def load_verb(name: str) -> Verb:
    """Import the module of a verb, and no other."""
    return cast("Verb", import_module(VERBS[name][0]))


def _parse(name: str, verb: Verb, words: list[str]) -> Namespace:
    try:
        return build_parser(name, verb).parse_args(words)
    except SystemExit as end:
        raise _Help from end


@contextlib.contextmanager
def _results_only() -> Iterator[None]:
    """Send what a model's own code or a library prints to standard error, the writes of foreign code included."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (AttributeError, OSError):  # started without standard output: there is nothing to protect
        kept = -1
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if kept >= 0:
                os.dup2(2, 1)
            yield
    finally:
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


def _print(outcome: Outcome, *, as_json: bool) -> int:
    """Print an outcome; a result that could not be printed is no success."""
    try:
        print_result(outcome.document if as_json else outcome.text)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains once more at its end
        return outcome.exit_code or _CLOSED_PIPE
    except OSError as error:
        return _fail(describe(StorageError(f"standard output: cannot be written: {error.strerror}"), ""), as_json=False)
    return outcome.exit_code


def _fail(failure: Failure, *, as_json: bool) -> int:
    print_error(failure.text)
    if as_json and failure.exit_code != _SIGINT:
        _print(Outcome(document=failure.document, text="", exit_code=failure.exit_code), as_json=True)
    return failure.exit_code


def overview() -> str:
    """Return the help of the command as a whole."""
    width = max(len(name) for name in VERBS)
    verbs = "\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in VERBS.items())
    return (
        f"usage: weighmaster VERB [arguments]\n\n{_TAGLINE}\n\nverbs:\n{verbs}\n\n"
        "  weighmaster VERB --help   arguments and examples of one verb\n"
        "  weighmaster --version     version of this package\n\n"
        "example:\n"
        "  weighmaster weigh ./model -o manifest --product triage-encoder --version 1.0 --serial 1\n"
        "  weighmaster sign manifest --key ana.key\n"
        "  weighmaster verify manifest --trust trust.json --roots PIN --expect triage-encoder --model ./model"
    )


if __name__ == "__main__":
    sys.exit(main())
