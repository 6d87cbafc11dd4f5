"""Runs through the C interface: what is taken, what is given, and what is refused in one line."""

from __future__ import annotations

import ctypes as c
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra import Runner
from edge_lra.errors import EdgeError
from tests.runtime.cpp.abi import LIBRARY, Bundle, Refused, Tensor, check, sized, tensor_of
from tests.runtime.cpp.abi import OpenOptions as Options
from tests.runtime.cpp.bundles import LONGEST, VOCABULARY, WIDTH, tokens
from tests.runtime.cpp.places import library_of

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.fixture
def bundle(tiny_whole: Path) -> Any:
    opened = Bundle(tiny_whole)
    yield opened
    opened.close()


def test_outputs_have_names_dtypes_and_shapes(bundle: Bundle) -> None:
    outputs = bundle.run(tokens(2, 5))
    assert list(outputs) == ["hidden"]
    assert outputs["hidden"].dtype == np.float32
    assert outputs["hidden"].shape == (2, 5, WIDTH)


@pytest.mark.parametrize("adapter", ["one", "two", None])
def test_answers_are_those_of_python(bundle: Bundle, tiny_whole: Path, adapter: str | None) -> None:
    expected = Runner.load(tiny_whole).run(tokens(2, 5), adapter=adapter)["hidden"]
    np.testing.assert_array_equal(bundle.run(tokens(2, 5), adapter)["hidden"], expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_ids_of_every_integer_dtype_serve(bundle: Bundle, dtype: str) -> None:
    given = {name: value.astype(dtype) for name, value in tokens().items()}
    np.testing.assert_array_equal(bundle.run(given)["hidden"], bundle.run(tokens())["hidden"])


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("low", [True, False])
def test_ids_outside_of_the_vocabulary_are_refused_in_every_dtype(
    bundle: Bundle, dtype: str, low: bool
) -> None:
    info = np.iinfo(dtype)
    odd = info.min if low else info.max
    if odd == 0:
        odd = VOCABULARY
    given = {name: value.astype(dtype) for name, value in tokens().items()}
    given["input_ids"][0, 1] = odd
    with pytest.raises(Refused) as raised:
        bundle.run(given)
    assert raised.value.code == "invalid_argument"
    if dtype == "uint64" and not low:
        assert (
            raised.value.line
            == "input_ids: found uint64 with values that are too large, expected int64"
        )
    else:
        assert raised.value.line == f"input_ids: found {odd}, expected ids of 0 to {VOCABULARY - 1}"


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in tokens().items() if key != name}


@pytest.mark.parametrize(
    "inputs",
    [
        {**tokens(), "pixels": np.zeros((1, 3), np.int64)},
        _without("attention_mask"),
        _without("input_ids"),
        {**tokens(), "input_ids": tokens()["input_ids"][0]},
        {**tokens(), "input_ids": tokens()["input_ids"].astype(np.float32)},
        {**tokens(), "attention_mask": np.ones((1, 4), np.int64)},
        {**tokens(), "attention_mask": np.ones((2, 3), np.int64)},
        tokens(1, LONGEST + 1),
        tokens(0, 3),
        tokens(1, 0),
        {},
    ],
)
def test_bad_inputs_are_refused_in_the_words_of_python(
    bundle: Bundle, tiny_whole: Path, inputs: dict[str, np.ndarray]
) -> None:
    with pytest.raises(Refused) as raised:
        bundle.run(inputs)
    with pytest.raises(EdgeError) as expected:
        Runner.load(tiny_whole).run(inputs)
    assert raised.value.code == "invalid_argument"
    # Python quotes names of axes.
    assert raised.value.line == str(expected.value).replace(
        "'batch', 'sequence'", "batch, sequence"
    )


def test_the_longest_input_still_runs(bundle: Bundle) -> None:
    assert bundle.run(tokens(1, LONGEST))["hidden"].shape == (1, LONGEST, WIDTH)


