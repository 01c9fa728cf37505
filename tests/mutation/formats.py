# SPDX-License-Identifier: Apache-2.0
"""What each format says to a mutated document: as received, under the signature made for another one, and signed anew.

To add a format: append to `FORMATS` a valid document with every field and array filled, `received` and `signed_anew`,
and the fields that another valid document may hold otherwise, each with the reason.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import runpy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519
from mutations import Mutation, mutations, mutations_of_lines

from weighmaster.capture.probe_set import parse_probe_set
from weighmaster.core.canonical import dumps
from weighmaster.core.environment import parse_environment
from weighmaster.core.instant import parse_instant
from weighmaster.core.manifest import parse_table
from weighmaster.core.statement import Statement, TableEntry
from weighmaster.core.statement_reader import parse_statement
from weighmaster.core.waiver import parse_waiver
from weighmaster.errors import NotAdmitted
from weighmaster.flows.artefact import Manifest, bind
from weighmaster.flows.mark import Mark, mark_to_bytes, parse_mark
from weighmaster.flows.pack_verification import verify_pack
from weighmaster.pack.index import parse_index
from weighmaster.seal.bundle import make_bundle, open_sealed, parse_bundle
from weighmaster.seal.check import identity_faults, require_signed
from weighmaster.seal.dsse import pae
from weighmaster.seal.keys import PrivateKey
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey
from weighmaster.seal.trust_chain import open_trust
from weighmaster.seal.trust_document import PAYLOAD_TYPE

__all__ = ["FORMATS", "PACK_FILES", "Format", "index_file"]

Json = dict[str, Any]
Check = Callable[[bytes], object]

VECTORS: Final = Path(__file__).parents[2] / "vectors"
LIVE: Final = {path.name: path.read_bytes() for path in sorted((VECTORS / "manifest" / "live" / "manifest").iterdir())}
COPY, TABLE, LEAVES = "statement.json", "tensors.S3.kernel.jsonl", "leaves.S3.kernel.bin"
PRODUCT: Final = "thorax-triage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format in the matrix.

    Attributes:
        name: for the report.
        document: a valid document, with every field and array filled.
        received: ways to slip a document in under what was signed for `document`; each must raise.
        bound: what stands against them, for the report.
        signed_anew: makes signatures and digests for the mutated document as its signer would, checks all that can be
            checked without the live model, and returns what identifies the document; raises otherwise.
        varies: field to reason, where a mutation may give another valid document.
        lines: a file of JSON lines instead of one document.
        any_spelling: the JSON may be written otherwise, and says the same then.
    """

    name: str
    document: bytes
    received: tuple[Check, ...]
    bound: str
    signed_anew: Callable[[bytes], str]
    varies: Mapping[str, str]
    lines: bool = False
    any_spelling: bool = False

    def mutations(self) -> Iterator[Mutation]:
        """Yield the documents of the matrix."""
        return mutations_of_lines(self.document) if self.lines else mutations(self.document)


def sha256(data: bytes) -> str:
    """Return the flat digest."""
    return hashlib.sha256(data).hexdigest()


# Seal and trust: the only place here that knows how they are made and checked.

KEY: Final = PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"mutation matrix").digest()))
RULE: Final = ProductRule(
    product=PRODUCT, required_roles=(RoleThreshold(role="signer", threshold=1),), minimum_serial=7
)
NOW: Final = parse_instant("2026-11-24T12:00:00Z")
TRUST: Final = Trust(
    expires=parse_instant("2027-11-24T12:00:00Z"),
    roots=Roots(keys=(RootKey(person="Rosa", key=KEY.public),), threshold=1),
    keys=(TrustedKey(person="Ana", key=KEY.public, roles=("signer",)),),
    products=(RULE,),
)


def opened(bundle: bytes, files: Mapping[str, bytes]) -> Manifest:
    """Check a manifest as a gate does, up to what needs the live model: steps 2 and 3, and each file by its digest."""
    sealed = open_sealed((("signer-1.sigstore.json", bundle),))
    require_signed(sealed, TRUST, PRODUCT, now=NOW)
    manifest = bind(sealed.payload, files, "manifest")
    said = manifest.statement
    faults = identity_faults(TRUST, product=said.product, expect=PRODUCT, serial=said.serial, root=manifest.root)
    if faults:
        raise NotAdmitted("identity", faults)
    return manifest


