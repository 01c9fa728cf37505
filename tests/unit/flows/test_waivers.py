# SPDX-License-Identifier: Apache-2.0
"""Environment policy and waivers at the gate: what passes is printed, what needs consent halts and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from weighmaster.core.environment import Environment, Fact
from weighmaster.core.policy import Policy, Rule
from weighmaster.core.waiver import Waiver
from weighmaster.errors import EnvironmentFault, MalformedArtefact, NotAdmitted, NotWeighed, UsageError
from weighmaster.flows.waive import countersign, waive
from weighmaster.flows.waivers import WaiverSubject, check_waivers, read_waivers
from weighmaster.flows.weigh import weigh
from weighmaster.seal.keys import PrivateKey, generate
from weighmaster.seal.trust import RoleThreshold, TrustedKey

NOW, EXPIRES = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 31, tzinfo=UTC)
APPROVER = (RoleThreshold(role="approver", threshold=1),)
CONTROLLED = Policy(
    rules=(
        Rule(fact="torch.deterministic.*", compare="equal", on_diff="inform", on_missing="halt", reference="M-1"),
        Rule(fact="env.OMP_NUM_THREADS", compare="equal", on_diff="change-control", on_missing="halt"),
        Rule(fact="env.OMP_*", compare="known", on_diff="halt", on_missing="change-control"),
    )
)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a way to let the gate find another value of OMP_NUM_THREADS."""
    return lambda value: monkeypatch.setenv("OMP_NUM_THREADS", value)


@pytest.fixture
def deterministic() -> Any:
    yield lambda: torch.use_deterministic_algorithms(True)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def ben() -> PrivateKey:
    return generate("ed25519")


@pytest.fixture
def done(head: Any, sealed: Any, ben: PrivateKey, threads: Any) -> Any:
    """A manifest signed by Ana under `CONTROLLED`, of a product for which an approver waives; Ben is one."""
    threads("2")
    made = sealed(head(), policy=CONTROLLED, rule={"waiver_roles": APPROVER})
    return trusting(made, TrustedKey(person="Ben", key=ben.public, roles=("approver",)))


def trusting(done: Any, key: TrustedKey) -> Any:
    """Return the same with one more trusted key."""
    return replace(done, trust=replace(done.trust, keys=(*done.trust.keys, key)))


def ruled(done: Any, roles: tuple[RoleThreshold, ...]) -> Any:
    """Return the same where these roles must sign a waiver."""
    rules = tuple(replace(p, waiver_roles=roles) for p in done.trust.products)
    return replace(done, trust=replace(done.trust, products=rules))


def waived(done: Any, key: PrivateKey, path: Path, **changes: Any) -> Path:
    """Write a waiver for OMP_NUM_THREADS 2 to 3."""
    facts = {f.name: f for f in done.manifest.environment.facts}
    found = Environment.of({**facts, "env.OMP_NUM_THREADS": Fact.of("env.OMP_NUM_THREADS", "3")}.values())
    settings = {"facts": ("env.OMP_NUM_THREADS",), "reason": "CR 118", "expires": EXPIRES, **changes}
    waive(done.manifest, found, key, path, **settings)
    return path


def refusal(done: Any, model: Any, *waivers: Path, now: datetime = NOW) -> EnvironmentFault:
    """Return the one fault of a gate."""
    halt = done.refuse(model, waivers=waivers, wall=lambda: now)
    assert halt.exit_code == 12
    (fault,) = halt.faults
    assert isinstance(fault, EnvironmentFault)
    return fault


# -- policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ENV-09")
def test_what_the_policy_lets_pass_is_admitted_and_printed(done: Any, head: Any, deterministic: Any) -> None:
    assert done.admit(head()).verdict.informed == ()
    deterministic()
    admission = done.admit(head())
    decided = "rule torch.deterministic.* (equal, M-1): inform"
    text = f"torch.deterministic.enabled: differs ({decided}); expected 'False', found 'True'"
    assert admission.verdict.informed == (text,)


def test_each_cycle_is_judged_under_the_same_policy(done: Any, head: Any, deterministic: Any, threads: Any) -> None:
    admission = done.admit(head())
    assert admission.recheck().informed == ()
    deterministic()
    checked = admission.recheck()
    assert checked.cycle_complete
    assert [text.split(":")[0] for text in checked.informed] == ["torch.deterministic.enabled"]
    threads("3")
    with pytest.raises(NotAdmitted) as caught:
        admission.recheck()
    assert "env.OMP_NUM_THREADS: differs" in str(caught.value)
    assert admission.remaining == 0


