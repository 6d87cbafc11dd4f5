"""How many threads numpy's matrix products use."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any, cast


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS uses one thread.

    OpenBLAS hands even an SVD of 64 x 64 to all its threads, a hundred times and more: 0.096 s on
    two cores of a virtual machine, 0.0006 s on one. Its threads wait in a loop: a decoder's float
    run, which reads the next rows in a thread of its own, took as long with two and half as much
    CPU again.
    """
    return cast("AbstractContextManager[Any]", _pools().limit(limits=1, user_api="blas"))


@cache
def _pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # it looks through all loaded libraries, once
