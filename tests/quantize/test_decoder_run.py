"""The float run of a decoder, and what is made of what its linears read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_lra.graph.decoder import DecoderBuilder
from edge_lra.quantize.decoder_run import DecoderRun
from tests.graph.decoders import float_logits, plan_for, random_model, token_ids

FAMILIES = ("llama-biases", "llama-yarn", "mistral", "qwen3", "gemma2", "gemma3", "gpt2")


def make_run(folder: Path) -> tuple[DecoderBuilder, DecoderRun]:
    build = DecoderBuilder(plan_for(folder))
    run = DecoderRun(build.recipe, build.config, build.source, build.linear_source, build.has_bias)
    return build, run


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_gives_the_logits_of_transformers(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path)
    build, run = make_run(tmp_path)
    ids = token_ids((2, 12))
    x = run.hidden([*ids, token_ids((7,), seed=1)])
    logits, cap = run.product(x, build.head_source(), run.columns(x)), build.config.logit_softcap
    logits = logits[:24].reshape(2, 12, -1)
    logits = np.tanh(logits / cap) * cap if cap else logits
    # Gelu is taken by its tanh form, positions' angles in float32.
    assert np.abs(logits - float_logits(model, ids)).max() <= 2e-3 * np.abs(logits).max()


def test_two_runs_find_the_same_and_every_value_that_linears_read(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    found = [build.calibrate() for build, _ in (make_run(tmp_path), make_run(tmp_path))]
    assert found[0].keys() == found[1].keys() and len(found[0]) == 4 * 2  # the head's is dropped
    for name, site in found[0].items():
        assert np.array_equal(site.divisor, found[1][name].divisor)
        assert site.noise == found[1][name].noise and site.reach == found[1][name].reach
        assert (site.reach is not None) == name.endswith("layernorm")
        assert np.isclose(np.log2(site.divisor).mean(), 0, atol=0.1)


def test_digits_follow_the_noise_of_one_and_not_the_name(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    _, run = make_run(tmp_path)
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((16, 64)), random.standard_normal((32, 64))
    for name, far in (("even", 1.0), ("far", 300.0)):
        reads = x.copy()
        reads[..., 5] *= far
        columns = run.columns(reads)
        columns.largest, columns.squares = np.abs(weight).max(axis=0), (weight**2).sum(axis=0)
        columns.power = 100 * ((x @ weight.T) ** 2).sum(axis=-1)  # the sum it is added to
        run.remember(name, reads, columns, bounded=False)
    even, far_site = run.sites["even"], run.sites["far"]
    assert even.rounding(divided=False).digits == 1
    assert far_site.rounding(divided=False).digits == 2
    assert far_site.noise[0] < far_site.noise[1] / 10  # dividing the channel helps
    assert far_site.divisor.argmax() == 5
