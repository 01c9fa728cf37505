# SPDX-License-Identifier: Apache-2.0
"""Write the test vectors of spec/environment.md: ``python vectors/environment/generate.py [DIRECTORY]``.

A case is a validated environment, the one found, and the policy of the manifest. Every run writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from weighmaster.core.canonical import dumps

Json = dict[str, Any]
Facts = dict[str, Json]
Files = dict[str, bytes]
Case = tuple[Files, Json]

VALIDATED: Final = "validated.json"
FOUND: Final = "found.json"
POLICY: Final = "policy.json"


def value(text: str, scope: str = "class") -> Json:
    """Return a fact that was read."""
    return {"scope": scope, "status": "value", "value": text}


def no_value(status: str, scope: str = "class") -> Json:
    """Return a fact that is absent or unreadable."""
    return {"scope": scope, "status": status, "value": None}


def sha256(text: str) -> str:
    """Return a digest that stands for a library's file."""
    return hashlib.sha256(text.encode()).hexdigest()


FACTS: Final[Facts] = {
    "cpu.isa": value("avx2 fma sse2"),
    "cpu.microcode": value("0xd0003a5", "instance"),
    "env.OMP_NUM_THREADS": value("2"),
    "env.OMP_SCHEDULE": no_value("absent"),
    "gpu.cuda_driver": value("13.0"),
    "gpu.driver": value("580.65.06"),
    "gpu.uuids": value("GPU-0", "instance"),
    "gpu.vbios": value("96.00.89.00.01", "instance"),
    "lib.libm.so.6": value(sha256("libm")),
    "torch.build.version": value("2.13.0+cpu"),
    "torch.flush_denormal": value("False"),
}


def rule(
    fact: str, compare: str, on_diff: str, on_missing: str, values: tuple[str, ...] = (), reference: str = ""
) -> Json:
    """Return a rule."""
    return {
        "compare": compare,
        "fact": fact,
        "onDiff": on_diff,
        "onMissing": on_missing,
        "reference": reference,
        "values": list(values),
    }


RULES: Final = [
    rule("env.OMP_NUM_THREADS", "equal", "halt", "halt", reference="MP-3"),
    rule("env.OMP_*", "known", "halt", "inform"),
    rule("gpu.cuda_driver", "major", "halt", "halt"),
    rule("gpu.driver", "ge", "change-control", "halt", reference="MP-4"),
    rule("gpu.vbios", "in", "inform", "inform", ("96.00.89.00.01", "96.00.9F.00.01")),
    rule("cpu.microcode", "ge", "inform", "halt"),
    rule("torch.flush_denormal", "equal", "inform", "halt", reference="measured"),
]


def document(facts: Facts, **more: Any) -> bytes:
    """Return an environment document."""
    listed = [{"name": name, **facts[name]} for name in sorted(facts, key=str.encode)]
    return dumps({"facts": listed, "scheme": "environment-v1", **more})


def policy(rules: list[Json], **more: Any) -> bytes:
    """Return a policy."""
    return dumps({"default": "halt", "rules": rules, "scheme": "environment-policy-v1", **more})


def changed(**changes: Json | None) -> Facts:
    """Return the facts with some replaced, added or, where None, left out; ``__`` stands for a dot in a name."""
    facts = {**FACTS, **{name.replace("__", "."): fact for name, fact in changes.items()}}
    return {name: fact for name, fact in facts.items() if fact is not None}


def files(found: bytes, rules: bytes | None = None, validated: bytes | None = None) -> Files:
    """Return the three documents of a case."""
    return {VALIDATED: validated or document(FACTS), FOUND: found, POLICY: policy(RULES) if rules is None else rules}


def digest(data: bytes, scope: str) -> str:
    """Return the digest of the facts of one scope, of a document."""
    every = json.loads(data)
    return hashlib.sha256(dumps({**every, "facts": [f for f in every["facts"] if f["scope"] == scope]})).hexdigest()


def good(made: Files, *differences: tuple[str, str, str | None]) -> Case:
    """Return a case that does not halt: each difference as fact, level and the rule that decided."""
    listed = [dict(zip(("fact", "level", "rule"), d, strict=True)) for d in differences]
    found = made[FOUND]
    return made, {
        "error": None,
        "classDigest": digest(found, "class"),
        "instanceDigest": digest(found, "instance"),
        "policySha256": hashlib.sha256(made[POLICY]).hexdigest(),
        "differences": listed,
    }


