"""A model of a few kilobytes with its tokenizer, and an adapter that PEFT made for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

# On a busy machine threads that wait for each other spin a tiny model's seconds into minutes.
torch.set_num_threads(1)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["##s", "##ly", "##m"]
WORDS = ["a", "fine", "film", "this", "is", "what", "bore", "good", "bad", "not", "."]
VOCABULARY = [*SPECIAL, *PIECES, *WORDS]


def _write_tokenizer(path: Path, types: bool = True) -> int:
    """Write a tokenizer that knows VOCABULARY, in BERT's form; return the vocabulary's size."""
    ids = {piece: index for index, piece in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=40, model_input_names=inputs, **names
    ).save_pretrained(path)
    return len(VOCABULARY)


@pytest.fixture
def write_tokenizer() -> Callable[..., int]:
    return _write_tokenizer


@pytest.fixture(scope="session")
def tiny_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `model` (a BERT encoder) and `adapter` (a classifier's)."""
    folder = tmp_path_factory.mktemp("tiny")
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder / "model")
    _write_tokenizer(folder / "model")
    base = transformers.BertForSequenceClassification.from_pretrained(folder / "model")
    lora = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=16, target_modules=["query", "value"]
    )
    model = peft.get_peft_model(base, lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder / "adapter")
    return folder


@pytest.fixture
def tiny(tiny_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of `model` and `adapter` in a folder that is the current one."""
    folder = tmp_path / "project"
    shutil.copytree(tiny_made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def data(tiny: Path) -> Path:
    """Return 48 labelled rows in which "good" and "bad" decide.

    A fresh model's weights of 0.02 carry hardly any signal: they are made larger.
    """
    weights = tiny / "model/model.safetensors"
    larger = {
        name: 8 * value if value.ndim == 2 else value for name, value in load_file(weights).items()
    }
    save_file(larger, weights, {"format": "pt"})
    rows = []
    for place in range(24):
        words = ["a film", "this is a film", "fine film .", "what a film"][place % 4]
        rows += [f"{words} good{' .' * (place % 3)}\tup", f"{words} bad{' .' * (place % 3)}\tdown"]
    file = tiny / "rows.tsv"
    file.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    return file
