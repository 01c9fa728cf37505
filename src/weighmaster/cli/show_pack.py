# SPDX-License-Identifier: Apache-2.0
"""``weighmaster show PACK``: print what a pack says of itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import weighmaster as wm
from weighmaster.cli.pack_summary import bits, encoder_pairs, index_document
from weighmaster.cli.printing import columns, count, pairs
from weighmaster.cli.verb import Outcome

if TYPE_CHECKING:
    from weighmaster.pack.reader import Pack

__all__ = ["show_pack"]


def show_pack(path: Path, *, tensors: bool) -> Outcome:
    """Open a pack, which checks index, files and headers, and print it; with its tensors if asked for."""
    from weighmaster.flows.pack_verification import CONSISTENT  # noqa: PLC0415  # not for the help
    from weighmaster.pack.backends import describe  # noqa: PLC0415
    from weighmaster.pack.directory import seals  # noqa: PLC0415

    with wm.open_pack(path) as pack:
        held = seals(path)
        document = {
            "result": "shown",
            "kind": "pack",
            "root": pack.root,
            "conclusion": CONSISTENT,
            "originChecked": False,
            "seals": held,
            "bitsPerWeight": bits(pack.bits_per_weight()),
            "packBytes": str(pack.nbytes()),
            "decoder": describe(),
            **index_document(pack.index),
        }
        rows = [
            ("pack root", pack.root),
            ("result", f"{CONSISTENT}; tensors are compared as they are read (weighmaster verify reads all)"),
            ("seals", "\n".join(held) or "none"),
            ("bits per weight", _bits_line(pack)),
            *encoder_pairs(pack.index),
            ("source", "\n".join(f"{f.sha256}  {f.path} ({f.size:,} bytes)" for f in pack.index.source)),
            ("files", "\n".join(f"{f.sha256}  {f.path} ({f.size:,} bytes)" for f in pack.index.files)),
            ("decoder", describe()),
        ]
        parts = [pairs(rows)]
        if tensors:
            document["tensorEntries"] = [t.to_json() | {"bits": _tensor_bits(pack, t.name)} for t in pack.index.tensors]
            parts.append(_table(pack))
    return Outcome(document=document, text="\n\n".join(parts))


def _bits_line(pack: Pack) -> str:
    index = pack.index
    weights = f"{pack.nbytes():,} bytes for {count(index.elements, 'weight')}"
    return f"{bits(pack.bits_per_weight())}: {weights}, headers, index and digests counted, other files not"


def _tensor_bits(pack: Pack, name: str) -> str:
    return bits(Fraction(8 * pack.blob_size(name), max(pack.entry(name).elements, 1)))


def _table(pack: Pack) -> str:
    rows = [
        (t.name, t.codec, t.dtype, "x".join(map(str, t.shape)) or "scalar", _tensor_bits(pack, t.name), t.sha256)
        for t in pack.index.tensors
    ]
    return columns(("name", "codec", "dtype", "shape", "bits", "sha256"), rows)
