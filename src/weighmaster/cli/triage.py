# SPDX-License-Identifier: Apache-2.0
"""``weighmaster triage``: preserve the evidence of an incident, and find where an unacceptable output comes from."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import weighmaster as wm
from weighmaster.cli.named_objects import call_named, is_named
from weighmaster.cli.printing import columns, pairs
from weighmaster.cli.progress import ProgressBar
from weighmaster.cli.summary import identity, identity_pairs
from weighmaster.cli.verb import Outcome
from weighmaster.core.triage import NODES
from weighmaster.errors import UsageError

if TYPE_CHECKING:
    from weighmaster.core.environment import Environment
    from weighmaster.flows.triage import Said, Triaged
    from weighmaster.seal.trust_chain import VerifiedTrust

DESCRIPTION: Final = f"""\
Find where an unacceptable output comes from: a file, a load, a flipped bit, a changed configuration or kernel, the
pipeline, nondeterminism, quantization, the input, or the model. The evidence is preserved first, in OUT/evidence, and
only then is anything looked at; OUT/triage.json and OUT/triage.md say what was answered, by whom, and the verdict.

Nodes, in order: {", ".join(node.name for node in NODES)}.
Those that no machine can answer are answered by persons (--said); a verdict that rests on one that nobody answered is
U-undetermined. A verdict is exit code 0, whatever it says. The bundle is not signed: keep the digest that is printed.

This opens the model in this process. What it says of live weights is about this process; to triage a service, call
weighmaster.flows.triage.triage inside of it, before it is restarted."""

_EXAMPLE: Final = "weighmaster triage manifest --model ./model --source ./model -o incident"

EXAMPLES: Final = (
    (_EXAMPLE, "evidence to incident/evidence, record to incident/triage.json and incident/triage.md"),
    (
        f"{_EXAMPLE} --said authentic=yes:receipt-checked --log server.log",
        "a person's answer, and a log that is kept with the evidence",
    ),
    (
        f"{_EXAMPLE} --parent check:parent --accept check:accept --replay check:replay",
        "run the archived parent on the same input, and the model itself three times",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("manifest", metavar="DIR", type=Path, help="manifest directory")
    parser.add_argument("--model", metavar="MODEL", required=True, help="the model, as weighmaster weigh takes it")
    reload = "model to load anew for the node load; by default that of --model, before anything runs on it"
    parser.add_argument("--reload", metavar="MODEL", help=reload)
    source = "model directory or file to compare; by default the one that the model was loaded from"
    parser.add_argument("--source", metavar="DIR", type=Path, help=source)
    parser.add_argument("-o", "--out", metavar="OUT", type=Path, required=True, help="new directory")
    said = "a person's answer: NODE=yes:reason or NODE=no:reason; repeatable"
    parser.add_argument("--said", metavar="NODE=ANSWER", action="append", default=[], help=said)
    parser.add_argument("--log", metavar="FILE", type=Path, action="append", default=[], help="keep it; repeatable")
    environment = "environment of the process that served (weighmaster environment -o); by default that of this one"
    parser.add_argument("--environment", metavar="FILE", type=Path, help=environment)
    answers = "known answers (weighmaster answers record) to run on the model once the evidence is preserved"
    parser.add_argument("--answers", metavar="DIR", type=Path, help=answers)
    parser.add_argument("--replay", metavar="NAMED", help="module:callable that gives the output anew")
    parser.add_argument("--parent", metavar="NAMED", help="module:callable that gives the parent's output")
    parser.add_argument("--accept", metavar="NAMED", help="module:callable that returns the function to judge it")
    parser.add_argument("--trust", metavar="FILE", type=Path, help="trust file; without it no signature is checked")
    parser.add_argument("--roots", metavar="PIN", help="fingerprint of the roots of the trust file")
    parser.add_argument("--expect", metavar="PRODUCT", help="product that is expected; goes with --trust")


def run(args: argparse.Namespace) -> Outcome:
    """Open, preserve, ask, decide."""
    said = _said(args.said)
    _check(args)
    from weighmaster.flows.clock import wall_clock  # noqa: PLC0415  # not for the help
    from weighmaster.flows.triage import triage  # noqa: PLC0415  # imports torch

    now = wall_clock()
    trust: VerifiedTrust | None = wm.read_trust(args.trust, args.roots, now) if args.trust is not None else None
    environment = _environment(args.environment)
    sealed = wm.read_manifest(args.manifest)
    opened = wm.open_model(args.model)
    with ProgressBar(None) as progress:
        done = triage(
            sealed,
            opened.model,
            args.out,
            now=now,
            trust=trust,
            expect=args.expect,
            loaded=opened if args.reload is None else wm.open_model(args.reload),
            source=args.source if args.source is not None else opened.source,
            environment=environment,
            recorded=None if args.answers is None else wm.read_answers(args.answers),
            replay=_named(args.replay, "--replay"),
            parent=_named(args.parent, "--parent"),
            accept=None if args.accept is None else call_named(args.accept, "--accept"),
            said=said,
            logs=args.log,
            progress=progress,
        )
    return Outcome(document=_document(done), text=_text(done))


def _check(args: argparse.Namespace) -> None:
    if args.out.exists():
        raise UsageError(f"{args.out}: exists already and is not overwritten; choose a new directory")
    if (args.trust is None) != (args.expect is None) or (args.roots is not None and args.trust is None):
        raise UsageError("--trust, --roots and --expect: expected all or none")
    if (args.parent is None) != (args.accept is None):
        raise UsageError("--parent and --accept: expected both or none, found one")
    for option in ("replay", "parent", "accept"):
        name = getattr(args, option)
        if name is not None and not is_named(name):
            raise UsageError(f"--{option}: expected module:callable, found {name!r}")


def _said(words: list[str]) -> dict[str, Said]:
    from weighmaster.flows.triage import Said  # noqa: PLC0415  # imports torch

    said: dict[str, Said] = {}
    for word in words:
        node, _, rest = word.partition("=")
        answer, _, reason = rest.partition(":")
        if answer not in {"yes", "no"} or not reason.strip():
            raise UsageError(f"--said: expected NODE=yes:reason or NODE=no:reason, found {word!r}")
        if node in said:
            raise UsageError(f"--said: {node}: expected one answer, found two")
        said[node] = Said(yes=answer == "yes", reason=reason.strip())
    return said


def _environment(path: Path | None) -> Environment | None:
    from weighmaster.core.environment import parse_environment  # noqa: PLC0415  # not for the help
    from weighmaster.durable import read_whole  # noqa: PLC0415

    return None if path is None else parse_environment(read_whole(path), str(path))


def _named(name: str | None, option: str) -> functools.partial[Any] | None:
    return None if name is None else functools.partial(call_named, name, option)


def _document(done: Triaged) -> dict[str, object]:
    return {
        "result": "triaged",
        **identity(done.manifest.statement),
        "directory": str(done.directory),
        "triage": done.record.document(),
    }


def _text(done: Triaged) -> str:
    decision = done.record.decision
    head = pairs(
        [
            ("verdict", f"{decision.code}, confidence {decision.confidence}"),
            ("meaning", decision.text),
            *identity_pairs(done.manifest.statement),
            ("signatures", done.record.seal),
            ("evidence", f"{done.preserved.directory}, bundle.json sha256:{done.preserved.sha256} (not signed)"),
            ("record", str(done.directory)),
        ]
    )
    rows = [(node.number, a.node, a.answer, a.by) for node, a in zip(NODES, done.record.answers, strict=True)]
    return f"{head}\n\n{columns(('no.', 'node', 'answer', 'by'), rows)}"