# The statement. Its own tables are of one row, so that thousands of checks stay fast.


def _filled() -> Statement:
    """Return the statement of the vector ``live``, its empty arrays filled."""
    value: Json = json.loads(LIVE[COPY])
    predicate = value["predicate"]
    excluded = {"bytes": "4", "dtype": "float32", "name": "cache", "reason": "kv-cache", "shape": [1]}
    predicate["coverage"]["excluded"] = [excluded, {**excluded, "name": "room", "reason": "workspace"}]
    predicate["method"].update(extra=["a", "b"], materialized=["c", "d"])
    evidence = {"files": 1, "key": sha256(b"key"), "kind": "oms-v1", "sha256": sha256(b"bundle")}
    predicate["evidence"] = [evidence, {**evidence, "kind": "in-toto", "sha256": sha256(b"other")}]
    predicate["sources"].append({**predicate["sources"][0], "path": "tokenizer.json", "role": "tokenizer"})
    predicate["validation"] += [{"name": f"{name}.pdf", "sha256": sha256(name.encode())} for name in ("annex", "other")]
    packed: Json = json.loads((VECTORS / "manifest" / "derivation" / "manifest" / COPY).read_bytes())
    predicate["derivation"] = packed["predicate"]["derivation"]
    predicate["derivation"]["reports"].append(
        {**predicate["derivation"]["reports"][0], "format": "annex-v1", "sha256": sha256(b"annex")}
    )
    return parse_statement(dumps(value), "statement")


def _entry(data: bytes, stage: str) -> TableEntry:
    return TableEntry.of(parse_table(data, stage=stage, view="kernel", file="table"))


ROW: Final = LIVE[TABLE].split(b"\n")[0] + b"\n"
SAID: Final = replace(_filled(), tables=(_entry(ROW, "S1"), _entry(ROW, "S3")))
FILES: Final = {
    **{name: data for name, data in LIVE.items() if name not in {COPY, LEAVES}},
    "tensors.S1.kernel.jsonl": ROW,
    TABLE: ROW,
}
BUNDLE: Final = make_bundle(SAID.to_bytes(), KEY)


def _under_the_old_signature(data: bytes) -> None:
    bundle: Json = json.loads(BUNDLE)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(data).decode("ascii")
    opened(dumps(bundle), FILES)


def _beside_the_bundle(data: bytes) -> None:
    opened(BUNDLE, {**FILES, COPY: data})


def _statement_anew(data: bytes) -> str:
    return sha256(opened(make_bundle(data, KEY), FILES).payload)


# Files that the statement names: received beside the statement that names the original, and named by a new statement.


def _in_place_of(name: str) -> Check:
    return lambda data: opened(BUNDLE, {**FILES, name: data})


REST: Final = {name: data for name, data in FILES.items() if not name.startswith("tensors.")}
TABLE_BUNDLE: Final = make_bundle(replace(SAID, tables=(_entry(LIVE[TABLE], "S3"),)).to_bytes(), KEY)


def _table_received(data: bytes) -> None:
    opened(TABLE_BUNDLE, {**REST, TABLE: data})


def _table_anew(data: bytes) -> str:
    """The leaves are left out, as a signer may do: with them more is refused."""
    payload = replace(SAID, tables=(_entry(data, "S3"),)).to_bytes()
    return opened(make_bundle(payload, KEY), {**REST, TABLE: data}).root


def _structure_anew(data: bytes) -> str:
    payload = replace(SAID, structure=sha256(data)).to_bytes()
    structure = opened(make_bundle(payload, KEY), {**FILES, "structure.jsonl": data}).structure
    return structure.digest if structure else ""


def _environment_anew(data: bytes) -> str:
    made = parse_environment(data, "environment.json")
    assert SAID.environment is not None
    reference = replace(SAID.environment, sha256=sha256(data), class_digest=made.class_digest)
    payload = replace(SAID, environment=reference).to_bytes()
    found = opened(make_bundle(payload, KEY), {**FILES, "environment.json": data}).environment
    return sha256(found.to_bytes()) if found else ""


# The plan of a probe set is JSON within the header of a safetensors file: the file is written around the mutated plan.

