"""Work that goes on in a thread while its last result is used: in the same order, so the same."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
DEPTH = 2  # results that wait: more would only take memory


def ahead(items: Iterator[Item]) -> Generator[Item]:
    """Yield the items, the next ones being made in another thread; numpy lets both work at once.

    Close it (`contextlib.closing`) where it may not be used up: the thread then ends with the item
    that it is at.

    Raises:
        BaseException: whatever making an item raised, in its turn.
    """
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(DEPTH)
    stop = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stop.is_set():
            try:
                made.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if stop.is_set():
                    return
            put((False, None))
        except BaseException as error:  # for the reader to raise
            put((False, error))

    thread = threading.Thread(target=work, daemon=True, name="ahead")
    thread.start()
    try:
        while True:
            more, item = made.get()
            if not more:
                if item is not None:
                    raise item
                return
            yield item
            del item  # not held while the next one is waited for
    finally:
        stop.set()
        thread.join()
