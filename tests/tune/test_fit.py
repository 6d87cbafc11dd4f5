from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.numpy import load_file, save_file

from edge_lra.errors import EdgeError
from edge_lra.tune import rank as rank_module
from edge_lra.tune.data import Example, batches, fold, read_data, split
from edge_lra.tune.fit import Score, Settings, Trainer
from edge_lra.tune.rank import Candidate, choose_rank, one_standard_error
from edge_lra.tune.subject import Form
from edge_lra.tune.tune import TuneRequest, load_tokenizer, tune

SETTINGS = Settings(epochs=8, batch_size=8, learning_rate=3e-2)


def request(tiny: Path, **options: Any) -> TuneRequest:
    given: dict[str, Any] = {"form": Form(rank=4, sites=("query", "value")), "settings": SETTINGS}
    defaults = {"model": str(tiny / "model"), "data": tiny / "rows.tsv", "out": tiny / "new"}
    return TuneRequest(**defaults | given | options)


LAYERS = [Form("serial", 4), Form("parallel", 4, activation="relu"), Form("bottleneck", 4)]


@pytest.mark.parametrize("form", [Form(rank=4, sites=("query",)), *LAYERS], ids=lambda f: f.kind)
def test_training_learns_what_decides(tiny: Path, data: Path, form: Form) -> None:
    settings = replace(SETTINGS, epochs=16, patience=16)
    found = tune(request(tiny, form=form, settings=settings))
    assert found.best.validation.accuracy == 1.0 and found.history[0].train.accuracy < 0.9
    assert found.labels == ("down", "up") and found.rows == (44, 4)
    assert json.loads((found.out / "labels.json").read_text()) == {"labels": ["down", "up"]}
    assert not (tiny / "new.checkpoint").exists()


def test_peft_loads_what_was_trained(tiny: Path, data: Path) -> None:
    found = tune(request(tiny))
    loader = transformers.AutoModelForSequenceClassification
    base = loader.from_pretrained(tiny / "model", num_labels=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = PeftModel.from_pretrained(base, found.out).eval()
    tokens = load_tokenizer(str(tiny / "model"))(["a good film", "a bad film"], return_tensors="pt")
    with torch.no_grad():
        answers = model(**tokens).logits.argmax(-1).tolist()
    assert [found.labels[answer] for answer in answers] == ["up", "down"]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "adapter_model.safetensors")


def test_the_same_seed_gives_the_same_adapter_and_another_does_not(tiny: Path, data: Path) -> None:
    outs = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        outs.append(tune(request(tiny, out=tiny / name, settings=replace(SETTINGS, seed=seed))).out)
    one, two, three = map(weights, outs)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not all(np.array_equal(one[name], three[name]) for name in one)


