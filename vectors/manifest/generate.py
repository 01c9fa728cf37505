# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/manifest.md: ``python vectors/manifest/generate.py [DIRECTORY]``.

A case is a manifest directory and, where it differs from ``statement.json`` there, the signed payload. Every run writes
the same bytes. The tensors are invented: their digests are real.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from weighmaster.core import merkle
from weighmaster.core.canonical import dumps
from weighmaster.core.digest import digest_bytes
from weighmaster.core.environment import Environment, Fact
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.core.selftest import pattern

Json = dict[str, Any]
Files = dict[str, bytes]
Case = tuple[Files, Json]
Edit = Callable[[Json], object]

TABLE: Final = "tensors.S3.kernel.jsonl"
LOADED: Final = "tensors.S1.kernel.jsonl"
LEAVES: Final = "leaves.S3.kernel.bin"
STATEMENT: Final = "statement.json"


def sha256(data: bytes) -> str:
    """Return the flat digest."""
    return hashlib.sha256(data).hexdigest()


def row(name: str, content: bytes, **change: Any) -> Json:
    """Return a row over `content`."""
    digest = digest_bytes(content)
    value = {
        "alias": None,
        "dtype": "uint8",
        "fsverity64k": digest.fsverity64k,
        "layout": "strided",
        "name": name,
        "nbytes": len(content),
        "role": "parameter",
        "sha256": digest.sha256,
        "shape": [len(content)],
        "stride": [1],
    }
    return {**value, **change}


EMBED: Final = pattern(150_000)
SCALE: Final = pattern(24)
ROWS: Final[list[Json]] = [
    row("head.weight", SCALE, dtype="float32", shape=[2, 3], stride=[1, 2]),
    row("head.weight@quant_state.absmax", pattern(8), dtype="float32", shape=[2], role="inner"),
    row("lm_head.weight", EMBED, dtype="bfloat16", shape=[250, 300], stride=[300, 1]),
    row("model.embed.weight", EMBED, dtype="bfloat16", shape=[250, 300], stride=[300, 1], alias="lm_head.weight"),
    row("model.rope#cos", b"", dtype="float32", shape=[0], role="attribute"),
    row("steps", pattern(8), dtype="int64", shape=[], stride=[], role="non-persistent-buffer"),
]
DERIVATION: Final[Json] = {
    "calibration": sha256(b"tokens"),
    "encoder": {"bits": "4.5", "name": "weighmaster", "profile": "calibrated", "version": "0.1.0"},
    "format": "weighmaster-pack-v1",
    "pack": sha256(b"pack"),
    "parents": [
        {"bytes": "300344", "path": "model-00001-of-00002.safetensors", "sha256": sha256(b"first")},
        {"bytes": "8192", "path": "model-00002-of-00002.safetensors", "sha256": sha256(b"second")},
    ],
    "reports": [
        {
            "format": "weighmaster-report-v1",
            "metrics": [{"name": "klMean", "value": "0.00052"}, {"name": "perplexityRatio", "value": "1.0011"}],
            "sha256": sha256(b"report"),
        }
    ],
}
EXACT: Final[Json] = {
    **DERIVATION,
    "calibration": None,
    "encoder": {**DERIVATION["encoder"], "bits": None, "profile": "exact"},
    "reports": [],
}
STRUCTURE: Final = b"".join(
    dumps({"kind": kind, "path": path, "value": value}) + b"\n"
    for path, kind, value in [("", "class", "m.Model"), ("", "training", "false"), ("#eps", "scalar", "0x1.0p-20")]
)
ENVIRONMENT: Final = Environment.of(
    (Fact.of("torch.build.version", "2.13.0"), Fact.absent("gpu.driver"), Fact.of("host.name", "a", scope="instance"))
)
POLICY: Final = dumps(
    {
        "default": "halt",
        "rules": [
            {
                "compare": "ge",
                "fact": "cpu.microcode",
                "onDiff": "inform",
                "onMissing": "inform",
                "reference": "",
                "values": [],
            }
        ],
        "scheme": "environment-policy-v1",
    }
)
PROBE: Final = safetensors_bytes(
    [("call.0.args.0", "int64", (1, 2), bytes(16))],
    {
        "probe-set": dumps(
            {
                "calls": [{"args": [{"tensor": "call.0.args.0"}], "kwargs": {}}],
                "kind": "tokens",
                "scheme": "probe-set-v1",
                "seed": 20480,
            }
        ).decode()
    },
)


