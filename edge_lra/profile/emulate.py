"""Execute a bundle on an emulated core and hold what it computes against the truth.

Two levels. Every integer product of the bundle must give the exact integers, with activations
that would overflow a careless kernel. The whole model cannot be bit-equal on another processor:
float sums have another order there and move an activation to the next integer, which the next
layer amplifies. It must be as close to the float model as it was at export, and choose the same
label wherever the float model's choice is clearer than that error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_lra.bundle import check_files, load_manifest
from edge_lra.errors import EdgeError
from edge_lra.golden import Comparison
from edge_lra.profile.result import Emulation
from edge_lra.transport.qemu import Qemu, host_of

# Operators that multiply; the rest of a graph moves or scales numbers.
PRODUCTS = ("MatMul", "Gemm", "Attention", "Conv")
NOT_COUNTED = (
    "not counted: {emulator} is linked statically and takes no -plugin; it would have to be built "
    "from source"
)


def emulate(bundle: str | Path, transport: Qemu) -> Emulation:
    """Run a bundle's integer products and golden cases on an emulated core.

    Raises:
        EdgeError: the bundle is damaged or has nothing to compare, or the emulation fails.
    """
    from edge_lra.profile.products import make_request, read_products  # needs onnx

    path = Path(bundle)
    manifest = load_manifest(path)
    check_files(path, manifest, "once")
    products = read_products(path)
    if not products and not manifest["golden"]["count"]:
        raise EdgeError(
            f"{path}: found no integer product and no golden case, expected something to compare; "
            "export it without --no-verify"
        )
    request, exact = make_request(path, products)
    answer, instructions = transport.run_traced(
        {"what": "check", "bundles": [transport.push(path)], "threads": 1, "products": request}
    )
    golden = Comparison(**answer["golden"])
    pairs = zip(products, exact, answer["digests"], strict=True)
    unequal = tuple(product.name for product, true, found in pairs if true != found)
    return Emulation(
        host=host_of(answer["host"]).as_dict(),
        cpu=transport.cpu,
        emulator=transport.emulator,
        matmuls=len(products),
        matmuls_equal=len(products) - len(unequal),
        unequal=unequal,
        cases=golden.cases,
        max_abs_error=golden.max_abs_error,
        max_abs_error_float=golden.max_abs_error_float,
        allowed_error_float=golden.allowed_error_float,
        decided=golden.decided,
        agreed=golden.agreed,
        kernels=describe_kernels(answer["operators"], instructions),
        instructions=None,
        instructions_note=NOT_COUNTED.format(emulator=transport.emulator),
        passed=not unequal and golden.is_close and golden.agreed == golden.decided,
    )


def describe_kernels(operators: Mapping[str, Any], instructions: Sequence[str]) -> tuple[str, ...]:
    """Return the multiplying operators that ran, with their number, and the instructions."""
    ran = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    multiplying = [(name, n) for name, n in ran if any(part in name for part in PRODUCTS)]
    return (*(f"{n} {name}" for name, n in multiplying), *instructions)
