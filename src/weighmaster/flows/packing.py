# SPDX-License-Identifier: Apache-2.0
"""Pack a model: tensor by tensor, shard by shard, resumable, read back whole before it is called done."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias

from weighmaster.core.digest import TensorDigest
from weighmaster.core.tensor import TensorView
from weighmaster.durable import locked, write_atomically
from weighmaster.engines.hashlib_engine import HashlibEngine
from weighmaster.flows.pack_output import Output, make_output
from weighmaster.flows.pack_plan import (
    ENCODER_VERSION,
    Wish,
    make_wish,
    new_encoder,
    require_same_plan,
    resumed_encoder,
)
from weighmaster.flows.pack_resume import require_of_source, require_own
from weighmaster.flows.pack_source import ModelFiles, model_files, packed_config
from weighmaster.flows.pack_verification import require_whole
from weighmaster.flows.selftest import require_self_test
from weighmaster.pack.backends import best
from weighmaster.pack.index import INDEX, index_bytes
from weighmaster.pack.index_rules import CONFIG, SHARD_INDEX, SOURCE, is_code, shard_names
from weighmaster.pack.journal import JOURNAL, Finished, Plan, append, read_journal, start_journal
from weighmaster.pack.packed import FIVE, EncoderRecord, Index, PackedFile, PackedTensor
from weighmaster.pack.plan import Coded, Encoder
from weighmaster.pack.reader import Pack, rebuild
from weighmaster.pack.shards import SHARD_BYTES, fixed_bytes, plan_shards, shard_index_bytes
from weighmaster.pack.writer import Spool

__all__ = ["PackResult", "Step", "Watch", "pack_model"]

_ENCODER: Final = "weighmaster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of the work that is done.

    Attributes:
        stage: ``digest``, ``pack`` or ``read back``.
        nbytes: bytes of the model that were just done.
        total: bytes of the stage.
        tensors: tensors that were just done.
        of_tensors: tensors of the stage, 0 where there are none.
    """

    stage: str
    nbytes: int
    total: int
    tensors: int = 0
    of_tensors: int = 0


