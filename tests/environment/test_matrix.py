# SPDX-License-Identifier: Apache-2.0
"""Run every case of `matrix.CASES` as a real child process: what halts, what does not, and which facts are named."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import weighmaster
from weighmaster.core.environment import Environment, parse_environment
from weighmaster.core.judgement import environment_faults
from weighmaster.flows.approve import sign
from weighmaster.flows.keep import write_trust
from weighmaster.seal.keys import generate
from weighmaster.seal.trust import ProductRule, RoleThreshold, RootKey, Roots, Trust, TrustedKey


def _matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment_matrix", Path(__file__).with_name("matrix.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


matrix = _matrix()
CASES = {case.name: case for case in matrix.CASES}
PATHS = [str(Path(weighmaster.__file__).parents[1]), *(p for p in sys.path if p.endswith("-packages"))]
"""Where a second virtual environment finds what this one has."""

PLAIN = """
import sys, numpy
{code}
from weighmaster.probe.collect import collect
sys.stdout.buffer.write(collect().to_bytes())
"""
MODEL = """
import json, sys, torch
from weighmaster.errors import NotAdmitted
class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
    def forward(self, x):
        return self.fc(x)
torch.manual_seed(0)
model, x = Head().eval(), torch.arange(8.0).reshape(2, 4)
"""
WEIGH = """
from weighmaster.flows.weigh import weigh
weigh(model, product="reader", version="1.0", serial=1, example_inputs=x).write(sys.argv[1])
"""
GATE = """
from weighmaster.flows.admit import Gate
{code}
try:
    Gate(sys.argv[1], sys.argv[2], roots=sys.argv[3], expect="reader", mark=None).admit(model)
except NotAdmitted as refusal:
    print(json.dumps([fault.subject for fault in refusal.faults]))
    raise SystemExit(refusal.exit_code)
print("[]")
"""
SWITCH = """
import json, os, torch
from weighmaster.capture.torch_switches import torch_facts
from weighmaster.core.environment import Environment
def collect():
    return Environment.of(torch_facts()).to_bytes().decode()
out = {}
"""
FORK = """
read, write = os.pipe()
if os.fork() == 0:
    os.close(read)
    {code}
    os.write(write, collect().encode())
    os._exit(0)
os.close(write)
out[{name}] = os.fdopen(read).read()
os.wait()
"""


def start(
    script: str, *arguments: object, python: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `script` in a process with few variables besides these."""
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", **variables}
    command = [python, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, timeout=200, check=False)


# -- what a case needs --------------------------------------------------------------------------------------------


