# SPDX-License-Identifier: Apache-2.0
"""``keygen``, ``sign`` and ``trust``: keys never shown, files never overwritten, rules never loosened by accident."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

import weighmaster as wm
from weighmaster.cli import keygen, secrets_input
from weighmaster.errors import StorageError
from weighmaster.seal import keys


def terminal(monkeypatch, *answers):
    said = iter(answers)
    prompts = []
    monkeypatch.setattr(secrets_input.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(secrets_input.getpass, "getpass", lambda prompt: (prompts.append(prompt), next(said))[1])
    return prompts


def private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


# -- keygen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("p256", "ecdsa-p256-sha256"), ("ed25519", "ed25519")])
def test_pair(cli, here, kind, name):
    run = cli("keygen", "new.key", "--type", kind, "--no-passphrase", "--json")
    key = wm.load_private(Path("new.key"), None)
    assert run.json == {
        "result": "key", "kind": name, "fingerprint": key.public.fingerprint, "privateKey": "new.key",
        "publicKey": "new.key.pub", "encrypted": False,
    }  # fmt: skip
    assert wm.load_public(Path("new.key.pub")) == key.public
    assert stat.S_IMODE(Path("new.key").stat().st_mode) == 0o600


def test_text_shows_the_fingerprint_and_not_the_key(cli, here):
    run = cli("keygen", "new.key", "--no-passphrase")
    secret = Path("new.key").read_text().split("\n")[1]
    assert wm.load_public(Path("new.key.pub")).fingerprint in run.out
    assert "NOT encrypted" in run.out
    assert secret not in run.out + run.err


def test_passphrase_is_asked_for_twice(cli, here, monkeypatch):
    prompts = terminal(monkeypatch, "höch geheim", "höch geheim")
    run = cli("keygen", "new.key")
    assert (run.code, prompts) == (0, ["Passphrase for the new key: ", "The same again: "])
    assert wm.load_private(Path("new.key"), "höch geheim".encode()).public == wm.load_public(Path("new.key.pub"))
    assert "geheim" not in run.out + run.err


def test_passphrases_that_differ(cli, here, monkeypatch):
    terminal(monkeypatch, "one", "two")
    run = cli("keygen", "new.key")
    assert run.code == 2
    assert "the two passphrases differ; nothing was written" in run.err
    assert not list(here.glob("*new.key*"))


def test_empty_passphrase_is_refused_and_nothing_stays(cli, here, monkeypatch):
    terminal(monkeypatch, "", "")
    run = cli("keygen", "new.key")
    assert run.code == 13
    assert "the passphrase is empty" in run.err
    assert not list(here.glob("*new.key*"))


def test_no_terminal_and_no_file(cli, here):
    run = cli("keygen", "new.key")
    assert run.code == 2
    assert "standard input is no terminal: give --passphrase-file FILE" in run.err


def test_passphrase_from_a_file(cli, here):
    private(here / "pass", "from a file\nsecond line\n")
    assert cli("keygen", "new.key", "--passphrase-file", "pass", "--json").json["encrypted"] is True
    assert wm.load_private(Path("new.key"), b"from a file")


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [(0o644, "x\n", "expected mode 0600 (readable by its owner alone), found 0644"), (0o600, "\n", "found 0"),
     (0o600, "x" * 5000, "found 4097")],
)  # fmt: skip
def test_passphrase_file_that_is_refused(cli, here, mode, text, said):
    private(here / "pass", text).chmod(mode)
    run = cli("keygen", "new.key", "--passphrase-file", "pass")
    assert run.code == 13
    assert said in run.err
    assert not list(here.glob("*new.key*"))


def test_passphrase_from_a_pipe_and_from_nowhere(cli, here):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text("piped\n"))
    writer.start()
    assert cli("keygen", "new.key", "--passphrase-file", "pipe").code == 0
    writer.join()
    assert wm.load_private(Path("new.key"), b"piped")
    assert cli("keygen", "other.key", "--passphrase-file", "absent").code == 13


@pytest.mark.parametrize("there", ["new.key", "new.key.pub"])
def test_nothing_is_overwritten(cli, here, there):
    (here / there).write_text("precious")
    run = cli("keygen", "new.key", "--no-passphrase")
    assert run.code == 2
    assert f"{there}: exists already and is not overwritten" in run.err
    assert [(p.name, p.read_text()) for p in here.glob("new.key*")] == [(there, "precious")]


def test_half_a_pair_is_not_left(cli, here, monkeypatch):
    def full(*_arguments):
        raise StorageError("new.key: cannot be written: No space left on device")

    monkeypatch.setattr(keys, "write_private", full)
    run = cli("keygen", "new.key", "--no-passphrase")
    assert (run.code, list(here.glob("new.key*"))) == (70, [])


def test_two_ways_to_protect_are_one_too_many(cli, here):
    assert cli("keygen", "new.key", "--no-passphrase", "--passphrase-file", "pass").code == 2
    assert keygen.EXAMPLES


# -- sign -------------------------------------------------------------------------------------------------------------


def test_second_signature_in_another_role(cli, here):
    run = cli("sign", "manifest", "--key", "ben.key", "--role", "approver", "--json")
    statement = (here / "manifest/statement.json").read_bytes()
    assert run.json["bundle"] == "manifest/approver-1.sigstore.json"
    assert run.json["statementSha256"] == hashlib.sha256(statement).hexdigest()
    assert (run.json["product"], run.json["serial"]) == ("net", 7)
    assert run.json["fingerprint"] == wm.load_public(here / "ben.key.pub").fingerprint


def test_encrypted_key_by_file_and_on_the_terminal(cli, here, monkeypatch):
    private(here / "pass", "right\n")
    cli("keygen", "enc.key", "--passphrase-file", "pass")
    assert cli("sign", "manifest", "--key", "enc.key", "--passphrase-file", "pass").code == 0
    assert cli("sign", "manifest", "--key", "enc.key").code == 2
    prompts = terminal(monkeypatch, "right", "wrong")
    assert cli("sign", "manifest", "--key", "enc.key").code == 0
    assert prompts == ["Passphrase for enc.key: "]
    run = cli("sign", "manifest", "--key", "enc.key")
    assert run.code == 13
    assert "enc.key: wrong passphrase" in run.err
    assert sorted(p.name for p in (here / "manifest").glob("signer-*")) == [
        f"signer-{n}.sigstore.json" for n in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("key", "code", "said"),
    [("absent.key", 13, "cannot be read"), ("ana.key.pub", 13, "expected mode 0600"), (".", 13, "cannot be read")],
)
def test_key_that_is_none(cli, here, key, code, said):
    run = cli("sign", "manifest", "--key", key)
    assert (run.code, run.out) == (code, "")
    assert said in run.err


def test_key_that_others_can_read(cli, here):
    (here / "ana.key").chmod(0o640)
    run = cli("sign", "manifest", "--key", "ana.key")
    assert run.code == 13
    assert "ana.key: expected mode 0600 (readable by its owner alone), found 0640" in run.err


def test_manifest_whose_files_do_not_belong_together_is_not_signed(cli, here):
    table = here / "manifest/tensors.S3.kernel.jsonl"
    table.write_bytes(table.read_bytes().replace(b'"parameter"', b'"buffer"', 1))
    run = cli("sign", "manifest", "--key", "ben.key", "--role", "approver")
    assert run.code == 13
    assert "tensors.S3.kernel.jsonl: is not what the statement names: SHA-256" in run.err
    assert not list((here / "manifest").glob("approver-*"))


def test_roles_are_a_closed_list(cli, here):
    assert cli("sign", "manifest", "--key", "ana.key", "--role", "boss").code == 2


# -- trust ------------------------------------------------------------------------------------------------------------


def trust(path: Path = Path("t.json")) -> wm.Trust:
    return wm.parse_trust(path.read_bytes(), str(path))


def test_from_nothing_to_a_revoked_key(cli, here):
    assert cli("trust", "init", "t.json").code == 0
    assert cli("trust", "init", "t.json").code == 2
    assert cli("trust", "add-key", "t.json", "--person", "Ana", "--key", "ana.key.pub", "--role", "signer").code == 0
    assert cli("trust", "add-key", "t.json", "--person", "Ana", "--key", "ana.key.pub", "--role", "signer").code == 2
    assert cli("trust", "add-product", "t.json", "--product", "net").code == 0
    fingerprint = wm.load_public(here / "ana.key.pub").fingerprint
    run = cli("trust", "revoke-key", "t.json", fingerprint)
    assert f"key         Ana: REVOKED, signer, ecdsa-p256-sha256\n            {fingerprint}\n" in run.out
    assert trust().keys[0].revoked
    shown = cli("trust", "show", "t.json", "--json").json
    assert shown["keys"][0]["revoked"] is True
    assert shown["products"][0]["requiredRoles"] == [{"role": "signer", "threshold": 1}]


def test_every_option_of_a_product(cli, here):
    root, other = "a" * 64, "b" * 64
    cli("trust", "init", "t.json")
    run = cli("trust", "add-product", "t.json", "--product", "p", "--require", "approver=1",
              "--require", "signer=2", "--accept-root", root, "--accept-root", other, "--minimum-serial", 4,
              "--max-excluded-bytes", 9, "--json")  # fmt: skip
    assert run.json["products"] == [
        {"product": "p", "requiredRoles": [{"role": "approver", "threshold": 1}, {"role": "signer", "threshold": 2}],
         "acceptedRoots": [root, other], "minimumSerial": 4, "revokedRoots": [], "maxExcludedBytes": "9"}
    ]  # fmt: skip
    assert cli("trust", "revoke-root", "t.json", "--product", "p", root).code == 0
    assert trust().products[0].revoked_roots == (root,)


def test_what_is_not_given_stays_as_it_was(cli, here):
    cli("trust", "init", "t.json")
    full = ("--require", "signer=2", "--accept-root", "a" * 64, "--minimum-serial", 4, "--max-excluded-bytes", 9)
    cli("trust", "add-product", "t.json", "--product", "p", *full)
    before = trust().products[0]
    cli("trust", "revoke-root", "t.json", "--product", "p", "c" * 64)
    assert cli("trust", "add-product", "t.json", "--product", "p", "--minimum-serial", 5).code == 0
    after = trust().products[0]
    assert after.minimum_serial == 5
    assert after.revoked_roots == ("c" * 64,)
    assert (after.required_roles, after.accepted_roots, after.max_excluded_bytes) == (
        before.required_roles, before.accepted_roots, before.max_excluded_bytes,
    )  # fmt: skip


@pytest.mark.requirement("REQ-TRU-08")
def test_serial_never_goes_down(cli, here):
    cli("trust", "init", "t.json")
    cli("trust", "add-product", "t.json", "--product", "p", "--minimum-serial", 5)
    before = Path("t.json").read_bytes()
    run = cli("trust", "add-product", "t.json", "--product", "p", "--minimum-serial", 4)
    assert (run.code, Path("t.json").read_bytes()) == (2, before)
    assert "p: expected a minimum serial of at least 5, as before, found 4" in run.err


@pytest.mark.parametrize(
    "words",
    [("add-key", "--person", "X", "--key", "ana.key", "--role", "signer"),
     ("add-key", "--person", "", "--key", "ana.key.pub", "--role", "signer"),
     ("add-key", "--person", "X", "--key", "ana.key.pub", "--role", "boss"),
     ("add-key", "--person", "X", "--key", "ana.key.pub"),
     ("add-product", "--product", "p", "--require", "signer"),
     ("add-product", "--product", "p", "--require", "signer=0"),
     ("add-product", "--product", "p", "--require", "signer=1", "--require", "signer=2"),
     ("add-product", "--product", "p", "--accept-root", "abc"),
     ("revoke-key", "0" * 64), ("revoke-root", "--product", "p", "a" * 64)],
)  # fmt: skip
def test_changes_that_are_refused_leave_the_file_as_it_was(cli, here, words):
    cli("trust", "init", "t.json")
    before = Path("t.json").read_bytes()
    run = cli("trust", words[0], "t.json", *words[1:])
    assert run.code in (2, 13, 20)
    assert (run.out, Path("t.json").read_bytes()) == ("", before)


def test_file_that_is_no_trust_file(cli, here):
    Path("t.json").write_text('{"scheme":"weighmaster-trust-plain-v1","keys":[],"products":[],"extra":1}')
    run = cli("trust", "show", "t.json")
    assert run.code == 20
    assert "t.json: extra" in run.err
    assert cli("trust", "show", "absent.json").code == 2
    assert cli("trust").code == 2
