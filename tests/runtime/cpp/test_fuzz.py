"""Parsers of what others wrote break on nothing; `make fuzz` tries for longer."""

from __future__ import annotations

from tests.runtime.cpp.fuzzing import PARSERS, fuzz

SECONDS = 10


def test_parsers_withstand_a_fuzzer() -> None:
    assert fuzz(SECONDS) == dict.fromkeys(PARSERS, "")
