"""Decoder bundles of a few kilobytes, written node by node from a random Llama of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import peft
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edge_lra.bundle import seal, sha256_file

HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT, ALL = 64, 2, 4, 2, 300, 96, 16
HEAD = HIDDEN // HEADS
EOS = 1
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Weights = Mapping[str, np.ndarray]


def random_llama(seed: int = 0) -> transformers.LlamaForCausalLM:
    """Return a model whose greedy text is not one token again and again."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        intermediate_size=64,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=EOS,
        pad_token_id=EOS,
        initializer_range=0.3,
        attn_implementation="eager",
    )
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config).eval()


def random_adapter(model: transformers.LlamaForCausalLM, rank: int, seed: int) -> dict[str, Any]:
    """Return the factors of a random LoRA by PEFT's names, scale 1."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            out, width = parameter.shape
            place = "base_model.model." + name.removesuffix(".weight")
            tensors[f"{place}.lora_A.weight"] = rng.normal(size=(rank, width)) * 0.3
            tensors[f"{place}.lora_B.weight"] = rng.normal(size=(out, rank)) * 0.3
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def with_adapter(factors: Weights, rank: int, seed: int = 0) -> Any:
    """Return transformers' model with PEFT's LoRA of these factors."""
    options = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(random_llama(seed), options)
    peft.set_peft_model_state_dict(model, {n: torch.tensor(v) for n, v in factors.items()})
    return model.eval()


class _Graph:
    """Nodes and constants in order."""

    def __init__(self, dtype: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.adapter_inputs: list[dict[str, Any]] = []
        self.dtype = dtype

    def op(
        self, kind: str, *inputs: str, count: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        outputs = [f"{kind}_{len(self.nodes)}.{place}" for place in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0] if count == 1 else outputs

    def const(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def ints(self, *values: int) -> str:
        return self.const("_".join(["ints", *map(str, values)]), np.array(values, np.int64))

    def norm(self, x: str, name: str, weight: np.ndarray) -> str:
        return self.op(
            "SimplifiedLayerNormalization", x, self.const(name, weight), axis=-1, epsilon=1e-6
        )

    def linear(self, x: str, name: str, weight: np.ndarray, factored: bool = False) -> str:
        y = self.op("MatMul", x, self.const(name, np.ascontiguousarray(weight.T)))
        if not factored:
            return y
        low = self.op("MatMul", x, self.factor(name, "down", (weight.shape[1], f"{name}.rank")))
        high = self.op("MatMul", low, self.factor(name, "up", (f"{name}.rank", weight.shape[0])))
        return self.op("Add", y, high)

    def factor(self, name: str, role: str, shape: Sequence[int | str]) -> str:
        entry = {
            "name": f"{name}.lora_{role}",
            "dtype": self.dtype,
            "shape": ["adapters", *shape],
            "off_shape": [1, *(0 if isinstance(size, str) else size for size in shape)],
            "tensors": [name],
            "role": role,
            "index": 0,
            "layers": None,
        }
        self.adapter_inputs.append(entry)
        chosen = self.op("Gather", entry["name"], "adapter_index")
        return chosen if self.dtype == "float32" else self.op("Cast", chosen, to=FLOAT)


def _layer(
    graph: _Graph, x: str, index: int, weights: Weights, factored: bool, lengths: Any
) -> str:
    def weight(name: str) -> np.ndarray:
        return weights[f"model.layers.{index}.{name}.weight"]

    def linear(x: str, name: str, on: bool = False) -> str:
        return graph.linear(x, f"layers.{index}.{name}", weight(name), on and factored)

    normed = graph.norm(x, f"n1.{index}", weight("input_layernorm"))
    query, key, value = (linear(normed, f"self_attn.{n}_proj", n != "k") for n in "qkv")
    past = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
    inputs = [query, key, value, *past, *lengths]
    attended = f"attended.{index}"
    graph.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            inputs,
            [attended, f"present.{index}.key", f"present.{index}.value"],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=1,
        )
    )
    x = graph.op("Add", x, linear(attended, "self_attn.o_proj"))
    normed = graph.norm(x, f"n2.{index}", weight("post_attention_layernorm"))
    gate = linear(normed, "mlp.gate_proj")
    gate = graph.op("Mul", gate, graph.op("Sigmoid", gate))
    inner = graph.op("Mul", gate, linear(normed, "mlp.up_proj"))
    return graph.op("Add", x, linear(inner, "mlp.down_proj"))


def _lengths(graph: _Graph) -> list[str]:
    total = graph.op("ReduceSum", "attention_mask", graph.ints(1), keepdims=0)
    last = graph.op("Cast", graph.op("Sub", total, graph.ints(1)), to=TensorProto.INT32)
    one = graph.const("one", np.int64(1))
    width = graph.op("Gather", graph.op("Shape", "attention_mask"), one)
    frequencies = 10000.0 ** (-np.arange(0, HEAD, 2) / HEAD)
    angles = np.outer(np.arange(CONTEXT), frequencies)
    return [
        last,
        graph.op("Cast", width, to=TensorProto.INT32),
        graph.const("cos", np.cos(angles).astype(np.float32)),
        graph.const("sin", np.sin(angles).astype(np.float32)),
    ]


def _build(weights: Weights, factored: bool, dtype: str) -> tuple[onnx.ModelProto, list[Any]]:
    graph = _Graph(dtype)
    lengths = _lengths(graph)
    x = graph.op("Gather", graph.const("e", weights["model.embed_tokens.weight"]), "input_ids")
    for index in range(LAYERS):
        x = _layer(graph, x, index, weights, factored, lengths)
    count = graph.op("Gather", graph.op("Shape", "input_ids"), graph.ints(1))
    few = graph.op("LessOrEqual", count, graph.ints(ALL))
    first = graph.op("Where", few, graph.ints(0), graph.op("Sub", count, graph.ints(1)))
    x = graph.op("Slice", x, first, graph.ints(2**60), graph.ints(1))
    x = graph.norm(x, "norm", weights["model.norm.weight"])
    logits = graph.linear(x, "head", weights["lm_head.weight"])
    graph.nodes.append(helper.make_node("Identity", [logits], ["all_logits"]))
    ends = [graph.ints(-1), graph.ints(2**60), graph.ints(1)]
    graph.nodes.append(helper.make_node("Slice", [logits, *ends], ["logits"]))
    value = helper.make_tensor_value_info
    kv = ["batch", KV_HEADS, "past_sequence", HEAD]
    names = [f"{index}.{kind}" for index in range(LAYERS) for kind in ("key", "value")]
    inputs = [
        value("input_ids", INT64, ["batch", "sequence"]),
        value("attention_mask", INT64, ["batch", "total_sequence"]),
        *(value(f"past_key_values.{name}", FLOAT, kv) for name in names),
    ]
    if factored:
        kind = FLOAT if dtype == "float32" else TensorProto.FLOAT16
        inputs += [value(i["name"], kind, i["shape"]) for i in graph.adapter_inputs]
        inputs.append(value("adapter_index", INT64, ["batch"]))
    outputs = [
        value("logits", FLOAT, ["batch", 1, VOCAB]),
        value("all_logits", FLOAT, ["batch", "positions", VOCAB]),
        *(value(f"present.{name}", FLOAT, None) for name in names),
    ]
    constants = [numpy_helper.from_array(v, name) for name, v in graph.constants.items()]
    made = helper.make_graph(graph.nodes, "tiny", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, ir_version=10, opset_imports=opsets), graph.adapter_inputs


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of two special tokens and 256 bytes: characters may be halves."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {"<s>": 0, "</s>": 1, **{byte: place + 2 for place, byte in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def node(name: str, dtype: str, shape: Sequence[int | str]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def write_bundle(
    folder: Path,
    model: transformers.LlamaForCausalLM,
    adapters: Mapping[str, Weights] | None = None,
    dtype: str = "float32",
    tokenizer: bool = True,
    **fields: Any,
) -> Path:
    """Write a bundle of a model, factored where there are adapters."""
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    made, inputs = _build(weights, adapters is not None, dtype)
    (folder / "adapters").mkdir(parents=True)
    options = {"save_as_external_data": True, "size_threshold": 64, "location": "model.onnx.data"}
    onnx.save_model(made, folder / "model.onnx", **options)
    if tokenizer:
        byte_tokenizer().save(str(folder / "tokenizer.json"))
    base = sha256_file(folder / "model.onnx.data")
    entries = {}
    for name, factors in (adapters or {}).items():
        file = f"adapters/{name}.safetensors"
        save_file(_renamed(factors, dtype), folder / file)
        entries[name] = {"file": file, "base": base, "labels": None}
    manifest = {
        "format_version": 1,
        "name": "tiny",
        "family": "llama",
        "task": "text-generation",
        "mode": "merged" if adapters is None else "factored",
        "inputs": [
            node("input_ids", "int64", ["batch", "sequence"]),
            node("attention_mask", "int64", ["batch", "total_sequence"]),
        ],
        "outputs": [
            node("logits", "float32", ["batch", 1, VOCAB]),
            node("all_logits", "float32", ["batch", "positions", VOCAB]),
        ],
        "adapter_inputs": inputs if adapters is not None else [],
        "adapters": entries,
        "default_adapter": None,
        "head": "base",
        "base_fingerprint": base,
        "tokenizer": {"file": "tokenizer.json", "pad_id": 1} if tokenizer else None,
        "vocabulary_size": VOCAB,
        "max_length": CONTEXT,
        "min_onnxruntime": "1.20.0",
        "session_options": {},
        "decoder": {
            "layers": LAYERS,
            "kv_heads": KV_HEADS,
            "head_size": HEAD,
            "context_length": CONTEXT,
            "window": None,
            "cache": [
                {"past": f"past_key_values.{index}.{kind}", "present": f"present.{index}.{kind}"}
                for index in range(LAYERS)
                for kind in ("key", "value")
            ],
            "all_logits_tokens": ALL,
            "shared_bytes": 0,
            "adapter_index": None if adapters is None else "adapter_index",
            "bos_token_id": 0,
            "eos_token_ids": [EOS],
            "pad_token_id": EOS,
        },
    }
    write_manifest(folder, manifest | fields)
    return folder


def _renamed(factors: Weights, dtype: str) -> dict[str, np.ndarray]:
    """Return PEFT's factors by graph input, as (in, rank) and (rank, out)."""
    renamed = {}
    for name, value in factors.items():
        place = name.removeprefix("base_model.model.model.")
        place = place.replace(".lora_A.weight", ".lora_down").replace(".lora_B.weight", ".lora_up")
        renamed[place] = np.ascontiguousarray(value.T).astype(dtype)
    return renamed


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Seal a manifest over the files as they are."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json"]
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_file(path),
            "size": path.stat().st_size,
        }
        for path in files
    }
    (folder / "manifest.json").write_bytes(seal(manifest))


def change_manifest(folder: Path, **fields: Any) -> None:
    """Replace entries of a bundle's manifest."""
    write_manifest(folder, json.loads((folder / "manifest.json").read_text()) | fields)
