"""GGUF files of a Llama checkpoint, without a vocabulary: Q8_0 and Q4_K_M.

The wheel's library has llama.cpp's kernels that round a tensor (`ggml_quantize_chunk`), and not
`llama_model_quantize`, which says what type each tensor gets. `q4_k_m` says it here for a Llama
without experts. Held once against `llama_model_quantize` of libllama 0.5.0 on SmolLM2-135M (30
layers, 576 wide, tied) and on 11 layers of 256 with an output of their own: both types the same in
every tensor, byte for byte.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType
from llama_cpp import open_library
from safetensors import safe_open

PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
# What a type of blocks of 256 gives way to in a narrower row, or one that is no multiple.
NARROWER = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}
Chooser = Callable[[str, int, int], Kind]  # GGUF's name, width, layers


def q8_0(name: str, width: int, layers: int) -> Kind:
    """Round every weight to 8 bits."""
    return Kind.Q8_0


def q4_k_m(name: str, width: int, layers: int) -> Kind:
    """Return the type that LLAMA_FTYPE_MOSTLY_Q4_K_M gives a weight.

    `name` is "output.weight" for an embedding that is the head too.
    """
    kind = Kind.Q4_K
    if name == "output.weight" or (
        name.endswith(("attn_v.weight", "ffn_down.weight"))
        and takes_more_bits(int(name.split(".")[1]), layers)
    ):
        kind = Kind.Q6_K
    return kind if width % gguf.GGML_QUANT_SIZES[kind][0] == 0 else NARROWER[kind]


def takes_more_bits(layer: int, layers: int) -> bool:
    """Say whether a layer is of the first or last eighth, or a third one between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


CHOOSERS: dict[LlamaFileType, Chooser] = {
    LlamaFileType.MOSTLY_Q8_0: q8_0,
    LlamaFileType.MOSTLY_Q4_K_M: q4_k_m,
}


def gguf_name(name: str) -> str:
    """Return GGUF's name of a Llama tensor."""
    if name in WHOLE:
        return WHOLE[name]
    index, part = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{index}.{PARTS[part.removesuffix('.weight')]}.weight"


def interleave_rotary(weight: np.ndarray, heads: int) -> np.ndarray:
    """Turn rows for rotation by halves into rows for rotation by neighbours."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def tensors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a checkpoint folder's tensors in float32."""
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name, file.get_tensor(name).astype(np.float32)


def quantize(library: ctypes.CDLL, array: np.ndarray, kind: Kind) -> np.ndarray:
    """Round (rows, width) float32 by llama.cpp's own kernel; return (rows, bytes) uint8."""
    rows, width = array.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    source, out = np.ascontiguousarray(array), np.empty((rows, width // block * size), np.uint8)
    done = library.ggml_quantize_chunk(
        kind, source.ctypes.data, out.ctypes.data, 0, rows, width, None
    )
    if done != out.nbytes:
        raise SystemExit(f"{kind.name}: found {done} bytes, expected {out.nbytes}")
    return out


def write_gguf(folder: Path, out: Path, file_type: LlamaFileType) -> Path:
    """Write a Llama checkpoint in a type of `CHOOSERS`, norms in float32."""
    library, choose = open_library(), CHOOSERS[file_type]
    config = json.loads((folder / "config.json").read_text())
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    kv_heads = config.get("num_key_value_heads", heads)
    writer = gguf.GGUFWriter(out, "llama", use_temp_file=False)
    describe(writer, config, kv_heads)
    writer.add_file_type(file_type)
    for name, array in tensors(folder):
        if name.endswith("q_proj.weight"):
            array = interleave_rotary(array, heads)
        elif name.endswith("k_proj.weight"):
            array = interleave_rotary(array, kv_heads)
        written, kind = gguf_name(name), Kind.F32
        if array.ndim > 1:
            tied = written == "token_embd.weight" and config.get("tie_word_embeddings", False)
            kind = choose("output.weight" if tied else written, array.shape[1], layers)
            array = quantize(library, array, kind)
        writer.add_tensor(written, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def describe(writer: gguf.GGUFWriter, config: dict[str, object], kv_heads: int) -> None:
    """Write the model's sizes."""
    rope = config.get("rope_parameters") or config
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
