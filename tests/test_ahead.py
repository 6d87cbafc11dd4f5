"""Work in a thread comes in order, and ends with whoever reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_lra.ahead import DEPTH, ahead
from edge_lra.errors import EdgeError
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from tests.graph.decoders import random_model


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def counting(made: list[int], count: int = 1000) -> Iterator[int]:
    for item in range(count):
        made.append(item)
        yield item


def test_items_keep_their_order_and_the_thread_ends_with_them() -> None:
    assert list(ahead(iter(range(1000)))) == list(range(1000))
    assert list(ahead(iter(()))) == []
    assert threads() == []


def test_none_is_an_item_like_any_other() -> None:
    assert list(ahead(iter([None, 1, None]))) == [None, 1, None]


def test_the_next_items_are_made_while_one_is_used_and_no_more_than_wait() -> None:
    made: list[int] = []
    with closing(ahead(counting(made))) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 10
        while len(made) < DEPTH + 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert made == list(range(DEPTH + 2))  # one used, some waiting, one to be put


@pytest.mark.parametrize("error", [ValueError("torn"), KeyboardInterrupt()])
def test_an_error_comes_in_its_turn(error: BaseException) -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    items = ahead(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(type(error)) as raised:
        next(items)
    assert raised.value is error
    assert threads() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_reader_that_fails_stops_the_thread(error: type[BaseException]) -> None:
    made: list[int] = []
    with pytest.raises(error), closing(ahead(counting(made))) as items:
        for item in items:
            if item == 3:
                raise error
    assert threads() == []
    assert len(made) <= 3 + 1 + DEPTH + 1


def test_a_reader_within_a_reader_keeps_both_orders() -> None:
    def inner(number: int) -> Iterator[tuple[int, int]]:
        with closing(ahead(iter(range(5)))) as items:
            for item in items:
                yield number, item

    outer = ahead(pair for number in range(20) for pair in inner(number))
    assert list(outer) == [(number, item) for number in range(20) for item in range(5)]
    assert threads() == []


@pytest.mark.parametrize("scheme", ["int8", "int8-weight-only"])  # found calibrating, or writing
def test_a_weight_that_cannot_be_read_ends_an_export_and_its_threads(
    tmp_path: Path, scheme: str
) -> None:
    model = random_model("llama").half()
    model.model.layers[1].mlp.down_proj.weight.data[-1, -1] = float("nan")
    model.save_pretrained(tmp_path / "model")
    out = tmp_path / "out" / "x.edge"
    request = ExportRequest(out=out, model=str(tmp_path / "model"), scheme=scheme, verify=False)
    with pytest.raises(EdgeError, match=r"down_proj.*NaN"):
        export(request)
    assert threads() == []
    assert not out.parent.exists()
