"""`edge-lra generate`: text behind a prompt, as it comes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import bundle_argument, find_bundle, shared_options, write_json
from edge_lra.errors import EdgeError

if TYPE_CHECKING:
    from edge_lra.runner import Generation, Generator

INTERRUPTED = 130


@click.command()
@bundle_argument
@click.option("--prompt", "prompts", multiple=True, help="Repeatable: one batch.")
@click.option("--chat", help="What the user says, put into the bundle's chat template.")
@click.option("--system", help="What the chat's system message says.")
@click.option("--input", "source", metavar="-|F", help="The prompt from a file or standard input.")
@click.option("--adapter", help="Of a factored bundle; its default otherwise.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--temperature", type=float, default=0.0, show_default="0, the likeliest token")
@click.option("--top-k", type=int)
@click.option("--top-p", type=float, default=1.0)
@click.option("--min-p", type=float, default=0.0)
@click.option("--repetition-penalty", type=float, default=1.0)
@click.option("--seed", type=int)
@click.option("--stop", multiple=True, help="Text to stop before. Repeatable.")
@click.option("--lookup", type=int, default=0, help="Tokens to guess from the text so far.")
@click.option("--slide", is_flag=True, help="Go on from the last half of a full context.")
@click.option("--context", type=int, help="The most tokens of prompt and text.")
@click.option("--threads", type=click.IntRange(min=1))
@shared_options
def generate(
    bundle: Path | None,
    threads: int | None,
    context: int | None,
    json_to: str | None,
    **given: Any,
) -> None:
    """Write what follows a prompt."""
    kinds = [bool(given["prompts"]), given["chat"] is not None, given["source"] is not None]
    if sum(kinds) != 1:
        raise click.UsageError("give one of --prompt, --chat, or --input")
    if given["system"] is not None and given["chat"] is None:
        raise click.UsageError("--system goes with --chat")
    from edge_lra.runner import Generator

    generator = Generator.load(find_bundle(bundle, Path.cwd()), threads=threads, context=context)
    if given["adapter"] is not None:
        generator.use(given["adapter"])
    prompts = read_prompts(given)
    started = time.perf_counter()
    quiet = json_to == "-"
    try:
        results = write(generator, prompts, given, quiet)
    except KeyboardInterrupt:
        if not quiet:
            click.echo()
        click.echo(f"Interrupted after {time.perf_counter() - started:.1f} s", err=True)
        raise SystemExit(INTERRUPTED) from None
    document = {
        "schema_version": 1,
        "adapter": generator.default_adapter,
        "results": [
            describe(prompt, result) for prompt, result in zip(prompts, results, strict=True)
        ],
    }
    write_json(document, json_to)
    click.echo(speed(results), err=True)


def read_prompts(given: dict[str, Any]) -> list[str]:
    """Return the prompts, or the one thing said in a chat.

    Raises:
        EdgeError: the file of --input cannot be read as text.
    """
    if given["source"] is None:
        return list(given["prompts"]) or [given["chat"]]
    source = given["source"]
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return [data.decode().removesuffix("\n")]  # which an editor or echo put there
    except FileNotFoundError:
        raise EdgeError(f"{source}: found no such file; check --input") from None
    except UnicodeDecodeError:
        raise EdgeError(f"{source}: found other bytes, expected UTF-8 text") from None


def write(
    generator: Generator, prompts: list[str], given: dict[str, Any], quiet: bool
) -> list[Generation]:
    """Generate, and unless told to be quiet write the text of one prompt as it comes."""
    names = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    options = {name: given[name] for name in (*names, "stop", "lookup")}
    options["on_overflow"] = "slide" if given["slide"] else "error"

    def show(piece: str) -> None:
        if not quiet:
            click.echo(piece, nl=False)

    if given["chat"] is not None:
        said = [("system", given["system"]), ("user", given["chat"])]
        messages = [{"role": role, "content": text} for role, text in said if text is not None]
        results = [generator.chat(messages, on_text=show, **options)]
    elif len(prompts) == 1:
        results = [generator.generate(prompts[0], on_text=show, **options)]
    else:
        results = generator.generate(prompts, **options)
        for prompt, result in zip(prompts, results, strict=True):
            show(f"> {prompt}\n{result.text}\n")
        return results
    show("\n")
    return results


def describe(prompt: str, result: Generation) -> dict[str, Any]:
    """Return a result as plain values."""
    return {
        "prompt": prompt,
        "text": result.text,
        "tokens": result.tokens,
        "prompt_tokens": result.prompt_tokens,
        "stopped_by": result.stopped_by,
        "prefill_s": result.prefill_s,
        "decode_s": result.decode_s,
        "tokens_per_s": result.tokens_per_s,
        "drafted": result.drafted,
        "accepted": result.accepted,
    }


def speed(results: list[Generation]) -> str:
    """Return the line that says how fast it went; of a batch, all rows together."""
    read = sum(result.prompt_tokens for result in results)
    new = sum(len(result.tokens) for result in results)
    prefill = sum(result.prefill_s for result in results)
    decode = max(result.decode_s for result in results)
    guessed = sum(result.drafted for result in results)
    line = f"{read} prompt tokens, {read / prefill:.1f} tok/s; {new} new"
    if decode > 0:
        line += f", {(new - len(results)) / decode:.1f} tok/s"
    if guessed:
        line += f"; {sum(result.accepted for result in results)} of {guessed} guesses right"
    return line