PROBE: Final = "probe-set.safetensors"
HEADER_END: Final = 8 + int.from_bytes(LIVE[PROBE][:8], "little")
HEADER: Final[Json] = json.loads(LIVE[PROBE][8:HEADER_END])


def _probe_set(plan: bytes) -> bytes:
    escaped = re.sub(rb'["\\\x00-\x1f]', lambda found: rb"\u%04x" % found[0][0], plan)
    marked = dumps({**HEADER, "__metadata__": {"probe-set": "PLAN"}}).replace(b"PLAN", escaped)
    return len(marked).to_bytes(8, "little") + marked + LIVE[PROBE][HEADER_END:]


TENSOR: Final = {"tensor": next(name for name in HEADER if name != "__metadata__")}
PLAN: Final = dumps(
    {
        "calls": [
            {"args": [TENSOR, {"value": None}, {"list": [{"value": 3}, TENSOR]}], "kwargs": {"x": {"value": "text"}}},
            {"args": [TENSOR], "kwargs": {"past": {"past": True}, "y": {"dict": {"a": {"value": False}}}}},
        ],
        "kind": "given",
        "scheme": "probe-set-v1",
        "seed": 7,
    }
)
PROBE_BUNDLE: Final = make_bundle(replace(SAID, probe_set=sha256(_probe_set(PLAN))).to_bytes(), KEY)


def _plan_received(plan: bytes) -> None:
    opened(PROBE_BUNDLE, {**FILES, PROBE: _probe_set(plan)})


def _plan_anew(plan: bytes) -> str:
    """The gate reads the probe set when the manifest is bound."""
    data = _probe_set(plan)
    made = opened(make_bundle(replace(SAID, probe_set=sha256(data)).to_bytes(), KEY), {**FILES, PROBE: data})
    return sha256(parse_probe_set(made.probe_set or b"", PROBE).to_bytes())


# The policy of the environment, and consent to what it halts on.


def _policy() -> bytes:
    rule = {"compare": "ge", "fact": "gpu.driver", "onDiff": "halt", "onMissing": "halt", "reference": "CR 1"}
    listed = {**rule, "compare": "in", "fact": "host.*", "onDiff": "inform", "values": ["a", "b"]}
    return dumps({"default": "halt", "rules": [{**rule, "values": []}, listed], "scheme": "environment-policy-v1"})


def _with_policy(data: bytes, said: bytes) -> str:
    assert SAID.environment is not None
    payload = replace(SAID, environment=replace(SAID.environment, policy_sha256=sha256(said))).to_bytes()
    found = opened(make_bundle(payload, KEY), {**FILES, "policy.json": data}).policy
    return sha256(found.to_bytes()) if found else ""


def _waiver() -> bytes:
    before, after = {"status": "value", "value": "550.54.14"}, {"status": "value", "value": "550.90.07"}
    predicate = {
        "expires": "2027-01-31T00:00:00Z",
        "facts": [
            {"fact": "gpu.driver", "found": after, "validated": before},
            {"fact": "gpu.vbios", "found": {"status": "absent", "value": None}, "validated": before},
        ],
        "policySha256": sha256(b"policy"),
        "product": PRODUCT,
        "reason": "security update",
    }
    return dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": predicate,
            "predicateType": "https://weighmaster.dev/waiver/v1",
            "subject": [{"digest": {"sha256": sha256(b"root")}, "name": "weights"}],
        }
    )


def _consented(bundle: bytes) -> str:
    sealed = open_sealed((("w.sigstore.json", bundle),))
    require_signed(sealed, TRUST, PRODUCT, now=NOW)
    return sha256(parse_waiver(sealed.payload, "w").to_bytes())


def _waiver_received(data: bytes) -> None:
    bundle: Json = json.loads(make_bundle(_waiver(), KEY))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(data).decode("ascii")
    _consented(dumps(bundle))


# What is not signed itself.


def _bundle_anew(data: bytes) -> str:
    opened(data, FILES)
    bundle = parse_bundle(data, "bundle")
    return sha256(repr(bundle.payload + bundle.signature.value).encode())


def _everything() -> bytes:
    """Return the trust document of the vector ``everything``, signed for by the roots of `TRUST`."""
    envelope: Json = json.loads((VECTORS / "trust" / "everything" / "trust.json").read_bytes())["envelopes"][-1]
    value: Json = json.loads(base64.b64decode(envelope["payload"]))
    value["roots"] = TRUST.roots.document()
    value["expires"] = "2027-11-24T12:00:00Z"
    roots = [sha256(text) for text in (b"a", b"b")]
    value["products"][0].update(acceptedRoots=roots, revokedRoots=roots[::-1])
    return dumps(value)


