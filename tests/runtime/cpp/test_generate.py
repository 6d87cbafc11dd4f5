"""Greedy tokens are Python's, through chunks of prompt and a cache that grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra import Generator, Runner
from edge_lra.golden import Case as GoldenCase
from edge_lra.golden import Greedy, write_golden
from tests.runner.tiny_decoder import EOS, VOCAB, change_manifest, random_llama, write_bundle
from tests.runtime.cpp.abi import NEVER, Bundle, Refused
from tests.runtime.cpp.conftest import LONG_CONTEXT
from tests.runtime.cpp.places import ask_tool, call_tool

STOP_TOKEN, MAX_TOKENS, CALLBACK = 1, 2, 3
IDS = np.random.default_rng(3).integers(2, VOCAB, LONG_CONTEXT).tolist()
CHOICES = [("merged", True), ("factored", "one"), ("factored", "two"), ("factored", None)]


def python_tokens(folder: Path, prompt: list[int], count: int, adapter: Any) -> list[int]:
    chosen = {} if adapter is True else {"adapter": adapter}
    with Generator.load(folder, threads=1) as generator:
        return generator.generate(prompt, max_tokens=count, stop_tokens=[], **chosen).tokens


# One chunk, a whole one, one and a tail, several; growth in the prompt and in the steps.
@pytest.mark.parametrize(("kind", "adapter"), CHOICES)
@pytest.mark.parametrize("prompt", [1, 250, 256, 257, 600, 1000])
def test_tokens_are_those_of_python(
    long_decoders: dict[str, Path], kind: str, adapter: Any, prompt: int
) -> None:
    folder = long_decoders[kind]
    bundle = Bundle(folder, threads=1)
    found, told = bundle.generate(IDS[:prompt], 60, adapter, stop_tokens=[])
    bundle.close()
    assert found == python_tokens(folder, IDS[:prompt], 60, adapter)
    assert told.stopped_by == MAX_TOKENS and told.prefill_s > 0 and told.decode_s > 0


def test_the_whole_context_can_be_filled(long_decoders: dict[str, Path]) -> None:
    folder, count = long_decoders["merged"], LONG_CONTEXT - 20
    bundle = Bundle(folder, threads=1)
    assert bundle.generate(IDS[:20], count, stop_tokens=[])[0] == python_tokens(
        folder, IDS[:20], count, True
    )
    bundle.close()


def test_a_run_reads_a_prompt_as_python_does(long_decoders: dict[str, Path]) -> None:
    folder = long_decoders["factored"]
    ids = np.array([IDS[:30]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    bundle = Bundle(folder, threads=1)
    for adapter in ("one", "two", None):
        expected = Runner.load(folder, threads=1).run(inputs, adapter=adapter)
        found = bundle.run(inputs, adapter)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, name)
    padded = inputs | {"attention_mask": np.array([[0] + [1] * 29])}
    with pytest.raises(Refused, match=r"with 1 zeros, expected \[1, 30\] of ones"):
        bundle.run(padded)
    bundle.close()


def test_a_stop_token_ends_the_text(long_decoders: dict[str, Path]) -> None:
    bundle = Bundle(long_decoders["merged"], threads=1)
    whole, _ = bundle.generate(IDS[:9], 30, stop_tokens=[])
    stop = whole[7]
    found, told = bundle.generate(IDS[:9], 30, stop_tokens=[stop])
    assert found == whole[: whole.index(stop) + 1] and told.stopped_by == STOP_TOKEN
    bundle.close()


def test_the_manifest_s_end_tokens_count_unless_others_are_given(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b.edge", random_llama())
    bundle = Bundle(folder, threads=1)
    whole, _ = bundle.generate([5, 6, 7], 30, stop_tokens=[])
    bundle.close()
    decoder = {**_decoder_of(folder), "eos_token_ids": [EOS, whole[4]]}
    change_manifest(folder, decoder=decoder)
    bundle = Bundle(folder, threads=1)
    assert bundle.generate([5, 6, 7], 30)[0] == whole[: whole.index(whole[4]) + 1]
    bundle.close()


def _decoder_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["decoder"]
    return found


def test_a_callback_sees_each_token_and_may_end_it(long_decoders: dict[str, Path]) -> None:
    bundle = Bundle(long_decoders["merged"], threads=1)
    seen: list[int] = []

    def on_token(token: int, context: Any) -> int:
        seen.append(token)
        return len(seen) == 5

    found, told = bundle.generate(IDS[:9], 30, stop_tokens=[], on_token=on_token)
    assert found == seen and len(seen) == 5 and told.stopped_by == CALLBACK
    bundle.close()


@pytest.mark.parametrize(
    ("prompt", "count", "said"),
    [
        ([], 5, "prompt: found 0 tokens, expected at least 1"),
        ([5], 0, "max_tokens: found 0, expected at least 1"),
        ([5] * LONG_CONTEXT, 1, f"prompt: found {LONG_CONTEXT} tokens, expected fewer than"),
        ([5] * 1090, 11, "max_tokens: found 11 behind a prompt of 1090, expected at most 10"),
        ([5, -1], 5, f"tokens: found -1, expected ids of 0 to {VOCAB - 1}"),
        ([5, VOCAB], 5, f"tokens: found {VOCAB}, expected ids of 0 to {VOCAB - 1}"),
        ([2**62], 5, f"tokens: found {2**62}, expected ids"),
    ],
)
def test_bad_prompts_are_refused(
    long_decoders: dict[str, Path], prompt: list[int], count: int, said: str
) -> None:
    bundle = Bundle(long_decoders["merged"], threads=1)
    with pytest.raises(Refused) as raised:
        bundle.generate(prompt, count)
    assert raised.value.code == "invalid_argument" and said in raised.value.line
    bundle.close()


def test_a_smaller_context_holds(long_decoders: dict[str, Path]) -> None:
    bundle = Bundle(long_decoders["merged"], context=40)
    with pytest.raises(Refused, match="in a context of 40"):
        bundle.generate(IDS[:30], 11)
    assert len(bundle.generate(IDS[:30], 10, stop_tokens=[])[0]) == 10
    bundle.close()
    for context in (1, LONG_CONTEXT + 1):
        with pytest.raises(Refused, match=f"context: found {context}, expected 2 to"):
            Bundle(long_decoders["merged"], context=context)


def test_an_encoder_generates_nothing(tiny_whole: Path) -> None:
    bundle = Bundle(tiny_whole)
    with pytest.raises(Refused) as raised:
        bundle.generate([1], 1)
    assert raised.value.code == "unsupported"
    assert "task is feature-extraction, expected text-generation" in raised.value.line
    bundle.close()


def test_logits_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    model = random_llama()
    model.lm_head.weight.data[7, 3] = float("nan")
    bundle = Bundle(write_bundle(tmp_path / "b.edge", model), threads=1)
    with pytest.raises(Refused) as raised:
        bundle.generate([5, 6], 4)
    assert raised.value.code == "runtime" and "logits that are not numbers" in raised.value.line
    bundle.close()


def test_golden_tokens_are_checked(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b.edge", random_llama())
    with Generator.load(folder, threads=1) as generator:
        cache = generator.cache()
        logits = cache.prefill([5, 6, 7]).copy()
        tokens = generator.generate([5, 6, 7], max_tokens=4, stop_tokens=[]).tokens
    ids = np.array([[5, 6, 7]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    outputs = {"logits": logits[None, None]}
    for right in (True, False):
        told = np.array(tokens if right else [*tokens[:3], tokens[3] ^ 1])
        greedy = Greedy(told, np.array([1, 1, 1, 1], np.float32))
        entry = write_golden(folder, [GoldenCase(None, inputs, outputs, outputs, greedy)], 0.0)
        change_manifest(folder, golden=entry)
        bundle = Bundle(folder, threads=1, verify=NEVER)
        if right:
            found = bundle.verify()
            assert (found.decided, found.agreed, found.max_abs_error) == (5, 5, 0)
        else:
            with pytest.raises(Refused, match="found other tokens than at export at 1 of 5 places"):
                bundle.verify()
        bundle.close()


def test_the_command_prints_tokens(long_decoders: dict[str, Path]) -> None:
    folder = long_decoders["factored"]
    prompt = ",".join(map(str, IDS[:300]))
    words = ["--prompt-ids", prompt, "--max-tokens", 12, "--adapter", "two", "--threads", 1]
    expected = python_tokens(folder, IDS[:300], 12, "two")
    found = ask_tool("generate", *words, "--stop-ids", "none", folder)
    assert found["tokens"] == expected
    assert found["prompt_tokens"] == 300 and found["stopped_by"] == "max_tokens"
    plain = call_tool("generate", *words, "--stop-ids", "none", folder)
    assert plain.stdout == ", ".join(map(str, expected)) + "\n"
