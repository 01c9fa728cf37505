# SPDX-License-Identifier: Apache-2.0
"""Make the bundles that tests/unit/seal/evidence holds, with the tools: model_signing 1.1.1, cosign 3.1.1.

``python interop/make_evidence.py COSIGN [DIRECTORY]``. The private keys are made here and thrown away, and ECDSA
signatures differ every time: running it again gives other bytes of the same meaning.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from model_signing import hashing, signing

from weighmaster.capture.sources import source_files
from weighmaster.core.safetensors_write import safetensors_bytes
from weighmaster.seal.keys import generate

PLACE: Final = Path(__file__).parents[1] / "tests" / "unit" / "seal" / "evidence"
OFFLINE: Final = ("--yes", "--tlog-upload=false", "--use-signing-config=false")


def model(directory: Path) -> Path:
    """Write a model of two sources and prose."""
    directory.mkdir()
    (directory / "config.json").write_text('{"hidden_size":2}\n')
    (directory / "README.md").write_text("Two weights.\n")
    (directory / "model.safetensors").write_bytes(safetensors_bytes([("w", "float32", (2,), bytes(8))], {}))
    return directory


def cosign(program: str, work: Path, *words: object) -> None:
    """Run cosign in an own home, with keys that have no passphrase."""
    environment = {**os.environ, "HOME": str(work), "COSIGN_PASSWORD": ""}
    subprocess.run([program, *map(str, words)], cwd=work, env=environment, check=True, capture_output=True)


def keys(program: str, work: Path, out: Path) -> None:
    """Make the keys: PEM for model_signing, cosign's own form for cosign, the public halves for the tests."""
    for name, kind in (("tools", "ecdsa-p256-sha256"), ("edwards", "ed25519"), ("other", "ecdsa-p256-sha256")):
        key = generate("ed25519" if kind == "ed25519" else "ecdsa-p256-sha256")
        (work / f"{name}.pem").write_bytes(key.to_pem(None))
        (out / f"{name}.pub").write_bytes(key.public.pem)
        cosign(program, work, "import-key-pair", "--key", f"{name}.pem", "-o", name, "--yes")


def sign_model(work: Path, path: Path, bundle: Path, how: hashing.Config | None = None) -> None:
    """Sign a model as ``model_signing sign key`` does; its command offers neither shards nor other hashes."""
    config = signing.Config().use_elliptic_key_signer(private_key=work / "tools.pem")
    config.set_hashing_config(how or hashing.Config()).sign(path, bundle)


def by_model_signing(work: Path, out: Path) -> None:
    """Write the bundles of model_signing."""
    files, weights = out / "model", out / "model" / "model.safetensors"
    sign_model(work, files, out / "oms.json")
    sign_model(work, weights, out / "oms-one-file.json")
    sign_model(work, files, out / "oms-shards.json", hashing.Config().use_shard_serialization(shard_size=30))
    blake = hashing.Config().use_file_serialization(hashing_algorithm="blake3")
    sign_model(work, files, out / "oms-blake3.json", blake)
    ignoring = hashing.Config().set_ignored_paths(paths=["config.json"])
    sign_model(work, files, out / "oms-without-config.json", ignoring)


def by_cosign(program: str, work: Path, out: Path) -> None:
    """Write the bundles of cosign."""
    weights = out / "model" / "model.safetensors"
    for key, name in (("tools.key", "cosign-blob.json"), ("edwards.key", "cosign-blob-ed25519.json")):
        cosign(program, work, "sign-blob", "--key", key, "--bundle", out / name, *OFFLINE, weights)
    (work / "predicate.json").write_text('{"accuracy":0.875,"samples":18446744073709551616}')
    (work / "statement.json").write_text(json.dumps(statement(out / "model")))
    attest = ("attest-blob", "--key", "tools.key", *OFFLINE)
    predicate = ("--predicate", "predicate.json", "--type", "https://example.org/evaluation/v1")
    cosign(program, work, *attest, *predicate, "--bundle", out / "cosign-predicate.json", weights)
    cosign(program, work, *attest, "--statement", "statement.json", "--bundle", out / "cosign-statement.json")


def statement(directory: Path) -> dict[str, object]:
    """Return an in-toto statement about every source file of a model."""
    subjects = [{"name": s.path, "digest": {"sha256": s.sha256}} for s in source_files(directory)]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://example.org/evaluation/v1",
        "predicate": {"accuracy": 0.875},
    }


def main() -> None:
    """Make everything anew."""
    program = str(Path(sys.argv[1]).resolve())
    out = (Path(sys.argv[2]) if len(sys.argv) > 2 else PLACE).resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    model(out / "model")
    with tempfile.TemporaryDirectory() as work:
        keys(program, Path(work), out)
        by_model_signing(Path(work), out)
        by_cosign(program, Path(work), out)


if __name__ == "__main__":
    main()