DOCUMENT: Final = _everything()
PIN: Final = TRUST.roots.fingerprint


def _enveloped(payload: bytes, signed: bytes) -> bytes:
    """Return a trust file that holds `payload` under the signature over `signed`."""
    signature = base64.b64encode(KEY.sign(pae(PAYLOAD_TYPE, signed))).decode("ascii")
    envelope = {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": KEY.public.fingerprint, "sig": signature}],
    }
    return dumps({"envelopes": [envelope], "scheme": "weighmaster-trust-v1"})


def _trusted(data: bytes) -> str:
    return open_trust(data, "trust.json", roots=PIN, now=NOW).sha256


FREE: Final = "the signer's word; nothing else in the manifest says it"
COUNT: Final = "a count for the reader; the gate shows the one that it finds itself"
OWNER: Final = "what a trust document is there to say; its keepers signed it"


def _live(step: int) -> str:
    return f"compared with the live model, in step {step}"


STATEMENT_VARIES: Final = {
    **dict.fromkeys(("predicate.version", "predicate.reaction"), FREE),
    **dict.fromkeys(("predicate.validation", "predicate.validation[].name", "predicate.validation[].sha256"), FREE),
    **dict.fromkeys(
        (
            *("predicate.derivation", "predicate.derivation.calibration", "predicate.derivation.encoder.bits"),
            "predicate.derivation.encoder.name",
            *("predicate.derivation.encoder.version", "predicate.derivation.pack", "predicate.derivation.parents"),
            *("predicate.derivation.parents[].bytes", "predicate.derivation.parents[].path"),
            *("predicate.derivation.parents[].sha256", "predicate.derivation.reports"),
            *("predicate.derivation.reports[].format", "predicate.derivation.reports[].metrics"),
            "predicate.derivation.reports[].sha256",
            *("predicate.derivation.reports[].metrics[].name", "predicate.derivation.reports[].metrics[].value"),
        ),
        "read from the pack and the reports when the model was weighed; where the pack is at hand, step 5 compares it",
    ),
    "predicate.serial": "a higher number is a later manifest; a lower one is refused by the trust file, in step 3",
    "predicate.tables": "their order: which of them the gate compares, `gateTable` says",
    **dict.fromkeys(("predicate.method.engine", "predicate.method.mapped"), FREE),
    **dict.fromkeys(
        (
            "predicate.method.extra",
            "predicate.method.extra[]",
            "predicate.method.loader",
            "predicate.method.materialized",
            "predicate.method.materialized[]",
            "predicate.method.trace",
        ),
        _live(6),
    ),
    **dict.fromkeys(
        (
            "predicate.evidence",
            "predicate.evidence[].files",
            "predicate.evidence[].key",
            "predicate.evidence[].kind",
            "predicate.evidence[].sha256",
        ),
        "verified when the model was weighed; the bundles are not kept in the manifest",
    ),
    **dict.fromkeys(
        (
            "predicate.sources",
            "predicate.sources[].bytes",
            "predicate.sources[].path",
            "predicate.sources[].role",
            "predicate.sources[].sha256",
        ),
        "compared with the files that were loaded, in step 5 (the role follows from the path)",
    ),
    **{
        f"predicate.coverage.{key}": COUNT
        for key in (
            *("consumed", "consumedBytes", "consumedHashedBytes", "empty", "hashed", "hashedBytes"),
            *("literals", "naive", "naiveBytes", "unconsumed", "unconsumedBytes"),
        )
    },
    **{
        f"predicate.coverage.excluded{key}": _live(10)
        for key in ("", "[].bytes", "[].dtype", "[].name", "[].reason", "[].shape", "[].shape[]")
    },
}
TABLE_VARIES: Final = {
    **dict.fromkeys(("(lines)", "alias", "dtype", "layout", "name", "role"), _live(8)),
    **dict.fromkeys(("fsverity64k", "sha256"), _live(9)),
}
STRUCTURE_VARIES: Final = dict.fromkeys(("(lines)", "kind", "path", "value"), _live(7))
ENVIRONMENT_VARIES: Final = dict.fromkeys(
    ("facts", "facts[].name", "facts[].scope", "facts[].status", "facts[].value"), _live(4)
)
PLAN_VARIES: Final = dict.fromkeys(
    (
        *("calls", "calls[].args", "calls[].args[].value", "calls[].args[].list", "calls[].args[].list[].value"),
        *("calls[].kwargs", "calls[].kwargs.x", "calls[].kwargs.x.value", "calls[].kwargs.past", "calls[].kwargs.y"),
        *("calls[].kwargs.y.dict", "calls[].kwargs.y.dict.a", "calls[].kwargs.y.dict.a.value", "kind", "seed"),
    ),
    "what the model is run with; the gate runs exactly this",
)
POLICY_VARIES: Final = dict.fromkeys(
    (
        *("rules", "rules[].fact", "rules[].reference", "rules[].values", "rules[].values[]"),
        *("rules[].compare", "rules[].onDiff", "rules[].onMissing"),
    ),
    "what the policy is there to say",
)
WAIVER_VARIES: Final = dict.fromkeys(
    (
        *("subject[].digest.sha256", "predicate.expires", "predicate.facts", "predicate.facts[].fact"),
        *("predicate.facts[].found", "predicate.facts[].found.value", "predicate.facts[].validated"),
        *("predicate.facts[].validated.value", "predicate.policySha256", "predicate.product", "predicate.reason"),
    ),
    "compared with manifest and difference, in step 4; the reason is for people",
)
TRUST_VARIES: Final = dict.fromkeys(
    (
        *("authorities[].intermediates", "authorities[].revokedSerials", "authorities[].revokedSerials[]", "expires"),
        *("identities", "identities[].person", "identities[].revoked", "identities[].roles[]", "identities[].subject"),
        *("keys", "keys[].person", "keys[].revoked", "keys[].roles[]", "keys[].notAfter", "products"),
        *("products[].acceptedRoots", "products[].acceptedRoots[]", "products[].revokedRoots"),
        *("products[].revokedRoots[]", "products[].maxExcludedBytes", "products[].minimumSerial"),
        *("products[].product", "products[].requiredRoles[].role", "products[].requiredRoles[].threshold"),
        *("products[].waiverRoles", "products[].waiverRoles[].role", "products[].waiverRoles[].threshold"),
        *("timestampAuthorities", "timestampAuthorities[].name", "version"),
    ),
    OWNER,
)
MARK: Final = mark_to_bytes(
    Mark(
        product=PRODUCT,
        roots=sha256(b"roots"),
        serial=7,
        time=NOW,
        trust_sha256=sha256(b"trust"),
        trust_version=3,
    )
).split(b"\n")[0]


