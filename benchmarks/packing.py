# SPDX-License-Identifier: Apache-2.0
"""Measure packing: memory and disk for a checkpoint larger than memory, real bits, and loading through a slow disk.

Everything is made here, in ``--work``, and removed afterwards. ``--gigabytes`` and ``--billions`` are the sizes of two
synthetic checkpoints; the weights are Gaussian, each tensor with a scale of its own. ``--quick`` is a smoke run that
writes no result.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from measure import machine, note, spent

from weighmaster.core.safetensors_write import Form, file_order, header_bytes

HERE: Final = Path(__file__).parent
RATE: Final = 500_000_000
"""Bytes per second of the token bucket."""
SHARD: Final = 2_000_000_000
POOL: Final = 1 << 24
ROW: Final = 4096
REPEATS: Final = 5


# -- synthetic checkpoints ---------------------------------------------------------------------------------------------


def forms(nbytes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes like a language model's, until they hold `nbytes` as bfloat16."""
    yield "model.embed_tokens.weight", (min(65_536, nbytes // (8 * ROW)), ROW)
    left, layer = nbytes - 2 * ROW * min(65_536, nbytes // (8 * ROW)), 0
    while left > 0:
        for name, shape in (
            ("input_layernorm.weight", (ROW,)),
            ("self_attn.q_proj.weight", (ROW, ROW)),
            ("self_attn.k_proj.weight", (1024, ROW)),
            ("self_attn.o_proj.weight", (ROW, ROW)),
            ("mlp.up_proj.weight", (11_008, ROW)),
            ("mlp.down_proj.weight", (ROW, 11_008)),
        ):
            if left <= 0:
                return
            yield f"model.layers.{layer:03}.{name}", shape
            left -= 2 * int(np.prod(shape))
        layer += 1


def synthesize(folder: Path, nbytes: int) -> dict[str, int]:
    """Write a sharded checkpoint; return its bytes and elements."""
    folder.mkdir(parents=True)
    pool = np.random.default_rng(1).standard_normal(POOL, np.float32)
    groups: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, shape in forms(nbytes):
        if size + 2 * int(np.prod(shape)) > SHARD and groups[-1]:
            groups.append([])
            size = 0
        groups[-1].append((name, shape))
        size += 2 * int(np.prod(shape))
    weight_map = {}
    for i, group in enumerate(groups, 1):
        file = f"model-{i:05}-of-{len(groups):05}.safetensors"
        _write_shard(folder / file, dict(group), pool, i)
        weight_map |= dict.fromkeys((name for name, _ in group), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text("{}")
    elements = sum(int(np.prod(shape)) for group in groups for _, shape in group)
    return {"bytes": sum(p.stat().st_size for p in folder.iterdir()), "elements": elements, "tensors": len(weight_map)}


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]], pool: np.ndarray[Any, Any], seed: int) -> None:
    """Write tensors: the pool of normal numbers from a drawn place on, times a drawn scale (0.005 to 0.08)."""
    drawn = np.random.default_rng(seed)
    listed: list[Form] = [(name, "bfloat16", shape, 2 * int(np.prod(shape))) for name, shape in shapes.items()]
    with path.open("wb") as file:
        file.write(header_bytes(listed, {"format": "pt"}))
        for name in file_order(listed):
            count, scale = int(np.prod(shapes[name])), np.float32(drawn.uniform(np.log(0.005), np.log(0.08)))
            at = int(drawn.integers(POOL))
            while count:
                piece = pool[at : at + count] * np.exp(scale)
                file.write(((piece.view(np.uint32) + 0x8000) >> 16).astype("<u2").tobytes())
                count, at = count - len(piece), 0
        file.flush()
        os.fsync(file.fileno())


# -- watching a child --------------------------------------------------------------------------------------------------


class Watched:
    """A command, and how much anonymous memory and disk it took at most."""

    def __init__(self, command: list[str], disk: Path) -> None:
        """Run it to its end, looking twenty times a second."""
        free, start = _free(disk), time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            self.anonymous, self.resident, self.disk, self.looks = 0, 0, 0, 0
            while child.poll() is None:
                self._look(child.pid, free - _free(disk))
                time.sleep(0.05)
            self.output = child.stdout.read() if child.stdout else ""
        self.wall, self.code = time.monotonic() - start, child.returncode
        if self.code:
            raise SystemExit(f"{command[2:5]}: exit code {self.code}")

    def _look(self, pid: int, taken: int) -> None:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        fields = {line.split(":")[0]: line.split(":")[1].split() for line in lines if line.startswith(("Rss", "VmHWM"))}
        if "RssAnon" in fields:
            self.anonymous = max(self.anonymous, 1024 * int(fields["RssAnon"][0]))
            self.resident = max(self.resident, 1024 * int(fields["VmHWM"][0]))
            self.looks += 1
        self.disk = max(self.disk, taken)

    def figures(self) -> dict[str, Any]:
        """Return what was seen."""
        return {
            "peak_anonymous": self.anonymous,
            "peak_resident": self.resident,
            "disk_taken": self.disk,
            "looks": self.looks,
            "wall": self.wall,
            "child": json.loads(self.output),
        }


def _free(path: Path) -> int:
    held = os.statvfs(path)
    return held.f_bfree * held.f_frsize


def child(*words: object) -> list[str]:
    return [sys.executable, __file__, "child", *map(str, words)]


def pack_child(source: Path, out: Path, bits: str) -> dict[str, Any]:
    """Pack in this process."""
    from weighmaster.flows.packing import pack_model

    kept: list[Any] = []
    figures = spent(lambda: kept.append(pack_model(source, out, bits=None if bits == "exact" else bits)))
    index, done = kept[0].index, kept[0]
    sizes = {file.path: file.size for file in index.files}
    return figures | {
        "bits": float(done.bits_per_weight),
        "asked": bits,
        "relative_squared_error": index.relative_squared_error,
        "shards": len(index.shards),
        "pack_bytes": sum(sizes.values()) + (out / "pack.index").stat().st_size,
        "index_bytes": (out / "pack.index").stat().st_size,
    }


def sink_child(pack: Path) -> dict[str, Any]:
    """Rebuild and check every tensor, and keep none: the sink that compares both digests, blobs and files."""
    from weighmaster.flows.pack_verification import verify_pack

    kept: list[Any] = []
    figures = spent(lambda: kept.append(verify_pack(pack)))
    return figures | {"bytes": kept[0].nbytes, "tensors": kept[0].tensors}


def memory(work: Path, nbytes: int) -> dict[str, Any]:
    """Pack a large checkpoint at 5 bits and read the pack into a verifying sink, each in a process of its own."""
    note(f"  {nbytes / 1e9:.1f} GB: making the checkpoint")
    out: dict[str, Any] = {"source": synthesize(work / "large", nbytes), "memory": _memory()}
    note("  packing")
    out["pack"] = Watched(child("pack", work / "large", work / "large.pack", "5"), work).figures()
    out["disk_with_source"] = out["source"]["bytes"] + out["pack"]["disk_taken"]
    shutil.rmtree(work / "large")
    note("  rebuilding into the sink")
    out["sink"] = Watched(child("sink", work / "large.pack"), work).figures()
    shutil.rmtree(work / "large.pack")
    return out


def _memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemTotal:")).split()[1])


# -- loading through a token bucket ------------------------------------------------------------------------------------


class Bucket:
    """Lets `os.pread` give `RATE` bytes a second, and no more than 8 MiB at once."""

    def __init__(self) -> None:
        self._real, self._lock = os.pread, threading.Lock()
        self._ready = time.monotonic()

    def pread(self, fd: int, count: int, at: int) -> bytes:
        """Read, and wait until the bytes could have come."""
        data = self._real(fd, min(count, 8 << 20), at)
        with self._lock:
            self._ready = max(self._ready, time.monotonic() - 0.02) + len(data) / RATE
            until = self._ready
        time.sleep(max(0.0, until - time.monotonic()))
        return data


def slowly(work: Callable[[], object]) -> dict[str, float]:
    """Run `work` with every `os.pread` through one new bucket."""
    bucket = Bucket()
    os.pread = bucket.pread
    try:
        return spent(work)
    finally:
        os.pread = bucket._real


def forget(folder: Path) -> None:
    """Drop the files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def load_plain(folder: Path) -> None:
    """Read every tensor of a checkpoint and compare each file's SHA-256, reading ahead of the hash: each byte once."""
    sums = json.loads((folder / "sums.json").read_text())
    for path in sorted(folder.glob("*.safetensors")):
        if _hashed(path) != sums[path.name]:
            raise SystemExit(f"{path.name}: another digest")


def _hashed(path: Path) -> str:
    state, pieces = hashlib.sha256(), queue.Queue[bytes | None](4)

    def read() -> None:
        with path.open("rb") as file:
            at = 0
            while piece := os.pread(file.fileno(), 8 << 20, at):
                pieces.put(piece)
                at += len(piece)
        pieces.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    held = []
    while (piece := pieces.get()) is not None:
        state.update(piece)
        held.append(piece)  # the tensors of the model
    reader.join()
    return state.hexdigest()


def load_pack(folder: Path) -> None:
    """Open a pack and take every tensor, each compared with its digest before it is handed out."""
    from weighmaster.pack.reader import open_pack

    with open_pack(folder) as pack:
        held = dict(pack.items())
        if len(held) != len(pack):
            raise SystemExit("tensors are missing")


def disk(folder: Path) -> None:
    """Read the files as they come."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.read(8 << 20):
                pass


def cold(work: Path, nbytes: int, repeats: int, niceness: int) -> dict[str, Any]:
    """Load one model from plain files and from packs, cold, through the bucket, at a niceness of its own."""
    from weighmaster.pack.backends import describe

    source = synthesize(work / "small", nbytes)
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (work / "small").glob("*.safetensors")}
    (work / "small" / "sums.json").write_text(json.dumps(sums))
    packs = {name: pack_child(work / "small", work / f"small.{name}", name) for name in ("5", "exact")}
    cases: dict[str, tuple[Path, Callable[[Path], None]]] = {
        "plain": (work / "small", load_plain),
        "pack_5": (work / "small.5", load_pack),
        "pack_exact": (work / "small.exact", load_pack),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (*cases, "disk", "pack_5_fast", "plain_fast")}
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    for number in range(repeats):
        for name, (folder, load) in cases.items():
            forget(folder)
            runs[name].append(slowly(lambda load=load, folder=folder: load(folder)))  # type: ignore[misc]
        forget(work / "small")
        runs["disk"].append(spent(lambda: disk(work / "small")))
        runs["plain_fast"].append(spent(lambda: load_plain(work / "small")))
        runs["pack_5_fast"].append(spent(lambda: load_pack(work / "small.5")))
        note(f"    repeat {number + 1} of {repeats}")
    os.setpriority(os.PRIO_PROCESS, 0, before)
    for folder in ("small", "small.5", "small.exact"):
        shutil.rmtree(work / folder)
    facts = {"rate": RATE, "decoder": describe(), "niceness": niceness}
    return {"source": source, "packs": packs, "runs": runs, **facts}


# -- the whole ---------------------------------------------------------------------------------------------------------


def real_bits(work: Path, elements: int) -> dict[str, Any]:
    """Pack a synthetic of `elements` weights at 5.0 bits; what counts is the size of the files."""
    source = synthesize(work / "billion", 2 * elements)
    done = Watched(child("pack", work / "billion", work / "billion.pack", "5"), work).figures()
    shutil.rmtree(work / "billion")
    shutil.rmtree(work / "billion.pack")
    return {"source": source, "pack": done}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["cold", "bits", "memory"])
    parser.add_argument("--work", type=Path, help="where checkpoints are made (default: the system's temporary folder)")
    parser.add_argument("--gigabytes", type=float, default=26.0)
    parser.add_argument("--billions", type=float, default=1.0)
    parser.add_argument(
        "--megabytes", type=float, default=1000.0, help="of the model that is loaded through the bucket"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--niceness", type=int, default=0, help="of the loads; below 0 needs the right to")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="write the result there, keeping parts of an earlier run of that file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work, prefix="packing-") as name:
        work = Path(name)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "cold": lambda: cold(work, int(args.megabytes * 1e6), args.repeats, args.niceness),
            "bits": lambda: real_bits(work, int(args.billions * 1e9)),
            "memory": lambda: memory(work, int(args.gigabytes * 1e9)),
        }
        found = {}
        for what in args.what:
            note(f"{what}:")
            before = os.getloadavg()
            found[what] = parts[what]() | {"load_before": before, "load_after": os.getloadavg()}
    _write(found, args)


def _write(found: dict[str, Any], args: argparse.Namespace) -> None:
    path = args.out or HERE / "results" / f"packing-{datetime.datetime.now(datetime.UTC).date()}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result |= {"quick": args.quick, "parameters": {"repeats": args.repeats}, "machine": machine(), **found}
    if args.quick:
        print(json.dumps(result, indent=1))
        return
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    note(f"written: {path.name}")


def run_child(words: list[str]) -> None:
    what, paths = words[0], words[1:]
    done = sink_child(Path(paths[0])) if what == "sink" else pack_child(Path(paths[0]), Path(paths[1]), paths[2])
    print(json.dumps(done))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        run_child(sys.argv[2:])
    else:
        main()