def lines(rows: list[Json]) -> bytes:
    """Return a table file."""
    return b"".join(dumps(value) + b"\n" for value in rows)


def entry(data: bytes, stage: str = "S3", view: str = "kernel") -> Json:
    """Describe a table file as the statement does."""
    rows = [json.loads(text) for text in data.split(b"\n")[:-1]]
    leaves = [merkle.leaf_hash(text) for text in data.split(b"\n")[:-1]]
    return {
        "bytes": str(sum(r["nbytes"] for r in rows if r["alias"] is None)),
        "count": len(rows),
        "root": merkle.root(leaves).hex(),
        "sha256": sha256(data),
        "stage": stage,
        "view": view,
    }


def leaves_of(rows: list[Json]) -> bytes:
    """Return the leaves of the primaries, in table order."""
    contents = {150_000: EMBED, 24: SCALE, 8: pattern(8), 0: b""}
    return b"".join(digest_bytes(contents[r["nbytes"]]).leaves for r in rows if r["alias"] is None)


def statement(tables: list[Json], **predicate: Any) -> Json:
    """Return a statement; its gate table is the last of `tables`."""
    gate = tables[-1]
    value = {
        "answers": None,
        "coverage": {
            "consumed": 4,
            "consumedBytes": "150040",
            "consumedHashedBytes": "150040",
            "empty": 1,
            "excluded": [],
            "hashed": 4,
            "hashedBytes": "150040",
            "literals": 0,
            "naive": 3,
            "naiveBytes": "150032",
            "unconsumed": 0,
            "unconsumedBytes": "0",
        },
        "derivation": None,
        "environment": {
            "classDigest": ENVIRONMENT.class_digest,
            "policy": "environment-policy-v1",
            "policySha256": sha256(POLICY),
            "sha256": sha256(ENVIRONMENT.to_bytes()),
        },
        "evidence": [{"files": 1, "key": sha256(b"key"), "kind": "oms-v1", "sha256": sha256(b"bundle")}],
        "gateTable": {"stage": gate["stage"], "view": gate["view"]},
        "method": {
            "engine": "hashlib-v1",
            "extra": [],
            "loader": "torch-module",
            "mapped": "none",
            "materialized": [],
            "trace": "same path",
        },
        "probeSet": sha256(PROBE),
        "product": "thorax-triage",
        "reaction": "halt",
        "schemes": {
            "environment": "environment-v1",
            "names": "torch-names-v1",
            "probeSet": "probe-set-v1",
            "structure": "structure-v1",
            "table": "manifest-v1",
            "tensorDigest": "tensor-digest-v1",
        },
        "serial": 7,
        "sources": [{"bytes": "2", "path": "config.json", "role": "config", "sha256": sha256(b"{}")}],
        "structure": sha256(STRUCTURE),
        "tables": tables,
        "validation": [{"name": "report.pdf", "sha256": sha256(b"report")}],
        "version": "2.1",
    }
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {**value, **predicate},
        "predicateType": "https://weighmaster.dev/manifest/v1",
        "subject": [
            {"digest": {"sha256": gate["root"]}, "name": "weights"},
            {"digest": {"sha256": gate["sha256"]}, "name": f"tensors.{gate['stage']}.{gate['view']}.jsonl"},
        ],
    }


def live(rows: list[Json] = ROWS) -> Files:
    """Return the manifest directory of a live model."""
    table = lines(rows)
    return {
        STATEMENT: dumps(statement([entry(lines(ROWS), "S1"), entry(table)])),
        LOADED: lines(ROWS),
        TABLE: table,
        LEAVES: leaves_of(ROWS),
        "structure.jsonl": STRUCTURE,
        "environment.json": ENVIRONMENT.to_bytes(),
        "policy.json": POLICY,
        "probe-set.safetensors": PROBE,
    }


