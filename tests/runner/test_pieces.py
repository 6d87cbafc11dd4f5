"""Text comes in whole characters and ends before a stop string."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer, decoders, models

from edge_lra.runner.pieces import Pieces
from tests.runner.tiny_decoder import byte_tokenizer

BYTES = byte_tokenizer()
TEXT = "Grüße, 世界 👩🏽‍🚀! naïve\n"


def pieces(ids: Sequence[int], stop: Sequence[str] = (), prompt: Sequence[int] = ()) -> list[str]:
    made = Pieces(BYTES.decode, stop, prompt)
    found = []
    for token in ids:
        found.append(made.add(token))
        if made.stopped:
            break
    found.append(made.finish())
    assert made.text == "".join(found)
    return [piece for piece in found if piece]


def test_no_piece_ends_within_a_character() -> None:
    found = pieces(BYTES.encode(TEXT).ids)
    assert "".join(found) == TEXT
    assert len(found) == len(TEXT)
    assert not any("\ufffd" in piece for piece in found)


def test_a_text_that_ends_within_a_character_says_so_at_its_end() -> None:
    ids = BYTES.encode("aü").ids
    assert pieces(ids[:-1]) == ["a", "\ufffd"]


def test_special_tokens_give_no_text() -> None:
    ids = BYTES.encode("ab").ids
    assert pieces([0, ids[0], 0, 0, ids[1], 1]) == ["a", "b"]


def test_a_prompt_that_ends_within_a_character_hides_nothing() -> None:
    ids = BYTES.encode("aübc").ids
    assert "".join(pieces(ids[3:], prompt=ids[:2])) == "bc"
    assert "".join(pieces(ids[2:], prompt=ids[:2])).endswith("bc")


def test_the_first_word_keeps_the_space_that_parts_it_from_the_prompt() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"▁a": 0, "▁film": 1}, merges=[]))
    tokenizer.decoder = decoders.Metaspace()
    made = Pieces(tokenizer.decode, [], [0])
    assert made.add(1) == " film"
    assert Pieces(tokenizer.decode, [], []).add(1) == "film"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "ne t"], "o"),
        ("aaab", ["aab"], "a"),
        ("one twin", ["two"], "one twin"),
        ("one tw", ["two"], "one tw"),
        ("x世界y", ["世界"], "x"),
        ("stop", ["stop"], ""),
        ("a\nb", ["\n"], "a"),
    ],
)
def test_text_ends_before_a_stop_string(text: str, stop: list[str], expected: str) -> None:
    found = pieces(BYTES.encode(text).ids, stop)
    assert "".join(found) == expected
    for piece, end in itertools.product(found, stop):
        assert end not in piece


def test_text_that_may_be_a_stop_string_waits_until_it_is_none() -> None:
    assert pieces(BYTES.encode("one twin").ids, ["two"]) == ["o", "n", "e", " ", "twi", "n"]