def bad(error: str, contains: list[str], made: Files) -> Case:
    """Return a case that must be refused, with one fault."""
    return made, {"contains": contains, "error": error}


def positive() -> dict[str, Case]:
    """Return the cases that do not halt."""
    plain = policy([])
    inform = ("gpu.vbios", "inform", "gpu.vbios")
    odd = document({**FACTS, "lib.\uffee": value("\u00e9\u2028"), "lib.\U0001f600": value("\x01")})
    several = changed(
        torch__flush_denormal=value("True"),
        gpu__vbios=value("96.00.00.00.00", "instance"),
        cpu__microcode=value("0xd000363", "instance"),
    )
    return {
        "same": good(files(document(FACTS))),
        "same_without_rules": good(files(document(FACTS), plain)),
        "other_machine": good(files(document(changed(gpu__uuids=value("GPU-7", "instance"))), plain)),
        "minor_driver": good(files(document(changed(gpu__cuda_driver=value("13.1"))))),
        "newer_driver": good(files(document(changed(gpu__driver=value("580.82"))))),
        "newer_microcode": good(files(document(changed(cpu__microcode=value("0xd0003b9", "instance"))))),
        "listed_vbios": good(files(document(changed(gpu__vbios=value("96.00.9F.00.01", "instance"))))),
        "unlisted_vbios": good(files(document(changed(gpu__vbios=value("96.00.A0.00.01", "instance")))), inform),
        "vbios_unreadable": good(files(document(changed(gpu__vbios=no_value("unreadable", "instance")))), inform),
        "known_variable": good(files(document(changed(env__OMP_SCHEDULE=value("static"))))),
        "variable_too_many": good(
            files(document(changed(env__OMP_DYNAMIC=value("true")))), ("env.OMP_DYNAMIC", "inform", "env.OMP_*")
        ),
        "several": good(
            files(document(several)),
            ("cpu.microcode", "inform", "cpu.microcode"),
            inform,
            ("torch.flush_denormal", "inform", "torch.flush_denormal"),
        ),
        "unicode": good(files(odd, validated=odd)),
    }


def judged(contains: list[str], rules: list[Json] | None = None, **changes: Json | None) -> Case:
    """Return a case that halts for one fact."""
    return bad(
        "EnvironmentFault", contains, files(document(changed(**changes)), policy(RULES if rules is None else rules))
    )


