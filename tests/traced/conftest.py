"""Small random models without a recipe, and adapters that PEFT made for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from edge_lra.pipeline import ExportRequest, export

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def vit_config(**changes: Any) -> Any:
    given = {"hidden_size": 32, "image_size": 32, "patch_size": 8, "num_labels": 5} | SIZES
    return transformers.ViTConfig(**given | changes)


def t5_config() -> Any:
    return transformers.T5Config(
        vocab_size=600, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )


def _louder(model: torch.nn.Module) -> torch.nn.Module:
    """Make the weights of 0.02 larger: they carry hardly any signal."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _with_lora(model: torch.nn.Module, folder: Path, **options: Any) -> Path:
    """Save an adapter whose update is not zero."""
    torch.manual_seed(1)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, **options))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `vit` and `t5`, and adapters `vit-lora` and `t5-lora`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    vit = _louder(transformers.ViTForImageClassification(vit_config()))
    vit.save_pretrained(folder / "vit")
    t5 = _louder(transformers.T5ForConditionalGeneration(t5_config()))
    t5.save_pretrained(folder / "t5")
    _with_lora(
        vit,
        folder / "vit-lora",
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["classifier"],
    )
    encoder = transformers.T5EncoderModel.from_pretrained(folder / "t5")
    _with_lora(encoder, folder / "t5-lora", target_modules=["q", "v", "wo"])
    return folder


@pytest.fixture
def with_lora() -> Callable[..., Path]:
    return _with_lora


@pytest.fixture(scope="session")
def exported(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that exports one of `models` once for the options."""
    folder = tmp_path_factory.mktemp("bundles")

    def run(model: str, scheme: str, adapter: str | None = None, mode: str = "merge") -> Path:
        out = folder / f"{model}-{scheme}-{adapter}-{mode}.edge"
        if not out.exists():
            adapters = [("lora", models / adapter)] if adapter else []
            given = {"adapters": adapters, "mode": mode, "scheme": scheme}
            export(ExportRequest(out, str(models / model), **given))
        return out

    return run
