"""Execute a bundle on an emulated core and hold what it computes against the truth.

Two levels. Every integer product of the bundle must give the exact integers, with activations
that would overflow a careless kernel. The whole model cannot be bit-equal on another processor:
float sums have another order there and move an activation to the next integer, which the next
layer amplifies. It must be as close to the float model as it was at export, and choose the same
label wherever the float model's choice is clearer than that error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_lra.bundle import check_files, load_manifest
from edge_lra.errors import EdgeError
from edge_lra.golden import Comparison
from edge_lra.products.run import Exactness
from edge_lra.profile.result import Emulation
from edge_lra.transport.base import Transport
from edge_lra.transport.qemu import Qemu, host_of

logger = logging.getLogger(__name__)
# Operators that multiply; the rest of a graph moves or scales numbers.
PRODUCTS = ("MatMul", "Gemm", "Attention", "Conv")
NOT_OURS = "not counted: the emulator is the target's"
NOT_COUNTED = (
    "not counted: {emulator} is linked statically and takes no -plugin; it would have to be built "
    "from source"
)


def emulate(bundle: str | Path, transport: Qemu) -> Emulation:
    """Run a bundle's integer products and golden cases on an emulated core.

    Raises:
        EdgeError: the bundle is damaged or has nothing to compare, or the emulation fails.
    """
    answer, instructions = transport.run_traced(_request(Path(bundle), transport))
    note = NOT_COUNTED.format(emulator=transport.emulator)
    return _compare(answer, _Ran(transport.cpu, transport.emulator, instructions, note))


def emulate_there(bundle: str | Path, transport: Transport, cpu: str) -> Emulation:
    """Do the same on a target whose Python is emulated, such as an arm64 one on a server.

    Args:
        bundle: its folder here.
        transport: the way there.
        cpu: what was found there.

    Raises:
        EdgeError: as `emulate`, or the target drops.
    """
    answer = transport.run(_request(Path(bundle), transport))
    return _compare(answer, _Ran(cpu, transport.target, (), NOT_OURS))


@dataclass(frozen=True)
class _Ran:
    """Where a check ran."""

    cpu: str
    emulator: str
    instructions: tuple[str, ...]
    note: str


def _request(path: Path, transport: Transport) -> dict[str, Any]:
    """Return what the agent is asked; the bundle is there then."""
    manifest = load_manifest(path)
    check_files(path, manifest, "once")
    products = manifest.get("products")
    if not products and not manifest["golden"]["count"]:
        raise EdgeError(
            f"{path}: found no integer product and no golden case, expected something to compare; "
            "export it without --no-verify, or give --estimate"
        )
    if products is None:
        logger.warning(
            "%s: carries no exact integers: only its golden cases are compared; export it again",
            path,
        )
    return {"what": "check", "bundles": [transport.push(path)], "threads": 1}


def _compare(answer: Mapping[str, Any], ran: _Ran) -> Emulation:
    golden = Comparison(**answer["golden"])
    found = answer["products"]
    products = Exactness(**found) if found else Exactness(ran.cpu, 0, ())
    unequal = tuple(products.unequal)  # JSON has lists
    return Emulation(
        host=host_of(answer["host"]).as_dict(),
        cpu=ran.cpu,
        emulator=ran.emulator,
        matmuls=products.count,
        matmuls_equal=products.count - len(unequal),
        unequal=unequal,
        cases=golden.cases,
        max_abs_error=golden.max_abs_error,
        max_abs_error_float=golden.max_abs_error_float,
        allowed_error_float=golden.allowed_error_float,
        decided=golden.decided,
        agreed=golden.agreed,
        kernels=describe_kernels(answer["operators"], ran.instructions),
        instructions=None,
        instructions_note=ran.note,
        passed=not unequal and golden.is_close and golden.agreed == golden.decided,
    )


def describe_kernels(operators: Mapping[str, Any], instructions: Sequence[str]) -> tuple[str, ...]:
    """Return the multiplying operators that ran, with their number, and the instructions."""
    ran = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    multiplying = [(name, n) for name, n in ran if any(part in name for part in PRODUCTS)]
    return (*(f"{n} {name}" for name, n in multiplying), *instructions)
