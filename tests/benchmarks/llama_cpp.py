"""llama.cpp through ctypes on the library in the wheel `xllamacpp`.

The structs of its C API change between releases. Only the first three fields of the context's
parameters are written here; a buffer larger than any of the structs stands for the rest, since
the callee of the x86-64 System V and AArch64 conventions reads a large struct at its start.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    c_bool,
    c_char_p,
    c_float,
    c_int8,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)
from importlib.util import find_spec
from pathlib import Path

import numpy as np


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
    counts = (c_int64, c_int64, c_int64)
    _bind(library, "ggml_quantize_chunk", c_size_t, c_int32, c_void_p, c_void_p, *counts, c_void_p)
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
