# SPDX-License-Identifier: Apache-2.0
"""Measure what quantizing costs in quality: peers and our packs on the same held-out tokens; see ``report.py``.

``peers`` runs the quantizers of others; ``packs`` packs and unpacks by the command line, at the bits that the targets
name and at each peer's real bits, or reads models that packs were unpacked to (``--candidate``). The two results are
files of their own and are compared sequence by sequence. Variants are chosen with ``--half choose`` (its results are
not written); the published figures are of the other half of the tokens.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import report
import torch
from deviation import Reference, cosines, digest, logits_of, measured
from intervals import interval
from measure import machine, note
from own_packs import TARGETS, Candidate, asked_for, is_made, made, pack_of
from peers import Peer, Rebuilt, parameters
from subjects import (
    BATCH,
    CAUSAL,
    ENCODER,
    LENGTH,
    Embedder,
    Plan,
    causal,
    floating,
    importance_of,
    load_tensors,
    replace,
    texts_of,
)

HERE: Final = Path(__file__).parent
SEQUENCES: Final = 240
TEXTS: Final = 512
CANDIDATE: Final = "a pack unpacked elsewhere: 'MODEL/PROFILE ASKED=DIRECTORY:BITS'"


# -- measuring ----------------------------------------------------------------------------------------------------


def on_causal(plan: Plan, name: str, methods: Iterable[Rebuilt]) -> dict[str, Any]:
    """Measure methods on one language model."""
    directory, sequences = plan.directory(name), plan.sequences_of()
    model = causal(directory)
    reference = Reference(logits_of(model), sequences, batch=BATCH, keep=True)
    source = load_tensors(directory)

    def row(method: Rebuilt) -> dict[str, Any]:
        replace(model, method.tensors)
        return row_of(method, parameters(source)) | measured(reference, logits_of(model)).for_json()

    rows = list[dict[str, Any]]()
    for method in methods:
        rows.append(plan.kept(f"{name} {digest(sequences)}", method, row))
        note(f"    {name}: {line_of(rows[-1])}")
    return {
        "parameters": parameters(source),
        "sequences": digest(sequences),
        "reference_nll": [float(f"{x:.5e}") for x in reference.nll()],
        "methods": rows,
    }


def on_encoder(plan: Plan, methods: Iterable[Rebuilt]) -> dict[str, Any]:
    """Measure methods on the encoder."""
    texts = texts_of(plan)
    embedder = Embedder(plan.directory(ENCODER), texts)
    source, theirs = load_tensors(plan.directory(ENCODER)), embedder.embeddings()

    def row(method: Rebuilt) -> dict[str, Any]:
        replace(embedder.model, method.tensors)
        distances = cosines(theirs, embedder.embeddings())
        return row_of(method, parameters(source)) | {"cosine": [float(f"{x:.4e}") for x in distances]}

    rows = list[dict[str, Any]]()
    for method in methods:
        rows.append(plan.kept(f"{ENCODER} {plan.half} {plan.texts}", method, row))
        note(f"    {ENCODER}: {method.name}: {rows[-1]['bits']:.3f} bits, 1 - cosine {np.mean(rows[-1]['cosine']):.3e}")
    return {"parameters": parameters(source), "texts": len(texts), "methods": rows}


def row_of(method: Rebuilt, count: int) -> dict[str, Any]:
    """Return the facts of a method; bits are real: of every byte needed, over all parameters."""
    return {
        "name": method.name,
        "what": method.what,
        "calibrated": method.calibrated,
        "nbytes": method.nbytes,
        "bits": 8 * method.nbytes / count,
    }


def line_of(row: Mapping[str, Any]) -> str:
    """Say in one line what was measured."""
    kl, low, high = interval(lambda means: means[0], row["kl"])
    ratio, below, above = interval(lambda means: np.exp(means[0]), row["nll"])
    return (
        f"{row['name']}: {row['bits']:.3f} bits, KL {kl:.3e} ({low:.3e} to {high:.3e}), PPL ratio {ratio:.5f} "
        f"({below:.5f} to {above:.5f}), top-1 {100 * float(np.mean(row['top1'])):.2f}%"
    )


# -- what is measured ---------------------------------------------------------------------------------------------


def peers_of(llama_directory: Path, plan: Plan, directory: Path) -> tuple[Peer, ...]:
    """Return all peers of a model; a Llama goes to llama.cpp as a file."""
    from peers.bitsandbytes_nf4 import nf4
    from peers.hqq_groups import hqq
    from peers.llama_cpp import Llama, chunk_peer, config_of, file_peer
    from peers.quanto_int4 import quanto
    from peers.rounding import rounding

    version = (llama_directory / "VERSION").read_text(encoding="utf-8").strip()
    llama = Llama(llama_directory, version)
    config = config_of(directory)
    if config["model_type"] != "llama":
        return (chunk_peer(llama), rounding, nf4, hqq, quanto)
    files = file_peer(llama, config, importance_of(plan, directory))
    rows_fit = all(config[key] % 256 == 0 for key in ("hidden_size", "intermediate_size"))
    return (files, *(() if rows_fit else (chunk_peer(llama),)), rounding, nf4, hqq, quanto)


def measure(plan: Plan, methods_of: Callable[[str], Iterable[Rebuilt]]) -> dict[str, Any]:
    """Measure on every model what `methods_of` yields for its name."""
    out: dict[str, Any] = {"causal": {}, "encoder": {}}
    for name in plan.wanted:
        if name == ENCODER:
            out["encoder"][name] = on_encoder(plan, methods_of(name))
        else:
            out["causal"][name] = on_causal(plan, name, methods_of(name))
    return out


def peer_methods(plan: Plan, llama: Path, name: str) -> Iterator[Rebuilt]:
    """Run every peer on a model."""
    directory = plan.directory(name)
    tensors = floating(load_tensors(directory))
    return unique(method for peer in peers_of(llama, plan, directory) for method in peer(tensors))


def pack_methods(plan: Plan, asked: argparse.Namespace, name: str) -> Iterator[Rebuilt]:
    """Read the packs given, and make and read those that the targets and the newest result of the peers ask for."""
    source = plan.directory(name)
    count = parameters(load_tensors(source))
    yield from (candidate.rebuilt(count) for candidate in asked.candidate if candidate.model == name)
    if asked.work is not None:
        every = asked_for(name, json.loads(report.newest("quality-peers").read_text(encoding="utf-8")))
        wanted = [
            (profile, bits)
            for profile, bits in every
            if profile in asked.profiles and (not asked.found or is_made(pack_of(asked.work, name, profile, bits)))
        ]
        yield from (candidate.rebuilt(count) for candidate in made(source, name, wanted, asked.work))


def unique(methods: Iterable[Rebuilt]) -> Iterator[Rebuilt]:
    """Yield the first of each name: on rows that fit, two ways of llama.cpp give the same."""
    seen: set[str] = set()
    for method in methods:
        if method.name not in seen:
            seen.add(method.name)
            yield method


# -- all ----------------------------------------------------------------------------------------------------------


def text_of(result: Mapping[str, Any]) -> str:
    """Return a result as JSON with one line per list of numbers."""
    spread = json.dumps(result, indent=1)
    return re.sub(r"\[\s+([-+0-9.e,\s]+?)\s+\]", lambda found: "[" + "".join(found[1].split()) + "]", spread) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("peers", "packs"))
    parser.add_argument("--models", type=Path, required=True, help="folder of small-lm, tiny-lm and eval-tokens.npy")
    parser.add_argument("--llama", type=Path, help="folder of llama.cpp's programs, made by peers/get_llama.sh")
    parser.add_argument("--work", type=Path, help="folder of packs and of what was measured of them, to go on with")
    parser.add_argument("--candidate", type=Candidate.read, action="append", default=[], help=CANDIDATE)
    parser.add_argument(
        "--profiles", nargs="*", default=[*TARGETS], choices=[*TARGETS], help="of the packs that are made"
    )
    parser.add_argument("--found", action="store_true", help="make no pack: measure those that are in the folder")
    parser.add_argument("--note", default="", help="what a reader of the result has to know; printed on the page")
    parser.add_argument("--only", nargs="*", default=[*CAUSAL, ENCODER], choices=[*CAUSAL, ENCODER])
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument("--quick", action="store_true", help="a few sequences; writes no result")
    asked = parser.parse_args()
    if asked.what == "peers" and asked.llama is None:
        parser.error("peers: --llama is required")
    if asked.what == "packs" and asked.work is None and not asked.candidate:
        parser.error("packs: --work or --candidate is required")
    return asked


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    sequences, texts = (16, 32) if asked.quick else (SEQUENCES, TEXTS)
    size = {"half": asked.half, "sequences": sequences, "texts": texts}
    plan = Plan(models=asked.models, wanted=tuple(asked.only), work=asked.work, **size)
    now = datetime.datetime.now(datetime.UTC)
    head = {"date": now.date().isoformat(), "quick": asked.quick, "machine": machine(), "load_before": os.getloadavg()}
    methods_of = (
        partial(peer_methods, plan, asked.llama) if asked.what == "peers" else partial(pack_methods, plan, asked)
    )
    result = head | {"note": asked.note, "parameters": {**size, "length": LENGTH}} | measure(plan, methods_of)
    if asked.quick or asked.half == "choose":
        return
    path = HERE / "results" / f"quality-{asked.what}-{now.date().isoformat()}.json"
    path.write_text(text_of(result), encoding="utf-8")
    report.write()
    note(f"written: {path.name} and README.md")


if __name__ == "__main__":
    main()
