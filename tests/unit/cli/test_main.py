# SPDX-License-Identifier: Apache-2.0
"""The frame of every verb: help, exit codes, what goes to which stream, and nothing imported that was not asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import weighmaster
from weighmaster.cli import main as frame
from weighmaster.cli.main import VERBS, load_verb, main
from weighmaster.cli.verb import Outcome, build_parser
from weighmaster.errors import UsageError

WEIGH = ("--product", "net", "--version", "1.0", "--serial", "1")


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


# -- help and version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_every_verb(cli, word):
    run = cli(word)
    assert (run.code, run.err) == (0, "")
    for name, (_, summary) in VERBS.items():
        assert f"  {name:11}  {summary}\n" in run.out


def test_version(cli):
    assert cli("--version") == cli("--version")
    assert cli("--version").out == f"weighmaster {weighmaster.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example_and_touches_no_runtime(cli, verb):
    run = cli(verb, "--help")
    assert (run.code, run.err) == (0, "")
    assert f"usage: weighmaster {verb}" in run.out
    assert "examples:\n  weighmaster " in run.out


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_command_lines_that_the_parser_takes(verb):
    module = load_verb(verb)
    for command, what in module.EXAMPLES:
        assert what
        words = command.split(" > ")[0].replace("'Ana Diaz'", "Ana").split()
        if words[0] == "weighmaster":
            assert words[1] == verb
            build_parser(verb, module).parse_args(words[2:])


@pytest.mark.requirement("REQ-CLI-09")
def test_help_imports_neither_runtimes_nor_cryptography_nor_other_verbs():
    code = (
        "import sys; from weighmaster.cli.main import main; code = main(['--help']); import json; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    modules = set(json.loads(python(code).stdout.splitlines()[-1]))
    assert "weighmaster.cli.main" in modules
    assert not {"torch", "numpy", "cryptography", "transformers", "safetensors", "shtab"} & {
        m.partition(".")[0] for m in modules
    }
    assert not {module for module, _ in VERBS.values()} & modules


@pytest.mark.requirement("REQ-CLI-09")
def test_help_of_all_verbs_and_the_seal_import_no_runtime():
    code = (
        "import sys; from weighmaster.cli.reference import markdown; markdown(); "
        "print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'numpy', 'cryptography', 'transformers')])"
    )
    assert python(code).stdout == "[]\n"


# -- exit codes of the frame ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("weight",), ("--wiegh",)])
def test_no_such_verb_is_2_and_names_the_verbs(cli, words):
    run = cli(*words)
    assert (run.code, run.out) == (2, "")
    assert f"expected a verb: {', '.join(VERBS)}; found {repr(words[0]) if words else 'none'}" in run.err


def test_missing_argument_is_2_with_the_usage(cli):
    run = cli("verify", "manifest")
    assert (run.code, run.out) == (2, "")
    assert "weighmaster verify: the following arguments are required: --trust, --roots, --expect" in run.err
    assert "usage: weighmaster verify" in run.err
    assert "remedy: Read the help of the verb" in run.err


def test_options_are_not_abbreviated(cli):
    run = cli("verify", "manifest", "--trus", "t", "--expect", "p")
    assert run.code == 2


@pytest.mark.requirement("REQ-CLI-02")
def test_usage_error_as_json(cli):
    run = cli("verify", "--json")
    assert (run.code, run.json["result"], run.json["exitCode"], run.json["kind"]) == (2, "error", 2, "UsageError")
    assert "the following arguments are required" in run.json["message"]


def stub(monkeypatch, action):
    class Verb:
        DESCRIPTION, EXAMPLES = "Stub.", ()

        @staticmethod
        def add_arguments(parser):
            parser.add_argument("word", nargs="?")

        @staticmethod
        def run(args):
            return action(args)

    monkeypatch.setitem(VERBS, "stub", ("stub", "stub"))
    monkeypatch.setattr(frame, "import_module", lambda name: Verb)


def raising(error: BaseException):
    def action(args):
        raise error

    return action


@pytest.mark.requirement("REQ-CLI-04")
def test_unexpected_exception_is_70_and_asks_for_a_report(cli, monkeypatch):
    stub(monkeypatch, raising(ZeroDivisionError("division by zero")))
    run = cli("stub")
    assert (run.code, run.out) == (70, "")
    assert "weighmaster stub: internal error: ZeroDivisionError: division by zero" in run.err
    assert "please report" in run.err
    assert "Traceback" not in run.err
    traced = cli("stub", "--traceback")
    assert traced.code == 70
    assert "Traceback (most recent call last)" in traced.err
    as_json = cli("stub", "--json")
    assert (as_json.code, as_json.json["exitCode"], as_json.json["kind"]) == (70, 70, "ZeroDivisionError")


@pytest.mark.requirement("REQ-CLI-04")
@pytest.mark.parametrize("status", [0, None, 3])
def test_code_that_ends_the_process_is_never_success(cli, monkeypatch, status):
    stub(monkeypatch, raising(SystemExit(status)))
    run = cli("stub")
    assert (run.code, run.out) == (70, "")
    assert f"code of the model ended the process (exit {status})" in run.err


@pytest.mark.requirement("REQ-CLI-04")
def test_interrupt_is_130(cli, monkeypatch):
    stub(monkeypatch, raising(KeyboardInterrupt()))
    run = cli("stub", "--json")
    assert (run.code, run.out) == (130, "")
    assert "interrupted; nothing half-written was left" in run.err


@pytest.mark.parametrize(("package", "extra"), [("torch", "weighmaster[torch]"), ("transformers", "weighmaster[hf]")])
def test_missing_package_is_2_and_says_what_to_install(cli, monkeypatch, package, extra):
    stub(monkeypatch, raising(ModuleNotFoundError(f"No module named {package!r}", name=package)))
    run = cli("stub")
    assert run.code == 2
    assert f"the package {package} is not installed" in run.err
    assert f"remedy: pip install '{extra}'" in run.err


@pytest.mark.requirement("REQ-CLI-01")
def test_outcome_decides_the_exit_code(cli, monkeypatch):
    stub(monkeypatch, lambda args: Outcome(document={"a": 1}, text="text", exit_code=11))
    assert cli("stub") == cli("stub")
    assert (cli("stub").code, cli("stub").out) == (11, "text\n")
    assert cli("stub", "--json").out == '{"a":1}\n'


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("REQ-CLI-06")
def test_what_a_model_prints_goes_to_standard_error(cli, here):
    run = cli("weigh", "tinynet:noisy", "-o", "m", *WEIGH, "--example", "tinynet:inputs", "--json")
    assert run.code == 0
    assert run.json["result"] == "weighed"
    assert "printed by the model" in run.err
    assert "printed by a child" in run.err


def test_standard_output_is_restored_after_a_verb(cli, monkeypatch):
    def action(args):
        print("from Python")
        os.write(1, b"from a descriptor\n")
        return Outcome(document={}, text="result")

    stub(monkeypatch, action)
    run = cli("stub")
    assert run.out == "result\n"
    assert "from Python" in run.err
    assert "from a descriptor" in run.err
    run = cli("stub")
    assert run.out == "result\n"


def test_result_that_cannot_be_printed_is_no_success():
    full = Path("/dev/full")
    with full.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "weighmaster.cli.main", "selftest"],
            stdout=out, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 70
    assert "standard output: cannot be written: No space left on device" in done.stderr


def test_closed_pipe_is_141_without_a_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "weighmaster.cli.main", "selftest"],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_closed_standard_output_is_no_success():
    command = f'"{sys.executable}" -m weighmaster.cli.main selftest >&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "standard output: cannot be written" in done.stderr


def test_errors_of_parsers_are_ours():
    parser = build_parser("selftest", load_verb("selftest"))
    with pytest.raises(UsageError, match=r"unrecognized arguments: --no-verify\nusage: weighmaster selftest"):
        parser.parse_args(["--no-verify"])


def test_main_takes_the_command_line_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["weighmaster", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("weighmaster ")
