# SPDX-License-Identifier: Apache-2.0
"""The part of the page about seals, trust files and a table of a million rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from measure import median

__all__ = ["seal_section"]

CASES: Final = {
    "nothing": "`python -c 'import weighmaster'`: what every Python process costs",
    "weighmaster": "`weighmaster verify`: trust file, seal, statement, every row of the table, root",
    "by_hand": "`tools/verify_by_hand.py`: the same, written a second time",
    "cosign_table": "`cosign verify-blob-attestation` of the table file: signature and one digest",
    "cosign_root": "the same by `--digest` of the root: the signature alone",
}
MIB: Final = 1 << 20


def seal_section(result: dict[str, Any], source: str) -> Iterator[str]:
    """Yield the paragraphs of the section."""
    cases = result["peers"]["table"]["cases"]
    yield f"## 7. Seal, trust and {result['rows']:,} rows, beside cosign"
    cosign = f"cosign {result['cosign']}" if result["cosign"] else "cosign was not at hand: **NOT RUN**"
    yield (
        f"`benchmarks/seal.py`, {source}, {result['parameters']['repeats']} rounds, each command a process of its own; "
        f"{cosign}. A signed manifest with one table of {result['table_bytes'] / 1e6:.0f} MB, of made-up digests. "
        f"Load average {result['load_before'][0]:.1f} before, {result['load_after'][0]:.1f} after. Peak resident "
        "memory is that of the process, no less than what its parent held."
    )
    rows = [
        f"| {words} | {median(runs, 'cpu'):.2f} | {median(runs, 'peak') / MIB:.0f} |"
        for name, words in CASES.items()
        if (runs := cases.get(name))
    ]
    yield "\n".join(("| whole process | CPU-s | peak MiB |", "| --- | --: | --: |", *rows))
    if "cosign_table" in cases:
        ours, theirs = (median(cases[name], "cpu") for name in ("weighmaster", "cosign_table"))
        yield (
            f"`weighmaster verify` takes {ours / theirs:.0f} times the CPU-seconds of cosign on the same statement and "
            "table, because it reads the table: each row is parsed strictly, held against its neighbours, and hashed "
            "into the root. cosign compares one digest of the file, and knows nothing of rows, roots or trust files."
        )
