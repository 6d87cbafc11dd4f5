"""Run a bundle with numpy, onnxruntime and safetensors alone."""

from edge_lra.runner.adapters import UNSET
from edge_lra.runner.cache import Cache
from edge_lra.runner.decoding import Generation
from edge_lra.runner.generator import Generator
from edge_lra.runner.session import Runner
from edge_lra.runner.tasks import Answer, Classification, Entity
from edge_lra.runner.text import Tokens

__all__ = [
    "UNSET",
    "Answer",
    "Cache",
    "Classification",
    "Entity",
    "Generation",
    "Generator",
    "Runner",
    "Tokens",
]
