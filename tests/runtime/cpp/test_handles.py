"""Handles that were closed, are none, or are used by several threads at once."""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.cpp.abi import (
    LIBRARY,
    Bundle,
    Golden,
    Refused,
    Tensor,
    check,
    read_outputs,
    sized,
)
from tests.runtime.cpp.abi import tensor_of as tensor
from tests.runtime.cpp.bundles import tokens

CALLS: dict[str, Callable[[Any], int]] = {
    "close": lambda handle: LIBRARY.edge_lra_close(handle),
    "set_adapter": lambda handle: LIBRARY.edge_lra_set_adapter(handle, b"one"),
    "describe": lambda handle: LIBRARY.edge_lra_describe(handle, c.byref(c.c_char_p())),
    "run": lambda handle: LIBRARY.edge_lra_run(
        handle, None, c.c_size_t(0), None, c.byref(c.c_uint64())
    ),
    "generate": lambda handle: LIBRARY.edge_lra_generate(
        handle, (c.c_int64 * 1)(), c.c_size_t(1), c.c_size_t(1), None, (c.c_int64 * 1)(), None
    ),
    "verify": lambda handle: LIBRARY.edge_lra_verify_golden(handle, c.byref(sized(Golden))),
    "profile": lambda handle: LIBRARY.edge_lra_profile(handle, None, c.byref(c.c_char_p())),
    "outputs_get": lambda handle: LIBRARY.edge_lra_outputs_get(
        handle, c.c_size_t(0), c.byref(Tensor())
    ),
    "outputs_find": lambda handle: LIBRARY.edge_lra_outputs_find(
        handle, b"hidden", c.byref(Tensor())
    ),
    "outputs_close": lambda handle: LIBRARY.edge_lra_outputs_close(handle),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["closed", "none", "never given"])
def test_a_handle_that_is_none_is_an_error(tiny_whole: Path, call: str, kind: str) -> None:
    bundle = Bundle(tiny_whole)
    bundle.close()
    handle = {"closed": bundle.handle, "none": c.c_uint64(0), "never given": c.c_uint64(2**63)}
    with pytest.raises(Refused) as raised:
        check(CALLS[call](handle[kind]))
    assert raised.value.code == "closed"
    assert "found a handle that was closed or is none" in raised.value.line


def test_a_closed_number_is_never_given_again(tiny_whole: Path) -> None:
    seen = set()
    for _ in range(3):
        bundle = Bundle(tiny_whole)
        seen.add(bundle.handle.value)
        bundle.close()
    assert len(seen) == 3


@pytest.mark.parametrize("place", range(4))
def test_null_pointers_are_refused(tiny_whole: Path, place: int) -> None:
    bundle = Bundle(tiny_whole)
    calls = [
        lambda: LIBRARY.edge_lra_open(None, None, c.byref(c.c_uint64())),
        lambda: LIBRARY.edge_lra_open(str(tiny_whole).encode(), None, None),
        lambda: LIBRARY.edge_lra_run(
            bundle.handle, None, c.c_size_t(1), None, c.byref(c.c_uint64())
        ),
        lambda: LIBRARY.edge_lra_describe(bundle.handle, None),
    ]
    with pytest.raises(Refused, match="found null, expected a pointer"):
        check(calls[place]())
    bundle.close()
    LIBRARY.edge_lra_free_text(None)


def test_outputs_outlive_their_runner(tiny_whole: Path) -> None:
    bundle = Bundle(tiny_whole)
    expected = bundle.run(tokens())["hidden"]
    outputs = c.c_uint64()
    kept = tokens()
    given = (Tensor * 2)(*(tensor(*item) for item in kept.items()))
    check(LIBRARY.edge_lra_run(bundle.handle, given, c.c_size_t(2), None, c.byref(outputs)))
    bundle.close()
    np.testing.assert_array_equal(read_outputs(outputs)["hidden"], expected)
    check(LIBRARY.edge_lra_outputs_close(outputs))
    assert LIBRARY.edge_lra_outputs_count(outputs) == 0


def _in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run work in threads at once; raise what one of them raised."""
    failed: list[BaseException] = []
    ready = threading.Barrier(count)

    def guarded(place: int) -> None:
        try:
            ready.wait()
            work(place)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_threads_share_a_runner_with_an_adapter_each(tiny_whole: Path) -> None:
    bundle = Bundle(tiny_whole, threads=1)
    names = ["one", "two", None, "one"]
    expected = [bundle.run(tokens(2, 4), name)["hidden"] for name in names]

    def work(place: int) -> None:
        for _ in range(200):
            found = bundle.run(tokens(2, 4), names[place])["hidden"]
            np.testing.assert_array_equal(found, expected[place])

    _in_threads(len(names), work)
    bundle.close()


def test_threads_generate_on_one_runner(long_decoders: dict[str, Path]) -> None:
    bundle = Bundle(long_decoders["factored"], threads=1)
    expected = {name: bundle.generate([5, 6, 7], 40, name)[0] for name in ("one", "two")}
    names = ["one", "two", "one"]

    def work(place: int) -> None:
        for _ in range(3):
            assert bundle.generate([5, 6, 7], 40, names[place])[0] == expected[names[place]]

    _in_threads(len(names), work)
    bundle.close()
    assert expected["one"] != expected["two"]


def test_a_runner_closed_by_another_thread_ends_calls_with_an_error(tiny_whole: Path) -> None:
    bundle = Bundle(tiny_whole, threads=1)
    expected = bundle.run(tokens())["hidden"]
    started = threading.Barrier(3)

    def work(place: int) -> None:
        started.wait()
        if place == 0:
            bundle.close()
            return
        with pytest.raises(Refused) as raised:
            for _ in range(10**6):
                np.testing.assert_array_equal(bundle.run(tokens())["hidden"], expected)
        assert raised.value.code == "closed"

    _in_threads(3, work)


def test_each_thread_has_its_own_last_error(tiny_whole: Path) -> None:
    lines: dict[int, str] = {}

    def work(place: int) -> None:
        with pytest.raises(Refused) as raised:
            Bundle(tiny_whole.parent / f"missing-{place}")
        lines[place] = raised.value.line

    _in_threads(4, work)
    assert all(f"missing-{place}" in lines[place] for place in range(4))
