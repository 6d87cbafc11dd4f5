"""Node and the browser generate the tokens that Python's generator does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra import Generator
from edge_lra.bundle import load_manifest
from edge_lra.golden import check_golden
from tests.runner.tiny_decoder import CONTEXT, EOS, VOCAB
from tests.runtime.js.hosts import Host, Node, Refused

RANDOM = np.random.default_rng(7)
PROMPTS = [RANDOM.integers(2, VOCAB, size).tolist() for size in (1, 5, 40)]


def tokens_of(generator: Generator, prompt: Any, **options: Any) -> list[int]:
    return generator.generate(prompt, stop_tokens=[], **options).tokens


def test_greedy_tokens_are_those_of_python(tiny_decoder: Path, host: Host) -> None:
    calls = [("generate", prompt, {"maxTokens": 48, "stopTokens": []}) for prompt in PROMPTS]
    found = host.call(tiny_decoder, *calls)
    with Generator.load(tiny_decoder, threads=1) as generator:
        for prompt, answer in zip(PROMPTS, found, strict=True):
            assert answer["tokens"] == tokens_of(generator, prompt, max_tokens=48)
            assert (answer["promptTokens"], answer["stoppedBy"]) == (len(prompt), "max_tokens")
            assert answer["prefillMs"] > 0 and answer["tokensPerS"] > 0


def test_each_adapter_and_none_go_on_in_their_own_way(
    tiny_decoder_factored: Path, host: Host
) -> None:
    adapters = ["one", None, "two", "one"]
    options = {"maxTokens": 24, "stopTokens": []}
    calls = [("generate", PROMPTS[1], options | {"adapter": name}) for name in adapters]
    found = [answer["tokens"] for answer in host.call(tiny_decoder_factored, *calls)]
    with Generator.load(tiny_decoder_factored, threads=1) as generator:
        for name, tokens in zip(adapters, found, strict=True):
            assert tokens == tokens_of(generator, PROMPTS[1], max_tokens=24, adapter=name)
    assert len({tuple(tokens) for tokens in found}) == 3


def test_a_prompt_of_several_chunks_is_read_as_one(long_decoder: Path, node: Node) -> None:
    prompt = RANDOM.integers(3, 96, 700).tolist()
    found = node.call(long_decoder, ("generate", prompt, {"maxTokens": 8, "stopTokens": []}))
    with Generator.load(long_decoder, threads=1) as generator:
        assert found[0]["tokens"] == tokens_of(generator, prompt, max_tokens=8)


def test_text_comes_in_whole_characters_and_is_that_of_python(
    tiny_decoder: Path, host: Host
) -> None:
    prompt = "é is half a character"
    found = host.call(tiny_decoder, ("generate", prompt, {"maxTokens": 64, "stopTokens": []}))[0]
    with Generator.load(tiny_decoder, threads=1) as generator:
        expected = generator.generate(prompt, max_tokens=64, stop_tokens=[])
    assert (found["tokens"], found["text"]) == (expected.tokens, expected.text)


def test_a_stop_token_ends_it_and_is_the_last(tiny_decoder: Path, host: Host) -> None:
    with Generator.load(tiny_decoder, threads=1) as generator:
        tokens = tokens_of(generator, PROMPTS[2], max_tokens=32)
        place = next(i for i, token in enumerate(tokens) if i > 3 and token not in tokens[:i])
    stops = [tokens[place], EOS]
    found = host.call(
        tiny_decoder, ("generate", PROMPTS[2], {"maxTokens": 32, "stopTokens": stops})
    )
    assert found[0]["tokens"] == tokens[: place + 1]
    assert found[0]["stoppedBy"] == "stop_token"


def test_without_a_limit_it_goes_on_to_the_end_of_the_context(
    tiny_decoder: Path, node: Node
) -> None:
    found = node.call(tiny_decoder, ("generate", PROMPTS[1], {"maxTokens": None, "stopTokens": []}))
    assert len(found[0]["tokens"]) == CONTEXT - len(PROMPTS[1])


@pytest.mark.parametrize("adapter", ["one", None])
def test_run_gives_the_logits_of_an_empty_past(
    adapter: str | None, tiny_decoder_factored: Path, node: Node
) -> None:
    ids = [PROMPTS[1], PROMPTS[1][::-1]]
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids).tolist()}
    found = node.call(tiny_decoder_factored, ("run", inputs, {"adapter": adapter}))[0]["logits"]
    with Generator.load(tiny_decoder_factored, threads=1) as generator:
        for place, row in enumerate(ids):
            expected = generator.cache(adapter=adapter).prefill(row)
            logits = np.reshape(found["data"], found["dims"])[place, 0]
            np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "prompt: found it empty, expected text or token ids"),
        ("", {}, "prompt: found it empty, expected text or token ids"),
        ([VOCAB], {"maxTokens": 1}, f"tokens: found {VOCAB}, expected ids of 0 to {VOCAB - 1}"),
        ([2, 1.5], {"maxTokens": 1}, f"tokens: found 1.5, expected ids of 0 to {VOCAB - 1}"),
        ([2], {"maxTokens": 0}, "maxTokens: found 0, expected at least 1"),
        (
            [2] * CONTEXT,
            {"maxTokens": 1},
            f"prompt: found {CONTEXT} tokens, expected fewer than {CONTEXT}, the context; "
            "shorten it",
        ),
        (
            [2] * 90,
            {"maxTokens": 7},
            f"maxTokens: found 7 behind a prompt of 90, expected at most {CONTEXT - 90} in a "
            f"context of {CONTEXT}; lower it",
        ),
    ],
)
def test_what_cannot_be_generated_is_refused(
    prompt: Any, options: dict[str, Any], message: str, tiny_decoder: Path, node: Node
) -> None:
    with pytest.raises(Refused) as refused:
        node.call(tiny_decoder, ("generate", prompt, options))
    assert (refused.value.code, refused.value.message) == ("invalid_argument", message)


def test_an_encoder_generates_nothing(merged: Path, node: Node) -> None:
    with pytest.raises(Refused, match="task is sequence-classification, expected text-generation"):
        node.call(merged, ("generate", "a"))


@pytest.mark.parametrize("name", ["proven_decoder", "tied_decoder"])
def test_golden_prompts_of_a_language_model_hold(
    name: str, host: Host, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    expected = check_golden(folder, load_manifest(folder))
    found = host.call(folder, ("checkGolden",))[0]
    assert found["passed"] and found["cases"] == expected["cases"] > 0
    assert found["decided"] == found["agreed"] > found["cases"]
