# SPDX-License-Identifier: Apache-2.0
"""Write ``benchmarks/README.md`` from the newest result; ``--check`` says whether it is what would be written."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from measure import median
from report_codec import codec_section
from report_packing import packing_section
from report_quality import quality_section, targets
from report_seal import seal_section

__all__ = ["Goal", "environment_section", "goals", "newest", "render", "write"]

HERE: Final = Path(__file__).parent
README: Final = HERE / "README.md"
RESULTS: Final = HERE / "results"
MIB: Final = 1 << 20

CASES: Final = {
    "raw": "hashlib, one pass",
    "raw_twice": "hashlib, two passes",
    "both_1": "Weighmaster, both digests, 1 thread",
    "both_2": "Weighmaster, both digests, 2 threads",
    "gate_1": "Weighmaster, gate digest, 1 thread",
    "gate_2": "Weighmaster, gate digest, 2 threads",
    "model_signing": "model_signing, verify",
    "verify": "Weighmaster, `verify` of signed files",
    "sha256sum": "`sha256sum`",
}
PLACES: Final = {
    "encoder": "all-MiniLM-L6-v2, `model.safetensors` at rest",
    "synthetic": "synthetic checkpoint at rest, random bytes in four files",
    "memory": "the same bytes as live tensors in memory",
}
SCALES: Final = 1.7
"""What the control must reach before a word about two threads and wall time means anything."""
PARALLEL: Final = 1.4
"""How much faster, by wall time, two threads must have been for their CPU-seconds to be those of two at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One figure beside what was aimed at.

    Attributes:
        what: the figure.
        measured: its value.
        bound: the goal.
        at_least: whether `bound` is the least value, else the value to stay under (or at).
        unit: for print.
        strict: whether the bound itself misses the goal.
        shown: whether the run shows the figure at all; two threads on one core are no two threads.
    """

    what: str
    measured: float
    bound: float
    at_least: bool = False
    unit: str = ""
    strict: bool = False
    shown: bool = True

    @property
    def met(self) -> bool:
        """Whether the figure as measured, not as rounded for print, reaches the goal; never where it was not shown."""
        if not self.shown:
            return False
        if self.at_least:
            return self.measured >= self.bound
        return self.measured < self.bound or (self.measured == self.bound and not self.strict)

    def row(self) -> tuple[str, str, str, str]:
        """Return the cells: figure, measured, goal, met or not."""
        sign = "at least" if self.at_least else ("under" if self.strict else "at most")
        digits = 0 if self.unit in {"MiB", "ms"} else 2
        bound = f"{self.bound:g}" if self.bound < 1e4 else f"{self.bound:.0f}"
        value = f"{self.measured:.{digits}f} {self.unit}".strip()
        return (self.what, value, f"{sign} {bound} {self.unit}".strip(), self._verdict)

    @property
    def _verdict(self) -> str:
        if not self.shown:
            return "**not shown**: no second core was free"
        return "met" if self.met else "**not met**"


# -- figures ------------------------------------------------------------------------------------------------------


def ratio(cases: dict[str, list[dict[str, float]]], over: str, under: str, key: str = "cpu") -> float:
    """Return the median of the ratios within each repeat: a neighbour's load falls on both sides of it."""
    return statistics.median(a[key] / b[key] for a, b in zip(cases[over], cases[under], strict=True))


def peer_goals(place: str, cases: dict[str, list[dict[str, float]]]) -> Iterator[Goal]:
    """Yield the goals of point 1 for one place."""
    yield Goal(
        what=f"{place}: both digests, throughput beside two passes of hashlib",
        measured=ratio(cases, "raw_twice", "both_1"),
        bound=0.90,
        at_least=True,
    )
    yield Goal(
        what=f"{place}: gate digest, throughput beside one pass of hashlib",
        measured=ratio(cases, "raw", "gate_1"),
        bound=0.95,
        at_least=True,
    )
    for name, words in (("both", "both digests"), ("gate", "gate digest")):
        yield Goal(
            what=f"{place}: {words}, CPU-seconds of 2 threads beside 1",
            measured=ratio(cases, f"{name}_2", f"{name}_1"),
            bound=1.05,
            shown=ratio(cases, f"{name}_1", f"{name}_2", "wall") >= PARALLEL,
        )
    if "model_signing" in cases:
        for name, words in (("gate_1", "gate digest and comparison"), ("verify", "`verify` of signed files")):
            yield Goal(
                what=f"{place}: {words}, CPU-seconds beside model_signing verify",
                measured=ratio(cases, name, "model_signing"),
                bound=1.0,
                strict=True,
            )


