"""What to measure, as requests to the agent, and who answers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.profile.latencies import STEP, Decoding, Shape, Timing, name_run
from edge_lra.transport.base import Transport
from edge_lra.transport.process import NotAnswered

BUDGET_S = 20.0
WARMUP = 5
MAX_FAILURES = 2  # in a row; then the target is taken for gone


@dataclass(frozen=True)
class Part:
    """What one process measures: runs of a shape, or of the token behind a context."""

    shape: Shape
    context: int | None = None

    @property
    def name(self) -> str:
        """What is run."""
        return name_run(self.shape, self.context)

    def take(self, latencies_ms: Sequence[float]) -> Timing | Decoding:
        """Return its latencies as a result."""
        if self.context is None:
            return Timing(self.shape, tuple(latencies_ms))
        return Decoding(self.context, tuple(latencies_ms))


@dataclass(frozen=True)
class Plan:
    """What is run, and how often.

    Attributes:
        shapes: (batch, tokens), at least one.
        threads: threads within an operator.
        runs: timed runs a shape; None for as many as the median needs.
        budget_s: for the timed runs of all shapes and contexts, where runs is None.
        warmup: runs before them, not counted.
        adapter: of a factored bundle; None for its default, or the first.
        sweep: numbers of threads to try with the first shape, and context.
        contexts: tokens that a language model reads before it is timed generating the next.
    """

    shapes: tuple[Shape, ...]
    threads: int = 1
    runs: int | None = None
    budget_s: float = BUDGET_S
    warmup: int = WARMUP
    adapter: str | None = None
    sweep: tuple[int, ...] = ()
    contexts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        checks: list[tuple[str, float, float]] = [("threads", self.threads, 1)]
        checks += [("warmup", self.warmup, 0)]
        checks += [("runs", self.runs, 1)] if self.runs is not None else []
        checks += [("sweep", threads, 1) for threads in self.sweep]
        checks += [("context", context, 1) for context in self.contexts]
        for name, value, least in checks:
            if value < least:
                raise EdgeError(f"{name}: found {value}, expected at least {least}")
        if not self.budget_s > 0:
            raise EdgeError(f"budget_s: found {self.budget_s:g}, expected more than 0 seconds")
        if not self.shapes:
            raise EdgeError("shape: found none, expected at least one such as 1x128")

    @property
    def parts(self) -> tuple[Part, ...]:
        """The shapes, then the contexts."""
        contexts = (Part(STEP, context) for context in self.contexts)
        return (*map(Part, self.shapes), *contexts)

    @property
    def first_context(self) -> int | None:
        """The context of what is taken once; None where nothing generates."""
        return self.contexts[0] if self.contexts else None

    def shortened(self, runs: int) -> Plan:
        """Return a plan of so many runs at most."""
        return replace(self, runs=min(self.runs or runs, runs))

    def request(
        self, what: str, places: Sequence[str], shape: Shape, context: int | None = None
    ) -> dict[str, Any]:
        """Return a request to the agent; the budget is shared by shapes and contexts."""
        only = {} if context is None else {"context": context}
        return {
            "what": what,
            "bundles": list(places),
            "shape": list(shape),
            "threads": self.threads,
            "runs": self.runs,
            "budget_s": self.budget_s / len(self.parts),
            "warmup": self.warmup,
            "adapter": self.adapter,
        } | only


@dataclass
class Session:
    """Questions to one device, and what went without an answer."""

    transport: Transport
    progress: Callable[[str], None]
    warnings: list[str] = field(default_factory=list)
    failures: int = 0
    complete: bool = True

    def ask(self, name: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None, with a warning, where there is none."""
        if self.failures >= MAX_FAILURES:
            self.warnings.append(f"{name} is missing: the target no longer answers")
            return None
        self.progress(name)
        try:
            answer = self.transport.run(request)
        except NotAnswered as error:  # the target is there, its runner cannot tell
            self.warnings.append(f"{name} is missing: {error}")
            return None
        except EdgeError as error:
            self.failures += 1
            self.complete = False
            self.warnings.append(f"{name} is missing: {error}")
            return None
        self.failures = 0
        return answer
