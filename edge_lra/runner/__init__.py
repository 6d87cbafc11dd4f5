"""Run a bundle with numpy, onnxruntime and safetensors alone."""

from edge_lra.runner.adapters import UNSET
from edge_lra.runner.session import Runner
from edge_lra.runner.tasks import Answer, Classification, Entity
from edge_lra.runner.text import Tokens

__all__ = ["UNSET", "Answer", "Classification", "Entity", "Runner", "Tokens"]
