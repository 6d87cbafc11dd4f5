"""Texts become rows of ids whose tokens are all scored but the leading one."""

from __future__ import annotations

from typing import Any

import pytest

from edge_lra.errors import EdgeError
from edge_lra.language.windows import cut_windows

DECODER: dict[str, Any] = {"context_length": 8, "eos_token_ids": [2], "bos_token_id": 1}


def cut(texts: list[str], tokens: int | None = None, **changes: Any) -> Any:
    return cut_windows(
        texts, "texts", lambda text: [int(n) for n in text.split()], DECODER | changes, tokens
    )


def test_a_text_is_led_by_the_token_that_ends_one() -> None:
    assert [row.tolist() for row in cut(["5 6 7"]).rows] == [[2, 5, 6, 7]]


def test_a_text_that_the_tokenizer_leads_is_left_alone() -> None:
    assert [row.tolist() for row in cut(["1 5 6"]).rows] == [[1, 5, 6]]


def test_a_long_text_goes_on_in_another_row() -> None:
    rows = cut(["3 4 5 6 7 8 9 10 11"]).rows
    assert [row.tolist() for row in rows] == [[2, 3, 4, 5, 6, 7, 8, 9], [2, 10, 11]]


def test_no_more_tokens_are_scored_than_asked_for() -> None:
    windows = cut(["3 4 5", "6 7 8", "9 10"], tokens=4)
    assert windows.tokens == 4
    assert (windows.texts, windows.truncated) == (2, 1)


@pytest.mark.parametrize(("texts", "tokens"), [([], None), ([""], None), (["3 4"], 0)])
def test_nothing_to_score_is_an_error(texts: list[str], tokens: int | None) -> None:
    with pytest.raises(EdgeError, match="expected"):
        cut(texts, tokens)