def many_goals(many: dict[str, Any]) -> Iterator[Goal]:
    """Yield the goals of point 2."""
    for threads in ("1", "2"):
        runs, words = many[threads], f"{threads} thread{'s' if threads == '2' else ''}"
        yield Goal(what=f"weigh, {words}", measured=total(runs, WEIGH), bound=8, unit="CPU-s", strict=True)
        yield Goal(what=f"verify, {words}", measured=total(runs, VERIFY), bound=4, unit="CPU-s", strict=True)
        peak = max(run["peak"] for run in runs) / MIB
        yield Goal(what=f"peak memory beside the tensors, {words}", measured=peak, bound=300, unit="MiB", strict=True)


WEIGH: Final = ("snapshot_cpu", "digest_cpu")
VERIFY: Final = ("verify_snapshot_cpu", "verify_digest_cpu", "verify_compare_cpu")


def total(runs: Sequence[dict[str, float]], keys: Iterable[str]) -> float:
    """Return the median over repeats of the sum of some figures."""
    chosen = tuple(keys)
    return statistics.median(sum(run[key] for key in chosen) for run in runs)


def rest_goal(runs: Sequence[dict[str, float]]) -> Goal:
    """Return the goal of point 3: 64 MiB beside the table and the leaf digests, which are the result itself."""
    allowed = 64 + (runs[0]["table"] + runs[0]["leaves"]) / MIB
    return Goal(
        what="peak memory while weighing at rest",
        measured=max(run["peak"] for run in runs) / MIB,
        bound=round(allowed),
        unit="MiB",
        strict=True,
    )


def start_goal(start: dict[str, Any]) -> Goal:
    """Return the goal of point 5."""
    wall = 1000 * median(start["runs"]["help"], "wall")
    return Goal(what="`weighmaster --help`", measured=wall, bound=150, unit="ms", strict=True)


COLLECTED: Final = {"torch": "`import torch`", "transformers": "torch and transformers, after a forward pass"}


def environment_goals(environment: dict[str, Any]) -> Iterator[Goal]:
    """Yield the goals of point 6."""
    for kind, words in COLLECTED.items():
        wall = median(environment["collect"][kind], "again_wall")
        yield Goal(what=f"collection again, {words}", measured=wall, bound=1, unit="s", strict=True)


def goals(result: dict[str, Any], environment: dict[str, Any] | None = None) -> tuple[Goal, ...]:
    """Return every goal, met or not."""
    peers = [g for p in PLACES for g in peer_goals(p, result["peers"][p]["cases"])]
    others = () if environment is None else environment_goals(environment)
    return (*peers, *many_goals(result["many"]), rest_goal(result["rest"]), start_goal(result["start"]), *others)


# -- text ---------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goal_table(found: Iterable[Goal]) -> str:
    return table(("figure", "measured", "goal", ""), (g.row() for g in found))


