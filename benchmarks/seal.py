# SPDX-License-Identifier: Apache-2.0
"""Measure the verification of seal, trust and a table of a million rows, beside cosign on the same statement.

``--cosign PATH`` names the program, which ``make interop-full`` fetches. ``--quick`` is a smoke run that writes no
result.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import report
from measure import machine, note
from trusting import trusting

import weighmaster as wm
from weighmaster.core.statement import PREDICATE_TYPE, Method, Statement, TableEntry
from weighmaster.seal.keys import generate, write_public

HERE: Final = Path(__file__).parent
PRODUCT: Final = "benchmark"


def row(number: int) -> wm.Row:
    """Return a row as that of a small scale tensor; its digests are made up and of no tensor."""
    digest = hashlib.sha256(number.to_bytes(4)).hexdigest()
    return wm.Row(
        name=f"model.layers.{number // 1000:04}.mlp.experts.{number % 1000:03}.down_proj.weight",
        dtype="bfloat16",
        shape=(64, 32),
        stride=(32, 1),
        nbytes=4096,
        layout="canonical",
        role="file",
        alias=None,
        sha256=digest,
        fsverity64k=digest[::-1],
    )


def make(work: Path, count: int) -> None:
    """Write a signed manifest with a table of `count` rows, its trust file, and the public key."""
    table = wm.Table(stage="S0", view="logical", rows=tuple(row(n) for n in range(count)))
    method = Method(engine="none", loader="none", trace="none", mapped="none", materialized=(), extra=())
    statement = Statement(
        product=PRODUCT,
        version="1",
        serial=1,
        gate_stage="S0",
        gate_view="logical",
        tables=(TableEntry.of(table),),
        method=method,
        probe_set=None,
        coverage=None,
        structure=None,
        environment=None,
        sources=(),
    )
    key = generate("ecdsa-p256-sha256")
    wm.Manifest(
        statement=statement,
        payload=statement.to_bytes(),
        tables=(table,),
        leaves={},
        structure=None,
        environment=None,
        policy=None,
        probe_set=None,
    ).write(work / "manifest")
    wm.sign(work / "manifest", key)
    rule = wm.ProductRule(product=PRODUCT, required_roles=(wm.RoleThreshold(role="signer", threshold=1),))
    (work / "roots").write_text(wm.write_trust(work / "trust.json", trusting(key, rule), key))
    write_public(work / "key.pub", key.public)
    (work / "root").write_text(statement.gate_table.root)


def commands(work: Path, cosign: Path | None) -> dict[str, list[str]]:
    """Return the command lines that are measured, by name."""
    manifest, pin = work / "manifest", (work / "roots").read_text()
    what = ["--trust", str(work / "trust.json"), "--roots", pin, "--expect", PRODUCT]
    out = {
        "weighmaster": [sys.executable, "-m", "weighmaster.cli.main", "verify", str(manifest), *what],
        "by_hand": [sys.executable, str(HERE.parent / "tools" / "verify_by_hand.py"), str(manifest), *what],
        "nothing": [sys.executable, "-c", "import weighmaster"],
    }
    if cosign is not None:
        bundle, kind = str(manifest / "signer-1.sigstore.json"), ["--type", PREDICATE_TYPE, "--insecure-ignore-tlog"]
        verify = [str(cosign), "verify-blob-attestation", "--key", str(work / "key.pub"), "--bundle", bundle, *kind]
        out["cosign_table"] = [*verify, str(manifest / "tensors.S0.logical.jsonl")]
        out["cosign_root"] = [*verify, "--digest", (work / "root").read_text(), "--digestAlg", "sha256"]
    return out


def run(command: Sequence[str], work: Path) -> dict[str, float]:
    """Run a command to its successful end; return its CPU-seconds and peak resident memory in bytes (wait4(2))."""
    environment = {**os.environ, "HOME": str(work), "COSIGN_MAX_ATTACHMENT_SIZE": "1GB"}
    with (work / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{(work / 'output').read_text()}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}


def measure(count: int, repeats: int, cosign: Path | None) -> dict[str, Any]:
    """Make the files, then run every command once in each round."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        note(f"  a manifest of {count:,} rows")
        # By a process of its own: a child's peak begins at what its parent held when it was forked.
        subprocess.run([sys.executable, __file__, "--make", str(work), "--rows", str(count)], check=True)
        cases: dict[str, list[dict[str, float]]] = {name: [] for name in commands(work, cosign)}
        for number in range(repeats):
            for name, command in commands(work, cosign).items():
                cases[name].append(run(command, work))
            note(f"    repeat {number + 1} of {repeats}")
        size = (work / "manifest" / "tensors.S0.logical.jsonl").stat().st_size
    return {"rows": count, "table_bytes": size, "peers": {"table": {"cases": cases}}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small table, one repeat; its figures mean nothing")
    parser.add_argument("--cosign", type=Path, help="the program; without it there is no peer, and the report says so")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make is not None:
        make(args.make, args.rows)
        return
    count, repeats = (1000, 1) if args.quick else (1_000_000, 5)
    now, version = datetime.datetime.now(datetime.UTC), None
    if args.cosign is not None:
        version = (args.cosign.parents[3] / "version").read_text(encoding="ascii").strip()  # as interop/ unpacked it
    result = {
        "date": now.date().isoformat(),
        "quick": args.quick,
        "parameters": {"repeats": repeats},
        "machine": machine(),
        "cosign": version,
        "load_before": os.getloadavg(),
        **measure(count, repeats, args.cosign),
        "load_after": os.getloadavg(),
    }
    if args.quick:
        for name, runs in result["peers"]["table"]["cases"].items():
            print(name, *(f"{key} {statistics.median(r[key] for r in runs):.3f}" for key in ("cpu", "peak")))
        return
    path = HERE / "results" / f"seal-{now.date().isoformat()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report.write()
    note(f"written: {path.name} and README.md")


if __name__ == "__main__":
    main()
