# SPDX-License-Identifier: Apache-2.0
"""Reports on packs of real small models: every byte counted, nothing claimed that was not run, nothing half-written."""

from __future__ import annotations

import dataclasses
import hashlib
import html.parser
import json
import re
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pack_reports import EMBEDDINGS, LANGUAGE, PLAIN, REPORTS
from tests.packs import pack_tiny, tiny, write_model

from weighmaster.core.number import decimal_text
from weighmaster.core.pack_report import Calibration, EncoderOutputs, LanguageOutputs, NoOutputs, TensorLine
from weighmaster.errors import SourceFault, StorageError, TensorFault, TensorSetFault, UsageError
from weighmaster.flows import report as flow
from weighmaster.flows import report_run
from weighmaster.flows.report import HTML, JSON, MARKDOWN, read_report, summary, write_report
from weighmaster.flows.report_pictures import draw, kind_of, place_of
from weighmaster.flows.report_run import ReportRun
from weighmaster.flows.report_text import markdown, page
from weighmaster.pack.reader import open_pack

transformers = pytest.importorskip("transformers")
NO_MODEL = "model has no config.json, so there is no model to run"


@pytest.fixture(autouse=True)
def _no_pictures(request, monkeypatch):
    """Drawing takes a second: it is done where a test asks for it."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(flow, "_pictures", lambda report: ({}, ""))


@pytest.fixture
def pictures():
    """Draw pictures in this test."""


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    """A language model of two layers, in bfloat16, and its packs: lossless, and by levels of one step."""
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=None,
        dtype="bfloat16",
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        pack_tiny(patch, folder / "model", folder / "exact")
        pack_tiny(patch, folder / "model", folder / "lossy", profile="datafree")
    np.save(folder / "tokens.npy", np.random.default_rng(1).integers(0, 64, (12, 16)))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        initializer_range=0.2,
    )
    transformers.BertModel(config).to(torch.bfloat16).save_pretrained(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        pack_tiny(patch, folder / "model", folder / "lossy", profile="datafree")
    return folder


@pytest.fixture(scope="module")
def written(lm):
    """The report on the lossy pack, on tokens of the user."""
    return write_report(lm / "lossy", lm / "model", lm / "report", run=ReportRun(tokens=lm / "tokens.npy"))


# -- what it says ------------------------------------------------------------------------------------------------------


def test_bits_are_those_of_the_files(lm, written):
    pack, size = lm / "lossy", written.report.size
    bytes_of_shards = sum(p.stat().st_size for p in pack.glob("*.safetensors"))
    assert size.payload + size.headers == bytes_of_shards
    assert size.index == (pack / "pack.index").stat().st_size
    assert size.shard_index == 0
    with open_pack(pack) as opened:
        exact = opened.bits_per_weight()
        assert Decimal(size.bits_per_weight) == Decimal(decimal_text(exact.numerator / Decimal(exact.denominator)))
        assert size.payload == sum(len(opened.blob(name)) for name in opened.names())
    beside = {f.path: f.size for f in size.beside}
    every = {str(p.relative_to(pack)): p.stat().st_size for p in pack.rglob("*") if p.is_file()}
    assert {**beside, "pack.index": size.index, "model.safetensors": bytes_of_shards} == every


def test_errors_are_those_of_the_tensors(lm, written):
    model = transformers.LlamaForCausalLM.from_pretrained(lm / "model", dtype=torch.bfloat16).state_dict()
    lines = {t.name: t for t in written.report.tensors}
    errors = squares = 0.0
    with open_pack(lm / "lossy") as opened:
        assert set(lines) == set(opened.names())
        for name, line in lines.items():
            rebuilt = (
                torch.frombuffer(bytearray(opened.read(name).data), dtype=torch.bfloat16).view(line.shape).double()
            )
            original = model[name].double()
            error, square = float(((rebuilt - original) ** 2).sum()), float((original**2).sum())
            assert float(line.relative_squared_error) == pytest.approx(error / square, rel=1e-8)
            assert float(line.max_error) == pytest.approx(float((rebuilt - original).abs().max()), rel=1e-8)
            assert float(line.rms) == pytest.approx((square / original.numel()) ** 0.5, rel=1e-8)
            errors, squares = errors + error, squares + square
    assert float(written.report.relative_squared_error) == pytest.approx(errors / squares, rel=1e-8)


def test_outputs_of_a_lossy_pack(lm, written):
    outputs = written.report.outputs
    assert isinstance(outputs, LanguageOutputs)
    tokens = np.load(lm / "tokens.npy")
    assert outputs.inputs.sha256 == hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()
    assert (outputs.inputs.kind, outputs.inputs.seed, outputs.predicted) == ("tokens", None, 12 * 15)
    assert 0 < float(outputs.kl.low) < float(outputs.kl.value) < float(outputs.kl.high) < 0.1
    assert float(outputs.ratio.low) < float(outputs.ratio.value) < float(outputs.ratio.high)
    assert len(outputs.by_sequence) == 12
    # Against transformers' own loss, on the source:
    model = transformers.LlamaForCausalLM.from_pretrained(lm / "model", dtype=torch.float32)
    ids = torch.from_numpy(tokens)
    with torch.inference_mode():
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert float(outputs.perplexity_reference) == pytest.approx(np.exp(loss), rel=1e-5)


def test_a_lossless_pack_does_not_deviate(lm, tmp_path):
    run = ReportRun(
        tokens=lm / "tokens.npy", metrics={"loss": lambda m: float(m.lm_head.weight.detach().double().sum())}
    )
    report = write_report(lm / "exact", lm / "model", tmp_path / "r", run=run).report
    outputs = report.outputs
    assert isinstance(outputs, LanguageOutputs)
    assert {outputs.kl.value, outputs.kl.high, outputs.kl_max, report.relative_squared_error} == {"0"}
    assert {outputs.ratio.value, outputs.ratio_t.low, outputs.agreement.low} == {"1"}
    assert outputs.histogram.below == outputs.predicted
    assert all((t.max_error, t.relative_squared_error) == ("0", "0") for t in report.tensors)
    (metric,) = report.metrics
    assert (metric.reference, metric.difference.value, metric.difference.low) == (metric.packed, "0", None)


def test_made_up_tokens_are_called_so(lm, tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(report_run, "_MADE_UP", (6, 10))
    first = write_report(lm / "lossy", lm / "model", tmp_path / "a")
    again = write_report(lm / "lossy", lm / "model", tmp_path / "b")
    assert first.sha256 == again.sha256
    outputs = first.report.outputs
    assert isinstance(outputs, LanguageOutputs)
    assert (outputs.inputs.kind, outputs.inputs.sequences, outputs.predicted) == ("self", 6, 54)
    for name in (HTML, MARKDOWN):
        assert "This is weaker evidence than" in (tmp_path / "a" / name).read_text()
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["bits.svg", "divergence.svg", "errors.svg", "perplexity.svg", HTML, JSON, MARKDOWN]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_an_encoder_of_texts(encoder, tmp_path):
    report = write_report(encoder / "lossy", encoder / "model", tmp_path / "r").report
    outputs = report.outputs
    assert isinstance(outputs, EncoderOutputs)
    assert (outputs.inputs.kind, outputs.inputs.sequences, outputs.inputs.tokens) == ("random", 256, 256 * 16)
    assert 0 < float(outputs.mean.value) <= float(outputs.p95.value) <= float(outputs.p99.value) <= float(outputs.max)
    (tmp_path / "ids.json").write_text("[[1, 2, 3], [4, 5], [6, 7, 8]]")
    run = ReportRun(tokens=tmp_path / "ids.json", sequences=2)
    outputs = write_report(encoder / "lossy", encoder / "model", tmp_path / "r2", run=run).report.outputs
    assert isinstance(outputs, EncoderOutputs)
    assert (outputs.inputs.sequences, outputs.inputs.available, outputs.inputs.tokens) == (2, 3, 5)


def test_a_source_without_a_model(tmp_path, monkeypatch):
    source = write_model(tmp_path / "model", tiny(), {})
    pack_tiny(monkeypatch, source, tmp_path / "p", profile="datafree")
    done = write_report(tmp_path / "p", source, tmp_path / "r")
    assert done.report.outputs == NoOutputs(reason=NO_MODEL)
    assert NO_MODEL in (tmp_path / "r" / MARKDOWN).read_text()
    rms = {t.name: t.rms for t in done.report.tensors}
    assert rms["steps"] is None
    assert float(rms["a.weight"]) == pytest.approx(0.02, rel=0.2)
    with pytest.raises(UsageError, match=NO_MODEL):
        write_report(tmp_path / "p", source, tmp_path / "r2", run=ReportRun(tokens=tmp_path / "x.npy"))
    assert not (tmp_path / "r2").exists()


def test_models_that_do_not_fit_into_memory_are_not_run(lm, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:     100 kB\n")
    monkeypatch.setattr(report_run, "_MEMINFO", tmp_path / "meminfo")
    outputs = write_report(lm / "lossy", lm / "model", tmp_path / "r").report.outputs
    assert isinstance(outputs, NoOutputs)
    assert re.fullmatch(r"both models in float32 would take 0\.\d GB of memory, and 0\.0 GB are free", outputs.reason)
    with pytest.raises(UsageError, match="both models in float32"):
        write_report(lm / "exact", lm / "model", tmp_path / "r2", run=ReportRun(tokens=lm / "tokens.npy"))


def test_a_lossless_pack_is_not_run_unless_asked(lm, tmp_path):
    outputs = write_report(lm / "exact", lm / "model", tmp_path / "r").report.outputs
    assert isinstance(outputs, NoOutputs)
    assert outputs.reason.startswith("nothing is lost: every tensor was compared with the source, byte by byte")


def test_a_model_whose_code_fails(lm, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", broken)
    outputs = write_report(lm / "lossy", lm / "model", tmp_path / "r").report.outputs
    assert outputs == NoOutputs(reason="the models do not run here: RuntimeError: out of luck")
    with pytest.raises(UsageError, match="the models do not run here: RuntimeError: out of luck"):
        write_report(lm / "lossy", lm / "model", tmp_path / "r2", run=ReportRun(tokens=lm / "tokens.npy"))
    assert not (tmp_path / "r2").exists()


def test_without_a_runtime(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(report_run, "find_spec", lambda name: None)
    outputs = write_report(lm / "lossy", lm / "model", tmp_path / "r").report.outputs
    assert outputs == NoOutputs(reason="torch and transformers not installed (pip install 'weighmaster[hf]')")


def test_without_matplotlib(lm, tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(report_run, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "weighmaster.flows.report_pictures", None)
    done = write_report(lm / "exact", lm / "model", tmp_path / "r")
    assert done.note == "no pictures: matplotlib is not installed (pip install 'weighmaster[report]')"
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [HTML, JSON, MARKDOWN]
    assert "<img" not in (tmp_path / "r" / HTML).read_text()


# -- what is refused ---------------------------------------------------------------------------------------------------


def copy(lm, tmp_path):
    import shutil

    shutil.copytree(lm / "model", tmp_path / "model")
    return tmp_path / "model"


def test_another_source(lm, tmp_path):
    source = copy(lm, tmp_path)
    weights = source / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        SourceFault, match=r"model\.safetensors: is not the file that was packed; expected [0-9a-f]{64}, found"
    ):
        write_report(lm / "exact", source, tmp_path / "r")
    weights.rename(source / "other.safetensors")
    with pytest.raises(SourceFault, match=r"model\.safetensors: is not the file that was packed; .* found nothing"):
        write_report(lm / "exact", source, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_another_configuration(lm, tmp_path):
    """The same weights under another epsilon are another model: its outputs are not reported on this pack."""
    source = copy(lm, tmp_path)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises(SourceFault, match=r"config\.json: is not the file that was packed"):
        write_report(lm / "exact", source, tmp_path / "r")


def test_a_lossless_tensor_that_is_not_the_sources(lm, tmp_path, monkeypatch):
    from weighmaster.flows import report_facts

    real = report_facts.compare_weights

    def flipped(view, dtype, shape, data, *, lossless):
        data = data.copy()
        data[5] ^= 1
        return real(view, dtype, shape, data, lossless=lossless)

    monkeypatch.setattr(report_facts, "compare_weights", flipped)
    with pytest.raises(TensorFault, match=r"lm_head\.weight: differs from the source at byte 5"):
        write_report(lm / "exact", lm / "model", tmp_path / "r")


def test_other_tensors_and_forms(lm):
    from weighmaster.core.tensor import view_of_bytes
    from weighmaster.flows.report_facts import require_names
    from weighmaster.flows.report_weights import compare_weights

    with open_pack(lm / "exact") as opened:
        views = dict.fromkeys(opened.names())
        require_names(opened, views)
        with pytest.raises(TensorSetFault, match="extra: is in the source alone"):
            require_names(opened, {**views, "extra": None})
        del views["lm_head.weight"]
        with pytest.raises(TensorSetFault, match=r"lm_head\.weight: is in the pack alone"):
            require_names(opened, views)
    data = np.zeros(4, np.uint8)
    with pytest.raises(
        TensorSetFault, match=r"x: the pack holds another form; expected uint8 \[4\], found uint8 \[2, 2\]"
    ):
        compare_weights(view_of_bytes("x", bytes(4)), "uint8", (2, 2), data, lossless=True)
    with pytest.raises(TensorFault, match="x: differs from the source at byte 2"):
        compare_weights(view_of_bytes("x", b"\0\0\1\0"), "uint8", (4,), data, lossless=False)


def test_a_directory_that_exists_and_a_full_disk(lm, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="exists already and is not overwritten"):
        write_report(lm / "exact", lm / "model", tmp_path)
    monkeypatch.setattr(report_run, "find_spec", lambda name: None)
    real, calls = flow.write_atomically, []

    def full(path, data):
        calls.append(path.name)
        if len(calls) == 3:
            raise StorageError(f"{path}: cannot be written: No space left on device")
        real(path, data)

    monkeypatch.setattr(flow, "write_atomically", full)
    with pytest.raises(StorageError, match="No space left"):
        write_report(lm / "exact", lm / "model", tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"tokens": Path("a"), "texts": Path("b")}, "token ids or texts, not both"),
        ({"length": 1}, "a length of at least 2"),
        ({"sequences": 0}, "a length of at least 2 and a sequence; found 512, 0"),
    ],
)
def test_wishes_that_do_not_fit_together(wanted, message):
    with pytest.raises(UsageError, match=message):
        ReportRun(**wanted)


def test_texts_without_a_tokenizer(lm, tmp_path):
    (tmp_path / "t.txt").write_text("text")
    with pytest.raises(UsageError, match="has no tokenizer for these texts"):
        write_report(lm / "exact", lm / "model", tmp_path / "r", run=ReportRun(texts=tmp_path / "t.txt"))


# -- for the statement -------------------------------------------------------------------------------------------------


def test_summary(written):
    for path in (written.directory, written.directory / JSON):
        said = summary(path)
        assert said.format == "weighmaster-pack-report-v1"
        assert said.sha256 == hashlib.sha256((written.directory / JSON).read_bytes()).hexdigest() == written.sha256
        assert said.root == written.report.pack.root
        assert dict(said.metrics)["kl"] == written.report.outputs.kl.value
        assert [name for name, _ in said.metrics] == sorted(dict(said.metrics))
    assert read_report(written.directory) == (written.report, written.sha256)
    with pytest.raises(UsageError, match="No such file"):
        summary(written.directory / "missing.json")


# -- the pages ---------------------------------------------------------------------------------------------------------

ALL = {**REPORTS, "exact": dataclasses.replace(LANGUAGE, outputs=NoOutputs(reason="why"))}


def pages(report, *, drawn=False):
    shown = {picture.name: (picture.caption, picture.svg) for picture in draw(report)} if drawn else {}
    return page(report, shown).decode(), markdown(report, shown).decode(), shown


class Loads(html.parser.HTMLParser):
    """Every attribute of a page that could load or run something."""

    def __init__(self):
        super().__init__()
        self.tags, self.loads = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [(name, value) for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        assert not [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("report", ALL.values(), ids=ALL)
def test_the_page_loads_nothing_and_runs_nothing(report):
    text, _, shown = pages(report, drawn=True)
    parser = Loads()
    parser.feed(text)
    assert not parser.tags & {"script", "link", "iframe", "object", "embed", "form", "base", "svg", "a"}
    assert all(value.startswith("data:image/svg+xml;base64,") for _, value in parser.loads)
    assert len(parser.loads) == len(shown) > 1
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    for _, svg in shown.values():
        assert b"<script" not in svg
        assert not re.search(rb'href="(?!#|data:)', svg)


FORBIDDEN = re.compile(
    r"verified|compliant|certified|guarantee|weights within|lossless quality|immutable", re.IGNORECASE
)


@pytest.mark.parametrize("report", ALL.values(), ids=ALL)
def test_words_that_do_not_occur(report):
    for text in pages(report)[:2]:
        visible = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
        assert not FORBIDDEN.search(visible)
        assert "Who made the pack was not checked" in visible


def test_what_a_calibrated_pack_is_said_to_do():
    for text in pages(LANGUAGE)[:2]:
        assert "A calibrated pack moves single weights further than rounding would, on purpose" in text
    for text in pages(PLAIN)[:2]:
        assert "on purpose" not in text


def test_measured_on_what_it_was_fitted_to():
    calibration = Calibration(kind="file", sha256="1a" * 32, tokens=12)
    same = dataclasses.replace(LANGUAGE, pack=dataclasses.replace(LANGUAGE.pack, calibration=calibration))
    assert "These are the very tokens that the encoder was fitted to" in pages(same)[1]
    assert "very tokens" not in pages(LANGUAGE)[1]


def test_figures_of_the_page():
    text = pages(LANGUAGE)[0]
    for figure in (
        "87.0000 (asked for: 5)",
        "2.00e-3 (1.00e-3 to 3.00e-3) nats per token",
        "1.25000 (1.20000 to 1.30000)",
        "90.00 % (80.00 % to 100.00 %)",
        "2 (evenly spread over 7), 12 tokens",
        "-0.02 (-0.04 to 0)",
        LANGUAGE.pack.root,
    ):
        assert figure in text, figure
    assert "random tokens" in pages(EMBEDDINGS)[0]


def test_bits_are_rounded_up():
    size = dataclasses.replace(PLAIN.size, headers=PLAIN.size.headers + 1)
    text = pages(dataclasses.replace(PLAIN, size=size))[1]
    assert "| 87.1000 (asked for: lossless) |" in text
    assert "| model.layers.0.self\\_attn.q\\_proj.weight | 4 x 3 | bfloat16 | exact-v1 | 26.667 |" in text
    third = dataclasses.replace(PLAIN.size, elements=81)
    tensors = (dataclasses.replace(PLAIN.tensors[0], shape=(65,)), *PLAIN.tensors[1:])
    assert "| 85.9260 (" in pages(dataclasses.replace(PLAIN, size=third, tensors=tensors))[1]  # 85.92592...


def test_names_are_other_peoples_text():
    evil = "x<script>alert(1)</script>|`\u202e\x1b$\\frac{"
    tensors = (dataclasses.replace(PLAIN.tensors[0], name=evil), *PLAIN.tensors[1:])
    named = dataclasses.replace(PLAIN, tensors=tuple(sorted(tensors, key=lambda t: t.name.encode())))
    text, lines, shown = pages(named, drawn=True)
    assert "&lt;script&gt;" in text
    for made in (text, lines, *(svg.decode() for _, svg in shown.values())):
        assert not set(made) & {"\u202e", "\x1b"}
        assert "<script>" not in made
    assert "x&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`\\\\u202e\\\\x1b" in lines


def many_tensors():
    """Twenty layers of ten tensors: what pictures have to bear."""
    lines = [
        TensorLine(
            name=f"model.layers.{layer}.{kind}.weight",
            dtype="bfloat16",
            shape=(64, 64),
            codec="five-v1",
            nbytes=2500 + layer,
            relative_squared_error="0.001",
            max_error="0.1",
            rms="1",
        )
        for layer in range(20)
        for kind in ("q", "k", "v", "o", "gate", "up", "down", "extra.a", "extra.b", "extra.c")
    ]
    lines.sort(key=lambda t: t.name.encode())
    size = dataclasses.replace(
        PLAIN.size, elements=sum(t.elements for t in lines), payload=sum(t.nbytes for t in lines)
    )
    return dataclasses.replace(PLAIN, tensors=tuple(lines), size=size)


def test_pictures_of_many_tensors_are_the_same_bytes_every_time():
    report = many_tensors()
    first, again = draw(report), draw(report)
    assert [p.name for p in first] == ["bits", "errors"]
    assert first == again
    assert all(len(p.svg) < 400_000 for p in first)
    assert "<summary>200 lines</summary>" in page(report, {}).decode()


@pytest.mark.parametrize(
    ("name", "place", "kind"),
    [
        ("model.layers.12.self_attn.q_proj.weight", (1, "model.layers", 12), "self_attn.q_proj"),
        ("encoder.layer.0.attention.output.dense.bias", (1, "encoder.layer", 0), "output.dense"),
        ("model.layers.3.mlp.experts.17.w1.weight", (1, "model.layers", 3), "experts.w1"),
        ("model.embed_tokens.weight", (0, "", 0), "model.embed_tokens"),
        ("transformer.wte.weight", (0, "", 0), "transformer.wte"),
        ("lm_head.weight", (2, "", 0), "lm_head"),
        ("weight", (2, "", 0), "weight"),
    ],
)
def test_places_and_kinds(name, place, kind):
    assert (place_of(name), kind_of(name)) == (place, kind)
