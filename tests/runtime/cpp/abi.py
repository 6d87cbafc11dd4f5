"""The C interface, called from Python as an app of any language would call it."""

from __future__ import annotations

import ctypes as c
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.cpp.places import SHARED, library_of

DTYPES = [
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
DEFAULT, NONE, NAMED = 0, 1, 2
ONCE, ALWAYS, NEVER = 0, 1, 2
OnToken = c.CFUNCTYPE(c.c_int, c.c_int64, c.c_void_p)


def _struct(_title: str, **fields: Any) -> type[c.Structure]:
    return type(_title, (c.Structure,), {"_fields_": list(fields.items())})


Tensor = _struct(
    "Tensor",
    name=c.c_char_p,
    dtype=c.c_int,
    rank=c.c_size_t,
    shape=c.POINTER(c.c_int64),
    data=c.c_void_p,
    size=c.c_size_t,
)
OpenOptions = _struct(
    "OpenOptions",
    struct_size=c.c_size_t,
    ort_library=c.c_char_p,
    threads=c.c_int32,
    verify=c.c_int,
    stamp_folder=c.c_char_p,
    context=c.c_int32,
)
RunOptions = _struct("RunOptions", struct_size=c.c_size_t, choice=c.c_int, adapter=c.c_char_p)
GenerateOptions = _struct(
    "GenerateOptions",
    struct_size=c.c_size_t,
    choice=c.c_int,
    adapter=c.c_char_p,
    stop_tokens=c.POINTER(c.c_int64),
    stop_count=c.c_size_t,
    on_token=OnToken,
    context=c.c_void_p,
)
Generation = _struct(
    "Generation",
    struct_size=c.c_size_t,
    count=c.c_size_t,
    stopped_by=c.c_int,
    prefill_s=c.c_double,
    decode_s=c.c_double,
)
Golden = _struct(
    "Golden",
    struct_size=c.c_size_t,
    cases=c.c_size_t,
    max_abs_error=c.c_double,
    max_abs_error_float=c.c_double,
    recorded_error_float=c.c_double,
    allowed_error_float=c.c_double,
    decided=c.c_size_t,
    agreed=c.c_size_t,
)
ProfileOptions = _struct(
    "ProfileOptions",
    struct_size=c.c_size_t,
    batch=c.c_int64,
    tokens=c.c_int64,
    context=c.c_int64,
    runs=c.c_int64,
    budget_s=c.c_double,
    warmup=c.c_int64,
    choice=c.c_int,
    adapter=c.c_char_p,
    measure_switch=c.c_int,
)


class Refused(Exception):
    """A call that failed: the name of its code, and its line."""

    def __init__(self, code: str, line: str) -> None:
        super().__init__(f"{code}: {line}")
        self.code = code
        self.line = line


class _Library:
    """The shared library, loaded when a function of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        library = c.CDLL(str(SHARED))
        for text in ("last_error", "code_name", "version"):
            getattr(library, f"edge_lra_{text}").restype = c.c_char_p
        library.edge_lra_outputs_count.restype = c.c_size_t
        library.edge_lra_free_text.argtypes = [c.c_char_p]
        library.edge_lra_free_text.restype = None
        for function in FUNCTIONS:
            setattr(self, function, getattr(library, function))
        return getattr(library, name)


FUNCTIONS = tuple(
    f"edge_lra_{name}"
    for name in [
        "abi_version",
        "version",
        "last_error",
        "code_name",
        "open",
        "close",
        "set_adapter",
        "describe",
        "run",
        "generate",
        "verify_golden",
        "profile",
        "outputs_count",
        "outputs_get",
        "outputs_find",
        "outputs_close",
        "free_text",
    ]
)
LIBRARY: Any = _Library()


def check(code: int) -> None:
    """Raise Refused unless a call was done."""
    if code != 0:
        name = LIBRARY.edge_lra_code_name(code).decode()
        raise Refused(name, LIBRARY.edge_lra_last_error().decode())


def sized(kind: type[c.Structure], **fields: Any) -> Any:
    """Return options with their struct_size."""
    return kind(struct_size=c.sizeof(kind), **fields)


def choice_of(adapter: str | bool | None) -> dict[str, Any]:
    """Return the fields of a choice: a name, None for no adapter, True for the default."""
    if adapter is True:
        return {"choice": DEFAULT}
    return {"choice": NAMED, "adapter": str(adapter).encode()} if adapter else {"choice": NONE}


def tensor_of(name: str, array: np.ndarray) -> Any:
    """Return a tensor over an array's memory, which the caller keeps."""
    shape = (c.c_int64 * max(array.ndim, 1))(*array.shape)
    dtype = DTYPES.index(str(array.dtype)) + 1
    return Tensor(name.encode(), dtype, array.ndim, shape, array.ctypes.data, array.nbytes)


class Bundle:
    """A runner behind its handle."""

    def __init__(self, folder: Path, **options: Any) -> None:
        options.setdefault("ort_library", str(library_of()).encode())
        self.handle = c.c_uint64(99)
        given = sized(OpenOptions, **options)
        check(LIBRARY.edge_lra_open(str(folder).encode(), c.byref(given), c.byref(self.handle)))

    def close(self) -> None:
        check(LIBRARY.edge_lra_close(self.handle))

    def set_adapter(self, name: str | None) -> None:
        check(LIBRARY.edge_lra_set_adapter(self.handle, name.encode() if name else None))

    def run(
        self, inputs: Mapping[str, np.ndarray], adapter: str | bool | None = True
    ) -> dict[str, np.ndarray]:
        tensors = (Tensor * max(len(inputs), 1))(*(tensor_of(*item) for item in inputs.items()))
        outputs = c.c_uint64()
        options = sized(RunOptions, **choice_of(adapter))
        count = c.c_size_t(len(inputs))
        check(LIBRARY.edge_lra_run(self.handle, tensors, count, c.byref(options), c.byref(outputs)))
        try:
            return read_outputs(outputs)
        finally:
            check(LIBRARY.edge_lra_outputs_close(outputs))

    def generate(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        adapter: str | bool | None = True,
        stop_tokens: Sequence[int] | None = None,
        on_token: Any = None,
    ) -> tuple[list[int], Any]:
        ids = (c.c_int64 * max(len(prompt), 1))(*prompt)
        room = (c.c_int64 * max(max_tokens, 1))()
        options = sized(GenerateOptions, **choice_of(adapter))
        if stop_tokens is not None:
            options.stop_tokens = (c.c_int64 * max(len(stop_tokens), 1))(*stop_tokens)
            options.stop_count = len(stop_tokens)
        if on_token is not None:
            options.on_token = OnToken(on_token)
        found = sized(Generation)
        check(
            LIBRARY.edge_lra_generate(
                self.handle,
                ids,
                c.c_size_t(len(prompt)),
                c.c_size_t(max_tokens),
                c.byref(options),
                room,
                c.byref(found),
            )
        )
        return list(room[: found.count]), found

    def verify(self) -> Any:
        found = sized(Golden)
        check(LIBRARY.edge_lra_verify_golden(self.handle, c.byref(found)))
        return found

    def describe(self) -> dict[str, Any]:
        return self._text(LIBRARY.edge_lra_describe)

    def profile(self, **options: Any) -> dict[str, Any]:
        return self._text(LIBRARY.edge_lra_profile, c.byref(sized(ProfileOptions, **options)))

    def _text(self, function: Any, *arguments: Any) -> dict[str, Any]:
        text = c.c_char_p()
        check(function(self.handle, *arguments, c.byref(text)))
        assert text.value is not None
        found: dict[str, Any] = json.loads(text.value)
        LIBRARY.edge_lra_free_text(text)
        return found


def read_outputs(outputs: Any) -> dict[str, np.ndarray]:
    """Return copies of a run's outputs by name."""
    found = {}
    for place in range(LIBRARY.edge_lra_outputs_count(outputs)):
        tensor = Tensor()
        check(LIBRARY.edge_lra_outputs_get(outputs, c.c_size_t(place), c.byref(tensor)))
        data = c.string_at(tensor.data, tensor.size)
        values = np.frombuffer(data, DTYPES[tensor.dtype - 1]).reshape(tensor.shape[: tensor.rank])
        found[tensor.name.decode()] = values.copy()
    return found