def at_rest() -> Files:
    """Return the manifest directory of files: no structure, environment or probe set."""
    rows = [
        row("b.weight", SCALE, dtype="float32", shape=[2, 3], stride=[3, 1], layout="canonical", role="file"),
        row("w", pattern(8), dtype="float16", shape=[4], layout="canonical", role="file"),
    ]
    table = lines(rows)
    method = {"engine": "hashlib-v1", "extra": [], "loader": "safetensors-files", "mapped": "none", "materialized": []}
    absent: Json = dict.fromkeys(("coverage", "environment", "probeSet", "structure"))
    made = statement([entry(table, "S0", "logical")], **absent, method={**method, "trace": "none"})
    return {STATEMENT: dumps(made), "tensors.S0.logical.jsonl": table}


def good(files: Files) -> Case:
    """Return a case that holds."""
    gate = json.loads(files[STATEMENT])["predicate"]["tables"][-1]
    return files, {"count": gate["count"], "error": None, "root": gate["root"]}


def bad(error: str, contains: list[str], files: Files) -> Case:
    """Return a case that must be refused."""
    return files, {"contains": contains, "error": error}


def without(name: str) -> Files:
    """Return the live manifest without one file."""
    return {k: v for k, v in live().items() if k != name}


def flipped(name: str, at: int) -> Files:
    """Return the live manifest with one bit of one file flipped."""
    data = bytearray(live()[name])
    data[at] ^= 1
    return live() | {name: bytes(data)}


def resigned(data: bytes) -> Files:
    """Return the live manifest with another policy, which the statement names by its digest."""
    return stated(
        lambda v: v["predicate"]["environment"].update(policySha256=sha256(data)), live() | {"policy.json": data}
    )


def stated(edit: Edit, files: Files | None = None) -> Files:
    """Return a manifest of which the statement was edited, and signed so."""
    held = files or live()
    value: Json = json.loads(held[STATEMENT])
    edit(value)
    return held | {STATEMENT: dumps(value)}


def tabled(edit: Callable[[list[Json]], list[Json]]) -> Files:
    """Return a manifest of which the gate table was edited, and the statement made for it."""
    return live(edit(json.loads(json.dumps(ROWS))))


def positive() -> dict[str, Case]:
    """Return the cases that hold."""
    excluded = {"bytes": "4", "dtype": "float32", "name": "cache", "reason": "kv-cache", "shape": [1]}
    root = entry(lines(ROWS))["root"]
    return {
        "live": good(live()),
        "without_leaves": good(without(LEAVES)),
        "at_rest": good(at_rest()),
        "exclusion": good(stated(lambda v: v["predicate"]["coverage"].update(excluded=[excluded]))),
        "fallback": good(stated(lambda v: v["predicate"].update(reaction=f"fallback:{root}"))),
        "derivation": good(stated(lambda v: v["predicate"].update(derivation=DERIVATION))),
        "derivation_exact": good(stated(lambda v: v["predicate"].update(derivation=EXACT))),
        "without_copy_of_the_statement": good(live() | {"../payload.json": live()[STATEMENT]}),
    }


