"""What a call of the generator may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from edge_lra.runner.adapters import AdapterChoice

MAX_TOKENS = 256
OVERFLOW = ("error", "slide")
Adapters = AdapterChoice | Sequence[str | None]


class SamplingOptions(TypedDict, total=False):
    """How tokens are chosen; see `Sampling`."""

    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int | None


class Options(SamplingOptions, total=False):
    """The options of `generate`, `stream` and `chat`.

    Attributes:
        max_tokens: the most new tokens a row (256); None goes on to a stop or the context's end.
        adapter: a name, None for none, unset for the default; or a list, one a row.
        stop: a string, or several, that end the text, which does not contain them.
        stop_tokens: tokens that end it; None takes the model's own, () none.
        on_overflow: when prompt and max_tokens exceed the context, "error", or "slide": a row that
            has filled the context goes on from its last half, read again from the beginning.
        lookup: how many tokens to guess from the text so far and check in one run (0: none).
    """

    max_tokens: int | None
    adapter: Adapters
    stop: str | Sequence[str]
    stop_tokens: Sequence[int] | None
    on_overflow: str
    lookup: int
