# SPDX-License-Identifier: Apache-2.0
"""The statement that a seal over a pack signs: an in-toto Statement v1 with a predicate of its own (spec/pack.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from weighmaster.core.canonical import dumps, loads_canonical
from weighmaster.core.derivation import PACK_FORMAT, Encoder, Report, calibration_problems, read_encoder, read_report
from weighmaster.core.fields import Fields
from weighmaster.core.statement import STATEMENT_TYPE
from weighmaster.errors import MalformedArtefact

__all__ = ["PREDICATE_TYPE", "PackStatement", "parse_pack_statement"]

PREDICATE_TYPE: Final = "https://weighmaster.dev/pack/v1"
_HEX256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackStatement:
    """What persons say of one pack. See ``spec/pack.md`` for each field.

    Attributes:
        product: name of the product that the pack is for.
        version: the product's own version text.
        serial: integer, of the same rising numbers as the manifests of the product.
        root: the pack root.
        encoder: as the index names it.
        calibration: SHA-256 of the calibration tokens, or None.
        tensors: root of the table that the rebuilt tensors have at rest (stage S0, view ``logical``).
        reports: that the signers refer to.
    """

    product: str
    version: str
    serial: int
    root: str
    encoder: Encoder
    calibration: str | None
    tensors: str
    reports: tuple[Report, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no statement.

        Raises:
            ValueError: an empty text, a negative serial, something that is no digest, a report that stands twice, or a
                calibration that does not fit the profile.
        """
        if not self.product or not self.version or self.serial < 0:
            found = f"found {self.product!r}, {self.version!r} and {self.serial}"
            raise ValueError(f"product and version must not be empty, and serial not negative; {found}")
        for digest in filter(None, (self.root, self.tensors, self.calibration)):
            if not _HEX256.fullmatch(digest):
                raise ValueError(f"expected 64 lowercase hexadecimal digits, found {digest[:80]!r}")
        if len({r.sha256 for r in self.reports}) != len(self.reports):
            raise ValueError("a report stands twice")
        for problem in calibration_problems(self.encoder, self.calibration):
            raise ValueError(problem)

    def to_bytes(self) -> bytes:
        """Return the RFC 8785 bytes that are signed."""
        predicate = {
            "calibration": self.calibration,
            "encoder": self.encoder.to_json(),
            "format": PACK_FORMAT,
            "product": self.product,
            "reports": [r.to_json() for r in self.reports],
            "serial": self.serial,
            "tensors": self.tensors,
            "version": self.version,
        }
        return dumps(
            {
                "_type": STATEMENT_TYPE,
                "predicate": predicate,
                "predicateType": PREDICATE_TYPE,
                "subject": [{"digest": {"sha256": self.root}, "name": "pack"}],
            }
        )


def parse_pack_statement(data: bytes, file: str) -> PackStatement:
    """Parse the payload of a pack's seal, strictly; call it after a signature over `data` holds.

    Raises:
        MalformedArtefact: not canonical, of another type, or a field is wrong or unknown.
    """
    top = Fields(loads_canonical(data, file), file=file)
    top.text("_type", choices=(STATEMENT_TYPE,))
    top.text("predicateType", choices=(PREDICATE_TYPE,))
    roots = top.objects("subject", _read_subject)
    predicate = top.nested("predicate")
    top.done()
    if len(roots) != 1:
        raise top.fault("subject", "exactly one subject, the pack", str(len(roots)))
    return _read_predicate(predicate, roots[0])


def _read_subject(fields: Fields) -> str:
    fields.text("name", choices=("pack",))
    digest = fields.nested("digest")
    root = digest.digest("sha256")
    digest.done()
    return root


def _read_predicate(fields: Fields, root: str) -> PackStatement:
    fields.text("format", choices=(PACK_FORMAT,))
    try:
        statement = PackStatement(
            product=fields.text("product"),
            version=fields.text("version"),
            serial=fields.integer("serial"),
            root=root,
            encoder=read_encoder(fields.nested("encoder")),
            calibration=fields.optional_digest("calibration"),
            tensors=fields.digest("tensors"),
            reports=fields.objects("reports", read_report),
        )
    except ValueError as error:
        raise MalformedArtefact(fields.file, fields.path, expected="a statement", found=str(error)) from None
    fields.done()
    return statement
