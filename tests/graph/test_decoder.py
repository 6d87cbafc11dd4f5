"""Decoder graphs of every family against transformers: prefill, then a token at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_lra.graph.decoder import ALL_LOGITS_TOKENS, build_decoder
from edge_lra.graph.plan import LAYER_OUTPUT
from edge_lra.probe import open_probe
from tests.graph.decoders import (
    FAMILIES,
    Stepper,
    float_logits,
    plan_for,
    random_model,
    token_ids,
    write_graph,
)

TOLERANCE = 1e-4


@pytest.mark.parametrize("name", list(FAMILIES))
def test_logits_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base"))
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built)
    ids = token_ids((2, 28))
    expected = float_logits(model, ids)

    last, every = stepper.run(ids[:, :20])
    assert every.shape[1] == 1
    assert np.abs(last[:, 0] - expected[:, 19]).max() <= TOLERANCE
    for place in range(20, 28):
        last, _ = stepper.run(ids[:, place : place + 1])
        assert np.abs(last[:, 0] - expected[:, place]).max() <= TOLERANCE


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_short_runs_give_the_logits_of_every_position(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base"))
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built)
    ids = token_ids((1, 2 * ALL_LOGITS_TOKENS))
    expected = float_logits(model, ids)

    for start in (0, ALL_LOGITS_TOKENS):
        part = slice(start, start + ALL_LOGITS_TOKENS)
        last, every = stepper.run(ids[:, part])
        assert np.abs(every - expected[:, part]).max() <= TOLERANCE
        assert np.array_equal(last, every[:, -1:])


@pytest.mark.parametrize(("tokens", "read"), [(ALL_LOGITS_TOKENS, ALL_LOGITS_TOKENS), (28, 1)])
def test_the_last_layer_is_for_the_tokens_whose_logits_are_given(
    tmp_path: Path, tokens: int, read: int
) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base"))
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built)
    layers = [LAYER_OUTPUT.format(i=i) for i in range(len(stepper.entry["cache"]) // 2)]
    feeds = stepper.feeds(token_ids((1, tokens)))
    found = open_probe(tmp_path / "graph", layers)(feeds)
    assert [found[name].shape[1] for name in layers] == [*[tokens] * (len(layers) - 1), read]
