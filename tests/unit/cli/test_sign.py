# SPDX-License-Identifier: Apache-2.0
"""sign and timestamp: with a certificate, with a key on a token, and with a timestamp by file and over HTTP."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

import weighmaster as wm
from weighmaster.seal.bundle import parse_bundle
from weighmaster.seal.keys import PrivateKey, write_private
from weighmaster.seal.timestamps import query
from weighmaster.seal.trust import Authority, Identity, TimestampAuthority
from weighmaster.seal.trust_edit import with_authority, with_identity, with_key, with_product, with_timestamp_authority

PKI = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "vectors" / "seal" / "pki.py")))
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
EVA = x509.RFC822Name("eva@example.org")


def _years(first: int, last: int) -> dict[str, datetime]:
    """Return a validity that lasts from so many days from now to so many."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {"begin": now + timedelta(days=first), "end": now + timedelta(days=last)}


@pytest.fixture
def house(here: Path, keeper: PrivateKey, nobody: wm.Trust) -> SimpleNamespace:
    """A certification and a timestamp authority that the trust file lists; Eva may sign, and two persons must."""
    root = PKI.authority("House root", **_years(-100, 100))
    issuing = PKI.authority("House issuing", by=root, **_years(-100, 100))
    stamp = PKI.openssl_authority(here / "tsa")
    stamping_root = x509.load_pem_x509_certificate((here / "tsa" / "root.pem").read_bytes())
    ana = wm.load_public(here / "ana.key.pub")
    authority = Authority(name="House", certificate=root.certificate, intermediates=(issuing.certificate,))
    trust = with_authority(nobody, authority)
    trust = with_identity(
        trust, Identity(person="Eva", authority="House", subject="email:eva@example.org", roles=("signer",))
    )
    trust = with_timestamp_authority(trust, TimestampAuthority(name="Stamps", certificates=(stamping_root,)))
    rule = wm.ProductRule(product="net", required_roles=(wm.RoleThreshold(role="signer", threshold=2),))
    trust = with_product(trust, rule)
    trust = with_key(trust, wm.TrustedKey(person="Ana", key=ana, roles=("signer",)))
    (here / "trust.json").unlink()
    wm.write_trust(here / "trust.json", trust, keeper)
    return SimpleNamespace(root=root, issuing=issuing, stamp=stamp)


def _eva(here: Path, house: SimpleNamespace, first: int = -10, last: int = 10) -> None:
    """Write Eva's key and certificate."""
    eva = PKI.leaf("Eva", house.issuing, EVA, **_years(first, last))
    (here / "eva.pem").write_text(eva.pem)
    (here / "eva.key").unlink(missing_ok=True)
    write_private(here / "eva.key", PrivateKey(eva.key), None)


VERIFY = ("verify", "manifest", "--trust", "trust.json", "--roots", "PIN", "--expect", "net")


def test_a_certificate_and_a_key_meet_a_threshold(here: Path, house: SimpleNamespace, cli: Callable[..., Any]) -> None:
    _eva(here, house)
    assert "too few persons signed; expected at least 2, found 1 (Ana)" in cli(*VERIFY).err
    done = cli("sign", "manifest", "--key", "eva.key", "--certificate", "eva.pem", "--json")
    assert done.code == 0, done.err
    assert done.json["bundle"] == "manifest/signer-2.sigstore.json"
    assert done.json["certificate"] == "eva.pem"
    verified = cli(*VERIFY)
    assert verified.code == 0, verified.err