def negative_files() -> dict[str, Case]:
    """Return directories of which one file is not the one that the statement names."""
    digest = f"is not what the statement names: SHA-256; expected {entry(lines(ROWS))['sha256']}"
    return {
        "table_bit_fail": bad("SignatureFault", [TABLE, digest], flipped(TABLE, 100)),
        "table_missing_fail": bad(
            "MalformedArtefact", [TABLE, "expected the file that the statement names"], without(TABLE)
        ),
        "table_of_other_stage_bit_fail": bad("SignatureFault", [LOADED, digest], flipped(LOADED, 100)),
        "table_row_gone_fail": bad("SignatureFault", [TABLE, digest], live() | {TABLE: lines(ROWS[1:])}),
        "table_not_named_fail": bad(
            "MalformedArtefact",
            ["tensors.S4.kernel.jsonl", "expected only files that the statement names"],
            live() | {"tensors.S4.kernel.jsonl": lines(ROWS)},
        ),
        "unknown_file_fail": bad(
            "MalformedArtefact", ["notes.txt", "found an unknown file"], live() | {"notes.txt": b""}
        ),
        "leaves_cut_fail": bad(
            "MalformedArtefact",
            [LEAVES, "expected 192 bytes, 32 per leaf, found 160 bytes"],
            live() | {LEAVES: live()[LEAVES][:-32]},
        ),
        "leaves_bit_fail": bad(
            "SignatureFault", [f"{LEAVES}: lm_head.weight", "fs-verity digest"], flipped(LEAVES, 64)
        ),
        "leaves_of_small_tensor_bit_fail": bad(
            "SignatureFault", [f"{LEAVES}: head.weight:", "fs-verity digest"], flipped(LEAVES, 0)
        ),
        "structure_bit_fail": bad("SignatureFault", ["structure.jsonl", "SHA-256"], flipped("structure.jsonl", 40)),
        "structure_missing_fail": bad(
            "MalformedArtefact",
            ["structure.jsonl", "expected the file that the statement names"],
            without("structure.jsonl"),
        ),
        "environment_bit_fail": bad("SignatureFault", ["environment.json", "SHA-256"], flipped("environment.json", 40)),
        "policy_bit_fail": bad("SignatureFault", ["policy.json", "SHA-256"], flipped("policy.json", 40)),
        "policy_missing_fail": bad(
            "MalformedArtefact", ["policy.json", "expected the file that the statement names"], without("policy.json")
        ),
        "policy_weakened_fail": bad(
            "SignatureFault",
            ["policy.json", "SHA-256"],
            live() | {"policy.json": POLICY.replace(b'"cpu.microcode"', b'"torch.*"')},
        ),
        "policy_at_rest_fail": bad(
            "MalformedArtefact", ["policy.json", "found another file"], at_rest() | {"policy.json": POLICY}
        ),
        "probe_set_bit_fail": bad(
            "SignatureFault", ["probe-set.safetensors", "SHA-256"], flipped("probe-set.safetensors", -1)
        ),
        "probe_set_at_rest_fail": bad(
            "MalformedArtefact",
            ["probe-set.safetensors", "found another file"],
            at_rest() | {"probe-set.safetensors": PROBE},
        ),
        "copy_of_the_statement_fail": bad(
            "SignatureFault",
            [STATEMENT, "is not the statement that was signed"],
            stated(lambda v: v["predicate"].update(serial=8)) | {"../payload.json": live()[STATEMENT]},
        ),
    }