def _compile(folder: Path) -> Path:
    """Make a shared object with one function."""
    source, library = folder / "hook.c", folder / "libhook.so"
    source.write_text("int weighmaster_hook(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def _copied(folder: Path, *names: str) -> None:
    """Copy installed packages and their metadata."""
    root = Path(sysconfig.get_path("purelib"))
    roots = [root, *(Path(p) for p in PATHS)]
    for name in names:
        found = next(r / name for r in roots if (r / name).exists())
        shutil.copytree(found, folder / name)


def _info(name: str) -> str:
    return f"{name}-{version(name)}.dist-info"


def _forge(source: Path, target: Path) -> None:
    """Write bytecode that does more than its source, under the header that the source asks for (PEP 552)."""
    code = compile(source.read_bytes() + b"\nforged = True\n", str(source), "exec", dont_inherit=True)
    stat = source.stat()
    header = importlib.util.MAGIC_NUMBER + b"".join(
        n.to_bytes(4, "little") for n in (0, int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(header + marshal.dumps(code))


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def _forge_in(folder: Path, module: str) -> None:
    source = _file(module)
    _forge(source, folder / str(source.parent).lstrip("/") / f"{source.stem}.{sys.implementation.cache_tag}.pyc")


def bytecode(folder: Path) -> None:
    _forge_in(folder, "numpy.version")


def bytecode_standard(folder: Path) -> None:
    _forge_in(folder, "colorsys")


def gate_bytecode(folder: Path) -> None:
    ours = Path(weighmaster.__file__).parent
    copy = shutil.copytree(ours, folder / ours.name, ignore=shutil.ignore_patterns("__pycache__"))
    _forge(copy / "errors.py", Path(importlib.util.cache_from_source(str(copy / "errors.py"))))


def sourceless(folder: Path) -> None:
    _copied(folder, "safetensors", _info("safetensors"))
    source = folder / "safetensors/__init__.py"
    _forge(source, folder / "safetensors/__init__.pyc")
    source.unlink()


def shadow_standard(folder: Path) -> None:
    (folder / "random.py").write_text(_file("random").read_text() + "\nshadow = True\n")


def shadow_numpy(folder: Path) -> None:
    real = _file("numpy")
    text = f"__path__ = [{str(real.parent)!r}]\nexec(compile(open({str(real)!r}).read(), {str(real)!r}, 'exec'))\n"
    (folder / "numpy").mkdir()
    (folder / "numpy/__init__.py").write_text(text)


def sitecustomize(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("x = 1\n")


def application(folder: Path) -> None:
    (folder / "app.py").write_text("x = 1\n")


def copied(folder: Path) -> None:
    _copied(folder, "numpy", _info("numpy"))
    root = _file("numpy").parents[1]
    if (root / "numpy.libs").exists():
        shutil.copytree(root / "numpy.libs", folder / "numpy.libs")


def swapped_library(folder: Path) -> None:
    copied(folder)
    (library,) = (folder / "numpy/_core").glob("_multiarray_umath*.so")
    data = library.read_bytes()
    library.unlink()  # a link to the real one: not to be written to
    library.write_bytes(data + b"\0")


def library_path(folder: Path) -> None:
    found = [Path(m.split()[-1]) for m in Path("/proc/self/maps").read_text().splitlines() if "/libstdc++.so.6" in m]
    if not found:
        pytest.skip("NOT RUN: no C++ library of the system is loaded here")
    (folder / found[0].name).write_bytes(found[0].read_bytes() + b"\0")
    if found[0].name != "libstdc++.so.6":
        (folder / "libstdc++.so.6").symlink_to(found[0].name)


def second_venv(folder: Path, *, executed: str = "") -> Path:
    """Make a virtual environment that finds the packages of this one through a ``.pth`` file with paths."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "zz_main.pth").write_text("\n".join(PATHS) + "\n")
    for root in (Path(p) for p in PATHS[1:]):
        for path in root.glob("*.pth"):  # lines that are executed here are executed there
            lines = [line for line in path.read_text().splitlines() if line.startswith("import ")]
            (site / path.name).write_text("\n".join(lines) + "\n")
    if executed:
        (site / "extra.pth").write_text(f"{executed}\n")
    return python


def venv_same(folder: Path) -> Path:
    return second_venv(folder)


def venv_pth(folder: Path) -> Path:
    return second_venv(folder, executed="import sys; sys.weighmaster_was_here = True")


def venv_other_version(folder: Path) -> Path:
    python = second_venv(folder)
    wanted = next(v for v in ("0.5.3", "0.5.2") if v != version("safetensors"))
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"safetensors=={wanted}"]
    if importlib.util.find_spec("pip") is None:
        pytest.skip("NOT RUN: no pip here to get another version with")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    wheels = list(folder.glob("safetensors-*.whl"))
    if done.returncode != 0 or not wheels:
        pytest.skip("NOT RUN: no package index to get another version from")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(next((folder / "venv/lib").glob("python*/site-packages")))
    return python


MEMFD = (
    "import ctypes, os; fd = os.memfd_create('hidden'); os.write(fd, open({library!r}, 'rb').read()); "
    "ctypes.CDLL('/proc/self/fd/%d' % fd)"
)
DELETED = "import ctypes, os; ctypes.CDLL({library!r}); os.unlink({library!r})"
NEEDS_LIBRARY = {"preload", "memory-library", "deleted-library"}
PREPARED: dict[str, Callable[[Path], Path | None]] = {
    "gate-bytecode": gate_bytecode,
    "bytecode": bytecode,
    "bytecode-standard": bytecode_standard,
    "sourceless": sourceless,
    "shadow-standard": shadow_standard,
    "shadow-numpy": shadow_numpy,
    "sitecustomize": sitecustomize,
    "application": application,
    "copied": copied,
    "swapped-library": swapped_library,
    "library-path": library_path,
    "venv-same": venv_same,
    "venv-pth": venv_pth,
    "venv-other-version": venv_other_version,
}


def prepared(case: Any, folder: Path) -> tuple[str, str, dict[str, str]]:
    """Return interpreter, code and variables of a case, after making what it needs in `folder`."""
    python, code = sys.executable, case.code
    if case.name in NEEDS_LIBRARY:
        if shutil.which("cc") is None:
            pytest.skip("NOT RUN: no C compiler here")
        library = str(_compile(folder))
        code = code.replace("{memfd}", MEMFD.format(library=library)).replace(
            "{deleted}", DELETED.format(library=library)
        )
    if case.name in PREPARED:
        python = str(PREPARED[case.name](folder) or python)
    return python, code, {name: value.replace("{tmp}", str(folder)) for name, value in case.variables.items()}


def assert_named(case: Any, found: list[str]) -> None:
    """Assert that each named fact is expected, and each expected one named."""
    assert [n for n in found if not any(fnmatchcase(n, f) for f in case.facts)] == [], "a fact that nobody expected"
    assert [f for f in case.facts if not any(fnmatchcase(n, f) for n in found)] == [], "a fact that was not named"


# -- plain processes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baseline() -> Environment:
    done = start(PLAIN.format(code="import random"))
    assert done.returncode == 0, done.stderr.decode()
    return parse_environment(done.stdout, "baseline")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All plain processes, two at a time, each under the name of its case."""

    def run(case: Any) -> subprocess.CompletedProcess[bytes]:
        python, code, variables = prepared(case, tmp_path_factory.mktemp(case.name))
        return start(PLAIN.replace("{code}", code), python=python, **variables)

    with ThreadPoolExecutor(2) as pool:
        started: dict[str, Future[Any]] = {c.name: pool.submit(run, c) for c in CASES.values() if c.where == "plain"}
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.where == "plain"])
def test_setting_of_a_process(name: str, baseline: Environment, running: Any) -> None:
    if name == "affinity" and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("NOT RUN: there is one processor only")
    done = running[name].result()
    assert done.returncode == 0, done.stderr.decode()
    faults = environment_faults(baseline, parse_environment(done.stdout, name))
    assert_named(CASES[name], [fault.subject for fault in faults])
    assert {fault.exit_code for fault in faults} <= {12}


def test_the_baseline_is_readable(baseline: Environment) -> None:
    assert [fact.name for fact in baseline.scoped("class") if fact.status == "unreadable"] == []
    facts = {fact.name: fact.value for fact in baseline.facts}
    assert (facts["python.bytecode"], facts["python.shadowed"]) == ("as source", None)


# -- switches of torch --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def switched() -> dict[str, Environment]:
    """The torch facts after each switch, from forks of one process, so that none bears on the next."""
    codes = {case.name: case.code for case in CASES.values() if case.where == "torch"} | {"": "pass"}
    lines = "".join(FORK.replace("{code}", code).replace("{name}", repr(name)) for name, code in codes.items())
    done = start(f"{SWITCH}\n{lines}\nprint(json.dumps(out))", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr.decode()
    return {name: parse_environment(text.encode(), name) for name, text in json.loads(done.stdout).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.where == "torch"])
def test_switch_of_torch(name: str, switched: dict[str, Environment]) -> None:
    faults = environment_faults(switched[""], switched[name])
    assert_named(CASES[name], [fault.subject for fault in faults])
    assert {fault.exit_code for fault in faults} == {12}


# -- through the gate ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A signed manifest that another process made, the trust file under which it holds, and its pin."""
    folder = tmp_path_factory.mktemp("weighed")
    done = start(MODEL + WEIGH, folder / "manifest")
    assert done.returncode == 0, done.stderr.decode()
    key = generate("ed25519")
    sign(folder / "manifest", key)
    rule = ProductRule(product="reader", required_roles=(RoleThreshold(role="signer", threshold=1),))
    trust = Trust(
        expires=datetime(2100, 1, 1, tzinfo=UTC),
        roots=Roots(keys=(RootKey(person="Ana", key=key.public),), threshold=1),
        keys=(TrustedKey(person="Ana", key=key.public, roles=("signer",)),),
        products=(rule,),
    )
    return folder / "manifest", folder / "trust.json", write_trust(folder / "trust.json", trust, key)


@pytest.mark.slow
@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.where == "gate"])
def test_gate(name: str, weighed: tuple[Path, Path, str], tmp_path: Path) -> None:
    case = CASES[name]
    python, code, variables = prepared(case, tmp_path)
    done = start(MODEL + GATE.replace("{code}", code), *weighed, python=python, **variables)
    assert done.returncode == (12 if case.facts else 0), done.stderr.decode()
    assert_named(case, json.loads(done.stdout.splitlines()[-1]))


# -- the page -----------------------------------------------------------------------------------------------------


def test_the_page_is_that_of_the_cases() -> None:
    assert matrix.PAGE.read_text(encoding="utf-8") == matrix.render()


def test_every_preparation_has_its_case() -> None:
    assert set(PREPARED) | NEEDS_LIBRARY <= set(CASES)
    assert len(CASES) == len(matrix.CASES)
