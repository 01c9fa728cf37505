# SPDX-License-Identifier: Apache-2.0
"""Run a model in many configurations, each in a process of its own, and say which change output bits.

What came out is kept in the output directory as it comes; a second run with the same arguments, of a model and machine
that give the same baseline, goes on where the first one ended.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.sweep import BASELINE, NOT_HERE, ORACLE, Configuration, Result, choose
from weighmaster.durable import locked, read_whole, write_atomically
from weighmaster.errors import AnswerFault, MalformedArtefact, StorageError, UsageError
from weighmaster.flows.sweep_run import Run, read_run
from weighmaster.flows.sweep_run import compare as compare_runs
from weighmaster.probe.variables import for_child

__all__ = ["TIMEOUT", "Ended", "Runner", "Sweep", "run_child", "sweep"]

TIMEOUT: Final = 600.0
"""Seconds that one configuration may take."""

_KEPT: Final = "results"
_WORKER: Final = "weighmaster.capture.sweep_worker"
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), None past its time; and its standard error."""

    code: int | None
    stderr: str


class Runner(Protocol):
    """Whatever runs the worker with these arguments and environment variables."""

    def __call__(self, arguments: Sequence[str], variables: Mapping[str, str], timeout: float) -> Ended:
        """Run and wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All results, in the order of the list.

    Attributes:
        model: as it was named.
        binding: SHA-256 of arguments and baseline, to which kept results are bound.
        class_digest: of the baseline's environment.
        cases: ids.
        unsteady: class facts in which two baselines differed; they are compared nowhere.
        narrow: operators that gave less than float64 in the float64 run: it is no oracle for what they compute.
        results: one per configuration.
        kept: names of those taken from an earlier run.
    """

    model: str
    binding: str
    class_digest: str
    cases: tuple[str, ...]
    unsteady: tuple[str, ...]
    narrow: tuple[str, ...]
    results: tuple[Result, ...]
    kept: tuple[str, ...]


