"""The rules for traced graphs: each leaves the numbers as they are and its pattern nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edge_lra.graph.passes import rewrite
from edge_lra.graph.passes.drop_idle_mask import drop_idle_mask
from edge_lra.graph.passes.fuse_attention import fuse_attention
from edge_lra.graph.passes.fuse_rms_norm import fuse_rms_norm
from edge_lra.graph.passes.sum_before_norm import sum_before_norm
from edge_lra.graph.trace import Subject, trace

WIDTH, HEADS = 16, 4
Forward = Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]


class Net(torch.nn.Module):
    """One linear, one norm, and a forward pass of the test's."""

    def __init__(self, run: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = torch.nn.Linear(WIDTH, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.scale = torch.nn.Parameter(torch.rand(WIDTH))
        self.run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)


def scores(net: Net, x: torch.Tensor) -> torch.Tensor:
    q, k = heads(net.line(x)), heads(x)
    return q @ k.transpose(-2, -1) / 2


def attend(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = torch.softmax(scores(net, x), -1) @ heads(x)
    return y.transpose(1, 2).reshape(x.shape)


def attend_with_biases(net: Net, x: torch.Tensor) -> torch.Tensor:
    place = torch.arange(x.shape[1], device=x.device)
    near = (place[:, None] - place[None]).abs()[None, None].to(x.dtype)
    mask = torch.where(near < 3, 0.0, -1e9).expand(x.shape[0], 1, -1, -1)
    y = torch.softmax(scores(net, x) + near + mask, -1) @ heads(x)
    return y.transpose(1, 2).reshape(x.shape)


def attend_by_torch(net: Net, x: torch.Tensor) -> torch.Tensor:
    q, k = heads(net.line(x)), heads(x)
    y = torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True)
    return y.transpose(1, 2).reshape(x.shape)


def masked(net: Net, x: torch.Tensor) -> torch.Tensor:
    shown = torch.ones(1, dtype=torch.bool, device=x.device).expand(x.shape[0], 1, 1)
    return net.line(x) + torch.where(shown, 0.0, -1e9)


def rms(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def residual(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = x + net.line(x)
    return y + net.norm(y)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[ir.Model, Net, np.ndarray], np.ndarray]:
    """Return a function that runs a traced graph with its module's weights."""

    def answer(model: ir.Model, net: Net, x: np.ndarray) -> np.ndarray:
        state = net.state_dict()
        for name, value in model.graph.initializers.items():
            if value.const_value is None:
                value.const_value = ir.tensor(state[name].numpy(), name=name)
        model.opset_imports["com.microsoft"] = 1
        ir.save(model, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        found: np.ndarray = session.run(None, {"x": x})[0]
        return found

    return answer


CASES = [
    (attend, fuse_attention, "Softmax", "MultiHeadAttention"),
    (attend_with_biases, fuse_attention, "Softmax", "MultiHeadAttention"),
    (attend_by_torch, fuse_attention, "Softmax", "MultiHeadAttention"),
    (masked, drop_idle_mask, "Where", "Add"),
    (rms, fuse_rms_norm, "Reciprocal", "SimplifiedLayerNormalization"),
    (residual, sum_before_norm, "", "Sum"),
]


@pytest.mark.parametrize(("forward", "rule", "gone", "there"), CASES)
def test_a_rule_rewrites_its_pattern_and_keeps_the_numbers(
    forward: Forward,
    rule: Callable[[ir.Model], bool],
    gone: str,
    there: str,
    run: Callable[[ir.Model, Net, np.ndarray], np.ndarray],
) -> None:
    net = Net(forward).eval()
    axes = {"x": {0: "batch", 1: "tokens"}}
    model = trace(Subject(net, {"x": torch.randn(2, 6, WIDTH)}, axes, "net")).model
    assert rule(model)
    assert not rule(model)
    rewrite(model)
    kinds = Counter(node.op_type for node in model.graph)
    assert kinds[there] and not kinds[gone]
    x = np.random.default_rng(0).normal(size=(3, 9, WIDTH)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(model, net, x), expected, atol=2e-6)


def test_nothing_is_rewritten_where_no_pattern_is() -> None:
    net = Net(lambda net, x: torch.softmax(net.line(x), -1)).eval()
    model = trace(Subject(net, {"x": torch.randn(2, 6, WIDTH)}, {}, "net")).model
    assert not rewrite(model)


def test_a_mask_that_hides_something_stays() -> None:
    def hiding(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        shown = torch.arange(x.shape[2], device=x.device) < 3
        return x + torch.where(shown, 0.0, -1e9).expand(x.shape)

    model = trace(Subject(Net(hiding).eval(), {"x": torch.randn(2, 6, WIDTH)}, {}, "net")).model
    assert not drop_idle_mask(model)
