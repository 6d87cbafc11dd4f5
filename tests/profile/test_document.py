"""The JSON of a profile keeps to its schema, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_lra.profile.measurement import Memory
from edge_lra.profile.result import Profile
from tests.cli.documents import validator
from tests.profile import profiles

PROFILES: dict[str, Callable[[], Profile]] = {
    "everything": profiles.everything,
    "against": profiles.against,
    "tokens": profiles.tokens,
    "least": lambda: profiles.profile(
        profiles.entry(
            measured=profiles.measured(
                memory=Memory(92.0, 91.0, 44.0), operators=(), layers=(), spans=(), sweep=(),
                timings=(), switch_ms=None, complete=False,
            )
        ),
        profiles.entry(emulated=profiles.emulated(instructions=None, kernels=())),
        profiles.entry(
            estimated=profiles.estimated(load_s=None, fits=None, calibration_error=None)
        ),
    ),
}  # fmt: skip


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(PROFILES[name]().to_json(), allow_nan=False))
    return found


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_keeps_to_its_schema(name: str) -> None:
    validator("profile").validate(document(name))


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from objects(inner)


FREE = ("file_bytes", "versions", "parts_mib", "classes_ms", "calibration_error", "instructions")


@pytest.mark.parametrize(("name", "objects_of_a_kind"), [("everything", 15), ("tokens", 16)])
def test_a_document_may_lack_no_key_and_have_no_other(name: str, objects_of_a_kind: int) -> None:
    schema = validator("profile")
    whole = document(name)
    named = {id(part[key]) for part in objects(whole) for key in FREE if key in part}
    kinds = {tuple(part): part for part in objects(whole) if id(part) not in named}
    assert len(kinds) == objects_of_a_kind
    for part in kinds.values():
        for key in list(part):
            value = part.pop(key)
            assert not schema.is_valid(whole), key
            part[key] = value
        part["other"] = 1
        assert not schema.is_valid(whole), tuple(part)
        del part["other"]
    schema.validate(whole)