def sweep(
    model: str, directory: Path, *, only: Iterable[str] = (), timeout: float = TIMEOUT, run: Runner | None = None
) -> Sweep:
    """Run the baseline twice, the float64 run, and the configurations.

    Args:
        model: as `capture.open_model` takes it. Its code is run.
        directory: made if it is not there; results are kept below it.
        only: names of configurations; all where empty.
        timeout: seconds for each process.
        run: runs a worker; a child process of this interpreter where it is None.

    Raises:
        UsageError: no such configuration, the baseline cannot be run, or another sweep works in the directory.
        AnswerFault: nondeterministic: two runs of the baseline differ.
        StorageError: a result cannot be written.
    """
    chosen = choose(only)
    if not timeout > 0:
        raise UsageError(f"--timeout: expected seconds above 0, found {timeout}")
    kept = directory / _KEPT
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{kept}: cannot be made: {error.strerror or error}") from error
    with locked(directory, wait=False):
        return _Sweeper(model, kept, timeout, run or run_child).sweep(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """A finished configuration: its run, or why there is none."""

    status: str
    reason: str = ""
    run: Run | None = None


class _Sweeper:
    """One sweep at work in its directory."""

    def __init__(self, model: str, kept: Path, timeout: float, run: Runner) -> None:
        self._model, self._kept, self._timeout, self._run = model, kept, timeout, run
        self._binding = ""
        self._resumed: list[str] = []

    def sweep(self, chosen: tuple[Configuration, ...]) -> Sweep:
        baseline, unsteady = self._baselines()
        self._binding = self._bind(baseline, unsteady)
        outcomes = {BASELINE: _Outcome(status="ok", run=baseline)}
        for configuration in chosen:
            outcomes[configuration.name] = self._outcome(configuration)
        oracle = outcomes[ORACLE].run
        return Sweep(
            model=self._model,
            binding=self._binding,
            class_digest=baseline.environment.class_digest,
            cases=tuple(case.id for case in baseline.cases),
            unsteady=tuple(sorted(unsteady)),
            narrow=oracle.narrow if oracle is not None else (),
            results=tuple(_result(c, outcomes, unsteady) for c in chosen),
            kept=tuple(self._resumed),
        )

    def _baselines(self) -> tuple[Run, frozenset[str]]:
        first, second = self._baseline(), self._baseline()
        for one, other in zip(first.cases, second.cases, strict=True):
            if one.sha256 != other.sha256:
                detail = "nondeterministic: two runs of the same configuration give other bits; nothing can be swept"
                raise AnswerFault(one.id, detail, expected=one.sha256, found=other.sha256)
        return first, frozenset(c.name for c in first.facts_against(second, frozenset()))

    def _baseline(self) -> Run:
        outcome = self._start(Configuration(name=BASELINE))
        if outcome.run is None:
            raise UsageError(f"{self._model}: the baseline cannot be run: {outcome.reason}")
        if (bad := next((case.id for case in outcome.run.cases if not case.finite), None)) is not None:
            raise UsageError(f"{self._model}: the baseline's outputs of case {bad} are not finite: nothing to compare")
        return outcome.run

    def _bind(self, baseline: Run, unsteady: frozenset[str]) -> str:
        facts = [f.document() for f in baseline.environment.scoped("class") if f.name not in unsteady]
        document = {
            "cases": [[case.id, case.sha256] for case in baseline.cases],
            "facts": facts,
            "model": self._model,
            "timeout": repr(self._timeout),
        }
        return hashlib.sha256(dumps(document)).hexdigest()

    def _outcome(self, configuration: Configuration) -> _Outcome:
        found = self._read(configuration)
        if found is not None:
            self._resumed.append(configuration.name)
            return found
        outcome = self._start(configuration)
        self._write(configuration, outcome)
        return outcome

    def _file(self, name: str, suffix: str) -> Path:
        return self._kept / (re.sub(r"[^A-Za-z0-9=_.-]", "_", name) + suffix)

    def _start(self, configuration: Configuration) -> _Outcome:
        path = self._file(configuration.name, ".safetensors")
        path.unlink(missing_ok=True)
        ended = self._run((self._model, configuration.name, str(path)), dict(configuration.variables), self._timeout)
        if ended.code == NOT_HERE:
            return _Outcome(status="not-run", reason=_last_line(ended.stderr))
        if ended.code != 0:
            return _Outcome(status="failed", reason=self._why(ended))
        try:
            return _Outcome(status="ok", run=read_run(read_whole(path), path.name, configuration.name))
        except (MalformedArtefact, UsageError) as error:
            return _Outcome(status="failed", reason=f"its result cannot be read: {error}")

    def _why(self, ended: Ended) -> str:
        if ended.code is None:
            return f"not finished after {self._timeout:g} s"
        how = f"exit code {ended.code}" if ended.code >= 0 else f"killed by {_signal_name(-ended.code)}"
        return f"{how}: {_last_line(ended.stderr)}" if ended.stderr.strip() else how

    def _write(self, configuration: Configuration, outcome: _Outcome) -> None:
        body = {
            "binding": self._binding,
            "configuration": configuration.name,
            "reason": outcome.reason,
            "run": outcome.run.file_sha256 if outcome.run is not None else None,
            "status": outcome.status,
        }
        write_atomically(self._file(configuration.name, ".json"), dumps({**body, "sha256": _seal(body)}))

    def _read(self, configuration: Configuration) -> _Outcome | None:
        """Return what an earlier run kept; None where that is nothing, another sweep's, or not as it was written."""
        try:
            path = self._file(configuration.name, ".json")
            document = loads_canonical(read_whole(path), path.name)
            body = {key: document[key] for key in ("binding", "configuration", "reason", "run", "status")}
            if document != {**body, "sha256": _seal(body)}:
                return None
            if (body["binding"], body["configuration"]) != (self._binding, configuration.name):
                return None
            if body["run"] is None:
                return _Outcome(status=body["status"], reason=body["reason"])
            data = read_whole(self._file(configuration.name, ".safetensors"))
            if hashlib.sha256(data).hexdigest() != body["run"]:
                return None
            return _Outcome(status="ok", run=read_run(data, path.name, configuration.name))
        except (UsageError, MalformedArtefact, KeyError, TypeError):
            return None


def _seal(body: Mapping[str, object]) -> str:
    return hashlib.sha256(dumps(body)).hexdigest()


def _result(c: Configuration, outcomes: Mapping[str, _Outcome], unsteady: frozenset[str]) -> Result:
    mine, before = outcomes[c.name], outcomes[c.against].run
    if mine.run is None:
        return Result(
            configuration=c.name,
            against=c.against,
            status="not-run" if mine.status == "not-run" else "failed",
            reason=mine.reason,
        )
    if before is None:
        return Result(configuration=c.name, against=c.against, status="failed", reason=f"{c.against} gave no outputs")
    try:
        cases = compare_runs(before, mine.run, outcomes[ORACLE].run)
    except ValueError as error:
        return Result(configuration=c.name, against=c.against, status="failed", reason=str(error))
    return Result(
        configuration=c.name,
        against=c.against,
        status="changed" if any(case.changed for case in cases) else "same",
        cases=cases,
        facts=before.facts_against(mine.run, unsteady),
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()[:_SHOWN]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run_child(arguments: Sequence[str], variables: Mapping[str, str], timeout: float) -> Ended:
    """Run the worker in a process group of its own, which is ended as a whole when its time is over."""
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(  # this interpreter, our module
            [sys.executable, "-m", _WORKER, *arguments],
            env=for_child(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        code: int | None
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        stderr.seek(0)
        return Ended(code=code, stderr=stderr.read().decode("utf-8", "replace"))
