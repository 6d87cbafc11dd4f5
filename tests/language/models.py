"""Small random decoders with an adapter and a tokenizer, ready to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.graph.decoders import random_model

WORDS = [f"w{place}" for place in range(90)]
TEXT = "\n".join(" ".join(WORDS[(start * 7 + i * i) % 90] for i in range(24)) for start in range(8))

# Gates that a random model passes, whatever its integers do to it.
LOOSE = {"kl_mean": 100.0, "same_top": 0.0, "perplexity_ratio": 1e9, "prefill_kl_mean": 100.0}


def write_model(folder: Path, family: str = "llama", tokenizer: bool = True) -> Path:
    """Write a seeded model; return its folder."""
    random_model(family).save_pretrained(folder, max_shard_size="60KB")
    if tokenizer:
        write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of WORDS."""
    ids = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    ids |= {word: place for place, word in enumerate(WORDS, 4)}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)


def write_adapter(
    folder: Path, family: str = "llama", seed: int = 1, std: float = 0.1, **options: Any
) -> Path:
    """Write a random LoRA for `write_model`'s model; return its folder."""
    choice = {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8, **options}
    config = peft.LoraConfig(task_type="CAUSAL_LM", **choice)
    model = peft.get_peft_model(random_model(family), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=std)
    model.save_pretrained(folder)
    return folder
