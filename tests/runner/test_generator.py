"""Generation gives the tokens of transformers and PEFT, alone, in batches and with every option."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import processors

from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner import Generation, Generator, Runner, cache
from tests.runner.tiny_decoder import (
    CONTEXT,
    EOS,
    VOCAB,
    byte_tokenizer,
    change_manifest,
    random_adapter,
    random_llama,
    with_adapter,
    write_bundle,
)

MODEL = random_llama()
RANKS = {"one": 4, "two": 8}
FACTORS = {name: random_adapter(MODEL, r, seed) for seed, (name, r) in enumerate(RANKS.items())}
RANDOM = np.random.default_rng(3)
PROMPTS = [RANDOM.integers(2, VOCAB, size).tolist() for size in (5, 1, 40, 17)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("made") / "b.edge", MODEL, FACTORS)


@pytest.fixture
def generator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Generator]:
    monkeypatch.setattr(cache, "FIRST", 8)
    monkeypatch.setattr(cache, "CHUNK", 16)
    with Generator.load(folder, threads=1, verify="never") as made:
        yield made


def greedy(model: Any, prompt: list[int], count: int, **options: Any) -> list[int]:
    ids = torch.tensor([prompt])
    found = model.generate(  # the mask, or it takes end tokens for padding
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        **options,
    )
    tokens: list[int] = found[0].tolist()[len(prompt) :]
    return tokens


# ---- the same tokens -----------------------------------------------------------------------


def test_it_generates_what_transformers_does(generator: Generator) -> None:
    for prompt in PROMPTS:
        found = generator.generate(prompt, max_tokens=32)
        assert found.tokens == greedy(MODEL, prompt, 32)
        assert found.prompt_tokens == len(prompt)


def test_each_row_of_a_batch_generates_what_it_would_alone(generator: Generator) -> None:
    adapters = ["two", None, "one", "two"]
    models = {None: MODEL} | {n: with_adapter(FACTORS[n], rank) for n, rank in RANKS.items()}
    found = generator.generate(PROMPTS, max_tokens=32, adapter=adapters)
    for row, prompt, adapter in zip(found, PROMPTS, adapters, strict=True):
        assert row.tokens == greedy(models[adapter], prompt, 32)


def test_rows_that_stop_early_do_not_disturb_the_others(generator: Generator) -> None:
    alone = [generator.generate(prompt, max_tokens=40) for prompt in PROMPTS]
    ends = [row.tokens[3 + place] for place, row in enumerate(alone)]
    found = generator.generate(PROMPTS, max_tokens=40, stop_tokens=ends)
    for row, whole in zip(found, alone, strict=True):
        first = min(whole.tokens.index(end) for end in ends if end in whole.tokens)
        assert row.tokens == whole.tokens[: first + 1]
        assert row.stopped_by == "stop_token"
    assert len({len(row.tokens) for row in found}) > 1


def test_a_penalty_gives_the_tokens_of_transformers(generator: Generator) -> None:
    found = generator.generate(PROMPTS[0], max_tokens=32, repetition_penalty=1.4)
    assert found.tokens == greedy(MODEL, PROMPTS[0], 32, repetition_penalty=1.4)
    assert found.tokens != greedy(MODEL, PROMPTS[0], 32)


def test_a_seed_gives_a_row_the_same_text_in_every_batch(generator: Generator) -> None:
    options: dict[str, Any] = {"max_tokens": 20, "temperature": 1.2, "top_k": 30, "seed": 5}
    alone = generator.generate(PROMPTS[0], **options).tokens
    batch = [row.tokens for row in generator.generate([PROMPTS[0]] * 3, **options)]
    assert batch[0] == alone
    assert len(set(map(tuple, batch))) == 3
    assert generator.generate(PROMPTS[0], **options | {"seed": 6}).tokens != alone


def test_many_threads_get_the_text_of_one(generator: Generator) -> None:
    calls = [(prompt, adapter) for prompt in PROMPTS for adapter in (None, "one", "two")]

    def tokens(call: tuple[list[int], str | None]) -> list[int]:
        return generator.generate(call[0], max_tokens=16, adapter=call[1]).tokens

    expected = [tokens(call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokens, calls * 3)) == expected * 3


# ---- lookup --------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [1, 4, 15])
@pytest.mark.parametrize(
    "options", [{}, {"repetition_penalty": 1.1}, {"temperature": 0.5, "seed": 1}]
)
def test_lookup_changes_no_token(generator: Generator, draft: int, options: dict[str, Any]) -> None:
    for prompt in (PROMPTS[0], PROMPTS[0] * 4):
        plain = generator.generate(prompt, max_tokens=60, **options)
        found = generator.generate(prompt, max_tokens=60, lookup=draft, **options)
        assert (found.tokens, found.text, found.stopped_by) == (
            plain.tokens,
            plain.text,
            plain.stopped_by,
        )
        assert found.drafted > 0


def test_lookup_takes_several_tokens_a_run_where_text_repeats(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator.load(folder, threads=1, verify="never")
    runs: list[int] = []
    run = cache._Lane.run
    monkeypatch.setattr(cache._Lane, "run", lambda lane: (runs.append(1), run(lane))[1])
    # A penalty below 1 makes the model repeat itself.
    options: dict[str, Any] = {"max_tokens": 60, "repetition_penalty": 0.05}
    plain = generator.generate(PROMPTS[0], **options)
    without = len(runs)
    found = generator.generate(PROMPTS[0], lookup=8, **options)
    assert found.tokens == plain.tokens
    assert found.accepted > 20
    assert len(runs) - without == without - found.accepted


# ---- the context ---------------------------------------------------------------------------


def test_a_text_slides_as_though_its_last_half_were_the_prompt(generator: Generator) -> None:
    prompt = PROMPTS[2]
    found = generator.generate(prompt, max_tokens=150, on_overflow="slide", stop_tokens=()).tokens
    assert len(found) == 150
    text, tokens = list(prompt), found
    while tokens:
        room = CONTEXT + 1 - len(text)
        expected = greedy(MODEL, text, min(room, len(tokens)), eos_token_id=VOCAB)
        assert tokens[:room] == expected
        text = [*text, *tokens[:room]][-(CONTEXT // 2) :]
        tokens = tokens[room:]


def test_rows_slide_by_themselves(generator: Generator) -> None:
    options: dict[str, Any] = {"max_tokens": 120, "on_overflow": "slide", "stop_tokens": ()}
    found = generator.generate(PROMPTS, **options)
    for row, prompt in zip(found, PROMPTS, strict=True):
        assert row.tokens == generator.generate(prompt, **options).tokens
    assert found[0].tokens == generator.generate(PROMPTS[0], lookup=6, **options).tokens


def test_a_prompt_longer_than_the_context_is_cut_when_it_may_slide(generator: Generator) -> None:
    prompt = RANDOM.integers(2, VOCAB, CONTEXT + 5).tolist()
    found = generator.generate(prompt, max_tokens=8, on_overflow="slide")
    assert found.tokens == generator.generate(prompt[-CONTEXT // 2 :], max_tokens=8).tokens


def test_without_a_limit_a_text_ends_with_the_context(generator: Generator) -> None:
    found = generator.generate(PROMPTS[2], max_tokens=None, stop_tokens=())
    assert len(found.tokens) == CONTEXT - len(PROMPTS[2])


def test_a_smaller_context_may_be_chosen(folder: Path) -> None:
    generator = Generator.load(folder, threads=1, verify="never", context=20)
    assert len(generator.generate(PROMPTS[0], max_tokens=None, stop_tokens=()).tokens) == 15
    with pytest.raises(EdgeError, match="found 40 tokens, expected fewer than 20, the context"):
        generator.generate(PROMPTS[2], max_tokens=1)


# ---- text ----------------------------------------------------------------------------------


def test_pieces_make_up_the_text(generator: Generator) -> None:
    pieces: list[str] = []
    found = generator.generate("Grüße", max_tokens=40, on_text=pieces.append)
    assert "".join(pieces) == found.text == byte_tokenizer().decode(found.tokens)
    assert list(generator.stream("Grüße", max_tokens=40)) == pieces
    assert len(pieces) > 5


def test_pieces_of_a_batch_name_their_row(generator: Generator) -> None:
    texts = ["", ""]

    def add(row: int, piece: str) -> None:
        texts[row] += piece

    found = generator.generate(["a", "bc"], max_tokens=30, on_text=add)
    assert texts == [row.text for row in found]


def test_a_stop_string_ends_the_text(generator: Generator) -> None:
    whole = generator.generate("ab", max_tokens=40)
    stop = whole.text[5:7]
    found = generator.generate("ab", max_tokens=40, stop=["never there", stop])
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.stopped_by == "stop_string"
    assert found.tokens == whole.tokens[: len(found.tokens)]
    assert generator.generate("ab", max_tokens=40, stop=stop).text == found.text


def test_the_models_end_token_ends_the_text(generator: Generator) -> None:
    for prompt in RANDOM.integers(2, VOCAB, (200, 3)).tolist():
        found = generator.generate(prompt, max_tokens=40)
        if found.stopped_by == "stop_token":
            break
    assert found.tokens[-1] == EOS
    assert found.text == byte_tokenizer().decode(found.tokens)
    more = generator.generate(prompt, max_tokens=40, stop_tokens=())
    assert len(more.tokens) == 40


def test_a_text_gets_the_special_tokens_that_transformers_adds(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL)
    tokenizer = byte_tokenizer()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(bundle)
    file = bundle / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"add_bos_token": False}))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer.save(str(bundle / "tokenizer.json"))
    change_manifest(bundle)
    theirs = transformers.AutoTokenizer.from_pretrained(bundle)
    generator = Generator.load(bundle, threads=1, verify="never")
    for text in ("abc", " <s>é</s> "):
        assert generator.tokenize(text) == theirs(text).input_ids
    assert generator.tokenize("abc")[0] == 0


def test_a_chat_is_answered_behind_its_template(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL)
    template = "<s>{% for m in messages %}{{ m.role[0] + m.content }}{% endfor %}</s>"
    (bundle / "chat_template.jinja").write_text(template)
    change_manifest(bundle)
    generator = Generator.load(bundle, threads=1, verify="never")
    ids = [0, *byte_tokenizer().encode("uHi").ids, 1]
    messages = [{"role": "user", "content": "Hi"}]
    assert generator.chat_tokens(messages) == ids
    pieces: list[str] = []
    found = generator.chat(messages, max_tokens=9, on_text=pieces.append)
    assert found.tokens == generator.generate(ids, max_tokens=9).tokens
    assert "".join(pieces) == found.text


def test_ids_need_no_tokenizer(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL, tokenizer=False)
    generator = Generator.load(bundle, threads=1, verify="never")
    found = generator.generate(np.array(PROMPTS[0]), max_tokens=5)
    assert (found.text, len(found.tokens)) == ("", 5)
    for prompt, options in (("text", {}), (PROMPTS[0], {"stop": "x"})):
        with pytest.raises(EdgeError, match="holds no tokenizer; give token ids"):
            generator.generate(prompt, max_tokens=5, **options)


def test_times_and_counts_are_told(generator: Generator) -> None:
    found = generator.generate(PROMPTS[0], max_tokens=20, stop_tokens=())
    assert found.stopped_by == "max_tokens"
    assert found.prefill_s > 0 and found.decode_s > 0
    assert found.tokens_per_s == pytest.approx(19 / found.decode_s)
    single = generator.generate(PROMPTS[0], max_tokens=1)
    assert (len(single.tokens), single.tokens_per_s) == (1, 0.0)


# ---- adapters ------------------------------------------------------------------------------


def test_the_default_adapter_is_that_of_calls_that_name_none(generator: Generator) -> None:
    def tokens(**options: Any) -> list[int]:
        return generator.generate(PROMPTS[0], max_tokens=16, **options).tokens

    base, one = tokens(adapter=None), tokens(adapter="one")
    assert generator.default_adapter is None and tokens() == base != one
    generator.use("one")
    assert (generator.adapters, generator.default_adapter) == (("one", "two"), "one")
    assert tokens() == one
    assert tokens(adapter=None) == base


def test_a_bundles_own_default_is_taken(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL, FACTORS, default_adapter="two")
    assert Generator.load(bundle, threads=1, verify="never").default_adapter == "two"


# ---- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, "prompt: found it empty, expected text"),
        ([], {}, "prompt: found an empty list"),
        ([[]], {}, "prompt: found it empty, expected at least one token"),
        ([[5], []], {}, "prompt: found it empty"),
        (["a", ""], {}, "prompt: found it empty, expected text"),
        ([VOCAB], {}, f"prompt: found {VOCAB}, expected ids of 0 to {VOCAB - 1}"),
        ([[5], [-1]], {}, "prompt: found -1, expected ids of 0"),
        ([1.5], {}, "prompt: found no text and no token ids"),
        (7, {}, "prompt: found no text and no token ids"),
        (None, {}, "prompt: found no text and no token ids"),
        ([5] * CONTEXT, {}, f"prompt: found {CONTEXT} tokens, expected fewer than {CONTEXT}"),
        ([5], {"max_tokens": CONTEXT}, f"found {CONTEXT} behind a prompt of 1, expected at most"),
        ([5], {"max_tokens": 0}, "max_tokens: found 0, expected at least 1"),
        ([5], {"max_tokens": None, "on_overflow": "slide"}, "max_tokens: found None"),
        ([5], {"on_overflow": "wrap"}, "on_overflow: found 'wrap', expected error or slide"),
        ([5], {"adapter": "six"}, "adapter: found 'six', expected one of: one, two"),
        ([5], {"adapter": ["one", "two"]}, "adapter: found 2, expected one, or one a prompt: 1"),
        ([5], {"temperature": -1}, "temperature: found -1, expected 0 or more"),
        ([5], {"stop": ""}, "stop: found an empty string"),
        ([5], {"stop": ["a", ""]}, "stop: found an empty string"),
        ([5], {"lookup": 16}, "lookup: found 16, expected 0 to 15"),
        ([[5], [6]], {"lookup": 2}, "lookup: found 2 prompts, expected one"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    generator: Generator, prompt: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgeError, match=message) as caught:
        generator.generate(prompt, **{"max_tokens": 4} | options)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_a_type_error(generator: Generator) -> None:
    with pytest.raises(TypeError, match="temprature"):
        generator.generate([5], temprature=1.0)  # type: ignore[call-overload]


def test_a_stream_is_of_one_prompt(generator: Generator) -> None:
    with pytest.raises(EdgeError, match="prompt: found no text and no token ids"):
        generator.stream(["a", "b"])  # type: ignore[arg-type]


def test_a_closed_generator_says_so(folder: Path) -> None:
    with Generator.load(folder, threads=1, verify="never") as generator:
        pass
    with pytest.raises(EdgeError, match="the generator is closed; load it again"):
        generator.generate([5], max_tokens=1)


def test_a_failed_run_is_one_line_and_the_next_call_works(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache._Lane, "run", lambda lane: 1 / 0)
        with pytest.raises(EdgeError, match="generation: the run failed: division by zero"):
            generator.generate([5], max_tokens=3)
    assert isinstance(generator.generate([5], max_tokens=3), Generation)


@pytest.mark.parametrize("context", [0, 1, CONTEXT + 1])
def test_a_context_the_model_has_not_is_refused(folder: Path, context: int) -> None:
    with pytest.raises(EdgeError, match=f"context: found {context}, expected 2 to {CONTEXT}"):
        Generator.load(folder, verify="never", context=context)


def test_an_encoders_bundle_names_its_runner(folder: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL, task="sentence-embedding", decoder=None)
    with pytest.raises(EdgeError, match=r"task is sentence-embedding, .* or edge-lra run"):
        Generator.load(bundle)


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL)
    decoder = load_manifest(bundle)["decoder"]
    change_manifest(bundle, decoder=decoder | {"cache": decoder["cache"][:-1]})
    with pytest.raises(EdgeError, match=r"disagree on inputs: past_key_values\.1\.value"):
        Generator.load(bundle, verify="never")


def test_a_tokenizer_of_another_model_is_told(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.edge", MODEL)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([f"<{n}>" for n in range(60)])
    tokenizer.save(str(bundle / "tokenizer.json"))
    change_manifest(bundle)
    with pytest.raises(EdgeError, match=r"tokenizer: gives id 317, expected 0 to 299"):
        Generator.load(bundle, verify="never").generate("<59>", max_tokens=1)


def test_a_runner_takes_a_decoder_for_its_logits_only(folder: Path) -> None:
    runner = Runner.load(folder, threads=1, verify="never")
    ids = np.array([PROMPTS[0]])
    logits = runner.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"]
    assert (
        logits[0, 0].argmax()
        == Generator.load(folder, verify="never").generate(PROMPTS[0], max_tokens=1).tokens[0]
    )
