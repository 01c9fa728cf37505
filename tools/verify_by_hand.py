#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: C408, PLR2004, SIM905
# fmt: off
"""Verify a Weighmaster manifest by hand: one file, the standard library (Python 3.11), nothing of Weighmaster's.

    python verify_by_hand.py MANIFEST --trust trust.json --roots PIN --expect PRODUCT
        [--proof TENSOR] [--dump DIRECTORY] [--at 2026-01-31T12:00:00Z] [--work DIRECTORY]

Signatures are checked by the package `cryptography` if it is here, else by the command `openssl`; timestamps by openssl
alone; certificates are for you. Commands are printed, and their files stay in the work directory. Clauses are of spec/.
Exit code: 0 all that was asked for was checked and holds; 1 a check failed; 2 usage; 3 something was NOT CHECKED.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import tempfile
import unicodedata
from base64 import b64decode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:  # then the openssl command is asked
    serialization = None  # type: ignore[assignment]
NOT_CHECKED: list[str] = []

def need(holds: object, where: str, expected: object, found: object) -> None:
    """Go on if the check holds; otherwise say what was expected and found, and end."""
    if not holds:
        print(f"[FAIL] {where}: expected {str(expected)[:400]}, found {str(found)[:400]}\nRESULT: REFUSED")
        raise SystemExit(1)

def done(text: str, doubt: str = "") -> None:
    """Print what was checked and how, or that it was not and why."""
    print(f"[NOT CHECKED] {text}, because {doubt}" if doubt else f"[ok] {text}")
    NOT_CHECKED.extend([text] if doubt else [])

# -- Formats. dict: these keys (_ at the end: optional); [item, keys that are unique, least]; (None, or); a pattern ----
ANY, TEXT, NAME, HEX, DECIMAL = ".*", ".+", r"\S(.*\S)?", "[0-9a-f]{64}", "0|[1-9][0-9]{0,38}"
COUNT, POSITIVE, NULL, ROLE = range(2**53), range(1, 2**53), type(None), "approver|signer"
VIEW, LEAF, RULES = "kernel|logical", 65536, dict(role=ROLE, threshold=POSITIVE)
PATH = r"(?!(.*/)?\.{0,2}(/|\Z))[^\\\0]+"
MOMENT = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}Z"  # sort as text
BASE64 = "(?=.)([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"  # in one spelling
PEM = "-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{2,64}={0,2}\n-----END CERTIFICATE-----\n"
KEY = dict(person=NAME, publicKey=(  # P-256, or Ed25519 without the points for which anybody can sign (spec/seal.md)
    "-----BEGIN PUBLIC KEY-----\n(MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[A-Za-z0-9+/]{28}\n[A-Za-z0-9+/]{57}[AQgw]==|"
    r"MCowBQYDK2VwAyEA(?!A[AQ]A{39}[AI]A|7[Pfv]/{39}[3/]8|JuiVj8KyJ7BFw/SJ8u\+Y8NXfrAXTxjM5sTgCiG1T/[AI]U|xxdqcD1N2E"
    r"\+6PAt2DRBnDyogU/osOczGTsf9d5KsA[3/]o)[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)\n-----END PUBLIC KEY-----\n"))
TRUST_FILE = dict(scheme="weighmaster-trust-v1", envelopes=[dict(payload=BASE64, signatures=[
    dict(keyid=HEX, sig=BASE64), "keyid"], payloadType=r"application/vnd\.weighmaster\.trust\.v1\+json"), None, 1])
TRUST = dict(  # spec/trust.md, "Document"
    version=POSITIVE, expires=MOMENT, roots=dict(keys=[KEY, "publicKey"], threshold=POSITIVE),
    keys=[dict(**KEY, roles=[ROLE, "", 1], notAfter=(None, MOMENT), revoked=bool), "publicKey"],
    authorities=[dict(name=NAME, certificate=PEM, intermediates=[PEM], revokedSerials=["(?!0)[0-9a-f]+", ""]), "name"],
    identities=[dict(person=NAME, authority=NAME, subject="(email|uri|dns):[!-~]+", roles=[ROLE, "", 1],
                     revoked=bool), "authority subject"],
    timestampAuthorities=[dict(name=NAME, certificates=[PEM, None, 1], intermediates=[PEM]), "name"],
    products=[dict(product=NAME, requiredRoles=[RULES, "role", 1], waiverRoles=[RULES, "role"], acceptedRoots=[HEX, ""],
                   revokedRoots=[HEX, ""], minimumSerial=COUNT, maxExcludedBytes=DECIMAL), "product"])
BUNDLE = dict(  # spec/seal.md, "Format of a seal"
    dsseEnvelope=dict(payload=BASE64, payloadType=r"application/vnd\.in-toto\+json", signatures=[
        dict(keyid="", sig=BASE64), "keyid", 1]), mediaType=r"application/vnd\.dev\.sigstore\.bundle\.v0\.3\+json",
    verificationMaterial=dict(publicKey_=dict(hint=HEX), certificate_=dict(rawBytes=BASE64), tlogEntries=["(?!)"],
        timestampVerificationData_=dict(rfc3161Timestamps=[dict(signedTimestamp=BASE64), None, 1])))
BYTES = {name: size for size, names in (  # of an element (spec/tensor-digest.md, "Bytes")
    (1, "bool uint8 int8 quint8 qint8 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"),
    (1, "float4_e2m1fn_x2"), (2, "uint16 int16 float16 bfloat16"), (4, "uint32 int32 qint32 float32"),
    (8, "uint64 int64 float64 complex64"), (16, "complex128")) for name in names.split()}
ROW = dict(name=TEXT, dtype="|".join(BYTES), shape=[COUNT], stride=[COUNT], nbytes=COUNT, alias=(None, ANY), sha256=HEX,
           fsverity64k=HEX, layout="canonical|materialized-v1|resolved-v1|strided",  # spec/manifest.md, "Table"
           role="attribute|buffer|constant|extra|file|inner|non-persistent-buffer|parameter")
STATEMENT = dict(  # spec/manifest.md, "Statement"
    _type="https://in-toto.io/Statement/v1", predicateType="https://weighmaster.dev/manifest/v1",
    subject=[dict(name=TEXT, digest=dict(sha256=HEX))], predicate=dict(
        product=TEXT, version=TEXT, serial=COUNT, reaction=f"halt|drain|fallback:{HEX}", answers=NULL,
        schemes=dict(environment="environment-v1", names="torch-names-v1", probeSet="probe-set-v1",
                     structure="structure-v1", table="manifest-v1", tensorDigest="tensor-digest-v1"),
        tables=[dict(stage="S[0-4]", view=VIEW, root=HEX, sha256=HEX, count=COUNT, bytes=DECIMAL), "stage view"],
        gateTable=dict(stage="S[0-4]", view=VIEW), probeSet=(None, HEX), structure=(None, HEX),
        environment=(None, dict(sha256=HEX, classDigest=HEX, policy="environment-policy-v1", policySha256=HEX)),
        method=dict(engine=TEXT, loader=TEXT, trace="none|not traceable|other path|same path",
                    mapped="first|none|private", materialized=[ANY], extra=[ANY]),
        coverage=(None, dict.fromkeys("consumed hashed unconsumed naive empty literals".split(), COUNT) | dict.fromkeys(
            "consumedBytes consumedHashedBytes hashedBytes unconsumedBytes naiveBytes".split(), DECIMAL) | dict(
                excluded=[dict(name=TEXT, dtype="|".join(BYTES), shape=[COUNT], bytes=DECIMAL,
                     reason="kv-cache|opaque-handle|rng-state|workspace")])), validation=[dict(name=TEXT, sha256=HEX)],
        sources=[dict(path=PATH, bytes=DECIMAL, sha256=HEX,
                      role="code|config|other|preprocessor|template|tokenizer|weights")],
        evidence=[dict(kind="cosign-blob|in-toto|oms-v1", sha256=HEX, key=HEX, files=POSITIVE), "sha256"],
        derivation=(None, dict(format="weighmaster-pack-v1", pack=HEX, calibration=(None, HEX), encoder=dict(
            name=TEXT, version=TEXT, profile="calibrated|datafree|exact",
            bits=(None, r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,20})?")),
            parents=[dict(path=PATH, bytes=DECIMAL, sha256=HEX), "path", 1], reports=[dict(
                format=TEXT, sha256=HEX, metrics=[dict(name=r"[^\x00-\x1f\x7f]{1,200}",
                    value=r"-?(0|[1-9][0-9]{0,308})(\.[0-9]{1,400})?"), "name"]), "sha256"]))))

def conform(value: Any, form: Any, at: str) -> None:
    """Check a JSON value against a form."""
    form = form if not isinstance(form, tuple) else NULL if value is None else form[1]
    if isinstance(form, dict):
        keys, needed = {key.rstrip("_") for key in form}, {key for key in form if not key.endswith("_")}
        found = value.keys() if isinstance(value, dict) else {ascii(value)}
        need(needed <= found <= keys, at, f"the keys {sorted(keys)}", f"otherwise: {sorted(found ^ keys)}")
        for key in value:
            conform(value[key], form.get(key, form.get(f"{key}_")), f"{at}.{key}")
    elif isinstance(form, list):
        item, unique, least = [*form, *[None, 0][len(form) - 1 :]]
        need(isinstance(value, list) and len(value) >= least, at, f"an array of at least {least}", ascii(value))
        for i, element in enumerate(value):
            conform(element, item, f"{at}[{i}]")
        marks = [str([element[key] for key in unique.split()]) if unique else element for element in value]
        need(unique is None or len(set(marks)) == len(marks), at, f"each {unique} once", marks)
    elif isinstance(form, str):
        fits = isinstance(value, str) and re.fullmatch(form, value, re.DOTALL) and (form != NAME or value.isprintable())
        need(fits and (form != NAME or unicodedata.is_normalized("NFC", value)), at, f"text like {form}", ascii(value))
    else:  # a range of integers, or a type
        fits = (type(value) is int and value in form) if isinstance(form, range) else type(value) is form
        need(fits, at, form, ascii(value))

def strict(data: bytes, at: str, form: Any, *, exact: bool = False) -> Any:
    """Read JSON that conforms to `form`: each key once, no floats (spec/README.md); `exact`: in its RFC 8785 form."""
    try:  # int() refuses fractions and NaN; what it respells, such as -0, is no canonical JSON
        value = json.loads(data.decode(), parse_float=int, parse_constant=int, object_pairs_hook=lambda pairs: (
            dict(pairs) if len(dict(pairs)) == len(pairs) else {"a key that stands twice": pairs}))
        again = canonical(value)
    except (ValueError, RecursionError) as error:
        return need(None, at, "strict JSON in UTF-8", error)
    need(not exact or again == data, at, "canonical JSON (RFC 8785), each key once", "another spelling")
    conform(value, form, at)
    return value

def canonical(value: Any) -> bytes:
    """RFC 8785 of our formats: they hold no floats, and their keys are ASCII, whose order is that of UTF-16 units."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