def _mark_file(line: bytes, digested: bytes) -> bytes:
    return line + b"\n" + sha256(digested + b"\n").encode() + b"\n"


def _mark_received(line: bytes) -> None:
    parse_mark(_mark_file(line, MARK), "mark")


def _mark_anew(line: bytes) -> str:
    return sha256(mark_to_bytes(parse_mark(_mark_file(line, line), "mark")))


MARK_VARIES: Final = dict.fromkeys(
    ("product", "roots", "serial", "time", "trustSha256", "trustVersion"),
    "what the gate has seen; a mark is a plain file, and its digest tells damage alone",
)

# The index of a pack, in a directory whose other files are the original ones: all of it is checked but the origin.

PACKED: Final = runpy.run_path(str(VECTORS / "pack" / "generate.py"))


def _pack_files() -> dict[str, bytes]:
    """Return a calibrated pack with two of everything."""
    made = PACKED["P"]
    plan = PACKED["pack"](
        tensors=[PACKED["tensor"]("w", PACKED["small"](), 1), PACKED["BIAS"]],
        profile="calibrated",
        calibration=PACKED["CALIBRATION"],
        parameters={"damping": "0.1", "seed": "1"},
        source=[made.entry(f"model-0000{i}-of-00002.safetensors", b"") for i in (1, 2)],
    )
    files: dict[str, bytes] = made.made(plan)
    return files


PACK_FILES: Final = _pack_files()
PACK_LINE: Final = PACK_FILES["pack.index"].split(b"\n")[0]
_PACKS: Final = tempfile.TemporaryDirectory(prefix="mutated-pack-")


