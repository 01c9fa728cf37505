# SPDX-License-Identifier: Apache-2.0
"""A weighed, dumped and exported model, keys, and the record of what every tool said.

``--must-run`` turns a missing tool into a failure (cosign apart: only `make interop-full` fetches it);
``--results DIRECTORY`` writes the record.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from interop.certificates import Case, certificate_cases
from interop.verdicts import Verdicts, write_results

from weighmaster.capture.open_model import Opened
from weighmaster.flows.approve import sign
from weighmaster.flows.artefact import Manifest
from weighmaster.flows.dump import dump
from weighmaster.flows.oms import export_oms
from weighmaster.flows.weigh import weigh
from weighmaster.seal.keys import PrivateKey, generate, write_private, write_public

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "interop"
RECORD = pytest.StashKey[Verdicts]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--must-run", action="store_true", help="a tool that is missing is a failure")
    parser.addoption("--results", type=Path, help="directory for the record of all verdicts")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORD] = Verdicts()


def not_run(config: pytest.Config) -> list[str]:
    """Return why tests were skipped, each reason once."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    return sorted({r.longrepr[2].removeprefix("Skipped: ") for r in skipped if isinstance(r.longrepr, tuple)})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a tool is missing that must be had, and write the record."""
    config, reasons = session.config, not_run(session.config)
    if config.getoption("--must-run") and any(not reason.startswith("cosign") for reason in reasons):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if directory := config.getoption("--results"):
        write_results(directory, config.stash[RECORD].found, reasons)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what every tool said, and which were not run."""
    found = config.stash[RECORD].found
    for tool in sorted({v.tool for v in found}):
        kinds = [v.verdict for v in found if v.tool == tool]
        counts = "; ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(sorted(kinds)))
        terminalreporter.write_line(f"{tool}: {counts}")
    for text in not_run(config):
        terminalreporter.write_line(f"NOT RUN: {text}")


@pytest.fixture(scope="session")
def verdicts(pytestconfig: pytest.Config) -> Verdicts:
    """The record of this run."""
    return pytestconfig.stash[RECORD]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return a finder of commands."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name}: no such command")
        return found

    return find


class Net(torch.nn.Module):
    """Tensors of less than, exactly and more than a leaf of 64 KiB, a tie, and a name with a capital."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(8, 4096)  # 131,072 bytes
        self.down = torch.nn.Linear(4096, 4)  # 65,536 bytes
        self.Head = torch.nn.Linear(4, 4)
        self.tied = torch.nn.Linear(4, 4)
        self.tied.weight = self.Head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.Head(self.down(torch.relu(self.up(x)))))


@dataclass(frozen=True, kw_only=True)
class Release:
    """What an auditor gets: a manifest, a dump and its export, and the keys of the signer and of a stranger."""

    folder: Path
    manifest: Manifest
    key: PrivateKey
    other: PrivateKey
    edwards: PrivateKey

    @property
    def dump(self) -> Path:
        return self.folder / "dump"

    @property
    def public(self) -> Path:
        return self.folder / "signer.pub"

    @property
    def stranger(self) -> Path:
        return self.folder / "other.pub"


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Weigh, dump and export a small model. Read only: copy what you change."""
    folder = tmp_path_factory.mktemp("release")
    key, other, edwards = generate("ecdsa-p256-sha256"), generate("ecdsa-p256-sha256"), generate("ed25519")
    for name, each in (("signer", key), ("other", other), ("edwards", edwards)):
        write_private(folder / name, each, None)
        write_public(folder / f"{name}.pub", each.public)
    torch.manual_seed(0)
    model, example = Net().eval(), torch.ones(2, 8)
    manifest = weigh(model, product="interop", version="1", serial=1, example_inputs=example)
    sign(manifest.write(folder / "manifest"), key)
    opened = Opened(model=model, loader="callable", source=None, faults=(), probe=example)
    dump(opened, manifest, folder / "dump")
    export_oms(manifest, folder / "dump", key, folder / "model.sig")
    return Release(folder=folder, manifest=manifest, key=key, other=other, edwards=edwards)


@pytest.fixture(scope="session")
def certificates(
    release: Release, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Case]:
    """Seals over the statement of the release by certificates, genuine and spoilt."""
    tool("openssl")
    table = (release.folder / "manifest" / release.manifest.gate.file_name).read_bytes()
    return certificate_cases(release.manifest.payload, table, tmp_path_factory.mktemp("stamping"))
