# SPDX-License-Identifier: Apache-2.0
"""A manifest as a directory of files: write it whole, read it, and bind each file to the statement."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from weighmaster.core.digest import root_of_leaves
from weighmaster.core.environment import Environment, parse_environment
from weighmaster.core.manifest import Table, parse_table, split_leaves
from weighmaster.core.policy import Policy, parse_policy
from weighmaster.core.statement import Statement, TableEntry
from weighmaster.core.statement_reader import parse_statement
from weighmaster.core.structure import Structure, parse_structure
from weighmaster.durable import new_directory, read_whole, write_atomically
from weighmaster.errors import MalformedArtefact, SignatureFault, UsageError
from weighmaster.seal.bundle import Sealed, open_sealed

__all__ = ["Manifest", "SealedManifest", "bind", "next_bundle_name", "read_manifest", "write_manifest"]

STATEMENT: Final = "statement.json"
STRUCTURE: Final = "structure.jsonl"
ENVIRONMENT: Final = "environment.json"
POLICY: Final = "policy.json"
PROBE_SET: Final = "probe-set.safetensors"
BUNDLE: Final = re.compile(r"([a-z]+)-([1-9][0-9]{0,3})\.sigstore\.json")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that one weighing made. `write_manifest` and `read_manifest` keep it in a directory.

    Attributes:
        statement: what is to be signed, parsed.
        payload: the exact bytes of the statement.
        tables: in the order of the statement; the gate table among them.
        leaves: leaf digests of the gate table by primary name, bound to the table; empty where the file is not there.
        structure: or None for files.
        environment: or None for files.
        policy: under which a gate compares the environment, or None for files.
        probe_set: bytes of the probe-set file, or None where nothing was run.
    """

    statement: Statement
    payload: bytes
    tables: tuple[Table, ...]
    leaves: Mapping[str, bytes]
    structure: Structure | None
    environment: Environment | None
    policy: Policy | None
    probe_set: bytes | None

    @property
    def gate(self) -> Table:
        """The table that the gate compares."""
        entry = self.statement.gate_table
        return next(t for t in self.tables if (t.stage, t.view) == (entry.stage, entry.view))

    @property
    def root(self) -> str:
        """The identity of the weights: the Merkle root of the gate table."""
        return self.statement.gate_table.root

    def files(self) -> dict[str, bytes]:
        """Return the files of the manifest directory by name."""
        out = {STATEMENT: self.payload}
        for table in self.tables:
            out[table.file_name] = table.data
        if self.leaves:
            out[_leaves_name(self.statement.gate_table)] = b"".join(self.leaves[r.name] for r in self.gate.primaries)
        if self.structure is not None:
            out[STRUCTURE] = self.structure.data
        if self.environment is not None:
            out[ENVIRONMENT] = self.environment.to_bytes()
        if self.policy is not None:
            out[POLICY] = self.policy.to_bytes()
        if self.probe_set is not None:
            out[PROBE_SET] = self.probe_set
        return out

    def write(self, directory: Path | str) -> Path:
        """Write the manifest to a new directory (`write_manifest`)."""
        return write_manifest(self, Path(directory))


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedManifest:
    """The files of a manifest directory as they were read: nothing in them is believed yet.

    Attributes:
        origin: the directory, for messages.
        files: bytes by file name, bundles apart.
        bundles: (file name, bytes) of each bundle.
    """

    origin: str
    files: Mapping[str, bytes]
    bundles: tuple[tuple[str, bytes], ...]

    def sealed(self) -> Sealed:
        """Return the signatures and the payload that they are presented over.

        Raises:
            SignatureFault: there is no bundle, or bundles are over different statements.
            MalformedArtefact: a bundle does not follow its specification.
        """
        if not self.bundles:
            raise SignatureFault(self.origin, "is not signed", expected="at least one bundle", found="none")
        return open_sealed(self.bundles)


def _leaves_name(entry: TableEntry) -> str:
    return f"leaves.{entry.stage}.{entry.view}.bin"


def write_manifest(manifest: Manifest, directory: Path) -> Path:
    """Write `manifest` to `directory`, which must not exist: it appears whole or not at all.

    Raises:
        UsageError: `directory` exists.
        StorageError: the file system refused; nothing is left behind.
    """
    with new_directory(directory) as temporary:
        for name, data in manifest.files().items():
            write_atomically(temporary / name, data)
    return directory


def read_manifest(directory: Path | str) -> SealedManifest:
    """Read all files of a manifest directory, without believing any.

    Raises:
        UsageError: there is no such directory.
        MalformedArtefact: a file is there that no manifest has.
    """
    root = Path(directory)
    if not root.is_dir():
        raise UsageError(f"{root}: no such manifest directory")
    files: dict[str, bytes] = {}
    bundles: list[tuple[str, bytes]] = []
    for path in sorted(root.iterdir()):
        if BUNDLE.fullmatch(path.name):
            bundles.append((path.name, read_whole(path)))
        elif _known(path.name):
            files[path.name] = read_whole(path)
        else:
            raise MalformedArtefact(str(path), "", expected="only files of a manifest", found="an unknown file")
    return SealedManifest(origin=str(root), files=files, bundles=tuple(bundles))