def negative_statements() -> dict[str, Case]:
    """Return statements that do not follow the format, or contradict their files, one fault each."""

    def predicate(contains: list[str], edit: Edit, error: str = "MalformedArtefact") -> Case:
        return bad(error, contains, stated(lambda v: edit(v["predicate"])))

    def gate(key: str, value: Any, contains: list[str]) -> Case:
        def edit(value_: Json) -> None:
            value_["predicate"]["tables"][-1][key] = value
            if key == "root":
                value_["subject"][0]["digest"]["sha256"] = value

        return bad("SignatureFault", [TABLE, *contains], stated(edit))

    root, other = entry(lines(ROWS))["root"], sha256(b"another root")
    missing = ["a live gate table stands with probeSet, coverage, structure and environment"]
    return {
        "root_fail": gate("root", other, [f"Merkle root; expected {other}, found {root}"]),
        "count_fail": gate("count", 5, ["rows; expected 5, found 6"]),
        "bytes_fail": gate("bytes", "300040", ["bytes; expected 300040, found 150040"]),
        "subject_fail": bad(
            "MalformedArtefact",
            ["subject: expected", other],
            stated(lambda v: v["subject"][0]["digest"].update(sha256=other)),
        ),
        "subject_extra_fail": bad(
            "MalformedArtefact", ["subject: expected"], stated(lambda v: v["subject"].append(v["subject"][0]))
        ),
        "gate_table_fail": predicate(
            ["the gate table S2.kernel is not among the tables"], lambda p: p["gateTable"].update(stage="S2")
        ),
        "table_twice_fail": predicate(["a table stands twice"], lambda p: p["tables"].insert(0, p["tables"][1])),
        "type_fail": bad(
            "MalformedArtefact",
            ["predicateType", "manifest/v2"],
            stated(lambda v: v.update(predicateType="https://weighmaster.dev/manifest/v2")),
        ),
        "scheme_fail": predicate(
            ["predicate.schemes.tensorDigest", "tensor-digest-v2"],
            lambda p: p["schemes"].update(tensorDigest="tensor-digest-v2"),
        ),
        "unknown_key_fail": predicate(["predicate.note: ", "an unknown key"], lambda p: p.update(note="")),
        "missing_key_fail": predicate(["predicate.reaction", "no such key"], lambda p: p.pop("reaction")),
        "number_as_text_fail": predicate(["predicate.serial", "a string"], lambda p: p.update(serial="7")),
        "bytes_as_number_fail": predicate(
            ["predicate.tables[1].bytes", "a number"], lambda p: p["tables"][1].update(bytes=150_040)
        ),
        "reaction_fail": predicate(
            ["reaction: expected halt, drain or fallback:<root>, found 'warn'"], lambda p: p.update(reaction="warn")
        ),
        "exclusion_reason_fail": predicate(
            ["predicate.coverage.excluded[0].reason", "'small'"],
            lambda p: p["coverage"]["excluded"].append(
                {"bytes": "4", "dtype": "float32", "name": "w", "reason": "small", "shape": [1]}
            ),
        ),
        "source_path_fail": predicate(
            ["predicate.sources[0].path", "'../config.json'"], lambda p: p["sources"][0].update(path="../config.json")
        ),
        "evidence_kind_fail": predicate(
            ["predicate.evidence[0].kind", "'hearsay'"], lambda p: p["evidence"][0].update(kind="hearsay")
        ),
        "evidence_of_no_file_fail": predicate(
            ["predicate.evidence[0].files", "0"], lambda p: p["evidence"][0].update(files=0)
        ),
        "evidence_of_other_files_fail": predicate(
            ["evidence speaks of more files than there are sources"], lambda p: p.update(sources=[])
        ),
        "answers_reserved_fail": predicate(
            ["predicate.answers", "null, in this version"], lambda p: p.update(answers={})
        ),
        "without_structure_fail": predicate(missing, lambda p: p.update(structure=None)),
        "without_probe_set_fail": predicate(missing, lambda p: p.update(probeSet=None)),
        "without_coverage_fail": predicate(missing, lambda p: p.update(coverage=None)),
        "class_digest_fail": predicate(
            ["environment.json: class digest", other], lambda p: p["environment"].update(classDigest=other)
        ),
        "policy_digest_fail": bad(
            "SignatureFault",
            [f"policy.json: is not what the statement names: SHA-256; expected {other}, found {sha256(POLICY)}"],
            stated(lambda v: v["predicate"]["environment"].update(policySha256=other)),
        ),
        "policy_scheme_fail": predicate(
            ["predicate.environment.policy", "environment-policy-v2"],
            lambda p: p["environment"].update(policy="environment-policy-v2"),
        ),
        "policy_spelling_fail": bad(
            "MalformedArtefact",
            ["policy.json: byte 11", "RFC 8785 canonical form"],
            resigned(POLICY.replace(b'"default":', b'"default": ')),
        ),
        "not_canonical_fail": bad(
            "MalformedArtefact",
            [STATEMENT, "RFC 8785 canonical form"],
            live() | {STATEMENT: json.dumps(json.loads(live()[STATEMENT]), sort_keys=True).encode()},
        ),
        "key_twice_fail": bad(
            "MalformedArtefact",
            ["serial", "the key twice"],
            live() | {STATEMENT: live()[STATEMENT].replace(b'"serial":7', b'"serial":7,"serial":8')},
        ),
    }