@pytest.mark.parametrize("form", [Form(rank=4, sites=("query",)), Form("bottleneck", 4)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tiny: Path, data: Path, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(request(tiny, out=tiny / "whole", form=form))
    epoch = Trainer._epoch

    def interrupted(trainer: Trainer, step: Any) -> None:
        if len(trainer.history) == 2:
            raise KeyboardInterrupt
        epoch(trainer, step)

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(request(tiny, form=form))
    assert not (tiny / "new").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tiny)
    with pytest.raises(EdgeError, match=r"found an unfinished run, .* use --resume"):
        tune(request(tiny, form=form))
    found = tune(request(tiny, form=form, resume=True))
    assert found.resumed == 2 and found.history == whole.history
    one, two = weights(whole.out), weights(found.out)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_checkpoint_of_another_run_is_refused(
    tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = Trainer._epoch

    def interrupted(trainer: Trainer, step: Any) -> None:
        if trainer.history:
            raise KeyboardInterrupt
        epoch(trainer, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(request(tiny))
    shutil.copytree(tiny / "model", tiny / "other")
    rows = data.read_text()
    changed = rows.replace("good", "bad .")
    for options, text, what in (
        ({"model": str(tiny / "other")}, rows, "base"),
        ({"settings": replace(SETTINGS, seed=1)}, rows, "settings"),
        ({"form": Form(rank=4, sites=("query",))}, rows, "form"),
        ({}, changed, "data"),
        ({"validation": 0.2}, rows, "rows"),
    ):
        data.write_text(text)
        with pytest.raises(EdgeError, match=f"found other {what} than this run's"):
            tune(request(tiny, resume=True, **options))
    (tiny / "new.checkpoint/checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(EdgeError, match="damaged checkpoint"):
        tune(request(tiny, resume=True))


def test_training_stops_when_validation_no_longer_gains(tiny: Path, data: Path) -> None:
    settings = replace(SETTINGS, epochs=30, patience=2, learning_rate=2e-2)
    found = tune(request(tiny, settings=settings))
    assert len(found.history) < 30
    best = found.best.number
    assert len(found.history) == best + 2


def test_a_language_model_learns_its_text(tiny: Path) -> None:
    config = transformers.GPT2Config(
        vocab_size=19, n_embd=16, n_layer=1, n_head=2, n_positions=20, bos_token_id=2,
        eos_token_id=3, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tiny / "model")
    (tiny / "rows.txt").write_text("this is a fine film .\nwhat a bore .\n" * 20)
    options = {"data": tiny / "rows.txt", "task": "causal-lm", "form": Form("serial", 8)}
    found = tune(request(tiny, **options))
    assert found.best.validation.loss < 0.8 * found.history[0].train.loss and found.labels == ()


def test_a_divergence_is_an_error(tiny: Path, data: Path) -> None:
    settings = replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(EdgeError, match="found loss nan in epoch"):
        tune(request(tiny, form=Form("serial", 4), settings=settings))


BAD = {
    "no label": ("text\nfine\nbad\n", "row 1: found no label"),
    "an empty label": ("text\tlabel\nfine\tup\nbad\t\n", "row 2: found no label"),
    "one class": ("text\tlabel\nfine\tup\nbad\tup\n", "found one label, 'up', on all 2 rows"),
    "an empty row": ("text\tlabel\nfine\tup\n \tdown\n", "row 2: found no text"),
    "no rows": ("text\tlabel\n", "found no text"),
    "one row a class": ("text\tlabel\nfine\tup\nbad\tdown\n", "expected two of a class or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_cannot_be_trained_on_is_named(tiny: Path, case: str) -> None:
    content, message = BAD[case]
    (tiny / "rows.tsv").write_text(content)
    with pytest.raises(EdgeError, match=message):
        tune(request(tiny))
    assert not (tiny / "new").exists()


def test_every_class_is_split_in_the_same_share(tiny: Path, data: Path) -> None:
    tokenizer = load_tokenizer(str(tiny / "model"))
    examples = read_data(data, tokenizer, "sequence-classification", 16).examples
    train, kept = split(examples, 0.25, seed=0)
    assert sorted(train + kept) == list(range(48))
    assert sum(examples[place].label or 0 for place in kept) == 6 == len(kept) / 2
    parts = [held for _, held in fold(examples, 4, seed=0)]
    assert sorted(place for part in parts for place in part) == list(range(48))
    assert all(sum(examples[place].label or 0 for place in part) == 6 for part in parts)
    once = [place for group in batches(examples, train, 5, 0) for place in group]
    assert sorted(once) == train and once != train


def test_a_class_of_one_row_is_trained_on() -> None:
    examples = [Example((1,), label) for label in (0, 0, 0, 1)]
    train, kept = split(examples, 0.5, seed=0)
    assert 3 in train and len(kept) == 2


@pytest.mark.parametrize("method", ["truncate", "train"])
def test_the_rows_that_measure_a_rank_choose_no_epoch(
    tiny: Path, data: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, measured = [], []

    def fit(trainer: Trainer, step: Any) -> None:
        used.append({*trainer.train, *trainer.validation})
        assert trainer.validation and not {*trainer.train} & {*trainer.validation}

    def accuracy(_: Trainer, places: list[int]) -> float:
        measured.append(set(places))
        assert used[-1] | measured[-1] == set(range(48)) and not used[-1] & measured[-1]
        return 0.5

    monkeypatch.setattr(Trainer, "fit", fit)
    monkeypatch.setattr(rank_module, "_accuracy", accuracy)
    choose_rank(request(tiny), [1, 4], folds=3, method=method)
    assert len(measured) == 6


def test_the_smallest_rank_within_one_standard_error_is_chosen() -> None:
    means = {1: (0.70, 0.02), 2: (0.79, 0.02), 4: (0.80, 0.02), 8: (0.805, 0.02), 16: (0.80, 0.02)}
    candidates = [Candidate(rank, *values, ()) for rank, values in means.items()]
    assert one_standard_error(candidates) == (2, 8)


def test_scores_compare_by_accuracy_then_loss() -> None:
    assert Score(0.5, 0.8).better_than(Score(0.1, 0.7))
    assert Score(0.4, 0.8).better_than(Score(0.5, 0.8))
    assert not Score(0.5, 0.8).better_than(Score(0.5, 0.8))


@pytest.mark.parametrize("method", ["truncate", "train"])
@pytest.mark.parametrize("kind", ["lora", "serial"])
def test_ranks_are_measured_on_every_fold(tiny: Path, data: Path, kind: str, method: str) -> None:
    sites = ("query",) if kind == "lora" else ("output.dense",)
    given = request(tiny, form=Form(kind, sites=sites))
    choice = choose_rank(given, [1, 4], folds=3, method=method)
    assert [c.rank for c in choice.candidates] == [1, 4] and choice.chosen in (1, 4)
    assert all(len(c.accuracies) == 3 for c in choice.candidates)
    assert choice.candidates[1].mean > 0.8
    assert 1 <= choice.spectrum[0] <= choice.spectrum[1] <= 4


def test_at_full_rank_truncation_changes_nothing(tiny: Path, data: Path) -> None:
    given = request(tiny, form=Form("serial", sites=("output.dense",)))
    cut, trained = (choose_rank(given, [4], folds=2, method=m) for m in ("truncate", "train"))
    assert cut.candidates == trained.candidates


def test_an_activation_cannot_be_truncated(tiny: Path, data: Path) -> None:
    with pytest.raises(EdgeError, match="found truncate with an activation"):
        choose_rank(request(tiny, form=Form("bottleneck")), [1, 2])


@pytest.mark.parametrize("kind", ["lora", "serial"])
@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_a_head_of_two_layers_is_trained_whole(
    tiny: Path, data: Path, family: str, kind: str
) -> None:
    sizes: dict[str, Any] = {"vocab_size": 19, "max_position_embeddings": 40}
    if family == "distilbert":
        config: Any = transformers.DistilBertConfig(
            **sizes, dim=16, n_layers=1, n_heads=2, hidden_dim=24
        )
    else:
        config = transformers.RobertaConfig(
            **sizes, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=24, pad_token_id=0,
        )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(tiny / "model")
    sites = {"lora": ("q_lin",) if family == "distilbert" else ("query",), "serial": ()}[kind]
    settings = replace(SETTINGS, epochs=1)
    found = tune(request(tiny, form=Form(kind, 2, sites), settings=settings))
    saved = " ".join(weights(found.out))
    assert ("pre_classifier" if family == "distilbert" else "classifier.dense") in saved


def test_a_base_without_its_pooler_is_refused(tiny: Path, data: Path) -> None:
    file = tiny / "model/model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if "pooler" not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(EdgeError, match=r"found no bert\.pooler\.dense\.bias"):
        tune(request(tiny))


@pytest.mark.parametrize("kind", ["lora", "serial"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_classifier_on_a_decoder_without_a_padding_token_is_trained(
    tiny: Path, data: Path, family: str, kind: str
) -> None:
    torch.manual_seed(0)
    if family == "gpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=19, n_embd=16, n_layer=1, n_head=2, n_positions=20, bos_token_id=2,
            eos_token_id=3, initializer_range=0.3,
        )  # fmt: skip
    else:
        config = transformers.LlamaConfig(
            vocab_size=19, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=24, initializer_range=0.3,
        )  # fmt: skip
    assert config.pad_token_id is None
    transformers.AutoModel.from_config(config).save_pretrained(tiny / "model")
    sites = {"gpt2": ("attn.c_proj",), "llama": ("o_proj",)}[family]
    settings = replace(SETTINGS, epochs=16, patience=16)
    found = tune(request(tiny, form=Form(kind, 4, sites), settings=settings))
    assert found.best.validation.accuracy == 1.0
    assert any("score.weight" in name for name in weights(found.out))
