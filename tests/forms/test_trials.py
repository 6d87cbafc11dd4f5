"""What a form changes, as foreseen in float64, is what a bundle with it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_lra.calibration import Encoded, held_out
from edge_lra.forms.linears import find_linears
from edge_lra.forms.plan import FormPlan
from edge_lra.forms.trials import FormTrials
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.inputs import ExportRequest, read_inputs
from edge_lra.pipeline import export
from edge_lra.planning import make_plan
from edge_lra.quantize.calibrate import EncoderRun
from edge_lra.quantize.readings import MomentFile
from edge_lra.quantize.schemes import FORMS, USUAL
from edge_lra.runner import Runner

Texts = tuple[np.ndarray, ...]


def asked(tiny: Path, **options: object) -> ExportRequest:
    words = ["fine", "film", "bad", "good", "bore", "not", "this", "what"]
    texts = [f"{a} {b} a {c} ." for a in words for b in words[:3] for c in words[2:4]]
    (tiny / "t.txt").write_text("\n".join(texts))
    given = {"task": "feature-extraction", "data": tiny / "t.txt", "verify": False, **options}
    return ExportRequest(tiny / "b.edge", str(tiny / "model"), **given)  # type: ignore[arg-type]


def trials_of(request: ExportRequest) -> tuple[FormTrials, Texts, list[str]]:
    """Return trials that were run, the texts that were tried, and the linears' modules."""
    inputs = read_inputs(request)
    plan = make_plan(request, inputs)
    build = EncoderBuilder(plan)
    held = held_out(inputs.checkpoint, request.data, 40, 16)
    trials = FormTrials(build, held)
    trials.run(plan.texts)
    return trials, held.texts, [linear.module for linear in find_linears(build)]


def outputs(bundle: Path, texts: Texts) -> np.ndarray:
    """Return the last hidden states of each text alone, (tokens, hidden)."""
    runner = Runner.load(bundle, verify="never")
    found = []
    for ids in texts:
        given = {"input_ids": ids[None], "attention_mask": np.ones_like(ids[None])}
        found.append(runner.run(given | {"token_type_ids": np.zeros_like(ids[None])}))
    return np.concatenate([next(iter(item.values()))[0] for item in found])


WITHOUT = [("gptq",), ("gptq", "static-scales"), ("gptq", "outliers", "smoothing", "centring")]


@pytest.mark.parametrize("without", WITHOUT, ids="-".join)
def test_a_foreseen_error_is_that_of_the_bundle(strong: Path, without: tuple[str, ...]) -> None:
    request = asked(strong, without=without)
    trials, texts, modules = trials_of(request)
    plain = replace(request, scheme="none", without=("tanh-gelu",))
    exact = outputs(export(plain), texts)
    mixed = dict(zip(modules, [*FORMS] * len(modules), strict=False))
    for forms in [dict.fromkeys(modules, form) for form in FORMS] + [mixed]:
        others = {name: form for name, form in forms.items() if form != USUAL}
        bundle = export(replace(request, plan=FormPlan(others)))
        found = outputs(bundle, texts)
        error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
        assert trials.error(forms) == pytest.approx(error, rel=0.1)


def test_a_linear_alone_changes_its_layer_and_float32_nothing(strong: Path) -> None:
    trials, _, modules = trials_of(asked(strong))
    assert trials.lost.keys() == {(m, f) for m in modules for f in FORMS if f != "float32"}
    assert all(lost > 0 for lost in trials.lost.values())
    embeddings = trials.error({})
    assert trials.error(dict.fromkeys(modules, "float32")) == embeddings > 0


def test_each_text_is_rounded_by_its_own_range(strong: Path) -> None:
    trials, texts, modules = trials_of(asked(strong, without=("static-scales", "gptq")))
    trials.error(dict.fromkeys(modules, USUAL))
    whole = trials.rounded.output
    trials.rounded.run(texts[:1])
    np.testing.assert_allclose(whole[: len(texts[0])], trials.rounded.output, rtol=1e-9, atol=1e-12)


def test_trials_leave_the_readings_as_they_are(strong: Path) -> None:
    trials, _, _ = trials_of(asked(strong))
    build = trials.build
    parts = build.recipe, build.plan.config, build.epsilon, build.source, MomentFile()
    expected = EncoderRun(*parts).run(build.plan.texts)
    assert trials.readings.keys() == expected.keys()
    for name, reading in expected.items():
        np.testing.assert_allclose(trials.readings[name].low, reading.low, rtol=1e-9)
        np.testing.assert_allclose(trials.readings[name].high, reading.high, rtol=1e-9)


def test_pairs_are_tried_and_calibrate_as_pairs(strong: Path) -> None:
    words = ["fine", "film", "bad", "good", "bore", "not"]
    rows = [f"{a} {b}\tthis is {b} {a} ." for a in words for b in words]
    request = asked(strong, data=strong / "pairs.tsv")
    (strong / "pairs.tsv").write_text("text\ttext_pair\n" + "\n".join(rows))
    inputs = read_inputs(request)
    plan = make_plan(request, inputs)
    build = EncoderBuilder(plan)
    tried = held_out(inputs.checkpoint, request.data, 40, 16)
    trials = FormTrials(build, tried)
    trials.run(plan.texts, plan.types)
    alone = FormTrials(build, Encoded(tried.texts))
    alone.run(plan.texts)
    parts = build.recipe, build.plan.config, build.epsilon, build.source, MomentFile()
    expected = EncoderRun(*parts).run(plan.texts, plan.types)
    for name, reading in expected.items():
        np.testing.assert_allclose(trials.readings[name].low, reading.low, rtol=1e-9)
    assert np.abs(alone.output - trials.output).max() > 0.02  # what the second's types are worth
    bundle = export(replace(request, scheme="none", without=("tanh-gelu",)))
    runner = Runner.load(bundle, verify="never")
    found = []
    for ids, types in zip(tried.texts, tried.types, strict=True):
        given = {"attention_mask": np.ones_like(ids[None]), "token_type_ids": types[None]}
        found.append(runner.run({"input_ids": ids[None], **given})["last_hidden_state"][0])
    np.testing.assert_allclose(np.concatenate(found), trials.output, atol=2e-3)


def test_only_the_first_token_counts_where_a_head_reads_no_other(strong: Path) -> None:
    classifier = asked(strong, task=None, adapters=[("one", str(strong / "adapter"))])
    trials, texts, modules = trials_of(classifier)
    forms = dict.fromkeys(modules, USUAL)
    found = trials.error(forms)
    changed, exact = trials.rounded.output, trials.output
    first = np.cumsum([0, *(len(ids) for ids in texts[:-1])])
    expected = np.linalg.norm((changed - exact)[first]) / np.linalg.norm(exact[first])
    assert found == pytest.approx(expected)
    assert found != pytest.approx(np.linalg.norm(changed - exact) / np.linalg.norm(exact), rel=1e-3)
