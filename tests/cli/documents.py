"""Commands whose JSON must keep to its committed schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from click.testing import CliRunner
from referencing import Registry, Resource

import edge_lra
from edge_lra.cli import main

SCHEMAS = Path(edge_lra.__file__).parent / "schemas"


def validator(name: str) -> jsonschema.Draft202012Validator:
    documents = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")]
    resources = [(d["$id"], Resource.from_contents(d)) for d in documents]
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=Registry().with_resources(resources))


def document(*arguments: str) -> dict[str, Any]:
    """Run a command; its standard output must hold a document of its schema and nothing else.

    The document must not be valid any more without one of its keys.
    """
    result = CliRunner().invoke(main, [*arguments, "--json", "-"])
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    schema = validator("-".join(arguments[: 2 if arguments[0] == "adapter" else 1]))
    schema.validate(found)
    for key in found:
        assert not schema.is_valid({k: v for k, v in found.items() if k != key}), key
    return found
