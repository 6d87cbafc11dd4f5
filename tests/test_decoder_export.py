"""A language model from checkpoint and adapters to text, by the command line's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from edge_lra import Generator
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError, GateError
from edge_lra.golden import check_golden
from edge_lra.graph import decoder, decoder_config
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from edge_lra.runner import Runner
from tests.graph.decoders import float_logits, random_model, token_ids

STEPS = 24
END = 2
PROMPTS = [[5, 17, 40, 8], [61, 3, 9], [77, 12, 30, 44, 51]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    random_model("llama").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of different ranks."""
    folders = {}
    for seed, (name, rank) in enumerate({"one": 4, "two": 2}.items()):
        config = peft.LoraConfig(r=rank, lora_alpha=8, target_modules=["q_proj", "v_proj"])
        model = peft.get_peft_model(random_model("llama"), config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.2)
        folders[name] = tmp_path_factory.mktemp("adapters") / name
        model.save_pretrained(folders[name])
    return folders


def request(base: Path, out: Path, adapters: dict[str, Path], **changes: Any) -> ExportRequest:
    plain = ExportRequest(
        out, model=str(base), adapters=list(adapters.items()), scheme="none", verify=False
    )
    return replace(plain, **changes)


def greedy(adapter: Path | None, prompt: list[int]) -> list[int]:
    """Return what transformers and PEFT generate."""
    model = random_model("llama")
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    ids = list(prompt)
    for _ in range(STEPS):
        ids.append(int(float_logits(model, np.array([ids]))[0, -1].argmax()))
    found = ids[len(prompt) :]
    return found[: found.index(END)] if END in found else found


def without_end(tokens: Sequence[int]) -> list[int]:
    return [token for token in tokens if token != END]


def test_merged_and_factored_bundles_generate_the_tokens_of_peft(
    base: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    merged = export(request(base, tmp_path / "m.edge", {"one": adapters["one"]}))
    factored = export(request(base, tmp_path / "f.edge", adapters, mode="factored"))
    expected = greedy(adapters["one"], PROMPTS[0])
    found = Generator.load(merged, threads=1).generate(PROMPTS[0], max_tokens=STEPS)
    assert without_end(found.tokens) == expected
    generator = Generator.load(factored, threads=1)
    found = generator.generate(PROMPTS[0], adapter="one", max_tokens=STEPS)
    assert without_end(found.tokens) == expected
    assert expected != greedy(None, PROMPTS[0])


def test_each_row_generates_with_its_own_adapter(
    base: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    factored = export(request(base, tmp_path / "f.edge", adapters, mode="factored"))
    names = ["two", None, "one"]
    rows = Generator.load(factored, threads=1).generate(PROMPTS, adapter=names, max_tokens=STEPS)
    for row, prompt, name in zip(rows, PROMPTS, names, strict=True):
        expected = greedy(adapters[name] if name else None, prompt)
        assert without_end(row.tokens) == expected


def test_a_run_without_a_past_gives_the_logits_of_transformers(base: Path, tmp_path: Path) -> None:
    bundle = export(request(base, tmp_path / "b.edge", {}))
    ids = token_ids((2, 12))
    outputs = Runner.load(bundle).run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    expected = float_logits(random_model("llama"), ids)
    assert np.abs(outputs["all_logits"] - expected).max() <= 1e-4
    assert np.array_equal(outputs["logits"], outputs["all_logits"][:, -1:])


def test_padding_is_refused(base: Path, tmp_path: Path) -> None:
    bundle = export(request(base, tmp_path / "b.edge", {}))
    ids = token_ids((2, 6))
    mask = np.ones_like(ids)
    mask[0, -1] = 0
    with pytest.raises(EdgeError, match="run rows of different lengths apart"):
        Runner.load(bundle).run({"input_ids": ids, "attention_mask": mask})


def test_the_manifest_says_how_to_feed_the_cache(base: Path, tmp_path: Path) -> None:
    decoder = load_manifest(export(request(base, tmp_path / "b.edge", {}, context=64)))["decoder"]
    assert (decoder["layers"], decoder["kv_heads"], decoder["head_size"]) == (2, 2, 16)
    assert decoder["context_length"] == 64
    assert len(decoder["cache"]) == 4
    assert decoder["adapter_index"] is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"verify_tokens": 0, "verify": True, "data": Path("none.txt")}, "no tokenizer"),
        ({"gates": {"top1_agreement": 1.0}, "verify": True}, "gates: found top1_agreement"),
        ({"context": 4096}, "context: found 4096"),
        ({"adapter_dtype": "fp16"}, "adapter dtype"),
        ({"task": "sequence-classification"}, "expected one of text-generation"),
    ],
)
def test_what_a_language_model_does_not_take_is_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(EdgeError, match=named):
        export(request(base, tmp_path / "b.edge", {}, **changes))
    assert not (tmp_path / "b.edge").exists()


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_a_proven_bundle_carries_its_figures_and_golden_cases(
    base: Path, adapters: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    given = adapters if mode == "factored" else {"one": adapters["one"]}
    bundle = export(request(base, tmp_path / "b.edge", given, mode=mode, verify=True))
    manifest = load_manifest(bundle)
    reports = manifest["fidelity"]["reports"]
    assert [report["adapter"] for report in reports] == list(given)
    for report in reports:
        metrics = report["metrics"]
        assert metrics["kl_mean"] < 1e-6
        assert metrics["same_top"] == 1
        assert metrics["adapter_survival"] == pytest.approx(1, abs=1e-3)
        assert metrics["perplexity"] == pytest.approx(metrics["perplexity_float"], rel=1e-4)
    golden = check_golden(bundle, manifest)
    assert golden["cases"] == 4 * len(given)
    assert golden["max_abs_error_float"] <= 1e-4


def test_a_bundle_that_is_not_the_float_model_is_not_written(
    base: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = decoder_config.read_decoder

    def wrong(*given: Any) -> Any:
        return replace(exact(*given), scale=2 * exact(*given).scale)

    monkeypatch.setattr(decoder, "read_decoder", wrong)
    with pytest.raises(GateError, match="same_top"):
        export(request(base, tmp_path / "b.edge", {}, verify=True))
    assert not (tmp_path / "b.edge").exists()