def test_a_rule_does_not_reach_further_than_it_says(done: Any, head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMP_AFFINITY", "none")
    halt = done.refuse(head())
    found = {f.subject: f.found for f in halt.faults}
    assert (halt.exit_code, found.pop("env.KMP_AFFINITY")) == (12, "'none'")
    assert found.keys() <= {"env.start.KMP_AFFINITY"}


def test_nothing_is_weighed_that_its_own_policy_would_not_admit(head: Any, threads: Any) -> None:
    threads("2")
    rules = (Rule(fact="env.OMP_NUM_THREADS", compare="in", values=("3",), on_diff="halt", on_missing="halt"),)
    with pytest.raises(NotWeighed) as caught:
        weigh(head(), product="p", version="1", serial=1, policy=Policy(rules=rules))
    (fault,) = caught.value.faults
    assert str(fault).startswith("env.OMP_NUM_THREADS: is not among the values of the rule")
    lenient = Policy(rules=(replace(rules[0], on_diff="inform"),))
    assert weigh(head(), product="p", version="1", serial=1, policy=lenient).policy == lenient


def test_an_unreadable_fact_is_weighed_only_where_a_rule_takes_it(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from weighmaster.flows import weigh as weigh_module

    real = weigh_module.collect
    monkeypatch.setattr(weigh_module, "collect", lambda facts: real((*facts, Fact.unreadable("zz.dark"))))
    with pytest.raises(NotWeighed) as caught:
        weigh(head(), product="p", version="1", serial=1)
    assert [(f.step, f.subject, f.found) for f in caught.value.faults] == [(4, "zz.dark", "unreadable")]
    taken = Policy(rules=(Rule(fact="zz.dark", compare="equal", on_diff="halt", on_missing="inform"),))
    assert weigh(head(), product="p", version="1", serial=1, policy=taken).policy == taken


# -- change control and waivers ---------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-ENV-08")
def test_without_a_waiver(done: Any, head: Any, threads: Any) -> None:
    threads("3")
    fault = refusal(done, head())
    assert str(fault) == (
        "env.OMP_NUM_THREADS: differs (rule env.OMP_NUM_THREADS (equal): change-control); served only under a waiver "
        "and known answers: no waiver was given; this version has no known answers, so it halts; "
        "expected '2', found '3'"
    )


@pytest.mark.requirement("REQ-ENV-08")
def test_a_waiver_that_holds_is_named_and_it_halts_all_the_same(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    path = waived(done, ben, tmp_path / "ben.waiver.sigstore.json")
    threads("3")
    fault = refusal(done, head(), path)
    assert f"waiver {path} holds (signed by Ben, until 2027-01-31T00:00:00Z)" in fault.detail
    assert "this version has no known answers, so it halts" in fault.detail


@pytest.mark.requirement("REQ-WAI-03")
def test_a_waiver_covers_exactly_its_values(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    path = waived(done, ben, tmp_path / "w")
    threads("4")
    assert "no waiver given covers this fact with these values" in refusal(done, head(), path).detail


def test_a_waiver_is_not_needed_where_nothing_differs(done: Any, head: Any, ben: PrivateKey, tmp_path: Path) -> None:
    path = waived(done, ben, tmp_path / "w")
    assert done.admit(head(), waivers=(path,), wall=lambda: NOW).verdict.informed == ()


@pytest.mark.requirement("REQ-WAI-03")
@pytest.mark.parametrize(
    ("now", "held"),
    [
        (datetime(2027, 1, 30, 23, 59, 59, tzinfo=UTC), True),
        (EXPIRES, False),
        (datetime(2028, 1, 1, tzinfo=UTC), False),
    ],
)
def test_it_expires(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path, now: datetime, held: bool
) -> None:
    path = waived(done, ben, tmp_path / "w")
    threads("3")
    detail = refusal(done, head(), path, now=now).detail
    assert ("holds (signed by Ben" in detail) == held
    assert ("does not hold: it expired at 2027-01-31T00:00:00Z" in detail) != held


@pytest.mark.requirement("REQ-WAI-02")
def test_who_signed_the_manifest_does_not_waive(
    done: Any, head: Any, threads: Any, signer: PrivateKey, ben: PrivateKey, tmp_path: Path
) -> None:
    both = [replace(k, roles=("approver", "signer")) for k in done.trust.keys]
    both_roles = replace(done, trust=replace(done.trust, keys=tuple(both)))
    path = waived(done, signer, tmp_path / "w")
    threads("3")
    assert "Ana signed the manifest too" in refusal(both_roles, head(), path).detail
    other = tmp_path / "w2"
    countersign(done.manifest, path, ben, other)
    detail = refusal(both_roles, head(), path, other).detail
    assert f"waiver {path} and {other} does not hold: Ana signed the manifest too" in detail


@pytest.mark.requirement("REQ-WAI-01")
def test_two_persons_where_two_are_asked_for(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    eva, two = generate("ecdsa-p256-sha256"), (RoleThreshold(role="approver", threshold=2),)
    asking = ruled(trusting(done, TrustedKey(person="Eva", key=eva.public, roles=("approver",))), two)
    first, second = waived(done, ben, tmp_path / "1"), tmp_path / "2"
    countersign(done.manifest, first, eva, second)
    threads("3")
    assert "too few persons signed; expected at least 2, found 1 (Ben)" in refusal(asking, head(), first).detail
    assert "too few persons" in refusal(asking, head(), first, first).detail
    assert "holds (signed by Ben, Eva, until" in refusal(asking, head(), first, second).detail


@pytest.mark.requirement("REQ-WAI-04")
def test_no_waiver_is_accepted_where_nobody_is_said_to_waive(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    path = waived(done, ben, tmp_path / "w")
    threads("3")
    detail = refusal(ruled(done, ()), head(), path).detail
    assert "accepts no waiver for reader" in detail


@pytest.mark.requirement("REQ-WAI-01")
def test_a_key_that_is_not_trusted_or_has_not_the_role(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    mallory = generate("ed25519")
    threads("3")
    path = waived(done, mallory, tmp_path / "m")
    assert "signed with a key that is not trusted" in refusal(done, head(), path).detail
    keys = tuple(replace(k, roles=("signer",)) if k.person == "Ben" else k for k in done.trust.keys)
    path = waived(done, ben, tmp_path / "b")
    other = replace(done, trust=replace(done.trust, keys=keys))
    assert "role approver: too few persons signed" in refusal(other, head(), path).detail


@pytest.mark.requirement("REQ-WAI-02")
def test_the_key_that_signed_the_manifest_does_not_waive_under_another_name(
    done: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    """An authority can certify one key for two persons: Ben's key signed the manifest there, as Carol's."""
    path, environment = waived(done, ben, tmp_path / "w"), done.manifest.statement.environment
    subject = WaiverSubject(
        product="reader",
        root=done.manifest.root,
        policy_sha256=environment.policy_sha256,
        persons=frozenset({"Carol"}),
        keys=frozenset({ben.public.fingerprint}),
        trust=done.trust,
    )
    (waiver,) = check_waivers(read_waivers([path]), subject, NOW)
    assert waiver.problems == ("Ben signed with a key that signed the manifest, for another person",)
    (waiver,) = check_waivers(read_waivers([path]), replace(subject, keys=frozenset({"0" * 64})), NOW)
    assert waiver.problems == ()


@pytest.mark.requirement("REQ-WAI-03")
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("product", "writer", "it is for another product: expected reader, found writer"),
        ("root", "ab" * 32, "it is for another root: expected"),
        ("policy_sha256", "cd" * 32, "it is for another policy: expected"),
    ],
)
def test_a_genuine_waiver_of_something_else(
    done: Any, head: Any, threads: Any, ben: PrivateKey, tmp_path: Path, field: str, value: str, said: str
) -> None:
    from weighmaster.core.waiver import parse_waiver
    from weighmaster.seal.bundle import make_bundle, parse_bundle

    path = waived(done, ben, tmp_path / "w")
    waiver: Waiver = parse_waiver(parse_bundle(path.read_bytes(), "w").payload, "w")
    path.write_bytes(make_bundle(replace(waiver, **{field: value}).to_bytes(), ben))
    threads("3")
    assert said in refusal(done, head(), path).detail


def test_the_seal_of_the_manifest_is_no_waiver(done: Any, head: Any, ben: PrivateKey, threads: Any) -> None:
    """Signed by the right persons for something else: refused, not read as consent."""
    from weighmaster.flows.approve import sign

    path = sign(done.directory, ben, role="approver")
    with pytest.raises(MalformedArtefact, match=r"predicateType: expected 'https://weighmaster\.dev/waiver/v1'"):
        done.gate(waivers=(path,)).admit(head())


def test_a_missing_file_is_said_at_once(done: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        done.gate(waivers=(tmp_path / "none",))


# -- making -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"facts": ("env.OMP_SCHEDULE",)}, "env.OMP_SCHEDULE: is no difference"),
        ({"facts": ()}, "no fact is waived"),
        ({"reason": ""}, "product and reason must not be empty"),
    ],
)
def test_what_cannot_be_waived(done: Any, ben: PrivateKey, tmp_path: Path, changes: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        waived(done, ben, tmp_path / "w", **changes)
    assert not (tmp_path / "w").exists()


def test_a_halt_cannot_be_waived(done: Any, ben: PrivateKey, tmp_path: Path) -> None:
    facts = {f.name: f for f in done.manifest.environment.facts}
    found = Environment.of({**facts, "cpu.isa": Fact.of("cpu.isa", "none")}.values())
    with pytest.raises(UsageError, match="expected a rule with change-control, found default: halt"):
        waive(done.manifest, found, ben, tmp_path / "w", facts=("cpu.isa",), reason="r", expires=EXPIRES)


def test_a_countersignature_is_over_the_same_bytes_and_the_same_manifest(
    done: Any, head: Any, ben: PrivateKey, tmp_path: Path
) -> None:
    path = waived(done, ben, tmp_path / "w")
    other = weigh(head(), product="writer", version="1", serial=1)
    with pytest.raises(UsageError, match="is not for this manifest"):
        countersign(other, path, ben, tmp_path / "w2")
    with pytest.raises(UsageError, match="exists already"):
        countersign(done.manifest, path, ben, path)