def _tensor(**fields: Any) -> Any:
    ids = np.zeros((1, 3), np.int64)
    tensor = tensor_of("input_ids", ids)
    tensor.kept = ids
    for name, value in fields.items():
        setattr(tensor, name, value)
    return tensor


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": None}, "inputs: name: found null"),
        ({"dtype": 0}, "input_ids: found dtype 0"),
        ({"dtype": 14}, "input_ids: found dtype 14"),
        ({"dtype": -1}, "input_ids: found dtype -1"),
        ({"rank": 65}, "input_ids: found 65 axes"),
        ({"shape": None}, "inputs: shape: found null"),
        ({"data": None}, "input_ids: found null"),
        ({"size": 23}, "input_ids: found 23 bytes, expected those of int64[1, 3]"),
        ({"shape": (c.c_int64 * 2)(-1, 3)}, "expected those of int64[-1, 3]"),
        ({"shape": (c.c_int64 * 2)(2**62, 2**62)}, "found 24 bytes"),
        ({"shape": (c.c_int64 * 2)(0, 2**62), "size": 0}, "found 0 bytes"),
    ],
)
def test_tensors_that_are_none_are_refused(
    bundle: Bundle, fields: dict[str, Any], said: str
) -> None:
    tensors = (Tensor * 1)(_tensor(**fields))
    outputs = c.c_uint64(7)
    with pytest.raises(Refused) as raised:
        check(LIBRARY.edge_lra_run(bundle.handle, tensors, c.c_size_t(1), None, c.byref(outputs)))
    assert raised.value.code == "invalid_argument" and said in raised.value.line
    assert outputs.value == 0


def test_unaligned_data_is_refused(bundle: Bundle) -> None:
    memory = np.zeros(33, np.int8)
    tensors = (Tensor * 1)(_tensor(data=memory.ctypes.data + 1))
    with pytest.raises(Refused, match="not aligned for int64"):
        check(
            LIBRARY.edge_lra_run(bundle.handle, tensors, c.c_size_t(1), None, c.byref(c.c_uint64()))
        )


def test_an_input_given_twice_is_refused(bundle: Bundle) -> None:
    tensors = (Tensor * 2)(_tensor(), _tensor())
    with pytest.raises(Refused, match="found 'input_ids' twice"):
        check(
            LIBRARY.edge_lra_run(bundle.handle, tensors, c.c_size_t(2), None, c.byref(c.c_uint64()))
        )


def test_unknown_adapters_are_told_the_known_ones(bundle: Bundle) -> None:
    for call in (lambda: bundle.run(tokens(), "three"), lambda: bundle.set_adapter("three")):
        with pytest.raises(Refused) as raised:
            call()
        assert raised.value.code == "invalid_argument"
        assert raised.value.line == "adapter: found 'three', expected one of: one, two"


def test_a_base_without_a_head_needs_an_adapter(factored: Path) -> None:
    bundle = Bundle(factored)
    inputs = dict(Runner.load(factored).tokenize(["fine"]).inputs)
    with pytest.raises(Refused, match="found none, expected one of: sentiment, mirrored; the base"):
        bundle.run(inputs, None)
    bundle.close()


def test_a_description_tells_an_app_what_it_needs(bundle: Bundle) -> None:
    found = bundle.describe()
    assert found["adapters"] == ["one", "two"] and found["default_adapter"] == "one"
    assert found["labels"] == {"": ["base"], "one": ["one"], "two": ["two"]}
    assert found["inputs"][0] == {
        "name": "input_ids",
        "dtype": "int64",
        "shape": ["batch", "sequence"],
    }
    assert found["max_length"] == LONGEST and found["decoder"] is None


def test_options_of_an_older_header_leave_the_rest_at_its_default(tiny_whole: Path) -> None:
    handle, options = c.c_uint64(), sized(Options, ort_library=str(library_of()).encode())
    options.struct_size = Options.threads.offset
    options.threads = -5
    check(LIBRARY.edge_lra_open(str(tiny_whole).encode(), c.byref(options), c.byref(handle)))
    check(LIBRARY.edge_lra_close(handle))


@pytest.mark.parametrize("size", [0, 7, 10**6])
def test_a_struct_size_that_no_header_has_is_refused(tiny_whole: Path, size: int) -> None:
    options = sized(Options)
    options.struct_size = size
    with pytest.raises(Refused, match=f"struct_size {size}"):
        check(
            LIBRARY.edge_lra_open(str(tiny_whole).encode(), c.byref(options), c.byref(c.c_uint64()))
        )
