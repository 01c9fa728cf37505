# SPDX-License-Identifier: Apache-2.0
"""Packs through transformers: the same model bit for bit, or an error that names what differs."""

from __future__ import annotations

import functools
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import weighmaster as wm
import weighmaster.hf
from weighmaster.capture import hf_hooks
from weighmaster.capture.hf_quantizer import PackConfig, PackQuantizer
from weighmaster.errors import MalformedArtefact, SourceFault, TensorFault, UsageError

SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128}
LLAMA = {**SMALL, "intermediate_size": 128, "num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any], torch.dtype, type]] = {
    "untied": ("Llama", {**LLAMA, "tie_word_embeddings": False}, torch.bfloat16, AutoModelForCausalLM),
    "tied": ("Llama", {**LLAMA, "tie_word_embeddings": True}, torch.float32, AutoModelForCausalLM),
    "experts": ("Mixtral", {**LLAMA, "num_local_experts": 4}, torch.bfloat16, AutoModelForCausalLM),
    "encoder": ("Bert", {**SMALL, "intermediate_size": 128}, torch.float32, AutoModelForSequenceClassification),
}
TASKS = {AutoModelForCausalLM: "ForCausalLM", AutoModelForSequenceClassification: "ForSequenceClassification"}


def made(folder: Path, name: str) -> SimpleNamespace:
    """Save a model, pack it and unpack it."""
    family, settings, dtype, task = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(7)
    model = getattr(transformers, family + TASKS[task])(config).to(dtype)
    shard = "60KB" if name in {"tied", "experts"} else "5GB"
    model.save_pretrained(folder / "source", max_shard_size=shard)
    (folder / "source" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "source" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    bits = "8" if name == "untied" else None
    wm.pack_model(folder / "source", folder / "pack", bits=bits, shard_bytes=60_000 if shard == "60KB" else 1 << 30)
    wm.unpack_model(folder / "pack", folder / "unpacked")
    return SimpleNamespace(pack=folder / "pack", unpacked=folder / "unpacked", task=task, dtype=dtype)


TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1, "b": 2}, "unk_token": "<unk>"},
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    """Return a packed model of a kind, made once; not to be changed."""
    return functools.cache(lambda name: made(tmp_path_factory.mktemp(name), name))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, packed: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    """A packed model of each kind."""
    return packed(request.param)


