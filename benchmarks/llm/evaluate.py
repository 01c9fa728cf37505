# SPDX-License-Identifier: Apache-2.0
"""Measure packs of a large language model on the texts that published figures are of; needs ``benchmarks`` on the path.

Two models are held on the device: the one that was packed, and the same one with the tensors of an unpacked pack in
the place of its own. Both run in `--dtype` arithmetic (float32 unless told otherwise: in bfloat16 the noise of the
arithmetic is of the size of what is measured). The scripts beside this file do all steps.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from deviation import Deviation, Reference, digest, logits_of, measured, windows
from intervals import interval
from measure import machine, note
from own_packs import real_bits
from safetensors import safe_open

SEED: Final = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How text becomes windows of tokens.

    Attributes:
        what: for print.
        length: tokens of a window; all but the first are predicted.
        limit: windows at most, None for all.
        texts: yields the texts of the published data set.
        tokens: from a tokenizer and texts to one row of tokens.
    """

    what: str
    length: int
    limit: int | None
    texts: Callable[[], Iterator[str]]
    tokens: Callable[[Any, Iterator[str], int | None], list[int]]


def wikitext_texts() -> Iterator[str]:
    """Yield the lines of the test part of raw WikiText-2."""
    from datasets import load_dataset

    yield from load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]


def wikitext_tokens(tokenizer: Any, texts: Iterator[str], _enough: int | None) -> list[int]:
    """Join all lines by two line feeds and cut the whole into tokens once, as is the custom since GPTQ."""
    return list(tokenizer("\n\n".join(texts))["input_ids"])


def fineweb_texts() -> Iterator[str]:
    """Yield documents of FineWeb-Edu (sample-10BT), shuffled through a buffer of 10,000 with seed 42."""
    from datasets import load_dataset

    rows = load_dataset("HuggingFaceFW/fineweb-edu", "sample-10BT", split="train", streaming=True)
    for row in rows.shuffle(seed=SEED, buffer_size=10_000):
        yield row["text"]


def fineweb_tokens(tokenizer: Any, texts: Iterator[str], enough: int | None) -> list[int]:
    """Cut documents into tokens one after the other, each closed by the end-of-text token, until there are enough."""
    out: list[int] = []
    for text in texts:
        out += tokenizer(text, add_special_tokens=False)["input_ids"]
        out.append(tokenizer.eos_token_id)
        if enough is not None and len(out) >= enough:
            break
    return out


PROTOCOLS: Final = {
    "wikitext-2": Protocol(
        what="WikiText-2 raw, test part",
        length=2048,
        limit=None,
        texts=wikitext_texts,
        tokens=wikitext_tokens,
    ),
    "fineweb-edu": Protocol(
        what="FineWeb-Edu sample-10BT, seed 42",
        length=1024,
        limit=200,
        texts=fineweb_texts,
        tokens=fineweb_tokens,
    ),
}


def windows_of(protocol: Protocol, tokenizer: Any, text: Path | None, length: int, limit: int | None) -> torch.Tensor:
    """Return the windows of a protocol, of its data set or of a text file in its place."""
    texts = protocol.texts() if text is None else iter([text.read_text(encoding="utf-8")])
    enough = None if limit is None else limit * length
    cut = windows(protocol.tokens(tokenizer, texts, enough), length, limit)
    if len(cut) < 2:
        raise SystemExit(f"{len(cut)} windows of {length} tokens: the text is too short")
    return cut


def loaded(model: str, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """Load a causal language model for inference."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device).eval()


@torch.no_grad()
def take(model: torch.nn.Module, directory: Path) -> None:
    """Put the tensors of an unpacked pack in place of a model's own, file by file.

    Raises:
        SystemExit: a parameter of the model was not among them, or has another shape.
    """
    waiting = dict(model.named_parameters())
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            held = file.keys()
            for name in sorted(set(held) & set(waiting)):
                tensor, parameter = file.get_tensor(name), waiting.pop(name)
                if tensor.shape != parameter.shape:
                    raise SystemExit(f"{name}: shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)}")
                parameter.copy_(tensor)
    if waiting:
        raise SystemExit(f"{directory}: {len(waiting)} parameters are missing, the first is {min(waiting)}")


def line_of(name: str, bits: float, deviation: Deviation, ppl: float) -> str:
    """Say in one line what was measured."""
    kl, low, high = interval(lambda means: means[0], deviation.kl)
    ratio, below, above = interval(lambda means: np.exp(means[0]), deviation.nll)
    return (
        f"{name}: {bits:.3f} bits, PPL {ppl * ratio:.4f} of {ppl:.4f}, ratio {ratio:.5f} ({below:.5f} to {above:.5f}), "
        f"KL {kl:.3e} ({low:.3e} to {high:.3e}), top-1 {100 * float(np.mean(deviation.top1)):.2f}%"
    )


def pair(text: str) -> tuple[Path, Path]:
    """Read ``PACK=UNPACKED``."""
    pack, equals, unpacked = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected PACK=UNPACKED")
    return Path(pack), Path(unpacked)


def evaluate(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure every pack that was asked for."""
    from transformers import AutoTokenizer

    protocol = PROTOCOLS[asked.protocol]
    length, limit = asked.length or protocol.length, asked.windows or protocol.limit
    cut = windows_of(protocol, AutoTokenizer.from_pretrained(asked.model), asked.text, length, limit)
    dtype = getattr(torch, asked.dtype)
    reference = Reference(logits_of(loaded(asked.model, dtype, asked.device)), cut, batch=asked.batch, keep=False)
    nll, rows = reference.nll(), list[dict[str, Any]]()
    ppl = float(np.exp(np.mean(nll)))
    note(f"{len(cut)} windows of {length} tokens; perplexity of the model itself: {ppl:.4f}")
    changed = loaded(asked.model, dtype, asked.device)
    for pack, unpacked in asked.pack:
        take(changed, unpacked)
        bits, deviation = real_bits(pack, unpacked), measured(reference, logits_of(changed))
        rows.append({"name": pack.name, "bits": bits} | deviation.for_json())
        print(line_of(pack.name, bits, deviation, ppl), flush=True)
    return {
        "protocol": protocol.what if asked.text is None else f"{protocol.what}; text of {asked.text.name} in its place",
        "length": length,
        "windows": len(cut),
        "sequences": digest(cut),
        "dtype": asked.dtype,
        "device": torch.cuda.get_device_name() if asked.device.startswith("cuda") else asked.device,
        "reference_nll": [float(f"{x:.5e}") for x in nll],
        "methods": rows,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=tuple(PROTOCOLS))
    parser.add_argument("--model", required=True, help="the model that was packed: a directory, or a name of the hub")
    parser.add_argument("--pack", type=pair, action="append", required=True, help="PACK=UNPACKED; repeat")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--batch", type=int, default=1, help="windows at a time")
    parser.add_argument("--text", type=Path, help="a text file in place of the data set; no published figure then")
    parser.add_argument("--length", type=int, help="tokens of a window, for a model of a shorter context")
    parser.add_argument("--windows", type=int, help="windows at most")
    parser.add_argument("-o", "--out", type=Path, help="where the result goes, JSON")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    head = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "machine": machine()}
    result = head | {"model": asked.model.rstrip("/").rpartition("/")[2]} | evaluate(asked)
    if asked.out is not None:
        asked.out.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
