# SPDX-License-Identifier: Apache-2.0
"""A sweep: which configurations change output bits, by how much, and the environment policy that follows from it.

Outputs are compared with those of a baseline; sizes are held against the baseline's own distance to a float64 run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from weighmaster.core.environment import Environment, Fact
from weighmaster.core.policy import Level, Policy, Rule
from weighmaster.errors import UsageError

__all__ = [
    "BASELINE",
    "CONFIGURATIONS",
    "MULTIPLE",
    "NOT_HERE",
    "ORACLE",
    "RUN_SCHEME",
    "CaseFigures",
    "Configuration",
    "Divergence",
    "FactChange",
    "Result",
    "Status",
    "changed_facts",
    "choose",
    "propose_policy",
]

BASELINE: Final = "baseline"
ORACLE: Final = "dtype=float64"
MULTIPLE: Final = 10
"""A change of up to so many times the baseline's distance to the float64 run is change control, a larger one a halt."""

RUN_SCHEME: Final = "sweep-result-v1"
"""Of the file in which a worker keeps what came out."""

NOT_HERE: Final = 3
"""Exit code of a worker: this model or machine has no such configuration; the reason is on standard error."""

Status: TypeAlias = Literal["same", "changed", "failed", "not-run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One way to run the model.

    Attributes:
        name: unique, also the name of its files.
        variables: pairs of environment variable and value, set before the process starts.
        switches: pairs of switch and value, applied by the process before its first operator.
        against: name of the configuration that it is compared with.
        gpu: whether it needs one.
    """

    name: str
    variables: tuple[tuple[str, str], ...] = ()
    switches: tuple[tuple[str, str], ...] = ()
    against: str = BASELINE
    gpu: bool = False


def _threads(count: int) -> Configuration:
    number = str(count)
    variables = (("MKL_NUM_THREADS", number), ("OMP_NUM_THREADS", number))
    return Configuration(name=f"threads={number}", variables=variables)


def _variable(name: str, variable: str, value: str) -> Configuration:
    return Configuration(name=f"{name}={value}", variables=((variable, value),))


def _switch(name: str, value: str) -> Configuration:
    return Configuration(name=f"{name}={value}", switches=((name, value),))


def _cuda(name: str, value: str, variables: tuple[tuple[str, str], ...] = ()) -> Configuration:
    switches = (("device", "cuda"), (name, value)) if not variables else (("device", "cuda"),)
    against = "device=cuda"
    return Configuration(name=f"{name}={value}", variables=variables, switches=switches, against=against, gpu=True)


CONFIGURATIONS: Final = (
    _switch("dtype", "float64"),
    _threads(1),
    _threads(2),
    _threads(4),
    _variable("aten", "ATEN_CPU_CAPABILITY", "default"),
    _variable("aten", "ATEN_CPU_CAPABILITY", "avx2"),
    _variable("onednn", "ONEDNN_MAX_CPU_ISA", "AVX2"),
    _variable("onednn", "ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
    _variable("mkl-cbwr", "MKL_CBWR", "COMPATIBLE"),
    _variable("mkl-cbwr", "MKL_CBWR", "AVX2"),
    _switch("attention", "eager"),
    _switch("attention", "sdpa"),
    _switch("compile", "inductor"),
    _switch("matmul", "high"),
    _switch("matmul", "medium"),
    _switch("mkldnn", "off"),
    _switch("dtype", "bfloat16"),
    _switch("deterministic", "on"),
    Configuration(name="batch-row", switches=(("batch-row", "last of 4"),)),
    Configuration(name="device=cuda", switches=(("device", "cuda"),), gpu=True),
    _cuda("tf32", "on"),
    _cuda("cudnn-benchmark", "on"),
    _cuda("reduced-bf16", "off"),
    _cuda("cuda-deterministic", "on"),
    _cuda("cublas-workspace", ":4096:8", (("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),)),
)
"""The closed list; the first one is the float64 run, which every sweep has."""


def choose(only: Iterable[str]) -> tuple[Configuration, ...]:
    """Return the configurations of these names, or all; the float64 run and what one is compared with are added.

    Raises:
        UsageError: there is no such configuration.
    """
    wanted, known = set(only), {c.name: c for c in CONFIGURATIONS}
    if unknown := sorted(wanted - set(known)):
        raise UsageError(f"no such configuration: {', '.join(unknown)}; there are: {', '.join(known)}")
    wanted = wanted or set(known)
    wanted |= {ORACLE} | {known[name].against for name in wanted}
    return tuple(c for c in CONFIGURATIONS if c.name in wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first leaf module that gave another output: place in the order of execution, path, and what computes it."""

    index: int
    of: int
    module: str
    subsystem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """What a configuration did to the outputs of one case.

    Attributes:
        id: of the case.
        elements: number of output elements.
        changed: elements whose bits differ, as values.
        difference: largest absolute difference; None where an output is not finite.
        relative: `difference` over the largest magnitude of what it is compared with.
        distance: largest absolute difference between that and the float64 run; None where there is none.
        first: where the runs part; None where no leaf module differs or none was seen.
    """

    id: str
    elements: int
    changed: int
    difference: Decimal | None
    relative: Decimal | None
    distance: Decimal | None
    first: Divergence | None

    @property
    def near(self) -> bool:
        """Whether nothing changed, or by at most `MULTIPLE` times the distance to the float64 run."""
        if not self.changed:
            return True
        return self.difference is not None and self.distance is not None and self.difference <= MULTIPLE * self.distance


@dataclass(frozen=True, slots=True, kw_only=True)
class FactChange:
    """A class fact that a configuration changed; None on the side that has no such fact."""

    name: str
    before: Fact | None
    after: Fact | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a configuration.

    Attributes:
        configuration: its name.
        against: name of what it is compared with.
        status: ``same`` or ``changed`` bits; ``failed`` (crash, time limit); ``not-run`` (no such thing here).
        reason: why it failed or was not run; empty otherwise.
        cases: figures, empty where it did not finish.
        facts: class facts that differ.
    """

    configuration: str
    against: str
    status: Status
    reason: str = ""
    cases: tuple[CaseFigures, ...] = ()
    facts: tuple[FactChange, ...] = ()

    @property
    def changed(self) -> int:
        """Elements whose bits differ, over all cases."""
        return sum(case.changed for case in self.cases)

    @property
    def elements(self) -> int:
        """Elements compared, over all cases."""
        return sum(case.elements for case in self.cases)

    @property
    def relative(self) -> Decimal | None:
        """Largest relative difference over all cases; None where one is not finite or there is no case."""
        values = [case.relative for case in self.cases]
        finite = [value for value in values if value is not None]
        return max(finite) if finite and len(finite) == len(values) else None

    @property
    def first(self) -> Divergence | None:
        """The earliest module at which a case parts."""
        found = [case.first for case in self.cases if case.first is not None]
        return min(found, key=lambda d: d.index) if found else None

    @property
    def level(self) -> Level | None:
        """Level that a policy gives to what was changed; None where the configuration did not finish."""
        if self.status not in ("same", "changed"):
            return None
        if self.status == "same":
            return "inform"
        return "change-control" if all(case.near for case in self.cases) else "halt"


def changed_facts(before: Environment, after: Environment, unsteady: frozenset[str]) -> tuple[FactChange, ...]:
    """Return the class facts that differ, in order of their names, without those that differ from run to run."""
    old = {fact.name: fact for fact in before.scoped("class")}
    new = {fact.name: fact for fact in after.scoped("class")}
    names = sorted((old.keys() | new.keys()) - unsteady)
    return tuple(FactChange(name=n, before=old.get(n), after=new.get(n)) for n in names if old.get(n) != new.get(n))


_STRICTNESS: Final[Mapping[Level, int]] = {"inform": 0, "change-control": 1, "halt": 2}


def propose_policy(results: Iterable[Result], evidence: str) -> Policy:
    """Return one rule for each class fact that a finished configuration changed; the strictest level decides.

    A fact that no finished configuration changed has no rule, so that any difference of it remains a halt; so does
    a fact that is missing, or cannot be read, where no configuration made it so.

    Args:
        results: of the sweep.
        evidence: text for the rules' references, such as the digest of the sweep.
    """
    tried: dict[str, list[tuple[Result, FactChange]]] = {}
    for result in results:
        for change in result.facts if result.level is not None else ():
            if "*" not in change.name:
                tried.setdefault(change.name, []).append((result, change))
    return Policy(rules=tuple(_rule(name, seen, evidence) for name, seen in sorted(tried.items())))


def _rule(fact: str, seen: list[tuple[Result, FactChange]], evidence: str) -> Rule:
    differs = [r for r, c in seen if not _missing(c)]
    missing = [r for r, c in seen if _missing(c)]
    names = ", ".join(dict.fromkeys(r.configuration for r, _ in seen))
    return Rule(
        fact=fact,
        compare="equal",
        on_diff=_strictest(differs),
        on_missing=_strictest(missing),
        reference=f"{evidence}: {names}",
    )


def _missing(change: FactChange) -> bool:
    sides = (change.before, change.after)
    return any(side is None or side.status == "unreadable" for side in sides)


def _strictest(results: list[Result]) -> Level:
    levels: list[Level] = [result.level or "halt" for result in results]
    return max(levels, key=_STRICTNESS.__getitem__, default="halt")