@pytest.fixture
def kept(packed: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    """One packed model, near-lossless."""
    return packed("untied")


@pytest.fixture
def pack(kept: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of a pack, to be changed."""
    return Path(shutil.copytree(kept.pack, tmp_path / "model.pack"))


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


def place_of(pack: Path, name: str) -> tuple[Path, int, int]:
    """Shard, first byte and length of what a tensor has in it, by a reading of one's own."""
    for shard in sorted(pack.glob("*.safetensors")):
        data = shard.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        if name in header:
            first, stop = header[name]["data_offsets"]
            return shard, 8 + size + first, stop - first
    raise AssertionError(name)


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


def aligned(model: torch.nn.Module) -> torch.nn.Module:
    """Move parameters to memory of their own: kernels round by alignment, and mapped files have any."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


@pytest.mark.requirement("REQ-PAC-11")
@pytest.mark.parametrize("of", ["task", "base"])
def test_the_loaded_model_is_that_of_the_unpacked_files_bit_for_bit(model: SimpleNamespace, of: str) -> None:
    auto = model.task if of == "task" else AutoModel
    plain = aligned(auto.from_pretrained(model.unpacked, dtype="auto"))
    packed = auto.from_pretrained(model.pack, dtype="auto")
    want, have = plain.state_dict(), packed.state_dict()
    assert list(want) == list(have)
    assert [n for n in want if (want[n].dtype, want[n].shape) != (have[n].dtype, have[n].shape)] == []
    assert [n for n in want if raw(want[n]) != raw(have[n])] == []
    assert {n: raw(b) for n, b in plain.named_buffers()} == {n: raw(b) for n, b in packed.named_buffers()}
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids)[0], packed(input_ids=ids)[0])
    loaded = wm.hf.loaded_from(packed)
    assert loaded is not None
    with wm.open_pack(model.pack) as opened:
        assert loaded.root == opened.root
        assert sorted((*loaded.tensors, *loaded.unused)) == sorted(opened.names())
    assert (loaded.cast, loaded.vouched) == ((), None)
    assert wm.hf.loaded_from(plain) is None
    assert loaded.unused == () or of == "base"


def test_the_loaded_model_carries_no_trace_of_the_method(model: SimpleNamespace) -> None:
    plain, packed = (model.task.from_pretrained(path, dtype="auto") for path in (model.unpacked, model.pack))
    assert vars(packed).keys() == vars(plain).keys()
    assert packed.config.to_dict() == {**plain.config.to_dict(), "_name_or_path": packed.config._name_or_path}
    assert packed.half().dtype == torch.float16


def test_what_was_loaded_can_be_saved_as_plain_tensors(kept: SimpleNamespace, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(kept.pack, dtype="auto").save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").state_dict()
    plain = AutoModelForCausalLM.from_pretrained(kept.unpacked, dtype="auto").state_dict()
    assert {n: raw(t) for n, t in again.items()} == {n: raw(t) for n, t in plain.items()}


def test_a_cast_is_the_users_choice_and_is_said(kept: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="weighmaster.hf")
    packed = AutoModelForCausalLM.from_pretrained(kept.pack, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(kept.unpacked, dtype=torch.float32)
    assert {n: raw(t) for n, t in packed.state_dict().items()} == {n: raw(t) for n, t in plain.state_dict().items()}
    loaded = wm.hf.loaded_from(packed)
    assert loaded is not None
    assert len(loaded.cast) == len(loaded.tensors) == 21
    assert loaded.cast[0] == ("lm_head.weight", "bfloat16", "float32")
    (line,) = (record.getMessage() for record in caplog.records)
    assert "21 of 21 tensors were cast after they were checked (lm_head.weight: bfloat16 to float32, ...)" in line
    assert "does not hold their packed bytes" in line


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}])
def test_a_device_map_and_low_memory(kept: SimpleNamespace, device_map: Any) -> None:
    pytest.importorskip("accelerate")
    packed = AutoModelForCausalLM.from_pretrained(
        kept.pack, dtype="auto", device_map=device_map, low_cpu_mem_usage=True
    )
    plain = AutoModelForCausalLM.from_pretrained(kept.unpacked, dtype="auto")
    assert {n: raw(t) for n, t in packed.state_dict().items()} == {n: raw(t) for n, t in plain.state_dict().items()}


def test_no_decoded_copy_is_kept_on_disk(kept: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    before = {path: path.stat().st_mtime_ns for path in kept.pack.rglob("*")}
    with pytest.raises(UsageError, match=r"device_map: parts of a pack cannot be kept on disk"):
        AutoModelForCausalLM.from_pretrained(
            kept.pack, dtype="auto", device_map={"": "disk"}, offload_folder=str(tmp_path / "offload")
        )
    assert not list(tmp_path.rglob("*.dat"))
    assert {path: path.stat().st_mtime_ns for path in kept.pack.rglob("*")} == before


@pytest.mark.requirement("REQ-PAC-11")
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
@pytest.mark.parametrize("part", ["first", "middle", "last"])
def test_a_flipped_bit_is_an_error_with_the_tensors_name(pack: Path, name: str, part: str) -> None:
    shard, first, size = place_of(pack, name)
    flip(shard, first + {"first": 0, "middle": size // 2, "last": size - 1}[part])
    with pytest.raises((TensorFault, MalformedArtefact), match=name.replace(".", r"\.")):
        AutoModelForCausalLM.from_pretrained(pack, dtype="auto")


def test_two_blobs_that_are_swapped_are_an_error(pack: Path) -> None:
    """Equal sizes, both genuine: only the digest of the name tells."""
    one, other = (
        place_of(pack, f"model.{name}layernorm.weight") for name in ("layers.0.input_", "layers.1.post_attention_")
    )
    assert one[2] == other[2]
    shutil.copy(one[0], pack.parent / "kept")
    data = bytearray(one[0].read_bytes())
    data[one[1] : one[1] + one[2]] = bytes([1]) * one[2]
    one[0].write_bytes(bytes(data))
    with pytest.raises(TensorFault, match=r"model\.layers\.0\.input_layernorm\.weight"):
        AutoModel.from_pretrained(pack, dtype="auto")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_other_files_are_compared_before_they_are_opened(pack: Path, file: str) -> None:
    path = pack / file
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"128", b"129")
        if b"128" in data
        else data.replace(b"0", b"1")
        if b"0" in data
        else data.replace(b"P", b"Q")
    )
    assert path.read_bytes() != data
    load = AutoTokenizer if file.startswith("tokenizer") else AutoModelForCausalLM
    error = refused(lambda: load.from_pretrained(pack))
    assert file in str(error)
    assert "is not that of the index" in str(error)


def refused(load: Callable[[], object]) -> SourceFault | MalformedArtefact:
    """Return the error of ours; transformers says for some files that it cannot load them, and chains it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        load()
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, (SourceFault, MalformedArtefact)):
        error = error.__cause__ or error.__context__
    assert isinstance(error, (SourceFault, MalformedArtefact)), caught.value
    return error


def test_a_tokenizer_of_a_pack(kept: SimpleNamespace) -> None:
    assert AutoTokenizer.from_pretrained(kept.pack)("a b a")["input_ids"] == [1, 2, 1]


@pytest.mark.parametrize("what", ["shard gone", "file more", "index bit", "index of another", "index gone"])
def test_a_pack_that_is_not_whole_is_refused(pack: Path, what: str, packed: Callable[[str], SimpleNamespace]) -> None:
    if what == "shard gone":
        (pack / "model.safetensors").unlink()
    elif what == "file more":
        (pack / "notes.txt").write_text("")
    elif what == "index bit":
        flip(pack / "pack.index", 200)
    elif what == "index gone":
        (pack / "pack.index").unlink()
    else:
        shutil.copy(packed("tied").pack / "pack.index", pack / "pack.index")
    with pytest.raises(MalformedArtefact) as caught:
        wm.open_model(pack)
    assert str(pack) in str(caught.value)
    assert isinstance(refused(lambda: AutoModelForCausalLM.from_pretrained(pack)), MalformedArtefact)


def test_a_missing_tensor_is_reported_as_of_any_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "source"
    config = transformers.LlamaConfig(**LLAMA, tie_word_embeddings=False)
    transformers.LlamaModel(config).save_pretrained(source)
    text = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**text, "architectures": ["LlamaForCausalLM"]}))
    wm.pack_model(source, tmp_path / "pack")
    opened = wm.open_model(tmp_path / "pack")
    (fault,) = opened.faults
    assert str(fault) == (
        "lm_head.weight: is missing from the checkpoint: transformers initialised it at random; "
        "expected a tensor of the checkpoint, found nothing"
    )