def fsverity64k(leaves: bytes | bytearray, nbytes: int) -> str:
    """Return what `fsverity digest --block-size=65536` prints (spec/tensor-digest.md, "Digests", 3 to 5)."""
    while len(leaves) > 32:
        leaves = b"".join(sha256(leaves[i : i + LEAF].ljust(LEAF, b"\0")).digest() for i in range(0, len(leaves), LEAF))
    head = bytes([1, 1, 16, 0, 0, 0, 0, 0]) + nbytes.to_bytes(8, "little")
    return sha256(head + leaves.ljust(64, b"\0") + bytes(32 + 144)).hexdigest()

def check_bytes(file: Any, row: Any, at: str) -> None:
    """Compare a file with a row, by length and both digests (spec/tensor-digest.md, "Verification", 3 to 5)."""
    blocks, flat, leaves = iter(lambda: file.read(LEAF), b""), sha256(), bytearray()
    for block in blocks:
        flat.update(block)
        leaves += sha256(block.ljust(LEAF, b"\0")).digest()
    found = {"nbytes": file.tell(), "sha256": flat.hexdigest(), "fsverity64k": fsverity64k(leaves, file.tell())}
    need(found.items() <= row.items(), at, {key: row[key] for key in found}, found)

def check_leaves(data: bytes, file: str, rows: list[Any]) -> None:
    """Compute the fs-verity digest of each primary from its leaf digests (spec/manifest.md, "Verification", 6)."""
    for row in (row for row in rows if row["alias"] is None):
        leaves, data = data[: -(-row["nbytes"] // LEAF) * 32], data[-(-row["nbytes"] // LEAF) * 32 :]
        need(row["fsverity64k"] == fsverity64k(leaves, row["nbytes"]), file, f"leaves of {row['name']!a}", "others")
    need(not data, file, "32 bytes per leaf", f"{len(data)} bytes more")

def merkle(hashed: list[bytes], index: int = 0) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return root and audit path of a leaf, its siblings from the bottom up (RFC 9162, 2.1.1 and 2.1.3.1)."""
    if len(hashed) <= 1:
        return (hashed[0] if hashed else sha256().digest()), []
    k = 1 << (len(hashed) - 1).bit_length() - 1
    (left, below), (right, above) = merkle(hashed[:k], index), merkle(hashed[k:], index - k)
    return sha256(b"\1" + left + right).digest(), [*below, ("right", right)] if index < k else [*above, ("left", left)]

def openssl(command: str, files: dict[str, Any], work: Path) -> bool | None:
    """Write `files` to a new folder and run `openssl command` there; None where there is no such command."""
    folder = Path(tempfile.mkdtemp(dir=work))
    for file, data in files.items():
        (folder / file).write_bytes(data if isinstance(data, bytes) else "".join(data).encode())
    print(f"    $ cd {folder}; openssl {command}")
    if shutil.which("openssl") is None:
        return None
    ran = subprocess.run(["openssl", *command.split()], cwd=folder, capture_output=True, text=True, check=False)
    print(f"      {(ran.stdout + ran.stderr).strip()}".replace("\n", "\n      "))
    return ran.returncode == 0

def check_signature(key: str, signature: bytes, envelope: Any, who: str, work: Path) -> None:
    """DSSE v1 over ECDSA P-256 with SHA-256, or Ed25519, as the trusted key says (spec/seal.md, "Signed bytes")."""
    kind, payload, edwards = envelope["payloadType"].encode(), b64decode(envelope["payload"]), "\nMCow" in key
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    if serialization is None:
        command = "pkeyutl -verify -pubin -inkey key.pem -rawin -in message -sigfile signature"
        command = command if edwards else "dgst -sha256 -verify key.pem -signature signature message"
        holds = openssl(command, {"key.pem": key, "message": message, "signature": signature}, work)
    else:
        try:
            public: Any = serialization.load_pem_public_key(key.encode())
            holds = public.verify(signature, message, *([] if edwards else [ec.ECDSA(hashes.SHA256())])) is None
        except (InvalidSignature, ValueError):  # ValueError: no point of the curve
            holds = False
    need(holds is not False, who, "a signature by this key over these bytes", "one that does not verify")
    how = f"{'Ed25519' if edwards else 'ECDSA P-256'} signature, by {'cryptography' if serialization else 'openssl'}"
    done(f"{who}: {how}", "" if holds else "there is neither the package cryptography nor the command openssl")

def check_timestamp(token: bytes, signature: bytes, trust: Any, now: str, at: str, work: Path) -> str:
    """Return genTime, the first GeneralizedTime of a granted response (RFC 3161, 2.4; spec/seal.md, "Timestamps")."""
    found = re.match(rb"0.{1,4}0.\x02\x01\x00.*?\x18[\x0f-\x17]([0-9.]+Z)", token, re.DOTALL)
    text = found[1].decode() if found else "none that was granted"
    need(re.fullmatch(r"[0-9]{12}[0-5][0-9](\.[0-9]*[1-9])?Z", text), f"{at}: timestamp", "an RFC 3161 response", text)
    seen = datetime.strptime(f"{text[:14]}Z", "%Y%m%d%H%M%S%z")
    need(seen.timestamp() <= datetime.fromisoformat(now).timestamp() + 300, f"{at}: timestamp", f"{now} + 300 s", seen)
    roots, rest = ([c for a in trust["timestampAuthorities"] for c in a[k]] for k in ("certificates", "intermediates"))
    files = {"token.tsr": token, "signature.bin": signature, "roots.pem": roots, "rest.pem": rest or roots}
    command = "ts -verify -in token.tsr -data signature.bin -CAfile roots.pem -untrusted rest.pem"
    holds = openssl(f"{command} -attime {seen.timestamp():.0f}", files, work)
    need(holds is not False, f"{at}: timestamp", "one by a listed authority over this signature", "another")
    done(f"{at}: timestamp of {seen}", "" if holds else "there is no openssl command: run the line above elsewhere")
    return f"{seen:%Y-%m-%dT%H:%M:%SZ}"

def check_trust(data: bytes, file: str, pin: str, now: str, work: Path) -> Any:
    """Follow the documents from the pinned roots to the current one (spec/trust.md, "Verification")."""
    envelopes = strict(data, file, TRUST_FILE)["envelopes"]
    documents = [strict(b64decode(e["payload"]), f"{file}[{i}]", TRUST, exact=True) for i, e in enumerate(envelopes)]
    for trust in documents:
        persons = {key["person"] for key in trust["roots"]["keys"]}
        need(trust["roots"]["threshold"] <= len(persons), f"{file}: roots.threshold", f"at most {len(persons)}", "more")
        unknown = {i["authority"] for i in trust["identities"]} - {a["name"] for a in trust["authorities"]}
        need(not unknown, f"{file}: identities", "names of listed authorities", unknown)
    versions, pins = [d["version"] for d in documents], [sha256(canonical(d["roots"])).hexdigest() for d in documents]
    need(versions == sorted(set(versions)), file, "rising versions", versions)
    need(pin in pins, f"{file}: roots", f"the pin {pin}", pins)
    trusted = documents[pins.index(pin)]["roots"]
    keys = {sha256(k["publicKey"].encode()).hexdigest(): k for trust in documents for k in trust["roots"]["keys"]}
    for trust, envelope in list(zip(documents, envelopes, strict=True))[pins.index(pin) :]:
        at, own, signed = f"{file}, version {trust['version']}", trust["roots"], set[str]()
        for claim in envelope["signatures"]:
            need(claim["keyid"] in keys, at, "signatures by root keys alone", claim["keyid"])
            key = keys[claim["keyid"]]
            check_signature(key["publicKey"], b64decode(claim["sig"]), envelope, f"{at}: {key['person']}", work)
            signed.add(key["publicKey"])
        for roots in (trusted, own):  # whoever takes over must have signed too
            persons = {key["person"] for key in roots["keys"] if key["publicKey"] in signed}
            need(len(persons) >= roots["threshold"], at, f"{roots['threshold']} keepers of the roots", sorted(persons))
        trusted = own
    need(now < trust["expires"], at, f"a moment before {trust['expires']}", now)
    done(f"{at}: from the pinned roots {pin}, in force until {trust['expires']}", "see above" * bool(NOT_CHECKED))
    return trust

def check_seal(bundles: dict[str, bytes], trust: Any, product: str, now: str, work: Path) -> bytes:
    """Return the payload that the required persons signed (spec/seal.md, "Verification", 2 to 7)."""
    read, signers = {file: strict(data, file, BUNDLE) for file, data in bundles.items()}, list[Any]()
    payloads = {b64decode(bundle["dsseEnvelope"]["payload"]) for bundle in read.values()}
    need(len(payloads) == 1, "seal", "bundles, all over one payload", f"{len(payloads)} payloads")
    for file, bundle in read.items():
        material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
        stamps = material.get("timestampVerificationData", {}).get("rfc3161Timestamps", [])
        need(len({"publicKey", "certificate"} & {*material}) == 1 >= len(stamps), file, "one signer", [*material])
        signature, moment = b64decode(envelope["signatures"][0]["sig"]), now
        for stamp in stamps:
            moment = check_timestamp(b64decode(stamp["signedTimestamp"]), signature, trust, now, file, work)
        if "certificate" in material:  # print what a person needs to compare; its path by `openssl verify`
            openssl("x509 -in leaf.der -text", {"leaf.der": b64decode(material["certificate"]["rawBytes"])}, work)
            done(f"{file}: certificate", "its path, names and key are for you to compare (docs/how-to/audit.md)")
            continue
        hint = material["publicKey"]["hint"]
        who = next((k for k in trust["keys"] if sha256(k["publicKey"].encode()).hexdigest() == hint), None)
        need(who, file, "a key that the trust document lists", hint)
        need(not who["revoked"], file, "a key in force", f"the revoked key {hint} of {who['person']}")
        need(moment <= (who["notAfter"] or moment), file, f"a signature of up to {who['notAfter']}", moment)
        check_signature(who["publicKey"], signature, envelope, f"{file}: {who['person']}", work)
        signers.append(who)
    rule = next((rule for rule in trust["products"] if rule["product"] == product), None)
    need(rule, "trust", f"a rule for {product}", "none")
    for role, least in ((required["role"], required["threshold"]) for required in rule["requiredRoles"]):
        persons = sorted({who["person"] for who in signers if role in who["roles"]})
        need(len(persons) >= least or NOT_CHECKED, f"{product}, role {role}", f"{least} persons", persons)
        done(f"{product}, role {role}: {', '.join(persons)} (at least {least})", "see above" * bool(NOT_CHECKED))
    return payloads.pop()

def check_identity(trust: Any, expect: str, product: str, serial: int, root: str) -> None:
    """Is this manifest that of the expected product, and in force (spec/seal.md, "Verification", 8 to 12)?"""
    need(product == expect, "product", expect, product)
    rule = next(rule for rule in trust["products"] if rule["product"] == product)
    need(root not in rule["revokedRoots"], "root", "one that is not revoked", root)
    need(root in rule["acceptedRoots"] or not rule["acceptedRoots"], "root", rule["acceptedRoots"], root)
    need(serial >= rule["minimumSerial"], "serial", f"at least {rule['minimumSerial']}", serial)

def check_table(data: bytes, file: str, view: str) -> list[Any]:
    """Return the rows (spec/manifest.md, "Table")."""
    lines, rows, primaries, last = data.split(b"\n"), list[Any](), dict[str, Any](), b""
    need(lines.pop() == b"", file, "a line feed at the end", "none")
    for number, line in enumerate(lines, start=1):
        at, row = f"{file}:{number}", strict(line, f"{file}:{number}", ROW, exact=True)
        name, size, shape, stride, layout, alias = (row[k] for k in "name nbytes shape stride layout alias".split())
        plain = [math.prod(max(n, 1) for n in shape[i + 1 :]) for i in range(len(shape))]  # row-major
        dense, step = list(plain), 1  # what strides without gaps would be, in the order of these
        for _, n, i in sorted(zip(stride, shape, range(len(shape)), strict=False)):
            if n > 1 and layout == "strided" and 0 not in shape:
                dense[i], step = step, step * n
        content = [row[key] for key in ("dtype", "nbytes", "sha256", "fsverity64k")]
        need(last < name.encode() and unicodedata.is_normalized("NFC", name), f"{at}: name", "NFC, rising", ascii(name))
        need(size == math.prod(shape, start=BYTES[row["dtype"]]), f"{at}: nbytes", "that of shape and dtype", size)
        need(stride == dense, f"{at}: stride", f"neither gaps nor overlaps, such as {dense}", stride)
        need((layout == "canonical") == (view == "logical"), f"{at}: layout", f"one of view {view}", layout)
        need(alias is None or primaries.get(alias) == content, f"{at}: alias", "an equal primary before it", alias)
        primaries |= {name: content} if alias is None and view == "kernel" else {}
        last = name.encode()
        rows.append(row)
    return rows

def check_derivation(made: Any, validation: set[str]) -> None:
    """Does what is said of the pack fit together (spec/manifest.md, "Derivation")?"""
    if made is None:
        return
    encoder, paths = made["encoder"], [parent["path"].encode() for parent in made["parents"]]
    need((encoder["bits"] is None) == (encoder["profile"] == "exact"), "encoder", "bits, but for exact", encoder)
    need((made["calibration"] is None) == (encoder["profile"] != "calibrated"), "calibration", "if calibrated", made)
    need(paths == sorted(paths), "derivation.parents", "rising paths", paths)
    for report in made["reports"]:
        names = [metric["name"] for metric in report["metrics"]]
        need(names == sorted(names), "derivation.reports[].metrics", "rising names", names)
        need(report["sha256"] in validation, "derivation.reports", "reports that validation names", report["sha256"])

def check_files(payload: bytes, files: dict[str, bytes]) -> tuple[Any, str, str, list[Any]]:
    """Bind every file to the statement (spec/manifest.md, "Verification"); return predicate, root, gate table, rows."""
    statement = strict(payload, "statement", STATEMENT, exact=True)
    predicate, subjects = statement["predicate"], [(s["name"], s["digest"]["sha256"]) for s in statement["subject"]]
    tables = {"tensors.{stage}.{view}.jsonl".format(**table): table for table in predicate["tables"]}
    gate = "tensors.{stage}.{view}.jsonl".format(**predicate["gateTable"])
    need(gate in tables, "gateTable", f"one of {sorted(tables)}", gate)
    expected = [("weights", tables[gate]["root"]), (gate, tables[gate]["sha256"])]
    need(subjects == expected, "subject", expected, subjects)
    live = [predicate[key] for key in ("probeSet", "coverage", "structure", "environment")]
    need("S0" in gate or None not in live, "predicate", "probeSet, coverage, structure and environment", live)
    environment, leaves = predicate["environment"] or {}, gate.replace("tensors", "leaves").replace("jsonl", "bin")
    need(all(e["files"] <= len(predicate["sources"]) for e in predicate["evidence"]), "evidence", "sources", "more")
    check_derivation(predicate["derivation"], {report["sha256"] for report in predicate["validation"]})
    named = {file: table["sha256"] for file, table in tables.items()} | {"statement.json": sha256(payload).hexdigest(),
        "structure.jsonl": predicate["structure"], "environment.json": environment.get("sha256"),
        "policy.json": environment.get("policySha256"), "probe-set.safetensors": predicate["probeSet"]}
    odd = (files.keys() ^ {file for file in named if named[file]}) - {"statement.json", leaves}
    need(not odd, "manifest", "exactly the files that the statement names", f"missing or left over: {sorted(odd)}")
    for file in sorted(files.keys() - {leaves}):
        found = sha256(files[file]).hexdigest()
        need(found == named[file], f"{file}: SHA-256", named[file], found)
        document = strict(files[file], file, dict, exact=True) if file.endswith(".json") else {}
        if file == "environment.json":  # the class digest is that of the document without its instance facts
            document["facts"] = [fact for fact in document["facts"] if fact["scope"] == "class"]
            found = sha256(canonical(document)).hexdigest()
            need(found == environment["classDigest"], f"{file}: class digest", environment["classDigest"], found)
    rows = {file: check_table(files[file], file, table["view"]) for file, table in tables.items()}
    for file, table in tables.items():
        root, _ = merkle([sha256(b"\0" + line).digest() for line in files[file].split(b"\n")[:-1]])
        nbytes = sum(row["nbytes"] for row in rows[file] if row["alias"] is None)
        stated = {"root": root.hex(), "count": len(rows[file]), "bytes": str(nbytes)}
        need(stated.items() <= table.items(), file, {key: table[key] for key in stated}, stated)
        done(f"{file}: {len(rows[file])} rows of {nbytes} bytes, root {root.hex()}")
    if leaves in files:
        check_leaves(files[leaves], leaves, rows[gate])
    done(f"as the statement names them: {', '.join(sorted(files))}")
    return predicate, tables[gate]["root"], gate, rows[gate]

def print_proof(name: str, table: bytes, file: Path) -> None:
    """Show with sha256sum alone that the line of a tensor is under the root (RFC 9162, 2.1.3)."""
    lines = table.split(b"\n")[:-1]
    index = next((i for i, line in enumerate(lines) if json.loads(line)["name"] == name), None)
    need(index is not None, "--proof", "the name of a tensor in the gate table", name)
    leaves = [sha256(b"\0" + line).digest() for line in lines]
    value, (root, path) = leaves[index], merkle(leaves, index)
    print(f"    $ (printf '\\000'; sed -n {index + 1}p '{file}' | tr -d '\\n') | sha256sum  # {value.hex()}")
    for side, sibling in path:
        pair = sibling + value if side == "left" else value + sibling
        value = sha256(b"\1" + pair).digest()
        print(f"    $ printf 01{pair.hex().upper()} | basenc --base16 -d | sha256sum  # {value.hex()}")
    need(value == root, "proof", root.hex(), value.hex())
    done(f"{name}: row {index + 1} of {len(lines)} is under the root {root.hex()}")

def check_dump(folder: Path, rows: list[Any]) -> None:
    """Compare every file of a dump with the signed rows; its own index says only which file is whose."""
    lines = (strict(line, "index.jsonl", dict) for line in (folder / "index.jsonl").read_bytes().splitlines())
    index = {line.get("name"): line.get("file") for line in lines}
    odd = index.keys() ^ {row["name"] for row in rows}
    need(not odd, f"{folder}/index.jsonl", "the names of the table", f"missing or left over: {odd}")
    odd = set(index.values()) ^ {path.name for path in folder.iterdir()} ^ {"index.jsonl", "SHA256SUMS"}
    need(not odd, str(folder), "a file per tensor, an index and sums", f"missing or left over: {odd}")
    for row in rows:
        with (folder / index[row["name"]]).open("rb") as file:
            check_bytes(file, row, f"{file.name}: {row['name']}")
    done(f"{folder}: the file of each of {len(rows)} rows has its SHA-256 and its fs-verity digest")

def main() -> None:
    """Read the command line, check in the order of spec/admission.md, steps 2 and 3, and say what holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    for flag in ("trust", "roots", "expect", "proof", "dump", "at", "work"):
        parser.add_argument(f"--{flag}", required=flag in ("trust", "roots", "expect"))
    o = parser.parse_args()
    try:
        now = f"{(datetime.fromisoformat(o.at) if o.at else datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        work = Path(tempfile.mkdtemp(prefix="by-hand-", dir=o.work))
        files = {path.name: path.read_bytes() if path.is_file() else b"" for path in o.manifest.iterdir()}
        bundles = {f: files.pop(f) for f in sorted(files) if re.fullmatch(r"[a-z]+-[1-9][0-9]{0,3}\.sigstore\.json", f)}
        trust = check_trust(Path(o.trust).read_bytes(), o.trust, o.roots, now, work)
        p, root, gate, rows = check_files(check_seal(bundles, trust, o.expect, now, work), files)
        check_identity(trust, o.expect, p["product"], p["serial"], root)
        if o.proof:
            print_proof(o.proof, files[gate], o.manifest / gate)
        if o.dump:
            check_dump(Path(o.dump), rows)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"Not shown by files: what a process runs; that trust version {trust['version']} is the newest (no mark)")
    print(f"RESULT: {'NOT ALL CHECKED' if NOT_CHECKED else 'HOLDS'}: {o.expect} {p['serial']}, root {root}, at {now}")
    raise SystemExit(3 if NOT_CHECKED else 0)

if __name__ == "__main__":
    main()
