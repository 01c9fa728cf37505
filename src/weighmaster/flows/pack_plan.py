# SPDX-License-Identifier: Apache-2.0
"""What a pack is asked to be, and the encoder that makes it so: planned anew, or gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from weighmaster.errors import UsageError
from weighmaster.flows.pack_calibration import calibrate_on
from weighmaster.flows.pack_source import ModelFiles
from weighmaster.pack.journal import Plan
from weighmaster.pack.packed import Calibration, PackedFile
from weighmaster.pack.plan import Encoder, plan_calibrated, plan_datafree, plan_exact, resume

__all__ = ["ENCODER_VERSION", "Wish", "make_wish", "new_encoder", "require_same_plan", "resumed_encoder"]

ENCODER_VERSION: Final = "1"
"""Of what our encoders make of the same input: an unfinished run is not gone on with by another version."""

_LEAST: Final = Decimal(3)
_MOST: Final = Decimal(8)
_STEP: Final = Decimal("0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a pack is asked to be.

    Attributes:
        profile: ``exact``, ``datafree`` or ``calibrated``.
        bits: real bits per weight, or None for ``exact``.
        calibration: ``self``, a file of tokens, or None where nothing is calibrated.
    """

    profile: str
    bits: Decimal | None
    calibration: str | None

    @property
    def bits_text(self) -> str | None:
        """The bits as the index has them."""
        return None if self.bits is None else format(self.bits.normalize(), "f")


def make_wish(bits: Decimal | str | float | None, profile: str | None, calibration: Path | str | None) -> Wish:
    """Return what is asked for, checked.

    Raises:
        UsageError: it does not fit together.
    """
    number = None if bits is None else _number(bits)
    profile = profile or ("exact" if number is None else "datafree")
    if profile not in {"exact", "datafree", "calibrated"}:
        raise UsageError(f"profile: expected exact, datafree or calibrated, found {profile!r}")
    if (profile == "exact") != (number is None):
        found = "no bits" if number is None else f"{number} bits"
        raise UsageError(
            f"profile {profile}: expected {'no bits' if profile == 'exact' else 'bits, 3 to 8'}, found {found}"
        )
    if calibration is not None and profile != "calibrated":
        raise UsageError(f"calibration: has no meaning for the profile {profile}")
    wanted = None if profile != "calibrated" else str(calibration or "self")
    return Wish(profile=profile, bits=number, calibration=wanted)


def _number(bits: Decimal | str | float) -> Decimal:
    try:
        number = Decimal(str(bits))
    except InvalidOperation:
        raise UsageError(f"bits: expected a number, found {bits!r}") from None
    if not number.is_finite() or not _LEAST <= number <= _MOST or number % _STEP:
        raise UsageError(f"bits: expected 3 to 8 in steps of 0.1, found {bits}")
    return number


def new_encoder(wish: Wish, model: ModelFiles, fixed: int, work: Path) -> tuple[Encoder, Calibration | None]:
    """Plan an encoder.

    Args:
        wish: what is asked for.
        model: its tensors.
        fixed: what a pack takes beside the blobs, in bytes.
        work: where a calibration may make a directory for its matrices; they are read until the pack is done.
    """
    if wish.bits is None:
        return plan_exact(), None
    if wish.calibration is None:
        return plan_datafree(model.views, bits=wish.bits, fixed_bytes=fixed), None
    statistics, calibration = calibrate_on(model, wish.calibration, work)
    return plan_calibrated(model.views, statistics, bits=wish.bits, fixed_bytes=fixed), calibration


def require_same_plan(plan: Plan, wish: Wish, model: ModelFiles, shard_bytes: int, file: str) -> None:
    """Hold an unfinished run against what is asked for now.

    Raises:
        UsageError: it is of another model, or was asked for something else; names what.
    """
    kind = None if plan.calibration is None else plan.calibration.kind
    wanted = None if wish.calibration is None else "self" if wish.calibration == "self" else "file"
    pairs: list[tuple[str, object, object]] = [
        ("profile", plan.encoder.profile, wish.profile),
        ("bits", plan.encoder.bits, wish.bits_text),
        ("calibration", kind, wanted),
        ("bytes of the source per shard", plan.shard_bytes, shard_bytes),
        ("version of the encoder", plan.encoder.version, ENCODER_VERSION),
        *_file_pairs(plan.source, model.weights),
        *_file_pairs(plan.others, model.others),
    ]
    for what, before, now in pairs:
        if before != now:
            raise UsageError(
                f"{file}: an unfinished pack of something else is here: {what}: {before} there, {now} now; "
                "call it with what it was begun with, or choose a new directory"
            )


def _file_pairs(before: tuple[PackedFile, ...], now: tuple[PackedFile, ...]) -> Iterator[tuple[str, object, object]]:
    was, has = ({file.path: file.sha256 for file in files} for files in (before, now))
    return ((f"SHA-256 of {path}", was.get(path), has.get(path)) for path in sorted(was.keys() | has.keys()))


def resumed_encoder(wish: Wish, model: ModelFiles, plan: Plan, work: Path) -> Encoder:
    """Return the encoder of an unfinished run; a calibration is made again, and has to come out the same.

    Raises:
        UsageError: it is on other tokens.
        MalformedArtefact: it came out differently, or the state is none.
    """
    if wish.calibration is None:
        return resume(plan.state)
    statistics, calibration = calibrate_on(model, wish.calibration, work)
    if calibration != plan.calibration:
        before = "none" if plan.calibration is None else f"{plan.calibration.tokens}, SHA-256 {plan.calibration.sha256}"
        found = f"{calibration.tokens}, SHA-256 {calibration.sha256}"
        raise UsageError(f"calibration: the unfinished pack was begun on other tokens: {before} there, {found} now")
    return resume(plan.state, statistics)