def test_an_expired_certificate_counts_with_a_timestamp_alone(
    here: Path, house: SimpleNamespace, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _eva(here, house)
    assert cli("sign", "manifest", "--key", "eva.key", "--certificate", "eva.pem").code == 0
    shutil.copy("manifest/signer-2.sigstore.json", "bare.json")
    assert cli("timestamp", "request", "manifest/signer-2.sigstore.json", "-o", "q.tsq").code == 0
    (here / "r.tsr").write_bytes(house.stamp((here / "q.tsq").read_bytes()))
    done = cli("timestamp", "attach", "manifest/signer-2.sigstore.json", "--response", "r.tsr", "--json")
    assert done.code == 0, done.err
    assert done.json["result"] == "stamped"
    later = datetime.now(UTC) + timedelta(days=20)
    monkeypatch.setattr("weighmaster.flows.clock.datetime", SimpleNamespace(now=lambda _: later))
    verified = cli(*VERIFY)
    assert verified.code == 0, verified.err
    shutil.copy("bare.json", "manifest/signer-2.sigstore.json")
    refused = cli(*VERIFY)
    assert refused.code == 13
    assert "the certificate of CN=Eva does not hold; expected one that is valid at" in refused.err


@pytest.fixture
def url(house: SimpleNamespace) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = house.stamp(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_fetch(here: Path, url: str, cli: Callable[..., Any]) -> None:
    bundle = "manifest/signer-1.sigstore.json"
    done = cli("timestamp", "fetch", bundle, "--url", url)
    assert done.code == 0, done.err
    assert "claimed time" in done.out
    assert parse_bundle((here / bundle).read_bytes(), "b").signature.timestamp is not None
    again = cli("timestamp", "fetch", bundle, "--url", url)
    assert again.code == 2
    assert "expected a bundle without timestamp" in again.err


def test_fetch_from_nobody(here: Path, cli: Callable[..., Any]) -> None:
    bundle = "manifest/signer-1.sigstore.json"
    before = (here / bundle).read_bytes()
    assert cli("timestamp", "fetch", bundle, "--url", "file:///etc/passwd").code == 2
    done = cli("timestamp", "fetch", bundle, "--url", "http://127.0.0.1:9/")
    assert done.code == 70
    assert "http://127.0.0.1:9/: no answer: " in done.err
    assert (here / bundle).read_bytes() == before


def test_attach_a_timestamp_of_another_signature(here: Path, house: SimpleNamespace, cli: Callable[..., Any]) -> None:
    (here / "r.tsr").write_bytes(house.stamp(query(b"another")))
    done = cli("timestamp", "attach", "manifest/signer-1.sigstore.json", "--response", "r.tsr")
    assert done.code == 13
    assert "the timestamp is over other bytes than this signature" in done.err


def test_a_request_is_not_written_over_another_file(here: Path, cli: Callable[..., Any]) -> None:
    (here / "q.tsq").write_bytes(b"mine")
    assert cli("timestamp", "request", "manifest/signer-1.sigstore.json", "-o", "q.tsq").code == 2
    assert (here / "q.tsq").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--key", "eva.key", "--certificate", "absent.pem"], "absent.pem: No such file"),
        (["--key", "eva.key", "--certificate", "ana.key.pub"], "expected one X.509 certificate in PEM, found "),
        (["--key", "eva.key", "--certificate", "both.pem"], "expected one X.509 certificate in PEM, found 2 objects"),
        (["--key", "ana.key", "--certificate", "eva.pem"], "the certificate: expected one of the key"),
        (["--key", "eva.key", "--token", "t"], "--token: expected only with --pkcs11-module, found without it"),
        (["--key", "eva.key", "--pin-file", "p"], "--pin-file: expected only with --pkcs11-module"),
        (["--pkcs11-module", "m.so"], "expected --token LABEL and --key-label LABEL with it, found not both"),
        (["--pkcs11-module", "m.so", "--token", "t"], "expected --token LABEL and --key-label LABEL with it"),
        (["--pkcs11-module", "m.so", "--passphrase-file", "p"], "--passphrase-file: expected only with --key"),
        (["--pkcs11-module", "m.so", "--key", "eva.key"], "not allowed with argument"),
        ([], "one of the arguments --key --pkcs11-module is required"),
    ],
)
def test_refused_command_lines(
    words: list[str], message: str, here: Path, house: SimpleNamespace, cli: Callable[..., Any]
) -> None:
    _eva(here, house)
    (here / "both.pem").write_text(house.issuing.pem + house.root.pem)
    done = cli("sign", "manifest", *words)
    assert done.code in {2, 13, 20}
    assert message in done.err
    assert not (here / "manifest" / "signer-2.sigstore.json").exists()


@pytest.mark.skipif(
    not MODULE.exists() or shutil.which("softhsm2-util") is None,
    reason="NOT RUN: SoftHSM (package softhsm2) is not installed",
)
def test_sign_with_a_key_on_a_token(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a process of its own, because a PKCS#11 library reads its configuration once."""
    home = tmp_path_factory.mktemp("softhsm")
    (home / "tokens").mkdir()
    (home / "conf").write_text(f"directories.tokendir = {home / 'tokens'}\nobjectstore.backend = file\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(home / "conf")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    token = ["--token", "cli", "--pin", "1234"]
    made = run("softhsm2-util", "--init-token", "--free", "--label", "cli", "--pin", "1234", "--so-pin", "0000")
    assert made.returncode == 0, made.stderr
    key = PKI.p256("Key to import")
    (here / "import.pem").write_bytes(PrivateKey(key).to_pem(None))
    imported = run("softhsm2-util", "--import", "import.pem", *token, "--label", "ana", "--id", "01")
    assert imported.returncode == 0, imported.stderr
    (here / "pin").write_text("1234\n")
    (here / "pin").chmod(0o600)
    words = ["sign", "manifest", "--pkcs11-module", str(MODULE), "--token", "cli", "--key-label", "ana"]
    done = run(sys.executable, "-m", "weighmaster.cli.main", *words, "--pin-file", "pin", "--json")
    assert done.returncode == 0, done.stderr
    signature = parse_bundle((here / "manifest" / "signer-2.sigstore.json").read_bytes(), "b").signature
    assert signature.hint == PrivateKey(key).public.fingerprint
    (here / "pin").write_text("9999\n")
    refused = run(sys.executable, "-m", "weighmaster.cli.main", *words, "--pin-file", "pin")
    assert refused.returncode == 13
    assert "cli: wrong PIN; the token locks itself after a few of them" in refused.stderr
    (here / "pin").chmod(0o644)
    refused = run(sys.executable, "-m", "weighmaster.cli.main", *words, "--pin-file", "pin")
    assert "expected mode 0600" in refused.stderr