def negative_derivations() -> dict[str, Case]:
    """Return statements of models from packs whose derivation does not follow the format, one fault each."""

    def derived(contains: list[str], edit: Edit) -> Case:
        value: Json = json.loads(json.dumps(DERIVATION))
        edit(value)
        return bad(
            "MalformedArtefact",
            ["predicate", *contains],
            stated(lambda v: v["predicate"].update(derivation=value)),
        )

    other = sha256(b"another report")
    return {
        "derivation_key_unknown_fail": derived(["derivation.note", "an unknown key"], lambda d: d.update(note="")),
        "derivation_key_missing_fail": derived(["derivation.pack", "no such key"], lambda d: d.pop("pack")),
        "derivation_format_fail": derived(["derivation.format"], lambda d: d.update(format="weighmaster-pack-v2")),
        "derivation_profile_fail": derived(
            ["derivation.encoder.profile", "'trellis'"], lambda d: d["encoder"].update(profile="trellis")
        ),
        "derivation_bits_of_exact_fail": derived(
            ["derivation.encoder", "bits stand with every profile but exact"],
            lambda d: d["encoder"].update(profile="exact"),
        ),
        "derivation_calibration_gone_fail": derived(
            ["a calibration stands with the profile calibrated alone"], lambda d: d.update(calibration=None)
        ),
        "derivation_bits_number_fail": derived(
            ["derivation.encoder.bits", "a number"], lambda d: d["encoder"].update(bits=5)
        ),
        "derivation_without_parents_fail": derived(["no weight file was packed"], lambda d: d.update(parents=[])),
        "derivation_parents_unsorted_fail": derived(
            ["parents are not strictly ascending"], lambda d: d["parents"].reverse()
        ),
        "derivation_parent_path_fail": derived(
            ["expected a relative path", "'../w'"], lambda d: d["parents"][0].update(path="../w")
        ),
        "derivation_report_unnamed_fail": derived(
            [f"validation does not name the report {other}"], lambda d: d["reports"][0].update(sha256=other)
        ),
        "derivation_report_twice_fail": derived(
            ["a report stands twice"], lambda d: d["reports"].append(d["reports"][0])
        ),
        "derivation_metric_fail": derived(
            ["expected a decimal number in a string, found '5.2e-4'"],
            lambda d: d["reports"][0]["metrics"][0].update(value="5.2e-4"),
        ),
        "derivation_metrics_unsorted_fail": derived(
            ["metrics are not strictly ascending"], lambda d: d["reports"][0]["metrics"].reverse()
        ),
    }


def negative_tables() -> dict[str, Case]:
    """Return tables that are named and signed, and do not follow the format, one fault each."""

    def table(contains: list[str], edit: Callable[[list[Json]], list[Json]]) -> Case:
        return bad("MalformedArtefact", [TABLE, *contains], tabled(edit))

    def at(index: int, **change: Any) -> Callable[[list[Json]], list[Json]]:
        return lambda rows: [*rows[:index], {**rows[index], **change}, *rows[index + 1 :]]

    return {
        "rows_unsorted_fail": table(["2: name", "expected a name after"], lambda r: [r[1], r[0], *r[2:]]),
        "row_twice_fail": table(["2: name", "expected a name after"], lambda r: [r[0], *r]),
        "row_key_unknown_fail": table(["1: note", "an unknown key"], at(0, note="")),
        "name_not_nfc_fail": table(["6: name", "normalisation form C"], at(5, name="stepsa\u0308")),
        "alias_to_nothing_fail": table(
            ["model.embed.weight: alias", "the name of a primary row before it"], at(3, alias="embed")
        ),
        "alias_other_digest_fail": table(
            ["model.embed.weight: alias", "dtype, size and digests of 'lm_head.weight'"], at(3, sha256=sha256(b""))
        ),
        "alias_other_dtype_fail": table(
            ["model.embed.weight: alias", "dtype, size and digests"], at(3, dtype="float16")
        ),
        "row_nbytes_fail": table(["1: nbytes", "expected 24, from shape and dtype, found 20"], at(0, nbytes=20)),
        "row_role_fail": table(["1: role", "'weight'"], at(0, role="weight")),
        "row_layout_fail": table(
            ["1: layout", "a layout of the view kernel"], at(0, layout="canonical", stride=[3, 1])
        ),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own; ``payload.json`` is what was signed, if not the copy."""
    cases = positive() | negative_files() | negative_statements() | negative_derivations() | negative_tables()
    for name, (files, expect) in cases.items():
        manifest = directory / name / "manifest"
        manifest.mkdir(parents=True, exist_ok=True)
        for file, data in {**files, "../expect.json": dumps(expect) + b"\n"}.items():
            (manifest / file).resolve().write_bytes(data)
    (directory / "without_copy_of_the_statement" / "manifest" / STATEMENT).unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
