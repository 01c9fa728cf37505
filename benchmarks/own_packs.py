# SPDX-License-Identifier: Apache-2.0
"""Our packs as a user makes them: ``weighmaster pack``, ``weighmaster unpack``, and plain safetensors that come out."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from measure import note
from peers import Rebuilt
from subjects import CAUSAL, elements, load_tensors

__all__ = ["Candidate", "asked_for", "is_made", "made", "pack_of", "real_bits"]

INDEX: Final = ("pack.index", "model.safetensors.index.json")
TARGETS: Final = {"calibrated": (5.0, 4.5, 4.0), "datafree": (5.0, 4.5, 5.5)}
"""Bits that the targets name; without data also those of the most common peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that a pack was unpacked to: plain safetensors, and the real bits of the pack.

    Attributes:
        model: which model it was made from.
        profile: of the encoder.
        asked: bits that were asked for.
        directory: of the safetensors files.
        bits: real bits per weight of the pack, 8 x all its bytes / all parameters.
        key: the pack root.
    """

    model: str
    profile: str
    asked: float
    directory: Path
    bits: float
    key: str = ""

    @classmethod
    def read(cls, text: str) -> Candidate:
        """Read ``MODEL/PROFILE ASKED=DIRECTORY:BITS``."""
        found = re.fullmatch(r"([^/=]+)/(\w+) ([0-9.]+)=(.+):([0-9.]+)", text)
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r}: expected 'MODEL/PROFILE ASKED=DIRECTORY:BITS'")
        model, profile, asked, directory, bits = found.groups()
        return cls(model=model, profile=profile, asked=float(asked), directory=Path(directory), bits=float(bits))

    def rebuilt(self, count: int) -> Rebuilt:
        """Read the tensors; `count` is the number of the model's parameters."""
        return Rebuilt(
            name=f"{self.profile} {self.asked:.1f}",
            what=f"`weighmaster pack --profile {self.profile} --bits {self.asked:.1f}`, unpacked",
            nbytes=round(self.bits * count / 8),
            tensors={name: tensor.float() for name, tensor in load_tensors(self.directory).items()},
            calibrated=self.profile == "calibrated",
            key=self.key,
        )


def asked_for(model: str, peers: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield profile and bits of every pack that a model is measured at: what the targets name, then what peers take.

    A peer's bits are rounded down to a tenth, so that the pack is never the larger of the two.
    """
    kind = "causal" if model in CAUSAL else "encoder"
    equal = {math.floor(10 * row["bits"]) / 10 for row in peers[kind].get(model, {"methods": ()})["methods"]}
    for profile, bits in TARGETS.items():
        yield from ((profile, asked) for asked in bits)
    yield from (("calibrated", asked) for asked in sorted({min(b, 8.0) for b in equal} - set(TARGETS["calibrated"])))


def made(source: Path, model: str, wanted: Iterable[tuple[str, float]], work: Path) -> Iterator[Candidate]:
    """Pack a model at each profile and bits and unpack it; what `work` holds from an earlier run is not made again."""
    for profile, asked in wanted:
        pack = pack_of(work, model, profile, asked)
        plain = pack.with_name(f"{pack.name}-unpacked")
        if not is_made(pack):  # the same command goes on where an interrupted one was
            note(f"    {model}: pack at {asked:.1f} bits, {profile}")
            _weighmaster("pack", source, "-o", pack, "--bits", f"{asked:.1f}", "--profile", profile)
        if not plain.exists():
            _weighmaster("unpack", pack, "-o", plain)
        bits, root = real_bits(pack, source), hashlib.sha256((pack / INDEX[0]).read_bytes()).hexdigest()
        yield Candidate(model=model, profile=profile, asked=asked, directory=plain, bits=bits, key=root)


def pack_of(work: Path, model: str, profile: str, asked: float) -> Path:
    """Return where a pack lies in a folder of them."""
    return work / f"{model}-{profile}-{asked:.1f}"


def is_made(pack: Path) -> bool:
    """Whether a pack is whole: its index is written last."""
    return (pack / INDEX[0]).exists()


def real_bits(pack: Path, source: Path) -> float:
    """Return 8 x every byte needed to rebuild and check the tensors / all elements, counted on the files themselves."""
    files = [*pack.glob("*.safetensors"), *(pack / name for name in INDEX if (pack / name).exists())]
    return 8 * sum(path.stat().st_size for path in files) / elements(source)


def _weighmaster(*arguments: object) -> None:
    command = [sys.executable, "-m", "weighmaster.cli.main", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise SystemExit(f"weighmaster {arguments[0]}: exit code {done.returncode}: {done.stderr[-600:]}")
