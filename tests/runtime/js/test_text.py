"""Texts become the tokens, labels and vectors that they become in Python."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edge_lra import Runner
from tests.runner.tiny_decoder import change_manifest
from tests.runtime.js.hosts import Host, Node, value_of

TRICKY: list[str] = json.loads((Path(__file__).parent / "tricky.json").read_text())


@pytest.fixture(scope="module")
def runner(merged: Path) -> Runner:
    return Runner.load(merged, threads=1)


def test_tricky_texts_have_the_tokens_of_python(runner: Runner, host: Host) -> None:
    for answer, text in zip(
        host.call(runner.path, *(("tokenize", [text]) for text in TRICKY)), TRICKY, strict=True
    ):
        expected = runner.tokenize([text])
        for name, array in expected.inputs.items():
            assert answer["inputs"][name]["data"] == array.ravel().tolist(), text
        assert answer["truncated"] == expected.truncated


def test_pairs_and_cuts_have_the_tokens_of_python(runner: Runner, node: Node) -> None:
    long = " ".join(["a fine film, warm and funny"] * 120)
    middle = " ".join(["warm"] * 300)
    texts = ["a", long, "a", long, middle, middle, "", "a"]
    pairs = ["b c", "a", long, long, middle + " b", middle, long, ""]
    alone, *paired = node.call(
        runner.path,
        ("tokenize", texts),
        *(("tokenize", [a], {"pairs": [b]}) for a, b in zip(texts, pairs, strict=True)),
    )
    found = [(runner.tokenize(texts), alone)]
    found += [
        (runner.tokenize([a], [b]), answer)
        for a, b, answer in zip(texts, pairs, paired, strict=True)
    ]
    for expected, answer in found:
        for name, array in expected.inputs.items():
            assert answer["inputs"][name]["data"] == array.ravel().tolist()
        assert answer["truncated"] == expected.truncated


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(TRICKY, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def llama_like() -> Tokenizer:
    tokenizer = byte_level()
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B:1", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """Return one whose sums are all different: between equals nothing would decide."""
    letters = sorted({letter for text in TRICKY for letter in text.lower()} - {" "})
    pairs = sorted({text[at : at + 2] for text in TRICKY for at in range(0, len(text) - 1, 3)})
    pieces = ["<s>", "</s>", "<unk>", "\u2581", *letters, *(p for p in pairs if " " not in p)]
    scores = [(piece, -math.sqrt(2 + place)) for place, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, llama_like, unigram])
def test_other_kinds_of_tokenizers_agree_with_python(
    make: Callable[[], Tokenizer], tmp_path: Path, node: Node
) -> None:
    tokenizer = make()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    request = {"verb": "tokens", "file": str(tmp_path / "tokenizer.json"), "texts": TRICKY}
    for text, found in zip(TRICKY, value_of(node.ask(request)[0]), strict=True):
        ids = tokenizer.encode(text).ids
        assert found["ids"] == ids, text
        assert found["text"] == tokenizer.decode(ids), text


def test_labels_and_scores_are_those_of_python(factored: Path, host: Host) -> None:
    runner = Runner.load(factored, threads=1)
    texts = ["a fine film, warm and funny", "boring", *TRICKY[3:]]
    names = ["sentiment", "mirrored"]
    found = host.call(factored, *(("classify", texts, {"adapter": name}) for name in names))
    for name, rows in zip(names, found, strict=True):
        for row, expected in zip(rows, runner.classify(texts, adapter=name), strict=True):
            assert row["label"] == expected.label
            assert row["scores"] == pytest.approx(expected.scores, abs=0.02)
            assert row["score"] == row["scores"][row["label"]]


def test_node_scores_as_python_to_the_last_place(factored: Path, node: Node) -> None:
    expected = Runner.load(factored, threads=1).classify(TRICKY)
    for row, reference in zip(node.call(factored, ("classify", TRICKY))[0], expected, strict=True):
        assert row["scores"] == pytest.approx(reference.scores, rel=1e-12)


@pytest.mark.parametrize("adapter", ["headless", None])
def test_vectors_are_those_of_python(adapter: str | None, hidden: Path, host: Host) -> None:
    expected = Runner.load(hidden, threads=1).embed(TRICKY[3:8], adapter=adapter)
    found = host.call(hidden, ("embed", TRICKY[3:8], {"adapter": adapter}))[0]
    # The browser's kernels round elsewhere: bit-equality is Node's.
    np.testing.assert_allclose(found, expected, atol=1e-6 if host.name == "node" else 0.05)


def test_use_sets_the_default_adapter(factored: Path, node: Node) -> None:
    text = ["a fine film, warm and funny"]
    _, first, _, second, _, default = node.call(
        factored,
        ("adapters",),
        ("classify", text),
        ("use", "mirrored"),
        ("classify", text),
        ("setAdapter", "sentiment"),
        ("defaultAdapter",),
    )
    assert (first[0]["label"], second[0]["label"]) == ("positive", "negative")
    assert default == "sentiment"


@pytest.mark.parametrize(
    ("problem", "scores"),
    [("multi_label_classification", "sigmoid"), ("regression", "values")],
)
def test_problem_types_score_as_in_python(
    problem: str, scores: str, merged: Path, tmp_path: Path, node: Node
) -> None:
    folder = tmp_path / "x.edge"
    shutil.copytree(merged, folder)
    change_manifest(folder, problem_type=problem)
    expected = Runner.load(folder, threads=1).classify(TRICKY[:5])
    for row, reference in zip(
        node.call(folder, ("classify", TRICKY[:5]))[0], expected, strict=True
    ):
        assert row["label"] == reference.label
        assert row["scores"] == pytest.approx(reference.scores, rel=1e-12)


def test_names_are_those_of_the_manifest(factored: Path, host: Host) -> None:
    names = ["inputNames", "outputNames", "adapters", "defaultAdapter"]
    runner = Runner.load(factored, threads=1)
    assert host.call(factored, *((name,) for name in names)) == [
        list(runner.input_names),
        list(runner.output_names),
        list(runner.adapters),
        runner.default_adapter,
    ]
