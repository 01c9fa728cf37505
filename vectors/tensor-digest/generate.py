# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/tensor-digest.md: ``python vectors/tensor-digest/generate.py [DIRECTORY]``.

A case is a claim about some bytes. Every run writes the same files; the digests of the good cases are written with
hashlib alone, not with the package that is tested.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path
from typing import Any, Final

from weighmaster.core.canonical import dumps

LEAF: Final = 65_536
Json = dict[str, Any]
Case = tuple[Json, Json]


def pattern(nbytes: int) -> bytes:
    """Return the bytes (7 i + 3) mod 256."""
    return (bytes((7 * i + 3) % 256 for i in range(256)) * (nbytes // 256 + 1))[:nbytes]


def content(source: Json) -> bytes:
    """Return the bytes that the ``bytes`` of a case describe."""
    if "hex" in source:
        return bytes.fromhex(source["hex"])
    if "repeat" in source:
        return bytes.fromhex(source["repeat"]) * int(source["count"])
    data = bytearray(pattern(source["pattern"]))
    if "flip" in source:
        at, mask = source["flip"]
        data[at] ^= mask
    return bytes(data)


def tree(data: bytes, *, block: int = LEAF, padded: bool = True) -> tuple[bytes, bytes]:
    """Return the leaves and the Merkle root of fs-verity, before the descriptor."""
    level = [data[i : i + block] for i in range(0, len(data), block)]
    leaves, root = b"", bytes(32)
    while level:
        digests = b"".join(hashlib.sha256(b.ljust(block, b"\0") if padded else b).digest() for b in level)
        leaves, root = leaves or digests, digests[:32]
        level = [digests[i : i + block] for i in range(0, len(digests), block)] if len(digests) > 32 else []
    return leaves, root


def descriptor(root: bytes, nbytes: int, *, log_block: int = 16) -> str:
    """Return the fs-verity digest of a root: SHA-256 of the descriptor."""
    head = struct.pack("<BBBBIQ", 1, 1, log_block, 0, 0, nbytes)
    return hashlib.sha256(head + root.ljust(64, b"\0") + bytes(32 + 144)).hexdigest()


def claim(source: Json, *, of: bytes | None = None, leaves: bool = True, **row: Any) -> Json:
    """Return a claim about the bytes of `source`; its digests are those of `of`, where that is given."""
    data = content(source) if of is None else of
    made, root = tree(data)
    value = {
        "alias": None,
        "dtype": "uint8",
        "fsverity64k": descriptor(root, len(data)),
        "layout": "strided",
        "name": "t",
        "nbytes": len(data),
        "role": "parameter",
        "sha256": hashlib.sha256(data).hexdigest(),
        "shape": [len(data)],
        "stride": [1],
    }
    return {"bytes": source, "leaves": made.hex() if leaves else None, "row": {**value, **row}}


def good(source: Json, **row: Any) -> Case:
    """Return a case that holds."""
    return claim(source, **row), {"error": None}


def bad(error: str, contains: list[str], made: Json) -> Case:
    """Return a case that must be refused."""
    return made, {"contains": contains, "error": error}


FLOATS: Final = struct.pack("<6f", 1.0, -0.0, 0.0, float("inf"), 1e-45, 3.0)[:20] + bytes.fromhex("0100a07f")
"""1, -0, 0, infinity, the least subnormal number, and a signalling NaN with a payload."""
SMALL: Final = {"pattern": 1000}
LARGE: Final = {"pattern": 200_000}


def positive() -> dict[str, Case]:
    """Return the cases that hold."""
    return {
        "empty": good({"hex": ""}),
        "one_byte": good({"hex": "03"}),
        "scalar": good({"hex": "0000803f"}, dtype="float32", shape=[], stride=[]),
        "special_floats": good({"hex": FLOATS.hex()}, dtype="float32", shape=[2, 3], stride=[3, 1]),
        "channels_last": good({"pattern": 240}, dtype="bfloat16", shape=[2, 3, 4, 5], stride=[60, 1, 15, 3]),
        "one_leaf_less_one": good({"pattern": LEAF - 1}),
        "one_leaf": good({"pattern": LEAF}),
        "one_leaf_and_one": good({"pattern": LEAF + 1}),
        "million": good({"pattern": 1_000_000}, dtype="float64", shape=[125_000]),
        "zeros": good({"repeat": "00", "count": 3 * LEAF}, dtype="int8"),
        "three_levels": good({"repeat": "a5", "count": 2048 * LEAF + 1}, leaves=False),
    }


def negative_digests() -> dict[str, Case]:
    """Return claims of which one digest is not that of the bytes: by a slip, or by another construction."""
    data, small = content(LARGE), content(SMALL)
    leaves, root = tree(data)
    flat, verity = hashlib.sha256(data).hexdigest(), descriptor(root, len(data))

    def wrong(key: str, value: str, source: Json = LARGE) -> Case:
        held = {"sha256": flat, "fsverity64k": verity} if source is LARGE else {}
        return bad(
            "TensorFault",
            ["t: ", f"expected {value}", f"found {held.get(key, '')}"],
            claim(source, leaves=False, **dict[str, Any]({key: value})),
        )

    return {
        "flat_bit_fail": wrong("sha256", f"{int(flat[0], 16) ^ 1:x}{flat[1:]}"),
        "tree_bit_fail": wrong("fsverity64k", f"{verity[:-1]}{int(verity[-1], 16) ^ 1:x}"),
        "bare_root_fail": wrong("fsverity64k", root.hex()),
        "small_bare_leaf_fail": wrong("fsverity64k", tree(small)[0].hex(), SMALL),
        "block_4096_fail": wrong("fsverity64k", descriptor(tree(data, block=4096)[1], len(data), log_block=12)),
        "block_size_not_bound_fail": wrong("fsverity64k", descriptor(root, len(data), log_block=12)),
        "not_padded_fail": wrong("fsverity64k", descriptor(tree(data, padded=False)[1], len(data))),
        "length_of_padding_fail": wrong("fsverity64k", descriptor(root, 4 * LEAF)),
        "empty_root_fail": wrong("fsverity64k", descriptor(bytes(32), len(data))),
        "flat_of_leaves_fail": wrong("sha256", hashlib.sha256(leaves).hexdigest()),
        "sha3_256_fail": wrong("sha256", hashlib.sha3_256(data).hexdigest()),
        "blake2s_fail": wrong("sha256", hashlib.blake2s(data).hexdigest()),
    }


def negative_bytes() -> dict[str, Case]:
    """Return bytes that are not those of the claim."""
    data = content(LARGE)

    def flip(at: int, words: str) -> Case:
        return bad("TensorFault", [words], claim({**LARGE, "flip": [at, 1]}, of=data))

    def floats(edit: bytes, at: int) -> Case:
        changed = FLOATS[:at] + edit + FLOATS[at + 4 :]
        return bad(
            "TensorFault", ["t: bytes differ", hashlib.sha256(FLOATS).hexdigest(), hashlib.sha256(changed).hexdigest()],
            claim({"hex": changed.hex()}, of=FLOATS, dtype="float32", shape=[2, 3], stride=[3, 1]),
        )  # fmt: skip

    swapped = b"".join(FLOATS[i : i + 4][::-1] for i in range(0, 24, 4))
    return {
        "first_bit_fail": flip(0, "t: bytes differ, first in leaf 0 of 4 (bytes 0 to 65535)"),
        "middle_bit_fail": flip(131_072, "t: bytes differ, first in leaf 2 of 4 (bytes 131072 to 196607)"),
        "last_bit_fail": flip(199_999, "t: bytes differ, first in leaf 3 of 4 (bytes 196608 to 199999)"),
        "cut_fail": bad(
            "TensorSetFault", ["t: nbytes differs"], claim({"pattern": 199_999}, of=data)
        ),
        "zero_appended_fail": bad(
            "TensorSetFault", ["t: nbytes differs"], claim({"hex": content(SMALL).hex() + "00"}, of=content(SMALL))
        ),
        "minus_zero_normalised_fail": floats(bytes(4), 4),
        "nan_normalised_fail": floats(bytes.fromhex("0000c07f"), 20),
        "subnormal_flushed_fail": floats(bytes(4), 16),
        "big_endian_fail": bad(
            "TensorFault", ["t: bytes differ", hashlib.sha256(swapped).hexdigest()],
            claim({"hex": swapped.hex()}, of=FLOATS, dtype="float32", shape=[2, 3], stride=[3, 1]),
        ),
        "row_major_copy_fail": bad(
            "TensorFault", ["t: bytes differ"],
            claim(
                {"hex": "000102030405"}, of=bytes.fromhex("000301040205"), shape=[2, 3], stride=[1, 2],
            ),
        ),
    }  # fmt: skip


def negative_leaves() -> dict[str, Case]:
    """Return leaf digests that are not those of the claim."""
    whole = bytes.fromhex(claim(LARGE)["leaves"])

    def leaves(error: str, contains: list[str], data: bytes) -> Case:
        return bad(error, contains, {**claim(LARGE), "leaves": data.hex()})

    bound = ["t: leaves do not give the fs-verity digest of the row"]
    return {
        "leaf_missing_fail": leaves(
            "MalformedArtefact", ["expected 128 bytes, 32 per leaf, found 96 bytes"], whole[:96]
        ),
        "leaf_extra_fail": leaves(
            "MalformedArtefact", ["expected 128 bytes, 32 per leaf, found 160 bytes"], whole + bytes(32)
        ),
        "leaf_bit_fail": leaves("SignatureFault", bound, bytes([whole[0] ^ 1]) + whole[1:]),
        "leaves_swapped_fail": leaves("SignatureFault", bound, whole[:64] + whole[96:] + whole[64:96]),
    }


def negative_rows() -> dict[str, Case]:
    """Return rows that no tensor can have."""

    def row(contains: list[str], **change: Any) -> Case:
        return bad("MalformedArtefact", contains, claim({"pattern": 24}, **change))

    return {
        "dtype_unknown_fail": row(["dtype: expected", "found 'float6'"], dtype="float6"),
        "nbytes_fail": row(["nbytes: expected 24, from shape and dtype, found 23"], nbytes=23),
        "shape_fail": row(["nbytes: expected 25, from shape and dtype, found 24"], shape=[25]),
        "stride_gap_fail": row(
            ["stride: expected a permutation without gaps or overlaps, found [13, 1]"], shape=[2, 12], stride=[13, 1]
        ),
        "stride_of_one_fail": row(
            ["stride: expected row-major strides in dimensions of size <= 1, found [7, 1]"],
            shape=[1, 24],
            stride=[7, 1],
        ),
        "capital_digest_fail": row(
            ["sha256: expected 64 lowercase hexadecimal digits"],
            sha256=hashlib.sha256(pattern(24)).hexdigest().upper(),
        ),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    cases = positive() | negative_digests() | negative_bytes() | negative_leaves() | negative_rows()
    for name, (made, expect) in cases.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "claim.json").write_bytes(dumps(made) + b"\n")
        (folder / "expect.json").write_bytes(dumps(expect) + b"\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