def peers_section(result: dict[str, Any]) -> Iterator[str]:
    yield "## 1. Digests beside their peers"
    for place, title in PLACES.items():
        peer = result["peers"][place]
        yield (
            f"`{place}`: {title}; {peer['bytes']:,} bytes in {peer['tensors']} tensors. "
            f"Padding and upper levels of the tree add {peer['padding'] / peer['bytes']:.2%} to what the gate hashes."
        )
        rows = (
            (
                CASES[name],
                f"{median(runs, 'cpu'):.3f}",
                f"{peer['bytes'] / median(runs, 'cpu') / 1e9:.2f}",
                f"{median(runs, 'wall'):.3f}",
            )
            for name, runs in peer["cases"].items()
        )
        yield table(("", "CPU-s", "GB per CPU-s", "wall s"), rows)
    yield goal_table(g for p in PLACES for g in peer_goals(p, result["peers"][p]["cases"]))
    yield (
        "The gate digest is what admission and re-verification compute; both digests are what weighing computes. "
        "`verify` of signed files is the whole command: signature, manifest, and the digest of every file (`sources`); "
        "where a file differs its tensors are digested as well, to name the one. `sha256sum` is shown "
        "for orientation: some builds of it do not use the CPU's SHA instructions."
    )
    yield scaling(result)


def scaling(result: dict[str, Any]) -> str:
    """Say how wall time scales from 1 to 2 threads, or that this cannot be said here."""
    control_runs = result["peers"]["memory"]["control"]
    pairs = zip(control_runs["one"], control_runs["two"], strict=True)
    control = statistics.median(2 * one["wall"] / two["wall"] for one, two in pairs)
    each = ratio(control_runs, "two", "one")
    cases = result["peers"]["memory"]["cases"]
    both, gate = ratio(cases, "both_1", "both_2", "wall"), ratio(cases, "gate_1", "gate_2", "wall")
    seen = f"in memory, both digests {both:.2f}, gate digest {gate:.2f}"
    head = (
        "Wall time, 1 to 2 threads. Control, within the same rounds: two independent processes do "
        f"{control:.2f} times the work of one, each at {each:.2f} times its CPU-seconds (so much of a second thread's "
        "cost is the machine's)."
    )
    if control < SCALES:
        return f"{head} Below {SCALES} no statement is valid (no two free cores). Seen, and **invalid**: {seen}."
    return f"{head} Seen: {seen}. A single flat digest is a serial chain: the largest tensor bounds both digests."


def many_section(many: dict[str, Any]) -> Iterator[str]:
    steps = {
        "weigh: snapshot": "snapshot_cpu",
        "weigh: both digests, rows": "digest_cpu",
        "(after it: text of the table, Merkle root)": "root_cpu",
        "verify: snapshot": "verify_snapshot_cpu",
        "verify: gate digest, rows": "verify_digest_cpu",
        "verify: comparison": "verify_compare_cpu",
        "bare hashlib calls of weighing": "bare_weigh_cpu",
        "bare hashlib calls of verifying": "bare_verify_cpu",
    }
    yield f"## 2. {many['count']:,} live tensors of 4 KiB"
    rows = ((words, f"{median(many['1'], key):.2f}", f"{median(many['2'], key):.2f}") for words, key in steps.items())
    yield table(("CPU-seconds", "1 thread", "2 threads"), rows)
    yield goal_table(many_goals(many))
    yield (
        "The fs-verity digest pads a 4 KiB tensor to 64 KiB, so weighing hashes sixteen times the bytes; the gate "
        "compares flat digests of tensors up to 64 KiB. The bare calls, made in one thread of the same process, "
        "are what no code around them can save on this CPU. Peak memory: largest of all, each in a fresh process."
    )


def rest_section(runs: Sequence[dict[str, float]]) -> Iterator[str]:
    one = runs[0]
    yield "## 3. Memory while a checkpoint at rest is weighed"
    yield (
        f"{one['bytes']:,.0f} bytes in {one['rows']:.0f} tensors, 2 threads; resident memory beyond that of the loaded "
        f"program, largest of {len(runs)} fresh processes. The goal is 64 MiB beside the result itself: "
        f"{one['table']:,.0f} bytes of table and {one['leaves']:,.0f} bytes of leaf digests."
    )
    yield goal_table([rest_goal(runs)])


