"""Small random encoders, their graphs, and runs of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers

from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.encoder import build_encoder
from edge_lra.graph.plan import Built, Plan
from edge_lra.quantize.schemes import SCHEMES
from edge_lra.recipe import find_recipe
from edge_lra.writer import write_data, write_model

SIZES = {
    "bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "roberta": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4},
}
TASKS = {
    "feature-extraction": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}


def checkpoint(path: Path, family: str, task: str) -> Checkpoint:
    inner = {"hidden_dim": 128} if family == "distilbert" else {"intermediate_size": 128}
    config = transformers.AutoConfig.for_model(
        family, vocab_size=200, max_position_embeddings=40, **inner, **SIZES[family]
    )
    torch.manual_seed(0)
    getattr(transformers, TASKS[task]).from_config(config).save_pretrained(path)
    return Checkpoint(path)


def export(base: Checkpoint, folder: Path, scheme: str, task: str, **options: object) -> Built:
    folder.mkdir()
    recipe = find_recipe(base.config)
    names = recipe.resolve(base.tensors)
    plan = Plan(recipe, base.config, base, SCHEMES[scheme](), task, names, **options)
    built = build_encoder(plan)
    layout, fingerprint = write_data(built.builder, folder / "model.onnx.data")
    write_model(built.model, built.builder, layout, folder, fingerprint)
    return built


def tokens(built: Built) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    ids = random.integers(5, 200, (3, 17))
    mask = np.ones((3, 17), np.int64)
    ids[1, 11:], mask[1, 11:] = 1, 0
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: values[name] for name, _ in built.inputs}


def run(folder: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
