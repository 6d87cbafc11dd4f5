"""int4 decoders calibrated with text: what GPTQ saves, and which linears have 8 bits for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_lra.adapters.factored import with_factors
from edge_lra.calibration import Calibration
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.decoder import DecoderBuilder, build_decoder
from edge_lra.graph.plan import Plan
from edge_lra.planning import adapter_slots
from edge_lra.quantize.affine import round_affine
from edge_lra.quantize.decoder_run import DecoderRun
from edge_lra.quantize.decoder_trials import SHARE, DecoderTrials
from edge_lra.quantize.readings import MomentFile
from edge_lra.quantize.remedies import Remedies
from edge_lra.weights import Source
from tests.graph.decoders import (
    Stepper,
    float_logits,
    plan_for,
    random_model,
    token_ids,
    write_graph,
)
from tests.graph.test_decoder_adapters import read, train

TEXTS = tuple(token_ids((length,), seed=length) for length in (40, 64, 30, 50, 61))
PLAIN = Remedies(gptq=False, mixed_bits=False)


def calibrated(folder: Path, remedies: Remedies | None = None, scheme: str = "int4") -> Plan:
    return plan_for(
        folder, scheme, calibration=Calibration(TEXTS, "text"), remedies=remedies or Remedies()
    )


def make_trials(build: DecoderBuilder, compensates: bool) -> DecoderTrials:
    parts = build.recipe, build.config, build.source, build.linear_source, build.has_bias
    return DecoderTrials(*parts, MomentFile(), build.mixed_sites(), compensates)


def test_gptq_brings_an_int4_decoder_nearer_to_float(tmp_path: Path) -> None:
    model = random_model("llama")
    table = model.model.embed_tokens.weight
    with torch.no_grad():  # channels that hang together, as a trained model's do
        table.copy_(torch.randn(len(table), 6) @ torch.randn(6, table.shape[1]))
    model.save_pretrained(tmp_path / "base")
    ids = token_ids((8, 16), seed=100)
    expected, errors = float_logits(model, ids), []
    for gptq in (True, False):
        remedies = Remedies(gptq=gptq, mixed_bits=False)
        built = build_decoder(calibrated(tmp_path / "base", remedies))
        _, every = Stepper(write_graph(built, tmp_path / str(gptq)), built).run(ids)
        errors.append(float(np.linalg.norm(every - expected)))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("role", ["query", "value", "output", "gate", "down"])
def test_a_change_is_that_of_the_layer_with_the_rounded_weight(tmp_path: Path, role: str) -> None:
    random_model("llama").save_pretrained(tmp_path)
    build = DecoderBuilder(calibrated(tmp_path))
    trials = make_trials(build, compensates=False)
    trials.run(TEXTS, None)
    module = build.recipe.layer[role].format(i=0)

    def rounded(name: str) -> Source:
        source = build.linear_source(name)
        if name != module:
            return source
        weight = np.concatenate([rows for _, rows in source.chunks()])
        return replace(source, replacement=round_affine(weight, None).weight(weight.shape[1]))

    outputs = []
    for linear_source in (build.linear_source, rounded):
        run = DecoderRun(build.recipe, build.config, build.source, linear_source, build.has_bias)
        outputs.append(run.layer(run.embed(TEXTS), 0, np.cumsum([len(t) for t in TEXTS])[:-1]))
    gap = ((outputs[1] - outputs[0]) ** 2).sum(axis=1) / (outputs[0] ** 2).sum(axis=1)
    assert trials.changes[module].lost == pytest.approx(gap.mean(), rel=1e-5)
    assert gap.mean() > 0


@pytest.mark.parametrize(("name", "linears"), [("llama", 7), ("gpt2", 4)])
def test_trials_leave_the_sites_as_they_are(tmp_path: Path, name: str, linears: int) -> None:
    random_model(name).save_pretrained(tmp_path)
    build = DecoderBuilder(calibrated(tmp_path))
    trials = make_trials(build, compensates=True)
    found = trials.run(TEXTS, None)
    parts = build.recipe, build.config, build.source, build.linear_source, build.has_bias
    expected = DecoderRun(*parts, MomentFile()).run(TEXTS, None)
    assert found.keys() == expected.keys() and len(trials.changes) == 2 * linears
    for site, other in expected.items():
        np.testing.assert_array_equal(found[site].divisor, other.divisor)
        one, two = found[site].reading, other.reading
        assert one is not None and one.moment is not None and two is not None and two.moment
        np.testing.assert_array_equal(one.moment(), two.moment())


def test_chosen_linears_have_8_bits_and_are_named(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    built = build_decoder(calibrated(tmp_path))
    weights = {n: int(np.prod(w.source.shape)) for w in built.builder.weights for n in [w.name]}
    linears = {n: count for n, count in weights.items() if "_proj" in n}
    finer = [f"{module}.weight" for module in built.finer_sites]
    assert finer and sum(linears[n] for n in finer) <= SHARE * sum(linears.values())
    bits = Counter(
        n.attributes["bits"].value for n in built.model.graph if n.op_type == "MatMulNBits"
    )
    assert bits == {4: 7 * 2 - len(finer), 8: len(finer) + 1}  # and the head
    assert build_decoder(calibrated(tmp_path, PLAIN)).finer_sites == ()


def test_a_factored_base_is_rounded_as_it_is_without_adapters(tmp_path: Path) -> None:
    base = tmp_path / "base"
    random_model("llama").save_pretrained(base)
    train(base, "llama", tmp_path / "lora", target_modules=["q_proj", "o_proj"])
    adapter = with_factors(read(base, tmp_path / "lora"), Checkpoint(base))
    slots = adapter_slots([adapter])
    plain, factored = calibrated(base), replace(calibrated(base), slots=slots)
    for name, plan in (("plain", plain), ("factored", factored)):
        write_graph(build_decoder(plan), tmp_path / name)
    data = [(tmp_path / name / "model.onnx.data").read_bytes() for name in ("plain", "factored")]
    assert data[0] == data[1]