def gate_section(gate: dict[str, Any]) -> Iterator[str]:
    weigh, admit = gate["weigh"], gate["admit"]
    loads = weigh + admit
    load = median(loads, "load_wall")
    yield "## 4. The gate beside the load (all-MiniLM-L6-v2, fresh processes)"
    steps = (
        ("start of the process, imports and load", loads, "load"),
        ("imports of Weighmaster itself", loads, "imports"),
        ("weigh", weigh, "weigh"),
        ("admit", admit, "admit"),
        ("re-verification of all tensors", admit, "recheck"),
    )
    rows = [
        (
            words,
            f"{median(runs, f'{key}_wall'):.2f}",
            f"{median(runs, f'{key}_wall') / load:.0%}",
            f"{median(runs, f'{key}_cpu'):.2f}",
        )
        for words, runs, key in steps
    ]
    yield table(("", "wall s", "of load", "CPU-s"), rows)
    yield (
        f"{admit[0]['tensors']} tensors, {admit[0]['bytes']:,} bytes. No goal is set: weighing and admitting run the "
        "probe set several times, trace it, digest every tensor twice, and read the environment (mapped libraries "
        "and the files of imported modules are digested); only the first three shrink with the model."
    )


def start_section(start: dict[str, Any]) -> Iterator[str]:
    words = {"python": "`python -c pass`", "import": "`python -c 'import weighmaster'`", "help": "`weighmaster --help`"}
    yield "## 5. Start-up"
    rows = (
        (words[name], f"{1000 * median(runs, 'wall'):.0f}", f"{1000 * median(runs, 'cpu'):.0f}")
        for name, runs in start["runs"].items()
    )
    yield table(("", "wall ms", "CPU ms"), rows)
    yield goal_table([start_goal(start)])
    loaded = sorted({name for names in start["loaded"].values() for name in names})
    yield (
        f"**Heavy packages are loaded: {', '.join(loaded)}.**"
        if loaded
        else "Neither the import nor the help loads torch, numpy or transformers."
    )


def environment_section(environment: dict[str, Any], source: str) -> Iterator[str]:
    yield "## 6. Collecting the environment"
    collected, processes = environment["collect"], environment["peers"]["process"]["cases"]
    yield (
        f"From {source}: {environment['parameters']['repeats']} rounds on {environment['date']}, each case in a fresh "
        f"process; load average {environment['load_before'][0]:.1f} before, {environment['load_after'][0]:.1f} after. "
        "CPU-seconds count the processes that compile sources."
    )
    rows = (
        (
            f"{words}, {collected[kind][0]['modules']:,} modules: {when}",
            f"{median(collected[kind], f'{key}_wall'):.2f}",
            f"{median(collected[kind], f'{key}_cpu'):.2f}",
        )
        for kind, words in COLLECTED.items()
        for key, when in (("first", "first"), ("again", "again"))
    )
    yield table(("", "wall s", "CPU-s"), rows)
    words = {
        "import": "`python -c 'import torch'`",
        "collect_env": "`python -m torch.utils.collect_env`",
        "ours": "the same process as the first, with our first collection",
    }
    whole = (
        (words[name], f"{median(runs, 'wall'):.2f}", f"{median(runs, 'cpu'):.2f}") for name, runs in processes.items()
    )
    yield table(("whole process", "wall s", "CPU-s"), whole)
    yield goal_table(environment_goals(environment))
    yield (
        "The first collection reads every mapped library and imported file and compiles the sources of the packages "
        "that a class is bound to, to compare with their cached bytecode; what it found is remembered by device, "
        "inode, size and times, within the process only. `collect_env` runs tools and prints versions: it digests no "
        "file and compares nothing, so it is the nearest peer and not an equal one. A repeated collection runs in one "
        "thread and waits for nothing: what its wall seconds are above its CPU-seconds, other work on the machine took."
    )


Result = tuple[dict[str, Any], str]
"""What was measured, and the file that holds it, for print."""