def negative_judgements() -> dict[str, Case]:
    """Return environments that are not as the policy asks, one fault each."""
    unread, nothing = "cannot be read, and what is not read is not equal", "expected class facts, found none"
    gone, new = (
        "class fact of the validated environment is gone",
        "class fact that the validated environment does not have",
    )
    number = "differs: not two numbers of one form, which the rule compares"
    reach = [rule("torch.build.*", "known", "inform", "inform"), rule("torch.flush*", "known", "inform", "inform")]
    dark = document(changed(cpu__isa=no_value("unreadable")))
    only_instance = document({"cpu.microcode": FACTS["cpu.microcode"]})
    return {
        "isa_fail": judged(
            ["cpu.isa: differs; expected 'avx2 fma sse2', found 'avx2 sse2'"], cpu__isa=value("avx2 sse2")
        ),
        "library_fail": judged(["lib.libm.so.6: differs", sha256("evil")], lib__libm__so__6=value(sha256("evil"))),
        "library_too_many_fail": judged([f"lib.evil.so: {new}"], lib__evil__so=value(sha256("evil"))),
        "library_gone_fail": judged([f"lib.libm.so.6: {gone}"], lib__libm__so__6=None),
        "absent_for_value_fail": judged(
            ["gpu.cuda_driver", number, "found absent"], gpu__cuda_driver=no_value("absent")
        ),
        "text_absent_fail": judged(
            ["env.OMP_SCHEDULE: differs; expected absent, found 'absent'"], [], env__OMP_SCHEDULE=value("absent")
        ),
        "unreadable_fail": judged([f"cpu.isa: {unread}", "found unreadable"], cpu__isa=no_value("unreadable")),
        "unreadable_both_fail": bad(
            "EnvironmentFault",
            [f"cpu.isa: {unread}; expected unreadable, found unreadable"],
            files(dark, validated=dark),
        ),
        "rule_equal_fail": judged(
            ["env.OMP_NUM_THREADS: differs (rule env.OMP_NUM_THREADS (equal, MP-3): halt); expected '2', found '1'"],
            env__OMP_NUM_THREADS=value("1"),
        ),
        "major_fail": judged(
            ["differs in its first number (rule gpu.cuda_driver (major): halt)"], gpu__cuda_driver=value("14.0")
        ),
        "major_is_a_number_fail": judged(["gpu.cuda_driver", number], gpu__cuda_driver=value("13.x")),
        "major_prefix_fail": judged(["differs in its first number"], gpu__cuda_driver=value("130.0")),
        "lower_driver_fail": judged(
            ["gpu.driver: is lower than the validated one (rule gpu.driver (ge, MP-4): change-control)"],
            gpu__driver=value("580.65.05"),
        ),
        "driver_compared_as_text_fail": judged(
            ["gpu.driver: is lower than the validated one"], gpu__driver=value("58.65.06")
        ),
        "hexadecimal_for_dotted_fail": judged(["gpu.driver", number], gpu__driver=value("0xffffff")),
        "driver_gone_fail": judged([f"gpu.driver: {gone} (rule gpu.driver (ge, MP-4): halt)"], gpu__driver=None),
        "microcode_gone_fail": judged(
            ["cpu.microcode: instance fact of the validated environment is gone", "(ge): halt"], cpu__microcode=None
        ),
        "microcode_unreadable_fail": judged(
            [f"cpu.microcode: {unread}"], cpu__microcode=no_value("unreadable", "instance")
        ),
        "prefix_reaches_no_further_fail": judged([f"torch.threads: {new}"], reach, torch__threads=value("1")),
        "prefix_names_no_instance_fact_fail": judged(
            [f"cpu.isa: {gone} (rule cpu.* (equal): halt)"],
            [rule("cpu.*", "equal", "inform", "halt")],
            cpu__isa=value("avx2 fma sse2", "instance"),
        ),
        "in_not_listed_fail": judged(
            ["gpu.vbios: is not among the values of the rule (rule gpu.vbios (in): halt)", "expected '96.00.89.00.01'"],
            [rule("gpu.vbios", "in", "halt", "halt", ("96.00.9F.00.01",))],
        ),
        "nothing_validated_fail": bad(
            "EnvironmentFault",
            [f"environment: the validated environment holds no class fact; {nothing}"],
            files(document(FACTS), policy([rule("cpu.isa", "known", "inform", "inform")]), only_instance),
        ),
        "change_control_fail": judged(
            ["(rule lib.* (equal): change-control)"],
            [rule("lib.*", "equal", "change-control", "change-control")],
            lib__libm__so__6=value(sha256("libm 2")),
        ),
    }


def edited(edit: Callable[[Json], object]) -> bytes:
    """Return the environment after `edit` changed its parsed document in place."""
    made: Json = json.loads(document(FACTS))
    edit(made)
    return dumps(made)


def negative_documents() -> dict[str, Case]:
    """Return environments that do not follow the format, one fault each."""

    def found(contains: list[str], data: bytes) -> Case:
        return bad("MalformedArtefact", [FOUND, *contains], files(data))

    def first(**change: Any) -> bytes:
        return edited(lambda v: v["facts"][0].update(change))

    whole = document(FACTS)
    return {
        "facts_unsorted_fail": found(["facts", "strictly ascending"], edited(lambda v: v["facts"].reverse())),
        "fact_twice_fail": found(
            ["facts", "'cpu.isa' after 'cpu.isa'"], edited(lambda v: v["facts"].insert(0, v["facts"][0]))
        ),
        "fact_name_fail": found(["facts[0]", "is not group.key"], first(name="isa")),
        "fact_status_fail": found(["facts[0].status", "'unknown'"], first(status="unknown")),
        "fact_scope_fail": found(["facts[0].scope", "'global'"], first(scope="global")),
        "fact_number_fail": found(["facts[0].value", "a number"], first(value=2)),
        "fact_value_missing_fail": found(["facts[0]", "a value stands exactly"], first(value=None)),
        "fact_absent_with_value_fail": found(["facts[0]", "a value stands exactly"], first(status="absent")),
        "fact_key_unknown_fail": found(["facts[0].unit", "an unknown key"], first(unit="")),
        "fact_key_missing_fail": found(["facts[0].scope", "no such key"], edited(lambda v: v["facts"][0].pop("scope"))),
        "key_unknown_fail": found(["time", "an unknown key"], edited(lambda v: v.update(time=""))),
        "scheme_fail": found(["scheme", "environment-v2"], edited(lambda v: v.update(scheme="environment-v2"))),
        "line_feed_fail": found([f"byte {len(whole)}", "RFC 8785"], whole + b"\n"),
        "cut_fail": found([f"byte {len(whole) - 1}", "one JSON value"], whole[:-1]),
        "key_twice_fail": found(["scheme", "the key twice"], whole[:-1] + b',"scheme":"environment-v1"}'),
    }