def _known(name: str) -> bool:
    fixed = (STATEMENT, STRUCTURE, ENVIRONMENT, POLICY, PROBE_SET)
    return name in fixed or re.fullmatch(r"(tensors|leaves)\.S[0-4]\.(kernel|logical)\.(jsonl|bin)", name) is not None


def next_bundle_name(directory: Path, role: str) -> str:
    """Return the name of the next bundle of `role`: ``<role>-<n>.sigstore.json``."""
    taken = {p.name for p in directory.iterdir()}
    return next(name for n in range(1, 10_000) if (name := f"{role}-{n}.sigstore.json") not in taken)


def bind(payload: bytes, files: Mapping[str, bytes], origin: str) -> Manifest:
    """Parse the statement `payload` and bind every file that it names to it by digest.

    Call it after the signature over `payload` holds, or say plainly that no signature was checked.

    Raises:
        MalformedArtefact: the statement or a file does not follow its specification, or a file is missing or not named
            by the statement.
        SignatureFault: a file is not the one that the statement names: other digest, root, count or size.
    """
    statement = parse_statement(payload, f"{origin}/{STATEMENT}")
    ref = statement.environment
    reader = _Binder(origin, files)
    reader.same(STATEMENT, payload)
    tables = tuple(reader.table(entry) for entry in statement.tables)
    manifest = Manifest(
        statement=statement,
        payload=payload,
        tables=tables,
        leaves=reader.leaves(statement.gate_table, tables),
        structure=reader.document(STRUCTURE, statement.structure, parse_structure),
        environment=reader.document(ENVIRONMENT, ref.sha256 if ref else None, parse_environment),
        policy=reader.document(POLICY, ref.policy_sha256 if ref else None, parse_policy),
        probe_set=reader.document(PROBE_SET, statement.probe_set, lambda data, _file: data),
    )
    reader.done()
    _check_environment(manifest, origin)
    return manifest


class _Binder:
    """Takes files by name, each once, and compares them with what the statement says of them."""

    def __init__(self, origin: str, files: Mapping[str, bytes]) -> None:
        self.origin, self.left = origin, dict(files)

    def take(self, name: str) -> bytes:
        if name not in self.left:
            raise MalformedArtefact(
                f"{self.origin}/{name}", "", expected="the file that the statement names", found="none"
            )
        return self.left.pop(name)

    def same(self, name: str, data: bytes) -> None:
        """The unsigned copy of the statement, where it is, must be the signed bytes."""
        if self.left.pop(name, data) != data:
            raise SignatureFault(f"{self.origin}/{name}", "is not the statement that was signed")

    def document(self, name: str, digest: str | None, parse: Callable[[bytes, str], T]) -> T | None:
        if digest is None:
            return None
        data = self.take(name)
        self._require(name, "SHA-256", digest, hashlib.sha256(data).hexdigest())
        return parse(data, f"{self.origin}/{name}")

    def table(self, entry: TableEntry) -> Table:
        data = self.take(entry.file_name)
        self._require(entry.file_name, "SHA-256", entry.sha256, hashlib.sha256(data).hexdigest())
        table = parse_table(data, stage=entry.stage, view=entry.view, file=f"{self.origin}/{entry.file_name}")
        self._require(entry.file_name, "Merkle root", entry.root, table.root)
        self._require(entry.file_name, "rows", str(entry.count), str(len(table.rows)))
        self._require(entry.file_name, "bytes", str(entry.nbytes), str(table.nbytes))
        return table

    def leaves(self, entry: TableEntry, tables: tuple[Table, ...]) -> dict[str, bytes]:
        """Return leaf digests, each bound to its row by recomputing the fs-verity digest. The file is optional."""
        name = _leaves_name(entry)
        if name not in self.left:
            return {}
        table = next(t for t in tables if (t.stage, t.view) == (entry.stage, entry.view))
        leaves = split_leaves(table, self.take(name), f"{self.origin}/{name}")
        for row in table.primaries:
            found = root_of_leaves(leaves[row.name], row.nbytes).hex()
            self._require(f"{name}: {row.name}", "fs-verity digest", row.fsverity64k, found)
        return leaves

    def _require(self, name: str, what: str, expected: str, found: str) -> None:
        if expected != found:
            raise SignatureFault(
                f"{self.origin}/{name}", f"is not what the statement names: {what}", expected=expected, found=found
            )

    def done(self) -> None:
        for name in sorted(self.left):
            raise MalformedArtefact(
                f"{self.origin}/{name}", "", expected="only files that the statement names", found="another file"
            )


def _check_environment(manifest: Manifest, origin: str) -> None:
    ref, environment = manifest.statement.environment, manifest.environment
    if ref is not None and environment is not None and ref.class_digest != environment.class_digest:
        raise MalformedArtefact(
            f"{origin}/{ENVIRONMENT}", "class digest", expected=ref.class_digest, found=environment.class_digest
        )
