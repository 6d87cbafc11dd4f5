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
from edge_lra.quantize.readings import MomentFile
from edge_lra.recipe import find_recipe

SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4},
}


@pytest.mark.parametrize(
    ("family", "pairs"), [*((family, False) for family in SIZES), ("bert", True)]
)
def test_readings_are_those_of_transformers(tmp_path: Path, family: str, pairs: bool) -> None:
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
    texts = [*ids, ids[0, :7]]
    run = EncoderRun(recipe, base.config, builder.epsilon, builder.source, MomentFile())
    types = [(np.arange(len(text)) >= 3).astype(np.int64) for text in texts] if pairs else []
    found = run.run(texts, types)

    seen: dict[str, list[np.ndarray]] = {}

    def before(name: str) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            seen.setdefault(name, []).append(inputs[0].detach().numpy()[0])

        return hook

    def remember(name: str, gelu: bool) -> Any:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
            output = torch.nn.functional.gelu(output) if gelu else output
            seen.setdefault(name, []).append(output.detach().numpy()[0])

        return hook

    modules = dict(model.named_modules())
    contexts = {recipe.layer["output"].format(i=i) for i in range(2)}
    for name in found:
        if name in contexts:
            modules[name].register_forward_pre_hook(before(name))
        else:
            modules[name].register_forward_hook(remember(name, "norm" not in name.lower()))
    with torch.no_grad():
        for place, text in enumerate(texts):
            kinds = {"token_type_ids": torch.from_numpy(types[place][None])} if pairs else {}
            model(torch.from_numpy(text[None]), **kinds)
    assert len(found) == 1 + 2 * 4 == len(seen)
    for name, reading in found.items():
        values = np.concatenate(seen[name]).astype(np.float64)
        close = {"rtol": 2e-3, "atol": 2e-3}
        np.testing.assert_allclose(reading.low, values.min(axis=0), **close)
        np.testing.assert_allclose(reading.high, values.max(axis=0), **close)
        np.testing.assert_allclose(reading.mean, values.mean(axis=0), **close)
        assert reading.moment is not None
        np.testing.assert_allclose(reading.moment(), values.T @ values / len(values), **close)


def test_random_tokens_hold_no_padding() -> None:
    ids = random_tokens(5, 1000, 4)
    assert set(np.unique(ids)) == {0, 1, 2, 3}
    assert random_tokens(5, 7, 0).shape[1] == 7
