# SPDX-License-Identifier: Apache-2.0
"""``weighmaster trust``: init, changes, signatures, rotation, and what is refused."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

import weighmaster as wm
from weighmaster.seal.trust_chain import Chain, parse_chain

ANA = ("--person", "Ana", "--key", "ana.key.pub", "--role", "signer")
INIT = ("trust", "init", "t.json", "--root", "Rosa=rosa.key.pub", "--expires", "2100-01-01")


def chain(path: Path = Path("t.json")) -> Chain:
    return parse_chain(path.read_bytes(), str(path))


def trust() -> wm.Trust:
    return chain().current.trust


def test_from_nothing_to_a_revoked_key(cli, here):
    assert cli(*INIT).code == 0
    assert cli(*INIT).code == 2
    assert cli("trust", "add-key", "t.json", "--person", "Ana", "--key", "ana.key.pub", "--role", "signer").code == 0
    assert cli("trust", "add-key", "t.json", "--person", "Ana", "--key", "ana.key.pub", "--role", "signer").code == 2
    assert cli("trust", "add-product", "t.json", "--product", "net").code == 0
    fingerprint = wm.load_public(here / "ana.key.pub").fingerprint
    run = cli("trust", "revoke-key", "t.json", fingerprint)
    assert f"key         Ana: REVOKED, signer, ecdsa-p256-sha256\n            {fingerprint}\n" in run.out
    assert "NOT IN FORCE: signatures are missing (weighmaster trust sign)" in run.out
    assert trust().keys[0].revoked
    shown = cli("trust", "show", "t.json", "--json").json
    assert shown["keys"][0]["revoked"] is True
    assert shown["products"][0]["requiredRoles"] == [{"role": "signer", "threshold": 1}]


def test_every_option_of_a_product(cli, here):
    root, other = "a" * 64, "b" * 64
    cli(*INIT)
    run = cli("trust", "add-product", "t.json", "--product", "p", "--require", "approver=1",
              "--require", "signer=2", "--accept-root", root, "--accept-root", other, "--minimum-serial", 4,
              "--max-excluded-bytes", 9, "--json")  # fmt: skip
    assert run.json["products"] == [
        {"product": "p", "requiredRoles": [{"role": "approver", "threshold": 1}, {"role": "signer", "threshold": 2}],
         "acceptedRoots": [root, other], "minimumSerial": 4, "revokedRoots": [], "maxExcludedBytes": "9",
         "waiverRoles": []}
    ]  # fmt: skip
    assert cli("trust", "revoke-root", "t.json", "--product", "p", root).code == 0
    assert trust().products[0].revoked_roots == (root,)


def test_what_is_not_given_stays_as_it_was(cli, here):
    cli(*INIT)
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
    cli(*INIT)
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
    cli(*INIT)
    before = Path("t.json").read_bytes()
    run = cli("trust", words[0], "t.json", *words[1:])
    assert run.code in (2, 13, 20)
    assert (run.out, Path("t.json").read_bytes()) == ("", before)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("add-key", "--person", "", "--key", "ana.key.pub", "--role", "signer"), "keys[0].person: expected"),
     (("rotate", "--threshold", "2"), "roots.threshold: expected from 1 to the number of persons, 1, found 2"),
     (("add-product", "--product", "p", "--accept-root", "abc"), "acceptedRoots[0]: expected")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_no_fault_of_the_file(cli, here, words, said):
    cli(*INIT)
    run = cli("trust", words[0], "t.json", *words[1:])
    assert (run.code, run.out) == (2, "")
    assert said in run.err
    assert "nothing was written" in run.err
    assert "Fetch the artefact again" not in run.err


def test_file_that_is_no_trust_file(cli, here):
    Path("t.json").write_text('{"scheme":"weighmaster-trust-v1","envelopes":[],"extra":1}')
    run = cli("trust", "show", "t.json")
    assert run.code == 20
    assert "t.json: extra" in run.err
    assert cli("trust", "show", "absent.json").code == 2
    assert cli("trust").code == 2


# -- keepers ----------------------------------------------------------------------------------------------------------


def test_a_change_is_a_new_version_that_its_keeper_signs(cli, here, pin):
    cli(*INIT)
    run = cli("trust", "sign", "t.json", "--key", "rosa.key", "--json")
    assert (run.json["version"], run.json["missing"], run.json["rootsFingerprint"]) == (1, [], pin)
    assert cli("trust", "show", "t.json", "--roots", "PIN", "--json").json["state"] == "holds from the pinned roots"
    changed = cli("trust", "add-key", "t.json", "-o", "n.json", *ANA, "--json")
    assert (changed.json["version"], changed.json["file"]) == (2, "n.json")
    assert "too few keepers of the roots signed; expected at least 1, found 0 (nobody)" in changed.json["missing"][0]
    halt = cli("trust", "show", "n.json", "--roots", "PIN")
    assert (halt.code, halt.out) == (13, "")
    assert "too few keepers of the roots signed" in halt.err
    assert cli("trust", "sign", "n.json", "--key", "rosa.key").code == 0
    assert cli("trust", "show", "n.json", "--roots", "PIN").code == 0
    again = cli("trust", "sign", "n.json", "--key", "rosa.key")
    assert (again.code, "is signed by" in again.err) == (2, True)
    stranger = cli("trust", "sign", "n.json", "--key", "ana.key")
    assert (stranger.code, "expected a root key of version 2" in stranger.err) == (2, True)


@pytest.mark.requirement("REQ-TRU-17")
def test_a_signed_version_is_not_changed_in_place(cli, here):
    cli(*INIT)
    cli("trust", "sign", "t.json", "--key", "rosa.key")
    before = Path("t.json").read_bytes()
    run = cli("trust", "add-key", "t.json", *ANA)
    assert (run.code, run.out, Path("t.json").read_bytes()) == (2, "", before)
    assert "t.json: version 1 is signed and not changed in place" in run.err
    assert "give -o NEW, have NEW signed, then put it in place of t.json" in run.err
    assert cli("trust", "add-key", "t.json", "-o", "n.json", *ANA).code == 0
    assert cli("trust", "extend", "n.json", "--expires", "2101-01-01").code == 0  # nobody signed that one yet
    assert cli("trust", "show", "t.json", "--roots", "PIN").code == 0
    assert Path("t.json").read_bytes() == before
    assert chain(Path("n.json")).current.trust.version == 2


@pytest.mark.requirement("REQ-TRU-17")
@pytest.mark.parametrize("out", ["t.json", "n.json"])
def test_a_changed_version_goes_over_no_file(cli, here, out):
    cli(*INIT)
    Path("n.json").write_bytes(b"of somebody")
    before = Path(out).read_bytes()
    run = cli("trust", "add-key", "t.json", "-o", out, *ANA)
    assert (run.code, Path(out).read_bytes()) == (2, before)
    assert f"{out}: exists already and is not overwritten" in run.err


def test_what_changes_nothing_is_refused(cli, here):
    cli(*INIT)
    run = cli("trust", "extend", "t.json", "-o", "n.json", "--expires", "2100-01-01")
    assert (run.code, Path("n.json").exists()) == (2, False)
    assert "t.json: version 1 says so already; nothing was written" in run.err


def test_the_printed_text_says_what_to_pin_and_what_is_not_verified(cli, here, pin):
    cli(*INIT)
    out = cli("trust", "sign", "t.json", "--key", "rosa.key").out
    assert f"roots       {pin} (pin this)\n            at least 1 of these persons sign\n" in out
    assert "state       signed by its keepers; not verified from a pin (--roots)\n" in out
    other = cli("trust", "show", "t.json", "--roots", "0" * 64)
    assert (other.code, "does not begin at the roots that are pinned here" in other.err) == (13, True)


def test_rotation_of_keepers(cli, here, pin):
    cli(*INIT)
    cli("trust", "sign", "t.json", "--key", "rosa.key")
    fingerprint = wm.load_public(here / "rosa.key.pub").fingerprint
    words = ("--add-root", "Ben=ben.key.pub", "--remove-root", fingerprint)
    run = cli("trust", "rotate", "t.json", "-o", "n.json", *words, "--json")
    assert run.json["rotations"] == [pin]
    assert [k["person"] for k in run.json["roots"]["keys"]] == ["Ben"]
    half = cli("trust", "sign", "n.json", "--key", "ben.key", "--json").json
    assert "too few keepers of the roots signed; expected at least 1, found 0 (nobody)" in half["missing"][0]
    assert cli("trust", "sign", "n.json", "--key", "rosa.key", "--json").json["missing"] == []
    for known in (pin, run.json["rootsFingerprint"]):
        assert cli("trust", "show", "n.json", "--roots", known).code == 0
    cli("trust", "extend", "n.json", "-o", "t3.json", "--expires", "2101-01-01T12:00:00Z")
    former = cli("trust", "sign", "t3.json", "--key", "rosa.key")
    assert (former.code, "expected a root key of version 3" in former.err) == (2, True)
    assert "too few keepers of the roots signed" in cli("trust", "show", "t3.json", "--roots", "PIN").err
    assert cli("trust", "sign", "t3.json", "--key", "ben.key").code == 0
    assert cli("trust", "show", "t3.json", "--roots", "PIN").code == 0
    assert [e.trust.version for e in chain(Path("t3.json")).envelopes] == [1, 2, 3]


def test_an_expired_file_says_so(cli, here):
    cli("trust", "init", "t.json", "--root", "Rosa=rosa.key.pub", "--expires", "2020-01-01")
    run = cli("trust", "sign", "t.json", "--key", "rosa.key")
    assert "state       NOT IN FORCE: it has expired\n" in run.out
    halt = cli("trust", "show", "t.json", "--roots", "PIN")
    assert (halt.code, "has expired; expected a moment before 2020-01-01T00:00:00Z" in halt.err) == (13, True)


def test_two_of_three(cli, here):
    names = ("--root", "Rosa=rosa.key.pub", "--root", "Ana=ana.key.pub", "--root", "Ben=ben.key.pub")
    cli("trust", "init", "t.json", *names, "--threshold", 2, "--expires", "2100-01-01")
    one = cli("trust", "sign", "t.json", "--key", "ana.key", "--json").json
    assert "expected at least 2, found 1 (Ana)" in one["missing"][0]
    assert cli("trust", "sign", "t.json", "--key", "ben.key", "--json").json["missing"] == []


def test_keys_with_an_end_and_waivers(cli, here):
    cli(*INIT)
    words = ("--person", "Ana", "--key", "ana.key.pub", "--role", "signer", "--not-after", "2027-06-30")
    run = cli("trust", "add-key", "t.json", *words)
    assert "not after 2027-06-30T00:00:00Z" in run.out
    assert trust().keys[0].not_after == datetime(2027, 6, 30, tzinfo=UTC)
    fingerprint = wm.load_public(here / "ana.key.pub").fingerprint
    assert cli("trust", "end-key", "t.json", fingerprint, "--not-after", "2027-01-31T12:00:00Z").code == 0
    assert trust().keys[0].not_after == datetime(2027, 1, 31, 12, tzinfo=UTC)
    assert cli("trust", "end-key", "t.json", fingerprint, "--not-after", "2027-02-01").code == 2
    cli("trust", "add-product", "t.json", "--product", "p", "--require-waiver", "approver=2")
    assert [(r.role, r.threshold) for r in trust().products[0].waiver_roles] == [("approver", 2)]


@pytest.mark.parametrize(
    "words",
    [
        ("init", "new.json", "--expires", "2100-01-01"),
        ("init", "new.json", "--root", "Rosa=rosa.key.pub"),
        ("init", "new.json", "--root", "rosa.key.pub", "--expires", "2100-01-01"),
        ("init", "new.json", "--root", "Rosa=rosa.key", "--expires", "2100-01-01"),
        ("init", "new.json", "--root", "Rosa=rosa.key.pub", "--expires", "tomorrow"),
        ("init", "new.json", "--root", "Rosa=rosa.key.pub", "--expires", "2026-06-30T23:59:60Z"),
        ("init", "new.json", "--root", "Rosa=rosa.key.pub", "--expires", "2100-01-01", "--threshold", "2"),
        ("init", "new.json", "--root", "Rosa=rosa.key.pub", "--expires", "2100-01-01", "--threshold", "0"),
    ],
)
def test_files_that_are_not_begun(cli, here, words):
    run = cli("trust", *words)
    assert run.code in (2, 13, 20)
    assert not list(here.glob("*new.json*"))


@pytest.mark.parametrize(
    "words",
    [("rotate", "--remove-root", "0" * 64), ("rotate", "--remove-root", "xyz"), ("rotate", "--threshold", "2"),
     ("extend", "--expires", "soon"), ("sign", "--key", "absent.key"), ("show", "--roots", "xyz"),
     ("add-authority", "--name", "ca", "--certificate", "ana.key.pub"),
     ("add-identity", "--person", "C", "--authority", "ca", "--subject", "email:c@x", "--role", "signer"),
     ("revoke-identity", "--authority", "ca", "email:c@x"), ("revoke-certificate", "--authority", "ca", "4d")],
)  # fmt: skip
def test_more_changes_that_are_refused(cli, here, words):
    cli(*INIT)
    before = Path("t.json").read_bytes()
    run = cli("trust", words[0], "t.json", *words[1:])
    assert run.code in (2, 13, 20)
    assert (run.out, Path("t.json").read_bytes()) == ("", before)


def test_an_authority_its_names_and_its_timestamps(cli, here):
    for name in ("ca", "tsa"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
             f"/CN=Test {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "9"],
            check=True, capture_output=True,
        )  # fmt: skip
    cli(*INIT)
    assert cli("trust", "add-authority", "t.json", "--name", "clinic", "--certificate", "ca.pem").code == 0
    words = ("--person", "Carol", "--authority", "clinic", "--subject", "email:carol@example.org", "--role", "signer")
    assert cli("trust", "add-identity", "t.json", *words).code == 0
    stamps = ("--name", "stamps", "--certificate", "tsa.pem", "--intermediate", "ca.pem")
    assert cli("trust", "add-timestamp-authority", "t.json", *stamps).code == 0
    out = cli("trust", "revoke-certificate", "t.json", "--authority", "clinic", "4d").out
    assert "authority   clinic: CN=Test ca\n            revoked certificates: 4d\n" in out
    out = cli("trust", "revoke-identity", "t.json", "--authority", "clinic", "email:carol@example.org").out
    assert "identity    Carol: REVOKED, signer, email:carol@example.org of clinic\n" in out
    shown = cli("trust", "show", "t.json", "--json").json
    assert shown["authorities"][0]["revokedSerials"] == ["4d"]
    assert shown["timestampAuthorities"] == [{"name": "stamps"}]
