"""Wrong calls: the Java runner answers with a code and one line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra.bundle import load_manifest
from tests.runtime.android.probe import Probe


def load(probe: Probe, bundle: Path, **options: Any) -> tuple[str | None, str]:
    answer = probe.ask("load", bundle=str(bundle), **options)
    return answer.get("code"), answer.get("message", "")


IDS = np.array([[101, 2986, 102]])
MASK = np.ones_like(IDS)
INPUTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "unknown": ({"input_ids": IDS, "mask": MASK}, 'inputs: found "mask", expected input_ids'),
    "missing": ({"input_ids": IDS}, 'inputs: found no "attention_mask"'),
    "type": ({"input_ids": IDS, "attention_mask": MASK.astype(np.float32)}, "found float32"),
    "rank": ({"input_ids": IDS[0], "attention_mask": MASK}, "input_ids: found 1 axes [3]"),
    "sizes": ({"input_ids": IDS, "attention_mask": MASK[:, :2]}, "expected sequence=3"),
    "empty": ({"input_ids": IDS[:0], "attention_mask": MASK[:0]}, "expected batch=at least 1"),
    "negative": ({"input_ids": -IDS, "attention_mask": MASK}, "input_ids: found -101"),
    "large": ({"input_ids": IDS + 10**6, "attention_mask": MASK}, "expected ids of 0 to 30521"),
    "long": (
        {"input_ids": np.tile(IDS, 500), "attention_mask": np.tile(MASK, 500)},
        "found 1500 tokens, expected at most",
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_wrong_inputs_are_refused(name: str, probe: Probe, merged: Path) -> None:
    inputs, message = INPUTS[name]
    found = probe.run(probe.load(merged), inputs)
    assert found["code"] == "INVALID_ARGUMENT" and message in found["message"], found
    assert "\n" not in found["message"]


def test_a_base_without_a_head_asks_for_an_adapter(probe: Probe, factored: Path) -> None:
    runner = probe.load(factored)
    found = probe.run(runner, {"input_ids": IDS, "attention_mask": MASK}, adapter=None)
    assert found["code"] == "INVALID_ARGUMENT"
    assert "expected one of: sentiment, mirrored; the base has no trained head" in found["message"]
    found = probe.ask("use", runner=runner, adapter="nobody")
    assert found["code"] == "INVALID_ARGUMENT" and "sentiment, mirrored" in found["message"]


def test_a_closed_runner_says_so(probe: Probe, tiny_decoder: Path, hidden: Path) -> None:
    runner = probe.load(hidden)
    for _ in range(2):
        assert probe.ask("close", runner=runner) == {}
    found = probe.run(runner, {"input_ids": IDS, "attention_mask": MASK})
    assert found["code"] == "CLOSED" and "load it again" in found["message"]
    generator = probe.load(tiny_decoder)
    probe.ask("close", runner=generator)
    assert probe.ask("generate", runner=generator, prompt=[1], max_tokens=1)["code"] == "CLOSED"


def test_closing_from_the_listener_ends_the_generation(probe: Probe, tiny_decoder: Path) -> None:
    runner = probe.load(tiny_decoder)
    found = probe.ask(
        "generate", runner=runner, prompt=[1, 2], max_tokens=9, stop_tokens=[], close=True
    )
    assert found["code"] == "CLOSED"


def test_a_listener_and_stop_tokens_end_a_generation(probe: Probe, tiny_decoder: Path) -> None:
    runner = probe.load(tiny_decoder)
    ask = {"runner": runner, "prompt": [1, 2], "max_tokens": 9}
    free = probe.ask("generate", **ask, stop_tokens=[])
    assert free["stoppedBy"] == "MAX_TOKENS" and len(free["tokens"]) == 9
    heard = probe.ask("generate", **ask, stop_tokens=[], listen=3)
    assert heard["stoppedBy"] == "LISTENER" and heard["tokens"] == free["tokens"][:3]
    stop = free["tokens"][4]
    stopped = probe.ask("generate", **ask, stop_tokens=[stop])
    assert stopped["stoppedBy"] == "STOP_TOKEN"
    assert stopped["tokens"] == free["tokens"][: free["tokens"].index(stop) + 1]


def test_wrong_prompts_and_options_are_refused(
    probe: Probe, tiny_decoder: Path, merged: Path
) -> None:
    decoder = load_manifest(tiny_decoder)["decoder"]
    context = decoder["context_length"]
    runner = probe.load(tiny_decoder)

    def refused(code: str, message: str, prompt: list[int], max_tokens: int = 1) -> None:
        found = probe.ask("generate", runner=runner, prompt=prompt, max_tokens=max_tokens)
        assert found["code"] == code and message in found["message"], found

    refused("INVALID_ARGUMENT", "prompt: found no tokens", [])
    refused("INVALID_ARGUMENT", "tokens: found -1, expected ids of 0 to", [-1])
    refused("INVALID_ARGUMENT", "tokens: found 1000000", [1, 10**6])
    refused("INVALID_ARGUMENT", f"expected fewer than {context}", [1] * context)
    refused("INVALID_ARGUMENT", "max_tokens: found 0", [1], 0)
    refused("INVALID_ARGUMENT", f"expected at most {context - 2}", [1, 1], min(context, 9000))
    found = probe.ask("generate", runner=probe.load(merged), prompt=[1], max_tokens=1)
    assert found["code"] == "UNSUPPORTED" and "expected text-generation" in found["message"]
    found = probe.ask("classify", runner=runner, texts=[[1]], adapter=None)
    assert found["code"] == "UNSUPPORTED" and "expected sequence-classification" in found["message"]
    assert load(probe, tiny_decoder, context=context + 1)[0] == "INVALID_ARGUMENT"
    assert load(probe, merged, context=8)[0] == "INVALID_ARGUMENT"
    assert load(probe, merged, threads=0)[0] == "INVALID_ARGUMENT"


def test_padding_is_refused_by_a_language_model(probe: Probe, tiny_decoder: Path) -> None:
    inputs = {"input_ids": np.array([[1, 2]]), "attention_mask": np.array([[0, 1]])}
    found = probe.run(probe.load(tiny_decoder), inputs)
    assert found["code"] == "INVALID_ARGUMENT"
    assert "attention_mask: found [1, 2] with 1 zeros, expected [1, 2] of ones" in found["message"]


def test_an_app_without_onnxruntime_is_told(java: list[str], merged: Path) -> None:
    command = [part for part in java if not part.startswith("LD_LIBRARY_PATH")]
    native = next(part for part in command if part.startswith("-Donnxruntime.native.path"))
    command[command.index(native)] = "-Donnxruntime.native.path=/nowhere"
    request = json.dumps({"do": "load", "bundle": str(merged)}) + "\n"
    done = subprocess.run(
        [*command, "org.edgelra.Probe"], input=request, capture_output=True, text=True
    )
    answer = json.loads(done.stdout)
    assert answer["code"] == "UNSUPPORTED" and "found no onnxruntime" in answer["message"]
