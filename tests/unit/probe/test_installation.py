# SPDX-License-Identifier: Apache-2.0
"""Installation checks see a changed, missing or added file, another place, and packages outside of their ranges."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import sys

import pytest

from weighmaster.probe import installation
from weighmaster.probe.installation import INSTALLATION_NUMBERS, TOOL_EXTRAS, installation_checks, within

METADATA = """Metadata-Version: 2.4
Name: weighmaster
Version: 1.0
Requires-Python: >=3.11
Requires-Dist: cryptography<60,>=44
Provides-Extra: torch
Requires-Dist: numpy>=1.26; extra == "torch"
Requires-Dist: weighmaster[torch]; extra == "hf"
Provides-Extra: bench
Requires-Dist: hypothesis==0.0.1; extra == "bench"
"""


class Site:
    """A site-packages folder with our distribution in it."""

    def __init__(self, root):
        self.root, self.package, self.info = root, root / "weighmaster", root / "weighmaster-1.0.dist-info"
        self.package.mkdir()
        self.info.mkdir()
        self.write("__init__.py", "a = 1\n")
        self.write("py.typed", "")
        self.metadata(METADATA)
        self.record()

    def write(self, name, text):
        (self.package / name).write_text(text, encoding="utf-8")

    def metadata(self, text):
        (self.info / "METADATA").write_text(text, encoding="utf-8")

    def record(self):
        lines = ["weighmaster-1.0.dist-info/RECORD,,"]
        for path in sorted(self.package.iterdir()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            lines.append(f"weighmaster/{path.name},sha256={digest},{path.stat().st_size}")
        (self.info / "RECORD").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def failed(self, version="1.0"):
        distribution = importlib.metadata.PathDistribution(self.info)
        checks = installation_checks(version, distribution=distribution, package=self.package)
        assert tuple(c.number for c in checks) == INSTALLATION_NUMBERS
        return {c.number: (c.expected, c.found) for c in checks if not c.passed}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


pytestmark = pytest.mark.requirement("REQ-QUA-01")


def test_a_whole_installation_passes(site):
    assert site.failed() == {}
    assert len(INSTALLATION_NUMBERS) == 8


def test_another_version_than_that_of_the_distribution(site):
    assert site.failed(version="1.1") == {"IQ-01": ("1.0", "1.1")}


def test_code_in_another_place_than_the_distribution(site, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = Site(other)
    distribution = importlib.metadata.PathDistribution(site.info)
    (check,) = [
        c for c in installation_checks("1.0", distribution=distribution, package=elsewhere.package) if not c.passed
    ]
    assert (check.number, check.expected, check.found) == ("IQ-02", str(site.package), str(elsewhere.package))


def test_a_changed_file(site):
    site.write("__init__.py", "a = 2\n")
    assert site.failed() == {"IQ-03": ("2 files with the recorded SHA-256", "1 that are not: weighmaster/__init__.py")}


def test_a_missing_file(site):
    (site.package / "py.typed").unlink()
    assert site.failed()["IQ-03"][1] == "1 that are not: weighmaster/py.typed"


@pytest.mark.parametrize("name", ["more.py", "more.so", "more.pyc"])
def test_code_that_is_not_recorded(site, name):
    site.write(name, "")
    assert site.failed() == {"IQ-04": ("none", f"1: weighmaster/{name}")}


def test_caches_of_the_interpreter_are_no_extra_code(site):
    (site.package / "__pycache__").mkdir()
    (site.package / "__pycache__/a.cpython-311.pyc").write_bytes(b"")
    assert site.failed() == {}


def test_many_files_are_counted_and_the_first_named(site):
    for n in range(7):
        site.write(f"more{n}.py", "")
    assert site.failed()["IQ-04"][1].startswith("7: weighmaster/more0.py, ")
    assert site.failed()["IQ-04"][1].endswith("weighmaster/more4.py, ...")


@pytest.mark.parametrize("text", ["", "__editable__.weighmaster.pth,sha256=AAAA,1\n", None])
def test_an_editable_installation_records_nothing_and_does_not_pass(site, text):
    if text is None:
        (site.info / "RECORD").unlink()
    else:
        (site.info / "RECORD").write_text(text, encoding="utf-8")
    failed = site.failed()
    assert set(failed) == {"IQ-03", "IQ-04"}
    assert all("RECORD names no file of the package" in found for _, found in failed.values())


def test_an_interpreter_out_of_range(site):
    site.metadata(METADATA.replace(">=3.11", ">=3.99"))
    assert set(site.failed()) == {"IQ-05"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cryptography>=9999", f"cryptography {importlib.metadata.version('cryptography')}"),
        ("no-such-distribution>=1", "no-such-distribution not installed"),
        ("cryptography @ https://example.org/x.whl", "cryptography"),
        ("[extra]", "[extra] not installed"),
    ],
)
def test_a_required_package_that_does_not_fit(site, line, found):
    site.metadata(METADATA.replace("cryptography<60,>=44", line))
    failed = site.failed()
    assert set(failed) == {"IQ-06"}
    assert found in failed["IQ-06"][1]


def test_no_required_package_at_all_is_no_metadata_of_ours(site):
    site.metadata(METADATA.replace("Requires-Dist: cryptography<60,>=44\n", ""))
    assert set(site.failed()) == {"IQ-06"}


def test_an_optional_package_that_is_there_and_does_not_fit(site):
    site.metadata(METADATA.replace("numpy>=1.26", "numpy<1"))
    assert set(site.failed()) == {"IQ-07"}
    site.metadata(METADATA.replace("numpy>=1.26", "no-such-distribution<1"))
    assert site.failed() == {}


def test_another_operating_system(site, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(installation.platform, "system", lambda: "Windows")
    assert site.failed()["IQ-08"] == ("Linux", "Windows")


def test_without_a_distribution_nothing_passes(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    checks = installation_checks("1.0")
    assert [(c.number, c.passed, c.found) for c in checks] == [(n, False, "none") for n in INSTALLATION_NUMBERS]


@pytest.mark.parametrize(
    ("version", "bounds", "inside"),
    [
        ("44", ">=44,<60", True),
        ("44.0.0", "<60,>=44", True),
        ("59.9.9", ">=44,<60", True),
        ("60.0", ">=44,<60", False),
        ("43.9", ">=44,<60", False),
        ("2.13.0+cpu", ">=2.6", True),
        ("2.5.9", ">=2.6", False),
        ("1.10", ">=1.9", True),
        ("1.0", "==1.0.0", True),
        ("1.0.post1", "==1.0", True),
        ("1.1", "!=1.1", False),
        ("1.1", "<=1.1", True),
        ("1.1", ">1.1", False),
        ("1.0", "", True),
        ("60rc1", ">=44,<61", False),
        ("44", "~=44", False),
        ("44", "==44.*", False),
        ("unknown", ">=1", False),
    ],
)
def test_ranges(version, bounds, inside):
    assert within(version, bounds) is inside


def test_extras_of_the_project_itself_are_not_asked_of_users():
    names = {m.lower() for m in importlib.metadata.metadata("weighmaster").get_all("Provides-Extra")}
    assert {"torch", "hf", "gpu", "completion"} <= names - set(TOOL_EXTRAS)
