"""What a caller in C can do wrong with sizes, counts and callbacks."""

from __future__ import annotations

import ctypes as c
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.cpp.abi import (
    LIBRARY,
    Bundle,
    GenerateOptions,
    Generation,
    Golden,
    Refused,
    check,
    sized,
)


@pytest.mark.parametrize("size", [0, 3, 1 << 20])
def test_a_result_of_no_known_size_is_refused_before_anything_is_generated(
    long_decoders: dict[str, Path], size: int
) -> None:
    bundle = Bundle(long_decoders["merged"], threads=1)
    room = (c.c_int64 * 4)(-7, -7, -7, -7)
    found = Generation(struct_size=size)
    with pytest.raises(Refused, match=f"found struct_size {size}, expected"):
        check(_generate(bundle, room, found))
    assert list(room) == [-7] * 4
    golden = Golden(struct_size=size)
    with pytest.raises(Refused, match="found struct_size"):
        check(LIBRARY.edge_lra_verify_golden(bundle.handle, c.byref(golden)))
    bundle.close()


@pytest.mark.parametrize("count", [1 << 25, 1 << 61, 2**64 - 1])
def test_counts_that_cannot_be_are_told_and_nothing_is_read(
    long_decoders: dict[str, Path], count: int
) -> None:
    bundle = Bundle(long_decoders["merged"], threads=1)
    room = (c.c_int64 * 4)()
    with pytest.raises(Refused, match=f"prompt: found {count} ids"):
        check(_generate(bundle, room, prompt_count=count))
    options = sized(GenerateOptions, stop_tokens=(c.c_int64 * 1)(), stop_count=count)
    with pytest.raises(Refused, match=f"stop_tokens: found {count} ids"):
        check(_generate(bundle, room, options=options))
    with pytest.raises(Refused, match="max_tokens: found"):
        check(_generate(bundle, room, max_tokens=count))
    bundle.close()


def test_a_callback_may_use_and_close_its_runner(long_decoders: dict[str, Path]) -> None:
    bundle = Bundle(long_decoders["factored"], threads=1)
    expected = bundle.generate([5, 6, 7], 6, "one", stop_tokens=[])[0]
    inside: list[list[int]] = []

    def hear(token: int, _: object) -> int:
        if not inside:
            bundle.set_adapter("two")
            inside.append(bundle.generate([5, 6, 7], 6, "one", stop_tokens=[])[0])
            bundle.close()
        return 0

    assert bundle.generate([5, 6, 7], 6, "one", [], hear)[0] == expected == inside[0]
    with pytest.raises(Refused, match="closed"):
        bundle.close()


def _generate(
    bundle: Bundle,
    room: Any,
    found: Any = None,
    options: Any = None,
    prompt_count: int = 1,
    max_tokens: int = 4,
) -> int:
    code: int = LIBRARY.edge_lra_generate(
        bundle.handle,
        (c.c_int64 * 1)(5),
        c.c_size_t(prompt_count),
        c.c_size_t(max_tokens),
        None if options is None else c.byref(options),
        room,
        None if found is None else c.byref(found),
    )
    return code
