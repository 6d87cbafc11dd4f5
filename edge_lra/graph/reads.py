"""Which of the values that calibration found each linear of an encoder reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_lra.quantize.readings import Read

if TYPE_CHECKING:
    from edge_lra.graph.encoder import EncoderBuilder


def linear_reads(build: EncoderBuilder) -> dict[str, Read]:
    """Return what every layer's linears read, by the checkpoint's names of their weights."""

    def normed(norm: str) -> Read:
        reading = build.readings[norm]
        shift = build.treatment(reading)[0] if build.treats and build.centres else None
        return Read(reading, shift)

    recipe, found = build.recipe, dict[str, Read]()
    norm = recipe.embeddings["norm"]
    for index in range(recipe.count(build.plan.config, "layers")):
        module = {role: name.format(i=index) for role, name in recipe.layer.items()}
        read = dict.fromkeys(("query", "key", "value"), normed(norm))
        read["output"] = Read(build.readings[module["output"]])
        read["up"] = normed(module["attention_norm"])
        read["down"] = Read(build.readings[module["up"]])
        found |= {build.linear_source(module[role]).tensor: value for role, value in read.items()}
        norm = module["output_norm"]
    return found
