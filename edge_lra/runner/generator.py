"""Text generation with a decoder bundle: prompts, chats and batches, one adapter a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, cast, overload

import onnxruntime as ort

from edge_lra.bundle import check_files, load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner.adapters import UNSET, AdapterStore
from edge_lra.runner.cache import FIRST, Cache, Layout
from edge_lra.runner.chat import Message
from edge_lra.runner.decoding import Generation, Row, decode
from edge_lra.runner.memory import check_load
from edge_lra.runner.options import (
    MAX_TOKENS,
    OVERFLOW,
    Adapters,
    Options,
    SamplingOptions,
)
from edge_lra.runner.pieces import Pieces
from edge_lra.runner.prompts import Prompt, Prompts, is_one
from edge_lra.runner.sampling import Sampler, Sampling
from edge_lra.runner.session import check_graph, open_session
from edge_lra.runner.stacks import Lease, Stacks


class Generator:
    """A loaded decoder bundle. Its methods are safe from many threads."""

    def __init__(
        self, folder: Path, manifest: dict[str, Any], session: ort.InferenceSession, layout: Layout
    ) -> None:
        self.path = folder
        self.manifest = manifest
        self.layout = layout
        self._session: ort.InferenceSession | None = session
        self._store = AdapterStore(folder, manifest, verify=True)
        self._stacks = Stacks(self._store)
        self._default: str | None = None
        self._prompts = Prompts(folder, manifest.get("tokenizer"), layout.vocabulary)
        self.use(manifest.get("default_adapter") if self._store.names else None)

    @classmethod
    def load(
        cls,
        path: str | Path,
        threads: int | None = None,
        verify: str = "once",
        context: int | None = None,
    ) -> Generator:
        """Open a decoder bundle for the CPU.

        Args:
            path: the bundle folder.
            threads: threads within an operator; None leaves it to onnxruntime.
            verify: when to hash the files: "once" a path, "always" or "never".
            context: the most tokens of a prompt and its text; None is the model's own. Memory is
                taken as tokens come, not for all of it.

        Raises:
            EdgeError: not a decoder's bundle, damaged, or it needs a newer onnxruntime.
        """
        folder = Path(path)
        manifest = load_manifest(folder)
        if not manifest.get("decoder"):
            raise EdgeError(
                f"{folder}: the bundle's task is {manifest.get('task')}, expected text-generation; "
                "use Runner, or edge-lra run"
            )
        layout = Layout.read(manifest, context)
        check_files(folder, manifest, verify)
        check_load(folder, manifest, min(layout.context, context or FIRST))
        session = open_session(folder, manifest, threads)
        generator = cls(folder, manifest, session, layout)
        names = {node["name"] for node in manifest["inputs"]} | {past for past, _ in layout.pairs}
        index = [] if layout.adapter_index is None else [layout.adapter_index]
        check_graph(folder, session, {*names, *index, *generator._store.input_names})
        return generator

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters one can choose."""
        return self._store.names

    @property
    def default_adapter(self) -> str | None:
        """The adapter of a call that names none."""
        return self._default

    @property
    def stacks(self) -> Stacks:
        """The adapters in memory."""
        return self._stacks

    def use(self, adapter: str | None) -> None:
        """Set the default adapter; None turns the factors off."""
        if adapter is not None:
            self._store.check_name(adapter)
        self._default = adapter

    def close(self) -> None:
        """Free the session; every later call is an error."""
        self._session = None

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        prompt: Prompt,
        *,
        on_text: Callable[..., object] | None = None,
        **options: Unpack[Options],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        *,
        on_text: Callable[..., object] | None = None,
        **options: Unpack[Options],
    ) -> list[Generation]: ...
    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        on_text: Callable[..., object] | None = None,
        **options: Unpack[Options],
    ) -> Generation | list[Generation]:
        """Go on from a prompt, or from each of a list of prompts in one batch.

        Args:
            prompt: text, token ids, or a list of these.
            on_text: called with each piece of text as it comes, whole characters always; for a
                list of prompts with the row's number and the piece.
            options: `Options` says what each means.

        Returns:
            One `Generation`, or for a list of prompts one each.

        Raises:
            EdgeError: a prompt is empty, too long or holds unknown ids, an option is out of its
                range, or the adapter is unknown, foreign or damaged.
        """
        several = not is_one(prompt)
        prompts = cast("Sequence[Prompt]", prompt if several else [prompt])
        rows, pieces = self._start(prompts, **options)
        for place, piece in pieces:
            if on_text is not None:
                on_text(*((place, piece) if several else (piece,)))
        found = [row.result() for row in rows]
        return found if several else found[0]

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Iterator[str]:
        """Yield the text behind one prompt in pieces, as it comes; options as `generate`."""
        _, pieces = self._start([prompt], **options)
        return (piece for _, piece in pieces)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        on_text: Callable[[str], object] | None = None,
        template: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Generation:
        """Answer a conversation, written as the bundle's chat template has it.

        Args:
            messages: mappings with `role` ("system", "user", "assistant") and `content`.
            on_text: as in `generate`.
            template: more values for the template, such as `tools`.
            options: as in `generate`.

        Raises:
            EdgeError: as `generate`, or there is no chat template, or it refuses the messages.
        """
        ids = self.chat_tokens(messages, **(template or {}))
        return self.generate(ids, on_text=on_text, **options)

    def chat_tokens(self, messages: Sequence[Message], **values: Any) -> list[int]:
        """Return the token ids of a conversation that the assistant is to answer."""
        return self._prompts.chat(messages, **values)

    def tokenize(self, text: str) -> list[int]:
        """Return a prompt's token ids, with the special tokens that transformers would add."""
        return self._prompts.tokenize(text)

    def cache(self, rows: int = 1, adapter: Adapters = UNSET) -> Cache:
        """Return an empty cache to step by hand: `prefill`, `step` and `score` give logits."""
        if rows < 1:
            raise EdgeError(f"rows: found {rows}, expected at least 1")
        if self._session is None:
            raise EdgeError(f"{self.path}: the generator is closed; load it again")
        return Cache(self._session, self.layout, rows, self.lease(rows, adapter))

    def lease(self, rows: int = 1, adapter: Adapters = UNSET) -> Lease | None:
        """Return the slots of resident adapters, for `Cache.use`; None for a merged bundle."""
        names = self._names(rows, adapter)
        return self._stacks.lease(names) if self.layout.adapter_index is not None else None

    def _names(self, rows: int, adapter: Adapters) -> list[str | None]:
        if adapter is UNSET:
            names = [self._default] * rows
        elif adapter is None or isinstance(adapter, str):
            names = [adapter] * rows
        else:
            names = list(adapter)
        if len(names) != rows:
            raise EdgeError(f"adapter: found {len(names)}, expected one, or one a prompt: {rows}")
        for name in names:
            if name is not None:
                self._store.check_name(name)
        return names

    def _start(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int | None = MAX_TOKENS,
        adapter: Adapters = UNSET,
        stop: str | Sequence[str] = (),
        stop_tokens: Sequence[int] | None = None,
        on_overflow: str = "error",
        lookup: int = 0,
        **sampling: Unpack[SamplingOptions],
    ) -> tuple[list[Row], Iterator[tuple[int, str]]]:
        """Check everything, then return the rows and the loop that fills them."""
        chosen = Sampling(**sampling)
        stops = [stop] if isinstance(stop, str) else list(stop)
        if "" in stops:
            raise EdgeError("stop: found an empty string, expected text")
        if on_overflow not in OVERFLOW:
            raise EdgeError(f"on_overflow: found {on_overflow!r}, expected error or slide")
        if not prompts:
            raise EdgeError("prompt: found an empty list, expected at least one")
        self._check_lookup(lookup, len(prompts))
        ids = [self._prompts.ids(prompt) for prompt in prompts]
        limits = [self._limit(len(row), max_tokens, on_overflow) for row in ids]
        ids = [row if len(row) <= self.layout.context else self._last_half(row) for row in ids]
        ends = self.manifest["decoder"]["eos_token_ids"] if stop_tokens is None else stop_tokens
        text = bool(stops) or any(isinstance(prompt, str) for prompt in prompts)
        read = self._prompts.decoder(needed=text)
        rows = [
            Row(
                row,
                limits[place],
                ends,
                Sampler(chosen, row, place),
                Pieces(read, stops, row) if read else None,
            )
            for place, row in enumerate(ids)
        ]
        cache = self.cache(len(rows), adapter)
        cache.allocate(max(map(len, ids)))
        return rows, decode(cache, rows, lookup)

    def _check_lookup(self, lookup: int, prompts: int) -> None:
        most = self.layout.scored - 1
        if not 0 <= lookup <= most:
            raise EdgeError(f"lookup: found {lookup}, expected 0 to {most}")
        if lookup and prompts > 1:
            raise EdgeError(f"lookup: found {prompts} prompts, expected one")

    def _limit(self, prompt: int, max_tokens: int | None, on_overflow: str) -> int:
        """Return how many tokens may follow a prompt of so many."""
        if max_tokens is not None and max_tokens < 1:
            raise EdgeError(f"max_tokens: found {max_tokens}, expected at least 1")
        context = self.layout.context
        if on_overflow == "slide":
            if max_tokens is None:
                raise EdgeError("max_tokens: found None, expected a number when it may slide")
            return max_tokens
        if prompt >= context:
            raise EdgeError(
                f"prompt: found {prompt} tokens, expected fewer than {context}, the context; "
                "shorten it, or let it slide"
            )
        if max_tokens is not None and prompt + max_tokens > context:
            raise EdgeError(
                f"max_tokens: found {max_tokens} behind a prompt of {prompt}, expected at most "
                f"{context - prompt} in a context of {context}; lower it, or let it slide"
            )
        return context - prompt if max_tokens is None else max_tokens

    def _last_half(self, ids: list[int]) -> list[int]:
        return ids[-(self.layout.context // 2) :]
