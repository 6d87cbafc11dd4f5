"""The committed schemas: valid, closed, described, and in step with the tables of the code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import edge_lra
from edge_lra.metrics import AT_LEAST, GATES, LANGUAGE_GATES, OPTIONAL_GATES
from edge_lra.quantize import SCHEMES
from edge_lra.recipe import TASKS
from edge_lra.task import POOLING, PROBLEM_TYPES
from edge_lra.traced.model import TASKS as TRACED_TASKS

FILES = sorted((Path(edge_lra.__file__).parent / "schemas").glob("*.json"))
MANIFEST = next(json.loads(file.read_text()) for file in FILES if file.stem == "manifest")
SHAPES = ("properties", "$defs", "items", "additionalProperties", "anyOf", "oneOf")


def parts(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a schema and all schemas inside it, with their places."""
    yield where, schema
    for key in SHAPES:
        inner = schema.get(key)
        named = isinstance(inner, dict) and key in ("properties", "$defs")
        entries = (
            inner.items() if named else enumerate(inner if isinstance(inner, list) else [inner])
        )
        for name, entry in entries:
            if isinstance(entry, dict):
                yield from parts(entry, f"{where}/{key}/{name}" if named else f"{where}/{key}")


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def schema(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text())
    assert found["$id"] == f"edge-lra/{request.param.name}"
    return found


def test_a_schema_is_valid_and_says_what_it_is_for(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] and schema["description"].endswith(".")


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    silent = [
        f"{where}: {name}"
        for where, part in parts(schema, "")
        for name, entry in part.get("properties", {}).items()
        if not entry.get("description") and "$ref" not in entry
    ]
    assert silent == []


def test_an_object_of_ours_has_all_its_keys_and_no_other(schema: dict[str, Any]) -> None:
    objects = [(where, part) for where, part in parts(schema, "") if "properties" in part]
    assert objects
    for where, part in objects:
        assert part["required"] == list(part["properties"]), where
        assert part["additionalProperties"] is False, where


def test_a_document_states_its_version(schema: dict[str, Any]) -> None:
    key = "format_version" if schema == MANIFEST else "schema_version"
    documents = [schema] if "properties" in schema else schema["$defs"].values()
    assert [document["properties"][key]["const"] for document in documents] == [1] * len(documents)


def test_choices_are_those_of_the_code() -> None:
    keys = MANIFEST["properties"]
    assert keys["task"]["enum"] == [*TASKS, *TRACED_TASKS]
    assert keys["scheme"]["enum"] == list(SCHEMES)
    assert keys["problem_type"]["enum"] == [*PROBLEM_TYPES, None]
    assert keys["pooling"]["properties"]["mode"]["enum"] == list(POOLING.values())


def test_the_metrics_of_gates_are_described() -> None:
    report = MANIFEST["$defs"]["report"]["properties"]
    assert all(
        name in report["metrics"]["description"]
        for name in (*GATES, *OPTIONAL_GATES, *LANGUAGE_GATES)
    )
    limit = report["gates"]["items"]["properties"]["limit"]["description"]
    assert all(name in limit for name in AT_LEAST)
