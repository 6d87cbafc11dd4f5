"""The code that is printed: there is some for every platform and task, and it fits a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edge_lra
from edge_lra.bundle import load_manifest
from edge_lra.embed.calls import call_of
from edge_lra.embed.platforms import PLATFORMS
from edge_lra.recipe import TASKS
from edge_lra.traced.model import TASKS as TRACED_TASKS

SCHEMA = json.loads((Path(edge_lra.__file__).parent / "schemas/embed.json").read_text())


@pytest.fixture
def manifest(made_factored: Path) -> dict[str, Any]:
    return load_manifest(made_factored)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("task", [*TASKS, *TRACED_TASKS])
@pytest.mark.parametrize("split", [False, True])
def test_every_platform_has_code_for_every_task(
    manifest: dict[str, Any], platform: str, task: str, split: bool
) -> None:
    folder = PLATFORMS[platform].bundles
    apart = f"{folder}/mood-adapters" if split else None
    place = f"{folder}/mood.edge"
    call = call_of(platform, manifest | {"task": task}, "mood.edge", place, apart)
    assert "mood.edge" in call.code + call.setup and '"mood"' in call.code
    assert "@" not in call.code.replace("@INPUTS", "") + call.setup.replace("@huggingface", "")
    lines = (call.code + call.setup).splitlines()
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_merged_bundle_s_code_names_no_adapter(made_merged: Path, platform: str) -> None:
    call = call_of(platform, load_manifest(made_merged), "mood.edge", "x/mood.edge")
    assert "dapter(" not in call.code and "use(" not in call.code


@pytest.mark.parametrize("platform", PLATFORMS)
def test_inputs_that_are_no_tokens_are_listed(manifest: dict[str, Any], platform: str) -> None:
    image = {"name": "pixels", "dtype": "float32", "shape": ["batch", 3, 8, 8], "example": None}
    other = manifest | {"task": "image-classification", "inputs": [image]}
    call = call_of(platform, other, "mood.edge", "x/mood.edge")
    assert "// inputs: pixels float32[batch, 3, 8, 8]" in call.code


def test_the_schema_lists_the_platforms_of_the_table() -> None:
    assert SCHEMA["properties"]["platform"]["enum"] == list(PLATFORMS)
