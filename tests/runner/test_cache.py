"""Stepping by hand gives the logits of transformers, whatever the way through the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_lra.errors import EdgeError
from edge_lra.runner import Generator, cache
from edge_lra.runner.cache import Cache
from tests.runner.tiny_decoder import ALL, CONTEXT, VOCAB, random_llama, write_bundle

MODEL = random_llama()
IDS = np.random.default_rng(5).integers(2, VOCAB, CONTEXT)
CLOSE = 1e-4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let buffers begin small, so that they grow on the way."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "FIRST", 8)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = write_bundle(tmp_path_factory.mktemp("made") / "b.edge", MODEL)
    return Generator.load(folder, threads=1, verify="never")


def expected(ids: Any) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = MODEL(torch.tensor(np.array(ids)[None])).logits[0].numpy()
    return found


def chunked(generator: Generator, chunk: int, rows: int = 1) -> Cache:
    return Cache(generator._session, generator.layout, rows, None, chunk)


@pytest.mark.parametrize("chunk", [1, 5, 16, 17, 32, 200])
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(generator: Generator, chunk: int) -> None:
    made = chunked(generator, chunk)
    np.testing.assert_allclose(made.prefill(IDS[:60]), expected(IDS[:60])[-1], atol=CLOSE)
    np.testing.assert_allclose(made.prefill(IDS[60:70]), expected(IDS[:70])[-1], atol=CLOSE)


def test_every_step_gives_the_logits_of_the_whole(generator: Generator) -> None:
    made, whole = generator.cache(), expected(IDS)
    made.prefill(IDS[:3])
    for place in range(3, CONTEXT):
        np.testing.assert_allclose(made.step(IDS[[place]])[0], whole[place], atol=CLOSE)
    assert made.lengths == [CONTEXT]


def test_a_first_step_needs_no_prompt(generator: Generator) -> None:
    np.testing.assert_allclose(generator.cache().step(IDS[:1])[0], expected(IDS[:1])[0], atol=CLOSE)


def test_scores_are_the_logits_of_each_token(generator: Generator) -> None:
    made, whole = generator.cache(), expected(IDS[:40])
    made.prefill(IDS[:7])
    np.testing.assert_allclose(made.score(IDS[7 : 7 + ALL]), whole[7 : 7 + ALL], atol=CLOSE)
    made.step(IDS[[7 + ALL]])
    np.testing.assert_allclose(made.score(IDS[8 + ALL : 12 + ALL]), whole[24:28], atol=CLOSE)


def test_what_was_truncated_is_forgotten(generator: Generator) -> None:
    made = generator.cache()
    made.prefill(IDS[:20])
    made.truncate(9)
    np.testing.assert_allclose(
        made.step(IDS[[50]])[0], expected([*IDS[:9], IDS[50]])[-1], atol=CLOSE
    )
    made.truncate(0)
    np.testing.assert_allclose(made.prefill(IDS[30:40]), expected(IDS[30:40])[-1], atol=CLOSE)


def test_rows_of_any_length_go_on_together(generator: Generator) -> None:
    made, starts = chunked(generator, 8, rows=3), [2, 30, 11]
    for row, size in enumerate(starts):
        made.prefill(IDS[row : row + size], row)
    for step in range(40):
        logits = made.step([IDS[row + size + step] for row, size in enumerate(starts)])
        for row, size in enumerate(starts):
            whole = expected(IDS[row : row + size + step + 1])
            np.testing.assert_allclose(logits[row], whole[-1], atol=CLOSE)


def test_a_row_at_rest_leaves_the_others_alone_and_can_be_used_again(generator: Generator) -> None:
    made = generator.cache(rows=2)
    made.prefill(IDS[:12], 0)
    made.prefill(IDS[:20], 1)
    made.rest(0)
    for step in range(20):
        logits = made.step([0, IDS[20 + step]])
    np.testing.assert_allclose(logits[1], expected(IDS[:40])[-1], atol=CLOSE)
    assert made.lengths == [0, 40]
    made.prefill(IDS[50:55], 0)
    logits = made.step([IDS[55], IDS[40]])
    np.testing.assert_allclose(logits[0], expected(IDS[50:56])[-1], atol=CLOSE)
    np.testing.assert_allclose(logits[1], expected(IDS[:41])[-1], atol=CLOSE)


def test_memory_grows_by_doubling_up_to_the_context(generator: Generator) -> None:
    made, seen = generator.cache(), []
    for token in IDS:
        made.step([token])
        seen.append(made.capacity)
    assert [size for size, before in zip(seen, [0, *seen], strict=False) if size != before] == [
        8, 16, 32, 64, CONTEXT,
    ]  # fmt: skip
    assert made.size == 4 * 2 * 2 * 2 * CONTEXT * 16  # float32, keys and values, layers, heads


def test_steps_between_growths_bind_nothing(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, bound = generator.cache(), []
    made.prefill(IDS[:9])
    made.step(IDS[[9]])
    bind = cache._Lane._bind_input
    monkeypatch.setattr(
        cache._Lane, "_bind_input", lambda *args: bound.append(args[1]) or bind(*args)
    )
    for place in range(10, 16):
        made.step(IDS[[place]])
    assert bound == []
    made.step(IDS[[16]])
    assert "attention_mask" in bound


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda made: made.step([1, 2]), "step: found 2 tokens, expected one a row: 1"),
        (lambda made: made.step([VOCAB]), f"tokens: found {VOCAB}, expected ids of 0 to"),
        (lambda made: made.prefill([-1]), "tokens: found -1, expected ids of 0 to"),
        (lambda made: made.prefill([]), "expected a row of integers"),
        (lambda made: made.prefill([0.5]), "expected a row of integers"),
        (lambda made: made.prefill([[1]]), "expected a row of integers"),
        (lambda made: made.score([5] * (ALL + 1)), f"score: found {ALL + 1} tokens"),
        (lambda made: made.prefill([5] * (CONTEXT + 1)), f"found {CONTEXT + 1}, expected at most"),
        (lambda made: made.truncate(1), "truncate: found 1, expected 0 to 0"),
    ],
)
def test_what_cannot_be_read_is_refused_and_harms_nothing(
    generator: Generator, act: Any, message: str
) -> None:
    made = generator.cache()
    with pytest.raises(EdgeError, match=message):
        act(made)
    np.testing.assert_allclose(made.prefill(IDS[:5]), expected(IDS[:5])[-1], atol=CLOSE)


def test_a_full_context_is_refused(generator: Generator) -> None:
    made = generator.cache()
    made.prefill(IDS)
    with pytest.raises(EdgeError, match=f"found {CONTEXT + 1}, expected at most {CONTEXT}"):
        made.step([5])


def test_a_closed_cache_says_so(generator: Generator) -> None:
    made = generator.cache()
    made.close()
    with pytest.raises(EdgeError, match="cache: is closed"):
        made.step([5])


def test_a_failed_run_closes_the_cache(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = generator.cache()
    made.prefill(IDS[:5])

    def fail(lane: Any) -> None:
        raise RuntimeError("out of memory\nat some node")

    monkeypatch.setattr(cache._Lane, "run", fail)
    with pytest.raises(EdgeError, match=r"the run failed: out of memory$"):
        made.step([5])
    monkeypatch.undo()
    with pytest.raises(EdgeError, match="its last run failed"):
        made.step([5])
