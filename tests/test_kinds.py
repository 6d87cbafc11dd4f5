"""Whole exports of every adapter kind on a small BERT, held against PEFT by their own proof."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from edge_lra.adapters.formats.convert import convert
from edge_lra.checkpoint import Checkpoint
from edge_lra.contents import describe
from edge_lra.errors import EdgeError
from edge_lra.oracle import Oracle
from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Runner

ALL = ["query", "key", "value", "dense"]
KINDS: dict[str, Any] = {
    "rslora": peft.LoraConfig(r=4, use_rslora=True, target_modules=ALL),
    "dora": peft.LoraConfig(r=4, use_dora=True, target_modules=ALL),
    "bias": peft.LoraConfig(r=4, lora_bias=True, target_modules=ALL),
    "loha": peft.LoHaConfig(r=2, target_modules=ALL),
    "vera": peft.VeraConfig(r=8, target_modules=["query", "value"]),
    "ia3": peft.IA3Config(target_modules=["key", "value"], feedforward_modules=[]),
}
MERGED: dict[str, Any] = {
    "lokr": peft.LoKrConfig(r=4, target_modules=ALL),
    "oft": peft.OFTConfig(oft_block_size=4, target_modules=["query", "value"]),
    "boft": peft.BOFTConfig(boft_block_size=4, target_modules=["query", "value"]),
    "inputs": peft.IA3Config(target_modules=["output.dense"], feedforward_modules=["output.dense"]),
    "words": peft.LoraConfig(r=4, target_modules=["word_embeddings"]),
    "tokens": peft.LoraConfig(
        r=4, target_modules=["query"], trainable_token_indices={"word_embeddings": [6, 9]}
    ),
}


def train(tiny: Path, name: str, config: Any, head: bool = True) -> Path:
    """Save an adapter of random values."""
    loader = transformers.AutoModelForSequenceClassification
    torch.manual_seed(3)
    base = loader.from_pretrained(tiny / "model")
    config.task_type = "SEQ_CLS" if head else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape) * 0.3)
        model.save_pretrained(tiny / name)
    return tiny / name


def answers(bundle: Path, adapter: str | None = None) -> np.ndarray:
    runner = Runner.load(bundle, threads=1)
    tokens = runner.tokenize(["a fine film", "this is not good ."]).inputs
    return runner.run(tokens, adapter=adapter)["logits"]


def oracle(tiny: Path, bundle: Path, *adapters: tuple[Path, float]) -> np.ndarray:
    tokens = Runner.load(bundle).tokenize(["a fine film", "this is not good ."]).inputs
    task = "sequence-classification"
    return Oracle(tiny / "model", task, adapters, "SEQ_CLS", 2).run(tokens)["logits"]


def request(tiny: Path, mode: str, *adapters: Path, **options: Any) -> ExportRequest:
    given = [(None, path) for path in adapters]
    return ExportRequest(
        tiny / f"{mode}.edge", str(tiny / "model"), given, mode=mode, **{"scheme": "none"} | options
    )


@pytest.mark.parametrize("mode", ["merge", "factored"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_with_factors_answers_as_peft_in_both_modes(
    tiny: Path, kind: str, mode: str
) -> None:
    adapter = train(tiny, kind, KINDS[kind])
    bundle = export(request(tiny, mode, adapter))
    wanted = oracle(tiny, bundle, (adapter, 1.0))
    found = answers(bundle, kind if mode == "factored" else None)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
    report = json.loads((bundle / "manifest.json").read_text())["fidelity"]["reports"][0]
    assert abs(report["metrics"]["adapter_survival"] - 1) < 1e-4


@pytest.mark.parametrize("kind", MERGED)
def test_a_kind_without_factors_is_merged_and_its_site_named_when_factored(
    tiny: Path, kind: str
) -> None:
    adapter = train(tiny, kind, MERGED[kind])
    bundle = export(request(tiny, "merge", adapter))
    wanted = oracle(tiny, bundle, (adapter, 1.0))
    np.testing.assert_allclose(answers(bundle), wanted, atol=2e-5 * np.abs(wanted).max())
    with pytest.raises(EdgeError, match=r"weight: found \w+ there, .* use --merge"):
        export(request(tiny, "factored", adapter))


def test_adapters_of_different_kinds_share_one_base(tiny: Path) -> None:
    paths = [train(tiny, name, KINDS[name]) for name in ("dora", "bias", "ia3")]
    bundle = export(request(tiny, "factored", *paths))
    for path in paths:
        wanted = oracle(tiny, bundle, (path, 1.0))
        found = answers(bundle, path.name)
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.fixture
def pair(tiny: Path) -> tuple[Path, Path]:
    """Return two adapters of different targets, ranks and scales; the first has a head."""
    one = train(tiny, "one", peft.LoraConfig(r=4, lora_alpha=6, target_modules=["query", "dense"]))
    options = {"r": 2, "use_rslora": True, "target_modules": ["query", "value"]}
    return one, train(tiny, "two", peft.LoraConfig(**options), head=False)


def test_a_merge_of_weighted_adapters_is_their_sum_in_any_order(
    tiny: Path, pair: tuple[Path, Path]
) -> None:
    one, two = pair
    bundle = export(request(tiny, "merge", one, two, weights=[0.7, -0.4]))
    wanted = oracle(tiny, bundle, (one, 0.7), (two, -0.4))
    np.testing.assert_allclose(answers(bundle), wanted, atol=2e-5 * np.abs(wanted).max())
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [entry["weight"] for entry in manifest["merged"]["adapters"]] == [0.7, -0.4]
    assert manifest["fidelity"]["reports"][0]["adapter"] == "one+two"
    data = (bundle / "model.onnx.data").read_bytes()
    turned = export(request(tiny, "merge", two, one, weights=[-0.4, 0.7]))
    assert (turned / "model.onnx.data").read_bytes() == data


def test_what_depends_on_the_base_cannot_be_summed(tiny: Path, pair: tuple[Path, Path]) -> None:
    dora = train(tiny, "dora", KINDS["dora"])
    for adapters, weights in (((dora, pair[1]), []), ((dora,), [0.5])):
        with pytest.raises(EdgeError, match="whose change depends on the base"):
            export(request(tiny, "merge", *adapters, weights=weights))


def test_two_heads_cannot_be_merged(tiny: Path, pair: tuple[Path, Path]) -> None:
    other = train(tiny, "other", KINDS["rslora"])
    with pytest.raises(EdgeError, match=r"classifier.* found another one"):
        export(request(tiny, "merge", pair[0], other))


def test_the_manifest_says_how_much_of_a_change_int8_keeps(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = train(tiny, "plain", peft.LoraConfig(r=2, target_modules=["query"]))
    for weight, low, high in ((1.0, 0.98, 1.02), (1e-4, -3.0, 3.0)):
        bundle = export(
            request(tiny, "merge", adapter, scheme="int8", weights=[weight], verify=False)
        )
        found = json.loads((bundle / "manifest.json").read_text())["merged"]["delta_survival"]
        assert low < found["min"] <= found["median"] < high
        assert (found["rows_below_step"] > 0.5) == (weight < 1)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "below one integer step in 100 % of its rows" in caplog.text


@pytest.mark.parametrize("to", ["gguf", "onnx_adapter"])
def test_an_adapter_in_another_format_exports_as_in_pefts(tiny: Path, to: str) -> None:
    """The formats hold no head: the base brings one."""
    loader = transformers.AutoModelForSequenceClassification
    base = loader.from_pretrained(tiny / "model")
    base.save_pretrained(tiny / "model")
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["query", "dense"]}
    if to == "gguf":  # its names know the encoder, but no pooler
        options["exclude_modules"] = ["bert.pooler.dense"]
    adapter = train(tiny, "plain", peft.LoraConfig(**options), head=False)
    out = tiny / f"other.{to}"
    convert(adapter, to, out, Checkpoint(tiny / "model"))
    task = {"task": "sequence-classification"}
    one = export(request(tiny, "merge", adapter, **task))
    wanted = answers(one)
    data = (one / "model.onnx.data").read_bytes()
    two = export(request(tiny, "merge", out, **task))
    np.testing.assert_allclose(answers(two), wanted, atol=1e-5 * np.abs(wanted).max())
    assert len((two / "model.onnx.data").read_bytes()) == len(data)
    found = json.loads((two / "manifest.json").read_text())["merged"]["adapters"][0]
    assert found["name"] == "other" and found["format"] != "PEFT"
    assert describe(out, str(tiny / "model"))["format"] == found["format"]