def render(
    result: dict[str, Any],
    source: str,
    environment: dict[str, Any] | None = None,
    environment_source: str = "",
    *,
    seal: Result | None = None,
    quality: tuple[Result, Result | None] | None = None,
    codec: Result | None = None,
    packing: Result | None = None,
) -> str:
    """Return the page of one result, and of those of environment, seal, quality and packing where there are any."""
    every = (*goals(result, environment), *musts(quality))
    missed = [g.what for g in every if not g.met]
    summary = f"{len(every) - len(missed)} of {len(every)} goals are met." + (
        " Not met or not shown: " + "; ".join(missed) + "." if missed else ""
    )
    head = (
        "# Benchmarks",
        f"Generated by `benchmarks/report.py` from {source}; do not edit. {summary}",
        *method(result),
    )
    sections = (
        *peers_section(result),
        *many_section(result["many"]),
        *rest_section(result["rest"]),
        *gate_section(result["gate"]),
        *start_section(result["start"]),
        *(() if environment is None else environment_section(environment, environment_source)),
        *(() if seal is None else seal_section(*seal)),
        *(() if quality is None else quality_section(*quality[0], *(quality[1] or ()))),
        *(() if codec is None else codec_section(*codec)),
        *(() if packing is None else packing_section(*packing)),
    )
    return "\n\n".join((*head, *sections)) + "\n"


def musts(quality: tuple[Result, Result | None] | None) -> Iterator[Goal]:
    """Yield the bounds that the quality of packs must keep."""
    if quality is not None and quality[1] is not None:
        for target in targets(quality[0][0], quality[1][0]):
            if target.must is not None:
                yield Goal(what=target.what, measured=target.measured[0], bound=target.must, strict=target.strict)


def method(result: dict[str, Any]) -> Iterator[str]:
    """Say how, when and on what the result was measured."""
    machine, size = result["machine"], result["parameters"]
    packages = ", ".join(f"{name} {text}" for name, text in machine["packages"].items())
    yield (
        f"Method: `make bench`, one run of {result['seconds']:.0f} s on {result['date']}. The cases of a point run one "
        f"after the other, and the round {size['repeats']} times (the encoder's file {3 * size['repeats']} times, "
        f"memory at rest 3 times, start-up {size['starts']} times). Figures are medians; ratios are the median of the "
        "ratios within each round. CPU-seconds are user and system time of all threads and children."
    )
    yield (
        f"Machine: {machine['cpu']} (family, model, stepping {machine['cpu_family_model_stepping']}), "
        f"{machine['cores']} cores{', virtual' if machine['virtual'] else ''}, "
        f"{'with' if machine['sha_instructions'] else 'without'} SHA instructions; Python {machine['python']}, "
        f"{machine['openssl']}, {machine['sha256sum']}; {packages}. Load average {result['load_before'][0]:.1f} "
        f"before, {result['load_after'][0]:.1f} after (the run itself keeps about one core busy). Files lie in the "
        "page cache. Other work may share the machine: CPU-seconds bear that well, not wholly; wall time does not."
    )


def newest(kind: str = "digest") -> Path:
    """Return the newest result of one kind: what the names of the files begin with, as ``digest`` or ``quality-peers``.

    Raises:
        SystemExit: there is none.
    """
    found = sorted(RESULTS.glob(f"{kind}-*.json"))
    if not found:
        raise SystemExit("no results: run 'make bench'")
    return found[-1]


def page() -> str:
    """Return the page of the newest results."""
    (digests, source), environment, seal = (_read(newest(kind)) for kind in ("digest", "environment", "seal"))
    packs = sorted(RESULTS.glob("quality-packs-*.json"))
    quality = (_read(newest("quality-peers")), _read(packs[-1]) if packs else None)
    packing = sorted(RESULTS.glob("packing-*.json"))
    held = _read(packing[-1]) if packing else None
    codec = _read(newest("codec"))
    return render(digests, source, *environment, seal=seal, quality=quality, codec=codec, packing=held)


def _read(path: Path) -> Result:
    return json.loads(path.read_text(encoding="utf-8")), f"`results/{path.name}`"


def write() -> None:
    """Write the page."""
    README.write_text(page(), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where README.md differs")
    if not parser.parse_args().check:
        write()
        return 0
    if README.read_text(encoding="utf-8") == page():
        return 0
    print("benchmarks/README.md is not what its newest result gives: run benchmarks/report.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
