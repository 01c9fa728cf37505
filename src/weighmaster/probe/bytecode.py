# SPDX-License-Identifier: Apache-2.0
"""Check the cached bytecode of imported modules against their sources: what runs is the ``.pyc``, not the ``.py``.

Nothing short of compiling the sources again shows that. It takes seconds for a whole torch, so it is done in processes
of its own, on all processors, without this process's interpreter lock; and once per file and process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import marshal
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from weighmaster.core.environment import Fact
from weighmaster.probe import compiled
from weighmaster.probe.file_digests import Identity, file_sha256, identity
from weighmaster.probe.modules import LoadedModule
from weighmaster.probe.records import modified_text

__all__ = ["bytecode_fact"]

Pair: TypeAlias = tuple[str, str]
"""Paths of a source and of its bytecode."""

_NAME: Final = "python.bytecode"
Identities: TypeAlias = tuple[Identity, Identity]

_JUDGED: Final[dict[Identities, bool]] = {}
"""Whether the bytecode is that of the source, by what the kernel says about the two files."""

_ATTEMPTS: Final = 2
"""A link that somebody makes to a file, or a change of its rights, renews its ctime: then it is read once more."""
_ALONE: Final = 64
"""Up to so many pairs, a process of its own costs more than it saves."""
_PROCESSES: Final = 8
_PATIENCE: Final = 300.0
"""Seconds: all of torch takes about eight on one slow processor."""


def bytecode_fact(modules: Iterable[LoadedModule]) -> Fact:
    """Return ``as source``, or which of these modules have bytecode that their source does not give.

    The value does not depend on which modules are loaded as long as all are as their sources, nor on where they lie.
    Bytecode without a source counts as modified.
    """
    modules = sorted(modules, key=lambda module: module.name)
    pairs = {(m.path, m.cached): m.name for m in modules if m.cached is not None and os.path.lexists(m.cached)}
    verdicts = _verdicts([(source, cached) for source, cached in pairs])
    suspects = {cached: name for (source, cached), name in pairs.items() if not verdicts.get((source, cached), True)}
    suspects |= {m.path: m.name for m in modules if m.path.endswith(".pyc")}
    digests = {path: file_sha256(path) for path in suspects}
    deviations = [(suspects[path], digest) for path, digest in digests.items() if digest is not None]
    if None in digests.values() or None in verdicts.values():
        return Fact.unreadable(_NAME)
    return Fact.of(_NAME, modified_text(deviations) if deviations else "as source")


def _verdicts(pairs: Sequence[Pair]) -> dict[Pair, bool | None]:
    """Return for each pair whether the bytecode is that of the source; None where that could not be found out."""
    for _ in range(_ATTEMPTS):
        identities = {pair: _identities(pair) for pair in pairs}
        todo = [pair for pair, found in identities.items() if found is not None and found not in _JUDGED]
        if not todo:
            break
        _remember(todo, identities)
    now = {pair: _identities(pair) for pair in pairs}
    return {pair: None if found is None else _JUDGED.get(found) for pair, found in now.items()}


def _remember(todo: Sequence[Pair], before: Mapping[Pair, Identities | None]) -> None:
    for pair, verdict in zip(todo, _judge(todo), strict=True):
        found = before[pair]
        if found is not None and verdict != compiled.UNREADABLE and _identities(pair) == found:
            _JUDGED[found] = verdict == compiled.AS_SOURCE


def _identities(pair: Pair) -> Identities | None:
    try:
        return identity(pair[0]), identity(pair[1])
    except OSError:
        return None


def _judge(todo: Sequence[Pair]) -> list[int]:
    """Judge all pairs; few of them here, many in processes of their own."""
    if len(todo) <= _ALONE or not sys.executable:
        return _judge_here(todo)
    processes = min(_processors(), _PROCESSES, -(-len(todo) // _ALONE))
    large_first = sorted(range(len(todo)), key=lambda i: -_size(todo[i][0]))
    shares = [large_first[number::processes] for number in range(processes)]
    started = [_start([todo[i] for i in share]) for share in shares]
    found = dict[int, int]()
    for share, process in zip(shares, started, strict=True):
        pairs = [todo[i] for i in share]
        found |= zip(share, _answer(process, len(share)) or _judge_here(pairs), strict=True)
    return [found[i] for i in range(len(todo))]


def _size(path: str) -> int:
    try:
        return identity(path)[2]
    except OSError:  # gone meanwhile; whoever judges it will say so
        return 0


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (OSError, AttributeError):
        return 1


def _judge_here(pairs: Sequence[Pair]) -> list[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a source that the compiler warns about is as good as any other
        return compiled.judge(list(pairs), importlib.util.MAGIC_NUMBER, sys.flags.optimize)


def _start(pairs: Sequence[Pair]) -> subprocess.Popen[bytes] | None:
    """Start a process that judges `pairs`; None where none can be started."""
    # A script is compiled from its source whenever it is run, so this one has no bytecode that could be forged.
    command = [sys.executable, "-I", "-S", compiled.__file__]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null)
    except OSError:
        return None
    request = marshal.dumps((list(pairs), importlib.util.MAGIC_NUMBER, sys.flags.optimize))
    pipe_in, process.stdin = process.stdin, None
    with contextlib.suppress(OSError):  # it ended; the answer will be none
        if pipe_in is not None:
            with pipe_in:  # it begins once the request has ended, and so at once
                pipe_in.write(request)
    return process


def _answer(process: subprocess.Popen[bytes] | None, count: int) -> list[int] | None:
    """Return the verdicts of a process, or None where it gave none and they are to be found here.

    A process that a signal ended read bytecode that crashes the interpreter: all its pairs are unreadable.
    """
    if process is None:
        return None
    try:
        output, _ = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return [compiled.UNREADABLE] * count
    if process.returncode < 0:
        return [compiled.UNREADABLE] * count
    try:
        verdicts = marshal.loads(output)  # noqa: S302  # written by our own script
    except (EOFError, TypeError, ValueError):
        return None
    return verdicts if isinstance(verdicts, list) and len(verdicts) == count else None
