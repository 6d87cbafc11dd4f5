"""Adapters side by side: each row gets its own, whatever was loaded before, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_lra.errors import EdgeError
from edge_lra.runner import Generator
from edge_lra.runner.stacks import Stacks
from tests.runner.tiny_decoder import (
    VOCAB,
    change_manifest,
    random_adapter,
    random_llama,
    with_adapter,
    write_bundle,
)

MODEL = random_llama()
RANKS = {"one": 4, "two": 8, "three": 2, "four": 1}
FACTORS = {name: random_adapter(MODEL, r, seed) for seed, (name, r) in enumerate(RANKS.items())}
IDS = np.random.default_rng(7).integers(2, VOCAB, 12)
CLOSE = 1e-4


@pytest.fixture(scope="module")
def truth() -> dict[str | None, np.ndarray]:
    """Return the last logits behind IDS by adapter, from transformers and PEFT."""
    models = {name: with_adapter(FACTORS[name], rank) for name, rank in RANKS.items()}
    with torch.no_grad():
        return {
            name: model(torch.tensor(IDS[None])).logits[0, -1].numpy()
            for name, model in {None: MODEL, **models}.items()
        }


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Generator.load(write_bundle(tmp_path / "b.edge", MODEL, FACTORS), threads=1)


def last_logits(generator: Generator, *names: str | None) -> np.ndarray:
    cache = generator.cache(len(names), list(names))
    for row in range(len(names)):
        cache.prefill(IDS[:-1], row)
    return cache.step([IDS[-1]] * len(names))


def test_each_row_gets_its_adapter(
    generator: Generator, truth: dict[str | None, np.ndarray]
) -> None:
    names = ["two", None, "one", "four", "two", "three"]
    for logits, name in zip(last_logits(generator, *names), names, strict=True):
        np.testing.assert_allclose(logits, truth[name], atol=CLOSE)


def test_adapters_of_other_ranks_may_follow_in_any_order(
    generator: Generator, truth: dict[str | None, np.ndarray]
) -> None:
    for name in ("three", "two", None, "four", "one", "two", "three"):
        np.testing.assert_allclose(last_logits(generator, name)[0], truth[name], atol=CLOSE)


def test_fewer_slots_than_adapters_change_nothing_but_memory(
    generator: Generator, truth: dict[str | None, np.ndarray]
) -> None:
    generator._stacks = Stacks(generator._store, limit=2)
    for name in ("one", "two", "three", "one", "four", None, "three", "two"):
        np.testing.assert_allclose(last_logits(generator, name)[0], truth[name], atol=CLOSE)
        assert len(generator.stacks.resident) <= 2
    assert next(iter(generator.lease(1).arrays.values())).shape[0] == 3


def test_the_least_recently_used_adapter_goes(generator: Generator) -> None:
    stacks = generator._stacks = Stacks(generator._store, limit=2)
    for name in ("one", "two", "one", "three"):
        stacks.lease([name])
    assert stacks.resident == ("one", "three")


def test_an_adapter_in_use_stays(generator: Generator, truth: dict[str | None, np.ndarray]) -> None:
    generator._stacks = Stacks(generator._store, limit=1)
    cache = generator.cache(1, "one")
    cache.prefill(IDS[:-1])
    for name in ("three", "two", "four"):
        np.testing.assert_allclose(last_logits(generator, name)[0], truth[name], atol=CLOSE)
    np.testing.assert_allclose(cache.step(IDS[-1:])[0], truth["one"], atol=CLOSE)
    del cache
    generator.lease(1, "three")
    assert "one" not in generator.stacks.resident


def test_more_adapters_than_the_limit_in_one_batch_all_work(
    generator: Generator, truth: dict[str | None, np.ndarray]
) -> None:
    generator._stacks = Stacks(generator._store, limit=1)
    names = ["one", "two", "three", "four"]
    for logits, name in zip(last_logits(generator, *names), names, strict=True):
        np.testing.assert_allclose(logits, truth[name], atol=CLOSE)


def test_a_switch_between_residents_writes_an_integer(
    generator: Generator, truth: dict[str | None, np.ndarray]
) -> None:
    lease = generator.lease(1, "two")
    generator.lease(1, "one")
    cache = generator.cache(1, "two")
    for name in ("one", None, "two"):
        before = dict(cache._lanes)
        lease = generator.lease(1, name)
        assert lease is not None
        cache.use(lease)
        assert cache._lanes == before
        cache.truncate(0)
        np.testing.assert_allclose(cache.prefill(IDS), truth[name], atol=CLOSE)


def test_a_switch_to_a_wider_adapter_takes_the_new_stacks(
    generator: Generator, truth: dict[str | None, np.ndarray]
) -> None:
    cache = generator.cache(1, "four")
    np.testing.assert_allclose(cache.prefill(IDS), truth["four"], atol=CLOSE)
    lease = generator.lease(1, "two")
    assert lease is not None
    cache.use(lease)
    cache.truncate(0)
    np.testing.assert_allclose(cache.prefill(IDS), truth["two"], atol=CLOSE)


def test_adapters_may_be_stored_in_half_precision(
    tmp_path: Path, truth: dict[str | None, np.ndarray]
) -> None:
    folder = write_bundle(tmp_path / "h.edge", MODEL, FACTORS, dtype="float16")
    generator = Generator.load(folder, threads=1, verify="never")
    logits = last_logits(generator, "one", "two")
    assert {a.dtype for a in generator.lease(1, "one").arrays.values()} == {np.dtype("f2")}
    for row, name in zip(logits, ("one", "two"), strict=True):
        np.testing.assert_allclose(row, truth[name], atol=0.05)


def test_an_adapter_of_another_base_is_refused(generator: Generator) -> None:
    entries = generator.manifest["adapters"]
    foreign = {**entries, "one": entries["one"] | {"base": "f" * 64}}
    change_manifest(generator.path, adapters=foreign)
    with pytest.raises(EdgeError, match=r"adapter one: is foreign: found base ffff"):
        Generator.load(generator.path, threads=1).generate([5], max_tokens=1, adapter="one")


def test_an_unknown_adapter_names_the_known_and_moves_nothing(generator: Generator) -> None:
    generator.lease(1, "one")
    with pytest.raises(EdgeError, match=r"found 'five', expected one of: one, two, three, four"):
        generator.lease(2, ["two", "five"])
    assert generator.stacks.resident == ("one",)
