# SPDX-License-Identifier: Apache-2.0
"""Write our own SBOM: CycloneDX 1.6, the package and what it depends on, with ranges and the versions it was run with.

Names and ranges come from ``pyproject.toml``, versions, licences and suppliers from the metadata of what is installed:
with the versions of ``constraints.txt`` the same commit gives the same bytes. The document is validated strictly before
it is written. Only direct dependencies are listed, and the document says so; what an installation resolves further is
its own SBOM's to tell.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from weighmaster.durable import write_atomically
from weighmaster.probe.installation import TOOL_EXTRAS

ROOT: Final = Path(__file__).resolve().parents[1]
_SUPPLIERS: Final = ("Author", "Maintainer", "Author-email", "Maintainer-email")
_SPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562, name space URL


class SbomError(Exception):
    """The SBOM cannot be made, or is not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A direct dependency: its range, the extra that asks for it (None: always), and what is installed of it."""

    name: str
    bounds: str
    extra: str | None
    metadata: importlib.metadata.PackageMetadata | None

    @property
    def version(self) -> str | None:
        """Version that the tests run with, or None where it is not installed."""
        return str(self.metadata["Version"]) if self.metadata is not None else None

    @property
    def purl(self) -> str:
        """Package URL, with the version where there is one."""
        return f"pkg:pypi/{self.name}" + (f"@{self.version}" if self.version else "")


def dependencies(project: Mapping[str, Any]) -> tuple[Dependency, ...]:
    """Return the direct dependencies of the package and of each extra that serves a model; ours among them left out."""
    wanted = [(text, None) for text in project["dependencies"]]
    for extra, texts in sorted(project["optional-dependencies"].items()):
        if extra not in TOOL_EXTRAS:
            wanted += [(text, extra) for text in texts]
    own = canonicalize_name(project["name"])
    read = [(Requirement(text), extra) for text, extra in wanted]
    return tuple(
        Dependency(name=canonicalize_name(r.name), bounds=str(r.specifier), extra=extra, metadata=_metadata_of(r.name))
        for r, extra in read
        if canonicalize_name(r.name) != own
    )


def _metadata_of(name: str) -> importlib.metadata.PackageMetadata | None:
    try:
        return importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def sbom(project: Mapping[str, Any], version: str, epoch: int, wheel: bytes | None = None) -> dict[str, Any]:
    """Return the document.

    Args:
        project: the table ``project`` of ``pyproject.toml``.
        version: of the package.
        epoch: time of the release, in seconds since 1970.
        wheel: bytes of the wheel, to bind the document to it.
    """
    found = dependencies(project)
    own = f"pkg:pypi/{project['name']}@{version}"
    content: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycles": [{"phase": "build"}],
            "authors": [{"name": author["name"]} for author in project["authors"]],
            "component": _own_component(project, version, own, wheel),
        },
        "components": [_component(d) for d in found],
        "dependencies": [
            {"ref": own, "dependsOn": [_ref(d) for d in found]},
            *({"ref": _ref(d), "dependsOn": []} for d in found),
        ],
        "compositions": [
            {"aggregate": "complete", "dependencies": [own]},
            {"aggregate": "incomplete", "dependencies": [_ref(d) for d in found]},
        ],
    }
    # Not random: the same content has the same serial number, and other content another one.
    name = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, hashlib.sha256(name.encode()).hexdigest())}"}


def _own_component(project: Mapping[str, Any], version: str, ref: str, wheel: bytes | None) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": ref,
        "name": project["name"],
        "version": version,
        "description": project["description"],
        "supplier": {"name": project["authors"][0]["name"]},
        "licenses": [{"license": {"id": project["license"]}}],
        "purl": ref,
        "properties": [{"name": "weighmaster:requires-python", "value": project["requires-python"]}],
    }
    if wheel is not None:
        component["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(wheel).hexdigest()}]
    return component


def _ref(dependency: Dependency) -> str:
    return f"{dependency.purl}#{dependency.extra or 'required'}"


def _component(dependency: Dependency) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(dependency),
        "name": dependency.name,
        "scope": "optional" if dependency.extra else "required",
        "purl": dependency.purl,
        "properties": list(_properties(dependency)),
    }
    if dependency.version:
        component["version"] = dependency.version
    if dependency.metadata is not None:
        component |= _supplier(dependency.metadata) | _licences(dependency.metadata)
    return component


def _properties(dependency: Dependency) -> Iterator[dict[str, str]]:
    yield {"name": "weighmaster:range", "value": dependency.bounds or "any"}
    yield {"name": "weighmaster:extra", "value": dependency.extra or "none: always needed"}
    yield {"name": "weighmaster:run-with", "value": dependency.version or "not run"}


def _supplier(metadata: importlib.metadata.PackageMetadata) -> dict[str, Any]:
    found = next((metadata[key] for key in _SUPPLIERS if metadata[key]), None)
    return {"supplier": {"name": str(found).split("<")[0].strip(' "') or str(found)}} if found else {}


def _licences(metadata: importlib.metadata.PackageMetadata) -> dict[str, Any]:
    """Return the licence as the package states it: an SPDX expression, a classifier, or one line of text."""
    if metadata["License-Expression"]:
        return {"licenses": [{"expression": metadata["License-Expression"]}]}
    classifiers = [c for c in metadata.get_all("Classifier") or () if c.startswith("License :: ")]
    if classifiers:
        return {"licenses": [{"license": {"name": c.rsplit(" :: ", 1)[-1]}} for c in classifiers]}
    text = (metadata["License"] or "").strip()
    return {"licenses": [{"license": {"name": text}}]} if text and "\n" not in text else {}


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """Return the document as it is published, after validating it strictly against the schema of CycloneDX 1.6.

    Raises:
        SbomError: it is not valid.
    """
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise SbomError(f"not a valid CycloneDX 1.6 document: {error}")
    return text.encode("utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``NAME-VERSION.cdx.json`` to a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder")
    parser.add_argument("--wheel", type=Path, help="wheel whose digest is recorded")
    args = parser.parse_args(argv)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None or not epoch.isdecimal():
        print("sbom: expected SOURCE_DATE_EPOCH, the time of the commit (git log -1 --format=%ct)", file=sys.stderr)
        return 2
    wheel = args.wheel.read_bytes() if args.wheel else None
    try:
        data = to_bytes(sbom(project, project["version"], int(epoch), wheel))
    except SbomError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{project['name']}-{project['version']}.cdx.json"
    write_atomically(path, data)
    print(f"{hashlib.sha256(data).hexdigest()}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
