"""llama.cpp through ctypes on the library in the wheel `xllamacpp`, and the Q8_0 file it reads.

The structs of its C API change between releases. Only the first three fields of the context's
parameters are written here; a buffer larger than any of the structs stands for the rest, since
the callee of the x86-64 System V and AArch64 conventions reads a large struct at its start.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_uint32, c_void_p
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
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


def write_q8_0(folder: Path, out: Path) -> Path:
    """Write a Llama checkpoint as Q8_0, norms in float32, without a vocabulary."""
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    rope = config.get("rope_parameters") or config
    writer = gguf.GGUFWriter(out, "llama", use_temp_file=False)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    for name, array in tensors(folder):
        if name.endswith("q_proj.weight"):
            array = interleave_rotary(array, heads)
        elif name.endswith("k_proj.weight"):
            array = interleave_rotary(array, kv_heads)
        kind = gguf.GGMLQuantizationType.F32
        if array.ndim > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            array = gguf.quants.quantize(array, kind)
        writer.add_tensor(gguf_name(name), array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


class _Params(ctypes.Structure):
    """Parameters by value: what is set here, and room for the rest."""

    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("rest", c_int8 * 1012),
    ]


class _Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", POINTER(c_int8)),
    ]


def _bind(library: ctypes.CDLL, name: str, result: object, *arguments: object) -> None:
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)


def open_library() -> ctypes.CDLL:
    """Load the wheel's library, quiet."""
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise SystemExit("found no xllamacpp, expected it installed; pip install -e '.[bench]'")
    library = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("xllamacpp*.so"))))
    _bind(library, "llama_backend_init", None)
    _bind(library, "llama_log_set", None, c_void_p, c_void_p)
    _bind(library, "llama_print_system_info", c_char_p)
    _bind(library, "llama_model_default_params", _Params)
    _bind(library, "llama_context_default_params", _Params)
    _bind(library, "llama_model_load_from_file", c_void_p, c_char_p, _Params)
    _bind(library, "llama_init_from_model", c_void_p, c_void_p, _Params)
    _bind(library, "llama_set_n_threads", None, c_void_p, c_int32, c_int32)
    _bind(library, "llama_model_get_vocab", c_void_p, c_void_p)
    _bind(library, "llama_vocab_n_tokens", c_int32, c_void_p)
    _bind(library, "llama_get_memory", c_void_p, c_void_p)
    _bind(library, "llama_memory_clear", None, c_void_p, c_bool)
    _bind(library, "llama_memory_seq_rm", c_bool, c_void_p, c_int32, c_int32, c_int32)
    _bind(library, "llama_decode", c_int32, c_void_p, _Batch)
    _bind(library, "llama_synchronize", None, c_void_p)
    _bind(library, "llama_get_logits_ith", POINTER(c_float), c_void_p, c_int32)
    library.llama_backend_init()
    return library


class LlamaCpp:
    """A model and one sequence."""

    def __init__(self, path: Path, threads: int, context: int = 2048) -> None:
        self.library = library = open_library()
        self._quiet = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)(lambda *_: None)
        library.llama_log_set(ctypes.cast(self._quiet, c_void_p), None)
        model = library.llama_model_load_from_file(
            str(path).encode(), library.llama_model_default_params()
        )
        if not model:
            raise SystemExit(f"{path}: found a file that llama.cpp does not load")
        params = library.llama_context_default_params()
        params.n_ctx = params.n_batch = context
        self.context = library.llama_init_from_model(model, params)
        library.llama_set_n_threads(self.context, threads, threads)
        self.memory = library.llama_get_memory(self.context)
        self.vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))

    @property
    def system(self) -> str:
        """Return what the library says of the kernels it uses."""
        return str(self.library.llama_print_system_info().decode())

    def truncate(self, length: int) -> None:
        """Forget all tokens from a position on."""
        self.library.llama_memory_seq_rm(self.memory, 0, length, -1)

    def prefill(self, ids: list[int]) -> np.ndarray:
        """Append tokens; return the last one's logits."""
        return self.run(ids)[0]

    def step(self, token: int) -> np.ndarray:
        """Append one token; return its logits."""
        return self.run([token])[0]

    def score(self, ids: list[int]) -> np.ndarray:
        """Append tokens; return the logits of each."""
        return self.run(ids, every=True)

    def run(self, ids: list[int], every: bool = False) -> np.ndarray:
        """Append tokens; return the logits (1 or tokens, vocabulary) of the last or of each."""
        count = len(ids)
        tokens = (c_int32 * count)(*ids)
        wanted = (c_int8 * count)(*([int(every)] * (count - 1) + [1]))
        code = self.library.llama_decode(
            self.context, _Batch(count, tokens, None, None, None, None, wanted)
        )
        if code:
            raise SystemExit(f"llama_decode: found code {code}, expected 0")
        self.library.llama_synchronize(self.context)
        places = range(count) if every else [count - 1]
        rows = [self.library.llama_get_logits_ith(self.context, i) for i in places]
        return np.stack([np.ctypeslib.as_array(row, (self.vocabulary,)).copy() for row in rows])
