"""A T5 encoder out of a whole T5, held against transformers and PEFT, with padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import peft
import pytest
import torch
import transformers

from edge_lra.runner import Runner

Exported = Callable[..., Path]
LENGTHS = (23, 9)


def tokens() -> dict[str, np.ndarray]:
    """Return two rows of which the second is padded."""
    ids = np.random.default_rng(0).integers(2, 600, (2, max(LENGTHS)))
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def attended(hidden: np.ndarray) -> np.ndarray:
    return np.concatenate([hidden[row, :length] for row, length in enumerate(LENGTHS)])


def expected(models: Path, adapter: str | None = None) -> np.ndarray:
    model = transformers.T5EncoderModel.from_pretrained(models / "t5").eval()
    if adapter:
        model = peft.PeftModel.from_pretrained(model, models / adapter).eval()
    with torch.no_grad():
        given = {name: torch.from_numpy(value) for name, value in tokens().items()}
        return attended(model(**given).last_hidden_state.numpy())


def test_a_float_encoder_answers_as_transformers_does(models: Path, exported: Exported) -> None:
    found = Runner.load(exported("t5", "none")).run(tokens())["last_hidden_state"]
    np.testing.assert_allclose(attended(found), expected(models), atol=1e-4)


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_a_float_encoder_with_a_lora_answers_as_peft_does(
    models: Path, exported: Exported, mode: str
) -> None:
    runner = Runner.load(exported("t5", "none", "t5-lora", mode))
    found = attended(runner.run(tokens())["last_hidden_state"])
    np.testing.assert_allclose(found, expected(models, "t5-lora"), atol=1e-4)
    if mode == "factored":
        plain = attended(runner.run(tokens(), adapter=None)["last_hidden_state"])
        np.testing.assert_allclose(plain, expected(models), atol=1e-4)


def test_an_int8_encoder_is_close_and_its_table_is_int8(models: Path, exported: Exported) -> None:
    bundle = exported("t5", "int8", "t5-lora", "factored")
    found = attended(Runner.load(bundle).run(tokens())["last_hidden_state"])
    wanted = expected(models, "t5-lora")
    assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)
    names = ir.load(bundle / "model.onnx").graph.initializers
    assert "encoder.embed_tokens.weight.int8" in names
