"""A guess is what followed the same tokens before."""

from __future__ import annotations

from edge_lra.runner.lookup import Lookup


def guess(tokens: list[int], draft: int = 4, most: int = 99) -> list[int]:
    lookup = Lookup(draft)
    lookup.extend(tokens[:2])
    lookup.extend(tokens[2:])
    return lookup.guess(most)


def test_the_longest_stretch_that_repeats_decides() -> None:
    # 3 is followed by 9 last, but 2 3 by 4.
    assert guess([1, 2, 3, 4, 5, 6, 3, 9, 8, 2, 3], draft=3) == [4, 5, 6]


def test_the_last_of_several_places_decides() -> None:
    assert guess([1, 2, 7, 1, 2, 8, 5, 1, 2], draft=2) == [8, 5]


def test_a_guess_runs_on_into_itself() -> None:
    assert guess([5, 5, 5], draft=4) == [5, 5, 5, 5]
    assert guess([1, 2, 1, 2, 1], draft=5) == [2, 1, 2, 1, 2]


def test_a_token_that_is_new_gives_no_guess() -> None:
    assert guess([1, 2, 3, 4]) == []


def test_a_guess_has_at_most_so_many() -> None:
    assert guess([1, 2, 3, 4, 1], most=2) == [2, 3]
    assert guess([1, 2, 3, 4, 1], most=0) == []
