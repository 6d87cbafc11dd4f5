"""What commands share: errors in one line, lazy choices, JSON, the bundle written last."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_lra.errors import EdgeError

logger = logging.getLogger(__name__)
LAST = ".edge-lra-last"
DEBUG = "edge_lra.debug"
# Top-level module -> the extra that installs it.
EXTRAS = {
    "tokenizers": "text",
    "jinja2": "report",
    "matplotlib": "report",
    **dict.fromkeys(
        (
            "torch",
            "onnx",
            "onnx_ir",
            "onnxscript",
            "transformers",
            "peft",
            "huggingface_hub",
            "gguf",
            "threadpoolctl",
        ),
        "export",
    ),
}
if TYPE_CHECKING:
    TextType = click.ParamType[str]
    ShapeBase = click.ParamType[tuple[int, int]]
else:  # older clicks have no type arguments here
    TextType = ShapeBase = click.ParamType
Command = TypeVar("Command", bound=Callable[..., Any])


class EdgeGroup(click.Group):
    """A group that says every mistake in one line; `--debug` lets tracebacks through."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and translate its errors."""
        try:
            with ending_in_order():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.meta.get(DEBUG):
                raise
            raise explain(error) from error


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: scratch folders and what it started go with it.

    Python's own way is to stop at once, which leaves an emulator running and its files behind.
    """

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Shown(click.ClickException):
    """A line for the user and the exit code that goes with it."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.__dict__["exit_code"] = exit_code  # click declares a class variable


def explain(error: Exception) -> click.ClickException:
    """Return the one line, and the exit code, that an error shows a user."""
    return Shown(_line(error), error.exit_code if isinstance(error, EdgeError) else 1)


def _line(error: Exception) -> str:
    if isinstance(error, EdgeError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra:
            return f'{error.name}: is not installed; pip install "edge-lra[{extra}]"'
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        full = "; free some space" if error.errno == errno.ENOSPC else ""
        return f"{where}{error.strerror}{full}"
    text = (str(error).strip().splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {text}; run again with --debug"


class TableChoice(TextType):
    """A choice of a table's keys; the table is imported only when it is asked for."""

    name = "choice"

    def __init__(self, load: Callable[[], Sequence[str]]) -> None:
        self.load = load

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Show the keys in the help, or a plain word where the extra is not installed."""
        try:
            return f"[{'|'.join(self.load())}]"
        except ImportError:
            return "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what the table does not hold."""
        known = self.load()
        if value not in known:
            self.fail(f"{value!r} is not one of {', '.join(known)}.", param, ctx)
        return str(value)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = value


def _set_level(_ctx: click.Context, _param: click.Parameter, value: str) -> None:
    logging.basicConfig(level=value.upper(), format="%(levelname)s: %(message)s")


def _check_json(_ctx: click.Context, _param: click.Parameter, to: str | None) -> str | None:
    """Refuse a place that cannot hold a file, before work is done that would be in vain."""
    if to not in (None, "-"):
        file = Path(to or "")
        if file.is_dir() or not file.parent.is_dir():
            found = "a folder" if file.is_dir() else f"no folder {file.parent}"
            raise EdgeError(f"--json {to}: found {found}, expected a place for a file, or -")
    return to


def shared_options(command: Command) -> Command:
    """Add the options every command has."""
    level = click.Choice(["debug", "info", "warning", "error"])
    options = (
        click.option(
            "--json",
            "json_to",
            metavar="F|-",
            callback=_check_json,
            help="Write the result as JSON.",
        ),
        click.option(
            "--log-level",
            type=level,
            default="warning",
            expose_value=False,
            callback=_set_level,
        ),
        click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Tracebacks."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def write_json(document: dict[str, Any], to: str | None) -> bool:
    """Write a document to a file or `-`; say whether standard output is still free."""
    if to is None:
        return True
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise EdgeError(
            "json: found NaN or Inf, expected finite values; JSON has no other"
        ) from None
    if to == "-":
        click.echo(text)
        return False
    Path(to).write_text(text + "\n", encoding="utf-8")
    return True


def remember_bundle(bundle: Path, folder: Path) -> None:
    """Note the bundle written last in a project's folder; the bundle is good without it."""
    note = folder / LAST
    try:
        note.write_text(str(bundle.resolve()) + "\n", encoding="utf-8")
    except OSError as error:
        with contextlib.suppress(OSError):
            note.unlink()  # a full disk leaves it empty
        reason = error.strerror or type(error).__name__
        logger.warning("%s cannot be written: %s; name the bundle later", note, reason)


def find_bundle(given: Path | None, folder: Path) -> Path:
    """Return the named bundle or the one written last in a project's folder.

    Raises:
        EdgeError: none was named and none was written.
    """
    if given is not None:
        return given
    try:
        found = Path((folder / LAST).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        raise EdgeError(
            f"{folder}: found no bundle written here, expected one; name it or run edge-lra export"
        ) from None
    except (OSError, ValueError):
        raise EdgeError(
            f"{folder / LAST}: found it unreadable, expected a bundle's path; name the bundle"
        ) from None
    return Path(found.name) if found.parent == folder.resolve() else found


def read_limits(values: Sequence[str], known: Collection[str]) -> dict[str, float]:
    """Return `KEY=VALUE` limits as numbers; a wrong one is a usage error."""
    limits = {}
    for value in values:
        key, _, number = value.partition("=")
        if key not in known:
            raise click.BadParameter(
                f"{key!r} is not one of {', '.join(known)}", param_hint="--limit"
            )
        try:
            limits[key] = float(number)
            if math.isnan(limits[key]):
                raise ValueError(number)
        except ValueError:
            raise click.BadParameter(f"{value!r} is not KEY=NUMBER", param_hint="--limit") from None
    return limits


bundle_argument = click.argument(
    "bundle", required=False, metavar="[B]", type=click.Path(path_type=Path)
)
verify_tokens_option = click.option(
    "--verify-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a language model's text to verify with, at most; 512 otherwise.",
)
