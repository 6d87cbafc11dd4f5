"""What every engine is made from: a checkpoint, an adapter merged by PEFT, or random weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from peft import PeftModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from edge_lra.metrics import distributions
from edge_lra.texts import read_texts

LARGE = {  # TinyLlama's shape, 1.1B parameters
    "hidden_size": 2048,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 5632,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}


class Texts(NamedTuple):
    """Token ids of texts and transformers' float32 logits of each token."""

    ids: list[list[int]]
    logits: list[np.ndarray]  # (tokens, vocabulary) each


def write_merged(model: str, adapter: Path | None, data: Path | None, out: Path) -> Texts | None:
    """Write a float32 checkpoint folder; return what it says of a file's texts."""
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter is not None:
        base = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    base.save_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.save_pretrained(out)
    if data is None:
        return None
    first = base.config.bos_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    ids = [[first, *tokenizer(row.text)["input_ids"][:160]] for row in read_texts(data)]
    with torch.no_grad():
        logits = [base(input_ids=torch.tensor([row])).logits[0].numpy() for row in ids]
    return Texts(ids, logits)


def write_random(out: Path) -> None:
    """Write random float16 weights of LARGE's shape."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**LARGE)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16).save_pretrained(out)
    tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="a"))  # genai's builder wants one
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(out)


def compare(texts: Texts, found: list[np.ndarray]) -> dict[str, float]:
    """Return how far logits of each token are from float's, and the texts' perplexity by them."""
    expected = np.concatenate([logits[:-1] for logits in texts.logits])
    got = np.concatenate([logits[:-1] for logits in found]).astype(np.float64)
    near = {
        "kl_mean": distributions(expected, got)["kl_mean"],
        "same_top": float((expected.argmax(axis=1) == got.argmax(axis=1)).mean()),
    }
    got -= got.max(axis=1, keepdims=True)
    following = np.concatenate([ids[1:] for ids in texts.ids])
    loss = np.log(np.exp(got).sum(axis=1)) - got[np.arange(len(got)), following]
    return near | {"perplexity": float(np.exp(loss.mean()))}
