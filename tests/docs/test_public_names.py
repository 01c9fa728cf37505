# SPDX-License-Identifier: Apache-2.0
"""Public is what `weighmaster.api` lists; importing the package loads no runtime."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import weighmaster
from weighmaster import api, errors


def test_lazy_names_are_those_of_the_api() -> None:
    assert list(weighmaster._NAMES) == api.__all__
    assert api.__all__ == sorted(api.__all__)
    assert weighmaster.__all__ == sorted((*api.__all__, *errors.__all__))
    assert dir(weighmaster) == weighmaster.__all__


@pytest.mark.parametrize("name", weighmaster.__all__)
def test_each_name_leads_somewhere(name: str) -> None:
    assert getattr(weighmaster, name) is getattr(api if name in api.__all__ else errors, name)
    assert getattr(weighmaster, name).__doc__


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match=r"^module 'weighmaster' has no attribute 'Wieghmaster'$"):
        _ = weighmaster.Wieghmaster


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.requirement("REQ-REL-03")
@pytest.mark.parametrize(
    "statement",
    [
        "import weighmaster",
        "import weighmaster as w; w.NotAdmitted, w.__version__, dir(w)",
        "import weighmaster.flows.artefact",
        "import weighmaster.core.statement, weighmaster.seal.check, weighmaster.engines.hashlib_engine",
    ],
)
def test_importing_loads_no_runtime(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "weighmaster" in loaded
    assert loaded & {"torch", "numpy", "transformers", "safetensors"} == set()


@pytest.mark.requirement("REQ-REL-03")
def test_core_needs_the_standard_library_alone() -> None:
    loaded = loaded_by(
        "import pkgutil, importlib, weighmaster.core as c\n"
        "for m in pkgutil.iter_modules(c.__path__): importlib.import_module(f'weighmaster.core.{m.name}')"
    )
    bare = loaded_by("pass") | {"weighmaster"}
    assert {name for name in loaded - bare if name not in sys.stdlib_module_names} == set()
