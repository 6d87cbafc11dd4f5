"""What is timed of a language model is what its users run, and the same from run to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra.agent import operators
from edge_lra.agent.inputs import token_inputs
from edge_lra.agent.measure import measure
from edge_lra.agent.sweep import measure_sweep
from edge_lra.agent.work import NextToken, Prompts, load_bundle, work_with
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Generator, Runner
from tests.agent.asked import request_of
from tests.runner.tiny_decoder import (
    HEAD,
    KV_HEADS,
    LAYERS,
    random_adapter,
    random_llama,
    write_bundle,
)

CONTEXT = 40
TOKEN_BYTES = 2 * 4 * LAYERS * KV_HEADS * HEAD  # keys and values in float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = random_llama()
    factors = {name: random_adapter(model, 4, seed) for seed, name in enumerate(("one", "two"))}
    return write_bundle(tmp_path_factory.mktemp("work") / "b.edge", model, factors)


@pytest.fixture
def generator(folder: Path) -> Iterator[Generator]:
    loaded = load_bundle(folder, 1, "two")
    assert isinstance(loaded, Generator)
    with loaded:
        yield loaded


def prompts(folder: Path, rows: int, tokens: int) -> list[list[int]]:
    """Return the token ids that the agent makes up for a shape."""
    ids: list[list[int]] = token_inputs(folder, ["input_ids"], (rows, tokens))["input_ids"].tolist()
    return ids


def test_a_token_is_the_one_that_generate_gives_with_that_adapter(generator: Generator) -> None:
    work = NextToken(generator, CONTEXT)
    (ids,) = prompts(generator.path, 1, CONTEXT)
    chosen = [int(np.asarray(work.first())[0])]
    work.again()()
    chosen.append(int(work._next[0]))
    assert chosen == list(generator.generate(ids, max_tokens=2, stop_tokens=()).tokens)
    other = list(generator.generate(ids, max_tokens=2, adapter="one", stop_tokens=()).tokens)
    assert chosen != other


def test_a_context_stays_as_long_however_often_its_next_token_is_taken(
    generator: Generator,
) -> None:
    work = NextToken(generator, CONTEXT)
    work.first()
    run = work.again()
    for _ in range(5):
        run()
        assert work._cache is not None and work._cache.lengths == [CONTEXT + 1]


def test_prompts_are_read_into_rows_of_their_own_as_generate_reads_them(
    generator: Generator,
) -> None:
    work = Prompts(generator, (3, 20))
    work.first()
    work.again()()
    cache = work._cache
    assert cache is not None and cache.lengths == [20, 20, 20]
    rows = prompts(generator.path, 3, 20)
    found = generator.generate(rows, max_tokens=2, stop_tokens=())
    seconds = cache.step([one.tokens[0] for one in found]).argmax(1).tolist()
    assert seconds == [one.tokens[1] for one in found]


def test_a_switch_leaves_the_adapter_and_the_context_as_they_were(generator: Generator) -> None:
    work = NextToken(generator, CONTEXT)
    work.first()
    step = work.again()
    step()
    expected = int(work._next[0])
    taken_ms = work.switch_ms()
    assert taken_ms is not None and 0 < taken_ms < 1000
    assert generator.default_adapter == "two"
    work.first()
    work.again()()
    assert int(work._next[0]) == expected


def test_a_merged_language_model_has_nothing_to_switch(tmp_path: Path) -> None:
    merged = load_bundle(write_bundle(tmp_path / "m.edge", random_llama()), 1, None)
    work = work_with(merged, (1, 8), 8)
    work.first()
    assert work.switch_ms() is None


def test_keys_and_values_are_counted_by_the_tokens_that_fill_them(generator: Generator) -> None:
    token, prompt = NextToken(generator, CONTEXT), Prompts(generator, (3, 20))
    token.first(), prompt.first()
    token.again()()
    assert token.cache()["bytes"] == CONTEXT * TOKEN_BYTES
    assert prompt.cache()["bytes"] == 3 * 20 * TOKEN_BYTES
    assert token.cache()["reserved_bytes"] >= token.cache()["bytes"]


def test_a_context_is_refused_for_what_generates_nothing(tiny_made: Path, tmp_path: Path) -> None:
    request = ExportRequest(tmp_path / "e.edge", str(tiny_made / "model"), [], verify=False)
    loaded = load_bundle(export(request), 1, None)
    assert isinstance(loaded, Runner)
    with pytest.raises(EdgeError, match=r"context: found 8 for .*e\.edge, which generates no text"):
        work_with(loaded, (1, 8), 8)


def test_an_answer_holds_as_many_tokens_as_were_asked_for(folder: Path) -> None:
    found = measure(request_of(folder, context=CONTEXT, switch=True))
    assert len(found["latencies_ms"][0]) == 3 and found["adapters"] == ["one"]
    assert found["switch_ms"] > 0
    assert found["cache"]["bytes"] == CONTEXT * TOKEN_BYTES


def test_a_sweep_times_prompts_and_tokens_with_each_number_of_threads(folder: Path) -> None:
    found = measure_sweep(request_of(folder, context=CONTEXT, sweep=[1, 2]))
    assert len(found["p50_ms"]) == len(found["decode_ms"]) == 2
    assert min(found["p50_ms"] + found["decode_ms"]) > 0
    assert measure_sweep(request_of(folder, sweep=[1]))["decode_ms"] is None


def test_operators_of_a_token_leave_out_the_reading_of_its_context(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(operators, "summarize", lambda runs: kept.extend(runs) or {})
    operators.measure_operators(request_of(folder, context=CONTEXT, budget_s=60.0))
    assert len(kept) == operators.RUNS
    attention = [kernel for kernel in kept[0][1] if kernel.operator == "GroupQueryAttention"]
    assert len(attention) == LAYERS
