# SPDX-License-Identifier: Apache-2.0
"""What is measured in a process of its own: each prints one line of JSON. ``digest.py`` starts it."""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Peak, spent

KIB = 1024
PRODUCT = "benchmark"


def timed(out: dict[str, Any], name: str, work: Callable[[], Any]) -> Any:
    """Run `work`, note its figures under `name`, and return what it gives."""
    kept: list[Any] = []
    figures = spent(lambda: kept.append(work()))
    out[f"{name}_cpu"], out[f"{name}_wall"] = figures["cpu"], figures["wall"]
    return kept[0]


def hash_alone(mib: int) -> dict[str, Any]:
    """Hash a buffer as often as `mib` asks, once a line comes in: the control for scaling."""
    buffer = bytes(16 << 20)
    print("ready", flush=True)
    sys.stdin.readline()
    return spent(lambda: [hashlib.sha256(buffer).digest() for _ in range(max(1, mib // 16))])


def many(count: int, threads: int) -> dict[str, Any]:
    """Weigh and verify a list of live 4 KiB tensors."""
    import torch

    from weighmaster.capture.torch_model import TorchModel
    from weighmaster.core.compare import compare
    from weighmaster.engines.hashlib_engine import HashlibEngine
    from weighmaster.flows.snapshots import digest_snapshot

    model = torch.nn.Module()
    tensors = (torch.nn.Parameter(torch.randn(KIB), requires_grad=False) for _ in range(count))
    model.tensors = torch.nn.ParameterList(tensors)
    model.eval()
    engine, live = HashlibEngine(threads), TorchModel(model)
    peak, out = Peak(), dict[str, Any]()
    first = timed(out, "snapshot", live.snapshot)
    validated = timed(out, "digest", lambda: digest_snapshot(first, engine, stage="S3"))
    timed(out, "root", lambda: validated.table.root)
    again = timed(out, "verify_snapshot", live.snapshot)
    found = timed(out, "verify_digest", lambda: digest_snapshot(again, engine, stage="S3", wanted="gate"))
    diff = timed(out, "verify_compare", lambda: compare(validated.table, found.table))
    out |= {"peak": peak.growth, "peak_reset": peak.reset, "rows": len(found.table.rows)}
    if not diff.same or len(found.table.rows) != count:
        raise SystemExit("the second table differs from the first")
    part = max(1, count // 10)
    out["bare_weigh_cpu"] = spent(lambda: _bare(part, padded=True))["cpu"] * count / part
    out["bare_verify_cpu"] = spent(lambda: _bare(part, padded=False))["cpu"] * count / part
    return out


def _bare(count: int, *, padded: bool) -> None:
    """Make the hashlib calls that such tensors cost at least: what no code around them can save."""
    data, zeros = bytes(4 * KIB), bytes(60 * KIB)
    for _ in range(count):
        state = hashlib.sha256(data)
        if padded:
            leaf = state.copy()
            leaf.update(zeros)
            leaf.digest()
        state.digest()


def rest(path: Path, threads: int) -> dict[str, Any]:
    """Weigh a checkpoint at rest; return how far resident memory rose above that of the loaded program."""
    from weighmaster.engines.hashlib_engine import HashlibEngine
    from weighmaster.flows.weigh import weigh_files

    out: dict[str, Any] = {}
    peak = Peak()
    engine = HashlibEngine(threads)
    name: dict[str, Any] = {"product": PRODUCT, "version": "1", "serial": 1}
    manifest = timed(out, "weigh_files", lambda: weigh_files(path, **name, engine=engine))
    table = len(manifest.gate.data)
    leaves = sum(len(leaf) for leaf in manifest.leaves.values())
    bounds = {"table": table, "leaves": leaves, "bytes": manifest.gate.nbytes, "rows": len(manifest.gate.rows)}
    return out | bounds | {"peak": peak.growth, "peak_reset": peak.reset}


def _loaded(model: Path, started: float, out: dict[str, Any]) -> Any:
    """Load the encoder as a service would; the figures count from the start of the process, imports included."""
    import transformers

    import weighmaster as wm

    transformers.utils.logging.disable_progress_bar()
    encoder = transformers.AutoModel.from_pretrained(model, local_files_only=True).eval()
    out["load_cpu"], out["load_wall"] = time.process_time(), time.monotonic() - started
    for name in ("Gate", "weigh", "sign"):
        getattr(wm, name)  # our own modules, which the first use imports, count as ours
    out["imports_cpu"] = time.process_time() - out["load_cpu"]
    out["imports_wall"] = time.monotonic() - started - out["load_wall"]
    return encoder


def weigh(model: Path, directory: Path, started: float) -> dict[str, Any]:
    """Load and weigh the encoder; then write, sign and trust."""
    from trusting import trusting

    import weighmaster as wm
    from weighmaster.seal.keys import generate

    out: dict[str, Any] = {}
    encoder = _loaded(model, started, out)
    manifest = timed(out, "weigh", lambda: wm.weigh(encoder, product=PRODUCT, version="1", serial=1, source=model))
    key = generate("ecdsa-p256-sha256")
    manifest.write(directory / "manifest")
    wm.sign(directory / "manifest", key)
    rule = wm.ProductRule(product=PRODUCT, required_roles=(wm.RoleThreshold(role="signer", threshold=1),))
    pin = wm.write_trust(directory / "trust.json", trusting(key, rule), key)
    (directory / "roots").write_text(pin)
    return out


def admit(model: Path, directory: Path, started: float) -> dict[str, Any]:
    """Load and admit the encoder, then re-verify all of it."""
    import weighmaster as wm

    out: dict[str, Any] = {}
    encoder = _loaded(model, started, out)
    paths, pin = (directory / "manifest", directory / "trust.json"), (directory / "roots").read_text()

    def admitted() -> wm.Admission:
        return wm.Gate(*paths, roots=pin, expect=PRODUCT, mark=directory / "mark", source=model).admit(encoder)

    admission = timed(out, "admit", admitted)
    done = timed(out, "recheck", admission.recheck)
    if not done.cycle_complete:
        raise SystemExit("the re-verification did not cover the whole model")
    return out | {"bytes": done.nbytes, "tensors": len(admission.manifest.gate.rows)}


def collected(kind: str) -> dict[str, Any]:
    """Collect the environment twice and more, after ``import torch`` alone or after a forward pass of a BERT."""
    import torch

    if kind == "transformers":
        import transformers

        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        transformers.BertModel(transformers.BertConfig(vocab_size=128, **sizes)).eval()(torch.arange(4)[None])
    from weighmaster.capture.torch_switches import torch_facts
    from weighmaster.probe.collect import collect

    out: dict[str, Any] = {}
    first = timed(out, "first", lambda: collect(torch_facts()))
    again = [spent(lambda: collect(torch_facts())) for _ in range(5)]
    out |= {f"again_{key}": statistics.median(run[key] for run in again) for key in ("cpu", "wall")}
    return out | {"facts": len(first.facts), "class_facts": len(first.scoped("class")), "modules": len(sys.modules)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("hash", "many", "rest", "weigh", "admit", "collect"))
    parser.add_argument("--kind", choices=("torch", "transformers"), default="torch")
    parser.add_argument("--mib", type=int, default=16)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--started", type=float, default=0.0)
    args = parser.parse_args()
    run: dict[str, Callable[[], dict[str, Any]]] = {
        "hash": lambda: hash_alone(args.mib),
        "many": lambda: many(args.count, args.threads),
        "rest": lambda: rest(args.path, args.threads),
        "weigh": lambda: weigh(args.path, args.directory, args.started),
        "collect": lambda: collected(args.kind),
        "admit": lambda: admit(args.path, args.directory, args.started),
    }
    print(json.dumps(run[args.what]()))


if __name__ == "__main__":
    main()
