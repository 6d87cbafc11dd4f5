"""What is run and timed: a batch of texts, a language model's prompts, or its next token."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_lra.agent.adapter import pick_adapter
from edge_lra.agent.inputs import Shape, token_inputs
from edge_lra.agent.switch import measure_switch, measure_switch_of_cache
from edge_lra.agent.timing import Run
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner import Cache, Generator, Runner
from edge_lra.runner.sampling import Sampler, Sampling


class Work(Protocol):
    """One bundle's part in a measurement."""

    def first(self) -> object:
        """Run for the first time."""
        ...

    def again(self) -> Run:
        """Return what is timed, which ran `first` before."""
        ...

    def switch_ms(self) -> float | None:
        """Return what choosing another adapter costs; None where there is none to choose."""
        ...

    def cache(self) -> dict[str, int] | None:
        """Return the size of keys and values; None where none are kept."""
        ...


def load_bundle(folder: Path, threads: int, adapter: str | None) -> Runner | Generator:
    """Load a bundle as its users do, with the adapter that is measured as its default.

    Raises:
        EdgeError: it cannot be opened, or has no such adapter.
    """
    manifest = load_manifest(folder)
    kind: type[Runner | Generator] = Generator if manifest.get("decoder") else Runner
    loaded = kind.load(folder, threads=threads, verify="never")
    loaded.use(pick_adapter(manifest, adapter))
    return loaded


def work_with(loaded: Runner | Generator, shape: Shape, context: int | None = None) -> Work:
    """Return what is run: the shape's texts, or the token behind a context.

    Raises:
        EdgeError: a context for a bundle that generates nothing.
    """
    if isinstance(loaded, Generator):
        return Prompts(loaded, shape) if context is None else NextToken(loaded, context)
    if context is not None:
        raise EdgeError(
            f"context: found {context} for {loaded.path}, which generates no text, expected a "
            "language model's bundle"
        )
    return Texts(loaded, shape)


class Texts:
    """A batch in one run, as `Runner.run` does it."""

    def __init__(self, runner: Runner, shape: Shape) -> None:
        self._runner = runner
        self._inputs = token_inputs(runner.path, runner.input_names, shape)

    def first(self) -> object:
        """Run with the inputs checked."""
        return self._runner.run(self._inputs)

    def again(self) -> Run:
        """Return the run without the checks, which take 25 us."""
        return self._runner.prepare(self._inputs)

    def switch_ms(self) -> float | None:
        """Return what choosing another adapter costs."""
        return measure_switch(self._runner, self._inputs)

    def cache(self) -> None:
        """Return None: nothing is kept from run to run."""


class Prompts:
    """Prompts into an empty cache, row by row and in chunks, as `Generator.generate` reads them."""

    def __init__(self, generator: Generator, shape: Shape) -> None:
        self._generator = generator
        self._rows = _ids(generator, shape)
        self._cache: Cache | None = None

    def first(self) -> object:
        """Make the cache and read into it: to the first token's logits."""
        self._cache = self._generator.cache(len(self._rows))
        self._read(self._cache)
        return self._cache

    def again(self) -> Run:
        """Return what forgets the prompts and reads them again."""
        assert self._cache is not None
        return partial(self._read, self._cache)

    def _read(self, cache: Cache) -> None:
        for row, ids in enumerate(self._rows):
            cache.truncate(0, row)
            cache.prefill(ids, row)

    def switch_ms(self) -> float | None:
        """Return what choosing another adapter costs."""
        assert self._cache is not None
        return measure_switch_of_cache(self._generator, self._cache)

    def cache(self) -> dict[str, int]:
        """Return the bytes that the prompts fill, and those set aside."""
        assert self._cache is not None
        return _sizes(self._cache, sum(self._cache.lengths))


class NextToken:
    """The most likely token behind a context of one row: a step and the choice."""

    def __init__(self, generator: Generator, context: int) -> None:
        self._generator = generator
        self._context = context
        self._prompt = _ids(generator, (1, context))[0]
        self._sampler = Sampler(Sampling(), (), 0)
        self._next = np.zeros(1, np.int64)
        self._cache: Cache | None = None

    def first(self) -> object:
        """Read the context; its token is what the first step gets."""
        self._cache = self._generator.cache()
        self._next[0] = self._sampler.choose(self._cache.prefill(self._prompt))
        return self._next

    def again(self) -> Run:
        """Return a step that is forgotten by the next one, so that the context stays as long.

        Forgetting writes a row of the mask, 3 us for 8192 tokens, and binds nothing.
        """
        assert self._cache is not None
        cache, ids, choose, context = self._cache, self._next, self._sampler.choose, self._context

        def step() -> None:
            cache.truncate(context)
            ids[0] = choose(cache.step(ids)[0])

        return step

    def switch_ms(self) -> float | None:
        """Return what choosing another adapter costs."""
        assert self._cache is not None
        return measure_switch_of_cache(self._generator, self._cache)

    def cache(self) -> dict[str, int]:
        """Return the bytes that the context fills, and those set aside."""
        assert self._cache is not None
        return _sizes(self._cache, self._context)


def _sizes(cache: Cache, tokens: int) -> dict[str, int]:
    places = cache.rows * cache.capacity
    return {"bytes": cache.size * tokens // places, "reserved_bytes": cache.size}


def _ids(generator: Generator, shape: Shape) -> np.ndarray:
    return token_inputs(generator.path, ["input_ids"], shape)["input_ids"]