Watch: TypeAlias = Callable[[Step], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackResult:
    """A pack that was written and read back.

    Attributes:
        path: its directory.
        root: pack root.
        bits_per_weight: real: of every byte needed to rebuild and check the tensors.
        index: what it says.
        resumed: shards that an earlier run had finished.
        left: paths of weight files of the source that are not in it.
    """

    path: Path
    root: str
    bits_per_weight: Fraction
    index: Index
    resumed: int
    left: tuple[str, ...]


def pack_model(  # each keyword is a decision of the caller
    source: Path | str,
    out: Path | str,
    *,
    bits: Decimal | str | float | None = None,
    profile: str | None = None,
    calibration: Path | str | None = None,
    shard_bytes: int = SHARD_BYTES,
    watch: Watch | None = None,
) -> PackResult:
    """Write the pack of a model to a directory; a run that was killed is gone on with by the same call.

    Shards get their final names one by one, whole; the index comes last, after every tensor was read back from disk and
    compared: with digests of the source where nothing may be lost, with what the encoder meant elsewhere. A directory
    without index is no pack. An earlier run is gone on with only where nobody else can have written: its directory and
    journal have to belong to this user, be writable by nobody else, and be no links.

    Args:
        source: a Hugging Face directory, or a safetensors file.
        out: the directory of the pack: new, empty, or that of an unfinished run.
        bits: real bits per weight, 3 to 8 in steps of 0.1; None for the profile ``exact``.
        profile: ``exact``, ``datafree`` or ``calibrated``; by default ``datafree`` where bits are given.
        calibration: for ``calibrated``: ``"self"`` (the default: text that the model writes), or a file of tokens.
        shard_bytes: bytes of the source per shard.
        watch: is told of the progress.

    Raises:
        UsageError: source, directory and wishes do not fit together, another process is at work in the directory, or
            others can have written the unfinished run in it.
        MalformedArtefact: a file breaks its format.
        SourceFault: the source changed meanwhile.
        NotAdmitted: what was read back is not what was written, or a shard of an earlier run is not of this source.
        StorageError: the file system refused; finished shards are kept.
    """
    wish = make_wish(bits, profile, calibration)
    require_self_test()
    report = watch or _silent
    with model_files(Path(source), lambda n, total: report(Step(stage="digest", nbytes=n, total=total))) as model:
        output = make_output(Path(out))
        with locked(output.path, wait=False):
            return _Run(model, output, wish, shard_bytes, report).run()


class _Run:
    """One call of `pack_model`, the source open and the directory locked."""

    def __init__(self, model: ModelFiles, output: Output, wish: Wish, shard_bytes: int, watch: Watch) -> None:
        self.model, self.output, self.wish, self.shard_bytes, self.watch = model, output, wish, shard_bytes, watch
        self.groups = plan_shards(model.views, shard_bytes)
        self.names = shard_names(len(self.groups))
        self.engine, self.backend = HashlibEngine(), best()

    def run(self) -> PackResult:
        with self.output.workspace() as work:
            plan, shards, resumed = self._shards(work)
        index = _index(plan, self.names, shards, [*(s.file for s in shards), *self._other_files(shards)])
        data = index_bytes(index)
        root, bits = self._read_back(data)
        write_atomically(self.output.path / INDEX, data)
        self.output.finish()
        return PackResult(
            path=self.output.path, root=root, bits_per_weight=bits, index=index, resumed=resumed, left=self.model.left
        )

    def _shards(self, work: Path) -> tuple[Plan, list[Finished], int]:
        """Make the shards that are not there yet; return the plan, all of them, and how many were there."""
        encoder, plan, finished = self._begin(work)
        resumed = len(finished)
        for position, (name, group) in enumerate(zip(self.names, self.groups, strict=True)):
            if name in finished:
                self._report("pack", sum(view.nbytes for view in group), len(group))
            else:
                finished[name] = self._shard(encoder, position, group)
        return plan, [finished[name] for name in self.names], resumed

    def _report(self, stage: str, nbytes: int, tensors: int = 1) -> None:
        total, of = self.model.nbytes, len(self.model.views)
        self.watch(Step(stage=stage, nbytes=nbytes, total=total, tensors=tensors, of_tensors=of))

    # -- the plan ----------------------------------------------------------------------------------------------------

    def _begin(self, work: Path) -> tuple[Encoder, Plan, dict[str, Finished]]:
        """Return the encoder, the plan, and the shards that are there already."""
        require_own(self.output.path)
        self.output.clean([*self.names, SHARD_INDEX, *(other.path for other in self._others())])
        journal = read_journal(self.output.path)
        if journal is None:
            encoder, plan = self._plan(work)
            start_journal(self.output.path, plan)
            return encoder, plan, {}
        where = str(self.output.path / JOURNAL)
        require_same_plan(journal.plan, self.wish, self.model, self.shard_bytes, where)
        encoder = resumed_encoder(self.wish, self.model, journal.plan, work)
        done = {f.file.path: f for f in journal.finished}
        finished = {name: done[name] for name in self.names if name in done and self.output.holds(done[name].file)}
        for position, (name, group) in enumerate(zip(self.names, self.groups, strict=True)):
            if name in finished:
                require_of_source(finished[name], group, position, self.wish.profile, self.engine, where)
        return encoder, journal.plan, finished

    def _plan(self, work: Path) -> tuple[Encoder, Plan]:
        encoder, calibration = new_encoder(self.wish, self.model, self._fixed(), work)
        record = EncoderRecord(
            name=_ENCODER,
            version=ENCODER_VERSION,
            profile=self.wish.profile,
            bits=self.wish.bits_text,
            parameters=tuple(sorted(encoder.parameters().items())),
        )
        plan = Plan(
            source=self.model.weights,
            others=self.model.others,
            encoder=record,
            calibration=calibration,
            shard_bytes=self.shard_bytes,
            state=encoder.state(),
        )
        return encoder, plan

    def _fixed(self) -> int:
        calibrated = self.wish.profile == "calibrated"
        return fixed_bytes(self.groups, source=self.model.weights, others=self._others(), calibrated=calibrated)

    def _others(self) -> tuple[PackedFile, ...]:
        """Return the files beside the shards: each under ``source/``, and all but code where runtimes look as well."""
        twins = (dataclasses.replace(f, path=SOURCE + f.path) for f in self.model.others)
        return (*(f for f in self.model.others if not is_code(f.path)), *twins)

    # -- shards ------------------------------------------------------------------------------------------------------

    def _shard(self, encoder: Encoder, position: int, group: Sequence[TensorView]) -> Finished:
        """Write one shard, and note in the journal that it is there."""
        tensors, errors, squares, stored = [], [], [], 0
        with Spool(self.output.path) as spool:
            for view in group:
                coded = encoder.encode(view)
                tensors.append(self._entry(view, coded, position))
                spool.add(view.name, coded.blob)
                stored += len(coded.blob)
                errors.append(coded.squared_error)
                squares.append(coded.squared)
                del coded  # one blob in memory at a time
                self._report("pack", view.nbytes)
            self.model.checkpoint.check_unchanged()
            file = spool.write(self.output.path / self.names[position], tensors)
        finished = Finished(
            file=file,
            stored=stored,
            tensors=tuple(tensors),
            squared_error=math.fsum(errors),
            squared=math.fsum(squares),
        )
        append(self.output.path, finished)
        return finished

    def _entry(self, view: TensorView, coded: Coded, position: int) -> PackedTensor:
        tensor = PackedTensor(
            name=view.name,
            dtype=view.dtype,
            shape=view.shape,
            codec=coded.codec,
            shard=position,
            blob=hashlib.sha256(coded.blob).hexdigest(),
            sha256="",
            fsverity64k="",
        )
        digest = self._digest(view, tensor, coded)
        return dataclasses.replace(tensor, sha256=digest.sha256, fsverity64k=digest.fsverity64k)

    def _digest(self, view: TensorView, tensor: PackedTensor, coded: Coded) -> TensorDigest:
        """Return the digests of what a reader has to rebuild: the source, wherever nothing may be lost."""
        if coded.codec == FIVE:
            data = rebuild(tensor, memoryview(coded.blob), view.name, self.backend, threads=self.engine.threads).data
            view = dataclasses.replace(view, read=lambda start, stop: data[start:stop])
        return self.engine.digest([view])[0]

    # -- the rest ----------------------------------------------------------------------------------------------------

    def _other_files(self, shards: Sequence[Finished]) -> Iterator[PackedFile]:
        """Write the files beside the shards."""
        if len(shards) > 1:
            shard_of = sorted((tensor.name, tensor.shard) for shard in shards for tensor in shard.tensors)
            total = sum(shard.stored for shard in shards)
            yield self.output.write(SHARD_INDEX, [shard_index_bytes(self.names, shard_of, total)])
        for other in self.model.others:
            yield self.output.write(SOURCE + other.path, self.model.pieces(other))
            if not is_code(other.path):
                yield self.output.write(other.path, self._beside(other))

    def _beside(self, other: PackedFile) -> Iterator[bytes]:
        if other.path == CONFIG:
            yield packed_config(b"".join(self.model.pieces(other)), f"{self.model.path}/{CONFIG}")
        else:
            yield from self.model.pieces(other)

    def _read_back(self, data: bytes) -> tuple[str, Fraction]:
        """Read everything from disk and compare it with the index, which is not there yet; return root and bits.

        Tensors without loss are those of the source, as the index has the source's digests: taken when a shard was
        written, and for shards of an earlier run taken again. Of tensors with loss the index has the digests of what
        the encoder meant; those of an earlier run are as its journal noted them, in a directory that is ours alone.
        """
        also = frozenset({JOURNAL})
        with Pack(self.output.path, data, also=also, backend=self.backend, threads=self.engine.threads) as pack:
            require_whole(pack, progress=lambda nbytes: self._report("read back", nbytes))
            self.model.checkpoint.check_unchanged()
            return pack.root, pack.bits_per_weight()


def _index(plan: Plan, names: tuple[str, ...], shards: Sequence[Finished], files: Sequence[PackedFile]) -> Index:
    tensors = (tensor for shard in shards for tensor in shard.tensors)
    return Index(
        encoder=plan.encoder,
        calibration=plan.calibration,
        source=plan.source,
        files=tuple(sorted(files, key=lambda file: file.path.encode("utf-8"))),
        shards=names,
        tensors=tuple(sorted(tensors, key=lambda tensor: tensor.name.encode("utf-8"))),
        relative_squared_error=_deviation(shards),
    )


def _deviation(shards: Sequence[Finished]) -> str:
    error, squared = math.fsum(s.squared_error for s in shards), math.fsum(s.squared for s in shards)
    return f"{error / squared:.12f}" if error and squared else "0"


def _silent(_step: Step) -> None:
    """Report to nobody."""