def index_file(line: bytes, digested: bytes) -> bytes:
    """Return an index with the digest of a line, its own or another one."""
    return line + b"\n" + sha256(digested + b"\n").encode() + b"\n"


def _index_received(line: bytes) -> None:
    parse_index(index_file(line, PACK_LINE), "pack.index")


def _index_anew(line: bytes) -> str:
    root = Path(_PACKS.name)
    for path, data in PACK_FILES.items() if not (root / "pack.index").exists() else ():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)
    (root / "pack.index").write_bytes(index_file(line, line))
    return verify_pack(root, threads=1).root


PACK_VARIES: Final = {
    **dict.fromkeys(
        (
            "encoder.bits",
            "encoder.name",
            "encoder.parameters",
            "encoder.parameters.damping",
            "encoder.parameters.seed",
            "encoder.version",
            "calibration.sha256",
            "calibration.tokens",
            "deviation.relativeSquaredError",
            "source",
            "source[].path",
            "source[].sha256",
            "source[].size",
        ),
        "the packer's word on how the pack was made",
    ),
    "tensors[].shape": "a blob fixes the number of elements; which dimensions they have is the packer's word",
}

FORMATS: Final = (
    Format(
        name="statement",
        document=SAID.to_bytes(),
        received=(_under_the_old_signature, _beside_the_bundle),
        bound="the signature over it; the copy beside the bundle, by comparison",
        signed_anew=_statement_anew,
        varies=STATEMENT_VARIES,
    ),
    Format(
        name="table",
        document=LIVE[TABLE],
        received=(_table_received,),
        bound="its SHA-256 in the statement",
        signed_anew=_table_anew,
        varies=TABLE_VARIES,
        lines=True,
    ),
    Format(
        name="structure",
        document=LIVE["structure.jsonl"],
        received=(_in_place_of("structure.jsonl"),),
        bound="its SHA-256 in the statement",
        signed_anew=_structure_anew,
        varies=STRUCTURE_VARIES,
        lines=True,
    ),
    Format(
        name="environment",
        document=LIVE["environment.json"],
        received=(_in_place_of("environment.json"),),
        bound="its SHA-256 in the statement",
        signed_anew=_environment_anew,
        varies=ENVIRONMENT_VARIES,
    ),
    Format(
        name="policy",
        document=_policy(),
        received=(lambda data: _with_policy(data, _policy()),),
        bound="its SHA-256 in the statement",
        signed_anew=lambda data: _with_policy(data, data),
        varies=POLICY_VARIES,
    ),
    Format(
        name="waiver",
        document=_waiver(),
        received=(_waiver_received,),
        bound="the signature over it",
        signed_anew=lambda data: _consented(make_bundle(data, KEY)),
        varies=WAIVER_VARIES,
    ),
    Format(
        name="probe set",
        document=PLAN,
        received=(_plan_received,),
        bound="the SHA-256 of its file in the statement",
        signed_anew=_plan_anew,
        varies=PLAN_VARIES,
    ),
    Format(
        name="bundle",
        document=BUNDLE,
        received=(),
        bound="nothing: it carries the signature, and is accepted only with payload and signature unchanged",
        signed_anew=_bundle_anew,
        varies={},
        any_spelling=True,
    ),
    Format(
        name="trust document",
        document=DOCUMENT,
        received=(lambda data: _trusted(_enveloped(data, DOCUMENT)),),
        bound="the signatures of the keepers of its roots; the roots, by the pin",
        signed_anew=lambda data: _trusted(_enveloped(data, data)),
        varies=TRUST_VARIES,
    ),
    Format(
        name="trust file",
        document=_enveloped(DOCUMENT, DOCUMENT),
        received=(),
        bound="nothing: it carries the signatures, and is accepted only with the document unchanged",
        signed_anew=_trusted,
        varies={},
        any_spelling=True,
    ),
    Format(
        name="mark",
        document=MARK,
        received=(_mark_received,),
        bound="the SHA-256 beside it",
        signed_anew=_mark_anew,
        varies=MARK_VARIES,
    ),
    Format(
        name="pack index",
        document=PACK_LINE,
        received=(_index_received,),
        bound="the SHA-256 in its last line; both by the pack root that a seal names",
        signed_anew=_index_anew,
        varies=PACK_VARIES,
    ),
)
