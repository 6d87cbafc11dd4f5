"""Every task of every family from export to answer, against transformers' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from edge_lra.errors import EdgeError, GateError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize.stored import Int8Weight
from edge_lra.runner import Runner

FAMILIES = ("bert", "roberta", "distilbert")
SIZES: dict[str, dict[str, int]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4},
}
TARGETS = {"distilbert": ["q_lin", "v_lin"]}
TEXTS = ["a fine film .", "what a bore", "films badly , not good", "this is bad ."]
PAIRS = ["good", "bad films .", "a film", "is this fine"]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, write_tokenizer: Callable[..., int]) -> Make:
    """Return a function that writes a random model with some head and gives its folder."""

    def write(family: str, head: str = "", **config: Any) -> Path:
        folder = tmp_path / f"{family}{head}"
        vocabulary = write_tokenizer(folder, types=family == "bert")
        inner = {"hidden_dim": 64} if family == "distilbert" else {"intermediate_size": 64}
        options = {"vocab_size": vocabulary, "max_position_embeddings": 48, "pad_token_id": 0}
        settings = transformers.AutoConfig.for_model(
            family, **options, **inner, **SIZES[family], **config
        )
        torch.manual_seed(1)
        model = getattr(transformers, f"AutoModel{head}").from_config(settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("weight") and parameter.dim() == 2:
                    parameter.normal_(std=0.25)
        model.save_pretrained(folder)
        return folder

    return write


def load(folder: Path, head: str) -> Any:
    return getattr(transformers, f"AutoModel{head}").from_pretrained(folder).eval()


def pipeline(task: str, folder: Path, head: str) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.pipeline(task, model=load(folder, head), tokenizer=tokenizer)


def exported(model: Path, **options: Any) -> Runner:
    """Export in float32, proven, and load."""
    given = {"model": str(model), "scheme": "none"} | options
    out = model.with_name(f"{model.name}-{len(list(model.parent.iterdir()))}.edge")
    return Runner.load(export(ExportRequest(out, **given)))


# ---- each task, each family ----------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("problem", "count"),
    [
        ("single_label_classification", 3),
        ("multi_label_classification", 3),
        ("regression", 1),
    ],
)
def test_classification(make: Make, family: str, problem: str, count: int) -> None:
    labels = {index: f"label {index}" for index in range(count)}
    head = "ForSequenceClassification"
    model = make(family, head, id2label=labels, problem_type=problem)
    runner = exported(model)
    own = pipeline("text-classification", model, head)
    for pairs in (None, PAIRS):
        rows: Any = TEXTS
        if pairs:
            rows = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, pairs, strict=True)]
        expected = own(rows, top_k=None)
        found = runner.classify(TEXTS, pairs)
        for result, scores in zip(found, expected, strict=True):
            assert result.scores == pytest.approx(
                {score["label"]: score["score"] for score in scores}, abs=1e-5
            )
            assert result.label == scores[0]["label"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("aggregation", ["simple", "first"])
def test_tagging(make: Make, family: str, aggregation: str) -> None:
    labels = dict(enumerate(["O", "B-A", "I-A", "B-B", "I-B"]))
    model = make(family, "ForTokenClassification", id2label=labels)
    own = pipeline("token-classification", model, "ForTokenClassification")
    runner = exported(model)
    found = runner.tag(TEXTS, aggregation=aggregation)
    assert any(found)
    for text, entities in zip(TEXTS, found, strict=True):
        expected = own(text, aggregation_strategy=aggregation)
        keys = ("entity_group", "start", "end")
        assert [(e.label, e.start, e.end) for e in entities] == [
            tuple(e[key] for key in keys) for e in expected
        ]
        scores = [e["score"] for e in expected]
        assert [e.score for e in entities] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_question_answering(make: Make, family: str) -> None:
    head = "ForQuestionAnswering"
    model = make(family, head)
    tokenizer, float_model = transformers.AutoTokenizer.from_pretrained(model), load(model, head)
    runner = exported(model)
    question, context = "what is bad", "this film is not good . a bore , badly ."
    tokens = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    inside = [i for i, side in enumerate(tokens.sequence_ids(0)) if side == 1]
    offsets = tokens.pop("offset_mapping")[0]
    if family != "bert":
        tokens.pop("token_type_ids", None)
    with torch.no_grad():
        outputs = float_model(**tokens)
    allowed = [0, *inside]
    start = torch.softmax(outputs.start_logits[0][allowed], 0)[1:]
    end = torch.softmax(outputs.end_logits[0][allowed], 0)[1:]
    best = max(
        (float(start[i] * end[j]), i, j)
        for i in range(len(inside))
        for j in range(i, min(i + 30, len(inside)))
    )
    answer = runner.answer(question, context)
    first, last = offsets[inside[best[1]]][0], offsets[inside[best[2]]][1]
    assert (answer.start, answer.end) == (int(first), int(last))
    assert answer.text == context[int(first) : int(last)]
    assert answer.score == pytest.approx(best[0], abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_sentence_embeddings(make: Make, family: str, mode: str) -> None:
    model = make(family)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{k}"} for path, k in kinds]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling").mkdir()
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    settings = {f"pooling_mode_{name}": key == mode for key, name in names.items()}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    found = exported(model).embed(TEXTS)
    tokenizer, float_model = transformers.AutoTokenizer.from_pretrained(model), load(model, "")
    for text, vector in zip(TEXTS, found, strict=True):
        tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=family == "bert")
        with torch.no_grad():
            states = float_model(**tokens).last_hidden_state[0]
        pooled = {"mean": states.mean(0), "cls": states[0], "max": states.max(0).values}[mode]
        expected = torch.nn.functional.normalize(pooled, dim=0).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)


# ---- adapters that PEFT made for each task --------------------------------------------------


def adapter(model: Path, name: str, head: str, task_type: str, rank: int, labels: int) -> Path:
    """Insert LoRA with PEFT, give it weights, save it; return its folder."""
    family = json.loads((model / "config.json").read_text())["model_type"]
    options = {"num_labels": labels} if head else {}
    base = getattr(transformers, f"AutoModel{head}").from_pretrained(model, **options)
    targets = TARGETS.get(family, ["query", "value"])
    config = peft.LoraConfig(
        task_type=task_type, r=rank, lora_alpha=2 * rank, target_modules=targets
    )
    torch.manual_seed(rank)
    tuned = peft.get_peft_model(base, config)
    with torch.no_grad():
        for key, parameter in tuned.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.1)
            elif parameter.requires_grad and "lora_A" not in key:
                parameter.normal_(std=0.5)
    tuned.save_pretrained(model.parent / name)
    return model.parent / name


HEADS = [
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
    ("ForQuestionAnswering", "QUESTION_ANS"),
    ("", "FEATURE_EXTRACTION"),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("head", "task_type"), HEADS)
def test_merged_and_factored_adapters_answer_as_peft_does(
    make: Make, family: str, head: str, task_type: str
) -> None:
    model = make(family)
    spans = head == "ForQuestionAnswering"
    counts = {"one": 2 if spans else 3, "two": 2 if spans else 4}
    folders = {
        name: adapter(model, name, head, task_type, rank, counts[name])
        for name, rank in (("one", 2), ("two", 5))
    }
    factored = exported(model, mode="factored", adapters=list(folders.items()))
    for name, folder in folders.items():
        merged = exported(model, adapters=[(name, folder)])
        options = {"num_labels": counts[name]} if head else {}
        base = getattr(transformers, f"AutoModel{head}").from_pretrained(model, **options)
        tuned = peft.PeftModel.from_pretrained(base, str(folder)).eval()
        inputs = merged.tokenize(TEXTS[:1], PAIRS[:1]).inputs
        with torch.no_grad():
            outputs = tuned(**{key: torch.from_numpy(value) for key, value in inputs.items()})
        for found in (merged.run(inputs), factored.run(inputs, adapter=name)):
            for output, values in found.items():
                np.testing.assert_allclose(values, outputs[output].numpy(), atol=2e-5)
        if head == "ForSequenceClassification":
            assert len(factored.classify(TEXTS[:1], adapter=name)[0].scores) == counts[name]


# ---- labels and gates ----------------------------------------------------------------------


def test_labels_of_the_config_give_way_to_those_given(make: Make) -> None:
    model = make("bert", "ForSequenceClassification", id2label={0: "no", 1: "yes"})
    assert set(exported(model).classify(TEXTS[:1])[0].scores) == {"no", "yes"}
    assert list(exported(model, labels=("x", "y")).classify(TEXTS[:1])[0].scores) == ["x", "y"]
    with pytest.raises(EdgeError, match="labels: found 3, expected 2"):
        exported(model, labels=("x", "y", "z"))


@pytest.mark.parametrize(
    ("head", "options", "gate"),
    [
        ("ForSequenceClassification", {"num_labels": 3}, "kl_mean"),
        ("ForSequenceClassification", {"num_labels": 1}, "relative_l2"),
        ("ForTokenClassification", {"num_labels": 3}, "kl_mean"),
        ("ForQuestionAnswering", {}, "kl_mean"),
        ("", {}, "cosine_min"),
    ],
)
def test_a_damaged_layer_fails_the_tasks_gate_and_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, head: str, options: dict[str, Any], gate: str
) -> None:
    model = make("bert", head, **options)
    pieces = Int8Weight.pieces

    def damage(self: Int8Weight) -> Any:
        for name, start, rows in pieces(self):
            broken = "layer.1." in name and name.endswith("int8")
            yield name, start, rows[:, ::-1] if broken else rows

    monkeypatch.setattr(Int8Weight, "pieces", damage)
    before = sorted(model.parent.iterdir())
    with pytest.raises(GateError, match=rf"{gate}.*grows most in layer 1") as caught:
        exported(model, scheme="int8")
    assert caught.value.exit_code == 3
    assert sorted(model.parent.iterdir()) == before
