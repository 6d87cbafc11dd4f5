"""`edge-lra profile --advise`: which export of this project to take."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_lra.cli.common import write_json
from edge_lra.cli.export import progress_bar
from edge_lra.errors import EdgeError
from edge_lra.quiet import quiet_libraries

if TYPE_CHECKING:
    from edge_lra.config import Config
    from edge_lra.profile.advise import Advice
    from edge_lra.profile.result import Entry

BUDGET_S = 5.0  # a bundle; there are many
# What --advise has no use for: it writes no bundle and varies what is measured itself.
REFUSED = {
    "against": "--against",
    "html": "--html",
    "trace": "--trace",
    "sweep": "--sweep",
    "limits": "--limit",
    "adapter": "--adapter",
    "estimate": "--estimate",
}


def advise_project(
    bundle: Path | None, config: Config, options: dict[str, Any], json_to: str | None
) -> None:
    """Try what the project in this folder can be exported as, and print the choice.

    Raises:
        EdgeError: there is no project, or an option does not go with it.
    """
    check_options(bundle, config, options)
    quiet_libraries()
    from edge_lra.cli.profile import make_study
    from edge_lra.inputs import ExportRequest
    from edge_lra.profile.advise import advise
    from edge_lra.profile.study import run_study

    request = ExportRequest(
        out=Path("advice.edge"),
        model=config.model,
        adapters=[(entry.name, entry.path) for entry in config.adapters],
        weights=[entry.weight for entry in config.adapters],
        task=config.task,
        labels=config.labels,
        data=config.data,
        name=config.name,
        gates=config.gates,
    )

    def profile_bundle(path: Path) -> Entry:
        study = make_study(path, config, {**options, "budget": options["budget"] or BUDGET_S})
        return run_study(study, execute=False).entries[0]

    with tempfile.TemporaryDirectory(prefix="edge-lra-") as scratch, progress_bar() as progress:
        advice = advise(request, Path(scratch), profile_bundle, progress)
    if write_json(advice.to_json(), json_to):
        show(advice)


def check_options(bundle: Path | None, config: Config, options: dict[str, Any]) -> None:
    """Refuse what --advise would not honour.

    Raises:
        EdgeError: names it.
    """
    if bundle is not None:
        raise EdgeError(
            f"--advise: found a bundle {bundle}, expected none; it exports the project in this "
            "folder in several ways"
        )
    if config.model is None and not config.adapters:
        raise EdgeError(
            f"{config.folder}: found no project, expected an edge-lra.toml with a model or an "
            "adapter; --advise exports it"
        )
    for key, name in REFUSED.items():
        if options[key]:
            raise EdgeError(f"--advise: found {name}, expected none; profile the bundle afterwards")
    if options["keep"] and not options["target"]:
        raise EdgeError("--keep: found no --target, expected one; it is what stays there")
    if len(options["devices"]) > 1:
        raise EdgeError("--advise: found several devices, expected one; ask for each by itself")


def show(advice: Advice) -> None:
    """Print the table of trials and the command."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from edge_lra.profile.advise import latency_and_memory

    console = Console()
    entry = advice.chosen.entry
    assert entry is not None
    kind = "Measured" if entry.measured else "Estimated from the data sheet"
    title = f"{kind}: {entry.device_title}. * is not beaten in all four; > is the one to take"
    way = Column("export", overflow="fold")
    table = Table("", way, title=escape(title), title_justify="left")
    for name in ("p50 ms", "peak MiB", "files MiB", "error"):
        table.add_column(name, justify="right")
    for trial in advice.trials:
        mark = ">" if trial is advice.chosen else "*" if trial.pareto else ""
        name = " ".join(trial.candidate.options())
        if trial.entry is None:
            table.add_row("", name, "refused", "", "", "")
            continue
        latency_ms, peak_mib = latency_and_memory(trial.entry)
        cells = (f"{latency_ms:.2f}", f"{peak_mib:.0f}", f"{trial.entry.file_mib:.1f}")
        table.add_row(mark, name, *cells, f"{trial.error:.4f}")
    console.print(table)
    for trial in advice.trials:
        if trial.refused:
            console.print(f"{' '.join(trial.candidate.options())}: {trial.refused}", markup=False)
    doubts = [t.entry.measured for t in advice.trials if t.entry and t.entry.measured]
    shared = sum(any("other programs" in w for w in found.warnings) for found in doubts)
    if shared:
        console.print(
            f"\n{shared} of {len(doubts)} were measured while other programs had the core: their "
            "latencies are too long; ask again on an idle machine"
        )
    console.print("\nerror: relative L2 distance of the outputs from the float model's")
    console.print(f"\n    {advice.command}", markup=False, soft_wrap=True)
