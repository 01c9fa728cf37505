# SPDX-License-Identifier: Apache-2.0
"""Evidence on its way into a manifest. The bundles themselves are attacked in tests/unit/seal/test_evidence.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from weighmaster.core.statement_reader import parse_statement
from weighmaster.errors import KeyFault, NotWeighed, UsageError
from weighmaster.flows.weigh import weigh, weigh_files

MADE = Path(__file__).parents[1] / "seal" / "evidence"
KEY = MADE / "tools.pub"
IDENTITY = {"product": "p", "version": "1", "serial": 1}
BUNDLES = ("oms.json", "cosign-blob.json", "cosign-predicate.json", "cosign-statement.json")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model that the bundles are about."""
    return Path(shutil.copytree(MADE / "model", tmp_path / "model"))


def test_files_at_rest_with_every_kind_of_evidence(model: Path) -> None:
    manifest = weigh_files(model, evidence=tuple((MADE / name, KEY) for name in BUNDLES), **IDENTITY)
    found = parse_statement(manifest.payload, "s").evidence
    assert [(e.kind, e.files) for e in found] == [("oms-v1", 2), ("cosign-blob", 1), ("in-toto", 1), ("in-toto", 2)]


def test_a_file_at_rest(model: Path) -> None:
    manifest = weigh_files(model / "model.safetensors", evidence=((MADE / "oms-one-file.json", KEY),), **IDENTITY)
    assert [e.kind for e in manifest.statement.evidence] == ["oms-v1"]


def test_live_model(head: Callable[[], torch.nn.Module], model: Path) -> None:
    settings = {"example_inputs": torch.zeros(1, 4), "source": model, **IDENTITY}
    manifest = weigh(head(), evidence=((MADE / "oms.json", KEY),), **settings)
    assert [(e.kind, e.files) for e in manifest.statement.evidence] == [("oms-v1", 2)]
    assert weigh(head(), **settings).statement.evidence == ()


@pytest.mark.parametrize("name", BUNDLES)
def test_a_changed_file_stops_the_weighing(head: Callable[[], torch.nn.Module], model: Path, name: str) -> None:
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(NotWeighed, match="is no evidence about these source files"):
        weigh_files(model, evidence=((MADE / name, KEY),), **IDENTITY)
    with pytest.raises(NotWeighed, match="is no evidence about these source files"):
        weigh(head(), example_inputs=torch.zeros(1, 4), source=model, evidence=((MADE / name, KEY),), **IDENTITY)


def test_an_extra_code_file_stops_the_weighing(model: Path) -> None:
    (model / "modeling.py").write_text("pass")
    with pytest.raises(NotWeighed) as caught:
        weigh_files(model, evidence=((MADE / "oms.json", KEY),), **IDENTITY)
    assert [f.subject for f in caught.value.faults] == ["modeling.py"]


def test_one_bad_bundle_among_good_ones_stops_the_weighing(model: Path) -> None:
    given = ((MADE / "oms.json", KEY), (MADE / "cosign-blob.json", MADE / "other.pub"))
    with pytest.raises(NotWeighed) as caught:
        weigh_files(model, evidence=given, **IDENTITY)
    assert [f.subject for f in caught.value.faults] == [str(MADE / "cosign-blob.json")]


def test_a_bundle_given_twice(model: Path) -> None:
    with pytest.raises(UsageError, match="the same bundle is given twice"):
        weigh_files(model, evidence=((MADE / "oms.json", KEY),) * 2, **IDENTITY)


def test_evidence_without_sources(head: Callable[[], torch.nn.Module]) -> None:
    with pytest.raises(UsageError, match="evidence is about source files, and none are known"):
        weigh(head(), example_inputs=torch.zeros(1, 4), evidence=((MADE / "oms.json", KEY),), **IDENTITY)


@pytest.mark.parametrize(
    ("bundle", "key", "error"),
    [
        ("absent.json", "tools.pub", UsageError),
        ("oms.json", "absent.pub", UsageError),
        ("oms.json", "oms.json", KeyFault),
    ],
)
def test_files_that_are_not_there_or_no_keys(model: Path, bundle: str, key: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        weigh_files(model, evidence=((MADE / bundle, MADE / key),), **IDENTITY)