def test_a_pack_is_not_loaded_as_something_else(kept: SimpleNamespace) -> None:
    config = AutoConfig.from_pretrained(kept.unpacked)
    with pytest.raises(UsageError, match=r"is a pack, and the configuration given for it does not say so"):
        AutoModelForCausalLM.from_pretrained(kept.pack, config=config, ignore_mismatched_sizes=True)
    with pytest.raises(UsageError, match=r"packed by `weighmaster pack`"):
        PackQuantizer(PackConfig(quant_method="weighmaster", format="weighmaster-pack-v1"), pre_quantized=False)


def test_plain_files_do_not_become_a_pack_by_their_configuration(kept: SimpleNamespace, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(kept.unpacked, tmp_path / "plain"))
    shutil.copy(kept.pack / "config.json", plain / "config.json")
    with pytest.raises(MalformedArtefact, match=r"expected a shard of a pack, beside its pack\.index, found no pack"):
        AutoModelForCausalLM.from_pretrained(plain)


@pytest.mark.parametrize("stated", [{}, {"format": "weighmaster-pack-v2"}, {"threads": 1}])
def test_the_method_has_no_options(stated: dict[str, object]) -> None:
    whole = {"quant_method": "weighmaster", "format": "weighmaster-pack-v1"} if stated else {}
    with pytest.raises(MalformedArtefact, match=r"config\.json: quantization_config: expected"):
        PackConfig(**{**whole, **stated})


def test_plain_checkpoints_load_as_before(kept: SimpleNamespace, tmp_path: Path) -> None:
    assert wm.hf.loaded_from(AutoModelForCausalLM.from_pretrained(kept.unpacked)) is None
    with pytest.raises(ValueError, match="Unrecognized model"):
        AutoModel.from_pretrained(tmp_path)


def test_hooks_are_put_in_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = transformers.utils.hub.cached_files
    hf_hooks.install()
    assert transformers.utils.hub.cached_files is before


def test_an_unknown_version_of_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def cached_files(where: str, names: list[str]) -> None:
        """Another version's."""

    monkeypatch.setattr(transformers.utils.hub, "cached_files", cached_files)
    with pytest.raises(
        UsageError, match=r"expected cached_files to take \['path_or_repo_id', 'filenames'\], found \['wh"
    ):
        hf_hooks.install()


@pytest.mark.slow
def test_without_our_import_transformers_refuses_a_pack(kept: SimpleNamespace) -> None:
    code = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({str(kept.pack)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Unknown quantization type, got weighmaster" in done.stderr
    assert "RuntimeError" in done.stderr.splitlines()[-1] or "ignore_mismatched_sizes" in done.stderr
    assert "torch.Size" in done.stderr


@pytest.fixture(autouse=True)
def _silence() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