def negative_policies() -> dict[str, Case]:
    """Return policies that do not follow the format, one fault each."""

    def broken(contains: list[str], data: bytes) -> Case:
        return bad("MalformedArtefact", [POLICY, *contains], files(document(FACTS), data))

    def first(contains: list[str], **change: Any) -> Case:
        return broken(contains, policy([{**RULES[0], **change}]))

    whole, known = policy(RULES), rule("gpu.*", "known", "inform", "inform")
    return {
        "policy_default_fail": broken(["default: expected 'halt', found 'inform'"], policy([], default="inform")),
        "policy_scheme_fail": broken(["scheme", "environment-policy-v2"], policy([], scheme="environment-policy-v2")),
        "policy_key_unknown_fail": broken(["waivers", "an unknown key"], policy([], waivers=[])),
        "policy_not_canonical_fail": broken(["byte 11", "RFC 8785"], whole.replace(b'"default":', b'"default": ')),
        "policy_line_feed_fail": broken([f"byte {len(whole)}", "RFC 8785"], whole + b"\n"),
        "rule_comparison_fail": first(["rules[0].compare", "'minor'"], compare="minor"),
        "rule_level_fail": first(["rules[0].onDiff", "'warn'"], onDiff="warn"),
        "rule_level_missing_fail": first(["rules[0].onMissing", "found null"], onMissing=None),
        "rule_everything_fail": first(["rules[0].fact", "'*'"], fact="*"),
        "rule_group_open_fail": first(["rules[0].fact", "'env*'"], fact="env*"),
        "rule_star_inside_fail": first(["rules[0].fact", "'env.*_THREADS'"], fact="env.*_THREADS"),
        "rule_values_without_in_fail": first(["rules[0].values", "found 1 with 'equal'"], values=["2"]),
        "rule_in_without_values_fail": first(["rules[0].values", "found 0 with 'in'"], compare="in"),
        "rule_values_unsorted_fail": first(["rules[0].values", "'1' after '2'"], compare="in", values=["2", "1"]),
        "rule_values_twice_fail": first(["rules[0].values", "'2' after '2'"], compare="in", values=["2", "2"]),
        "rule_value_number_fail": first(["rules[0].values[0]", "a number"], compare="in", values=[2]),
        "rule_key_unknown_fail": first(["rules[0].note", "an unknown key"], note=""),
        "rule_key_missing_fail": broken(
            ["rules[0].reference", "no such key"], whole.replace(b'"reference":"MP-3",', b"")
        ),
        "rule_twice_fail": broken(
            ["rules[1], 'cpu.isa', can never decide"],
            policy([rule("cpu.isa", "equal", "inform", "halt"), rule("cpu.isa", "equal", "halt", "halt")]),
        ),
        "rule_dead_fail": broken(
            ["rules[1], 'gpu.driver', can never decide: 'gpu.*'"],
            policy([known, rule("gpu.driver", "equal", "halt", "halt")]),
        ),
    }


def write(directory: Path) -> None:
    """Write every case into a folder of its own."""
    cases = positive() | negative_judgements() | negative_documents() | negative_policies()
    for name, (made, expect) in cases.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        for file, data in {**made, "expect.json": dumps(expect) + b"\n"}.items():
            (directory / name / file).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
