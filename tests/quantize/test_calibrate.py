"""How far activations reach, against hooks on transformers' own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.graph.plan import Plan
from edge_lra.quantize import SCHEMES
from edge_lra.quantize.calibrate import EncoderRun, random_tokens
from edge_lra.recipe import find_recipe

SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4},
}


@pytest.mark.parametrize("family", list(SIZES))
def test_extremes_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    inner = {"hidden_dim": 64} if family == "distilbert" else {"intermediate_size": 64}
    config = transformers.AutoConfig.for_model(
        family, vocab_size=100, max_position_embeddings=40, **inner, **SIZES[family]
    )
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)

    base = Checkpoint(tmp_path)
    recipe = find_recipe(base.config)
    names = recipe.resolve(base.tensors)
    builder = EncoderBuilder(
        Plan(recipe, base.config, base, SCHEMES["none"](), "feature-extraction", names)
    )
    ids = random_tokens(100, 30, 1)
    found = EncoderRun(recipe, base.config, builder.epsilon, builder.source).run(ids)

    expected: dict[str, np.ndarray] = {}

    def remember(name: str, gelu: bool) -> Any:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
            output = torch.nn.functional.gelu(output) if gelu else output
            expected[name] = output.abs().amax(dim=(0, 1)).detach().numpy()

        return hook

    modules = dict(model.named_modules())
    for name in found:
        modules[name].register_forward_hook(remember(name, "norm" not in name.lower()))
    with torch.no_grad():
        model(torch.from_numpy(ids))
    assert len(found) == 1 + 2 * 3 == len(expected)
    for name, extreme in found.items():
        np.testing.assert_allclose(extreme, expected[name], rtol=2e-3, atol=2e-3)


def test_random_tokens_hold_no_padding() -> None:
    ids = random_tokens(5, 1000, 4)
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert random_tokens(5, 7, 0).shape[1] == 7
