"""Every JSON document keeps to its committed schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner
from referencing import Registry, Resource

import edge_lra
from edge_lra.cli import main

SCHEMAS = Path(edge_lra.__file__).parent / "schemas"
EXPORT = ("export", "--model", "model", "--adapter", "adapter")


def validator(name: str) -> jsonschema.Draft202012Validator:
    documents = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")]
    resources = [(d["$id"], Resource.from_contents(d)) for d in documents]
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, registry=Registry().with_resources(resources))


def document(*arguments: str) -> dict[str, Any]:
    """Run a command; its standard output must hold the document and nothing else."""
    result = CliRunner().invoke(main, [*arguments, "--json", "-"])
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        found += commands(command, (*path, name)) if inner else [(*path, name)]
    return found


def test_every_command_has_a_schema() -> None:
    wanted = {"-".join(path) for path in commands(main)} | {"manifest"}
    assert {path.stem for path in SCHEMAS.glob("*.json")} == wanted


@pytest.mark.parametrize("mode", ["--merge", "--factored"])
@pytest.mark.parametrize("options", [(), ("--no-verify",), ("--task", "sentence-embedding")])
def test_an_export_and_its_manifest(tiny: Path, mode: str, options: tuple[str, ...]) -> None:
    found = document(*EXPORT, mode, *options, "--out", "b.edge")
    validator("export").validate(found)
    manifest = json.loads(Path("b.edge/manifest.json").read_text())
    assert manifest == found["manifest"]
    validator("manifest").validate(manifest)


def test_what_a_bundle_gives(tiny: Path) -> None:
    document(*EXPORT, "--factored", "--out", "b.edge")
    validator("run").validate(document("run", "b.edge", "--text", "a film", "--text", "bad"))
    validator("verify").validate(document("verify", "b.edge"))
    validator("inspect").validate(document("inspect", "b.edge"))
    shapes = ("--shape", "1x4", "--shape", "2x4", "--runs", "3")
    validator("profile").validate(document("profile", "b.edge", *shapes, "--against", "b.edge"))
    found = document("adapter", "add", "b.edge", "two=adapter")
    validator("adapter-add").validate(found)
    assert len(found["manifest"]["fidelity"]["reports"]) == 2


def test_vectors_and_arrays(tiny: Path) -> None:
    document("export", "--model", "model", "--out", "b.edge")
    found = document("run", "b.edge", "--text", "a film")
    validator("run").validate(found)
    assert len(found["results"][0]["vector"]) == 32
    import numpy as np

    np.savez("x.npz", input_ids=np.array([[2, 5, 3]]), attention_mask=np.ones((1, 3), np.int64))
    validator("run").validate(document("run", "b.edge", "--input", "x.npz"))


def test_adapters_checkpoints_and_samples(tiny: Path) -> None:
    found = document("inspect", "adapter")
    validator("inspect").validate(found)
    assert [site["rank"] for site in found["sites"]] == [4] * 4
    found = document("inspect", "model")
    validator("inspect").validate(found)
    assert found["parameters"] > 10_000
    validator("sample").validate(document("sample", "project"))


def test_a_document_that_lacks_a_key_fails(tiny: Path) -> None:
    found = document(*EXPORT, "--no-verify", "--out", "b.edge")
    del found["manifest"]["labels"]
    with pytest.raises(jsonschema.ValidationError, match="labels"):
        validator("export").validate(found)


def test_a_failed_gate_prints_no_document(tiny: Path) -> None:
    Path("edge-lra.toml").write_text("[gates]\nkl_mean = 1e-30\n")
    result = CliRunner().invoke(main, [*EXPORT, "--json", "-"])
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("Error: adapter adapter: found kl_mean")
