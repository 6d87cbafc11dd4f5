"""Draw accuracy over rank, with the chosen rank marked."""

from __future__ import annotations

from pathlib import Path

from edge_lra.errors import EdgeError
from edge_lra.tune.rank import Choice
from edge_lra.whole_files import check_target

FORMATS = (".png", ".svg", ".pdf")


def check_plot(file: Path) -> None:
    """Refuse a place or a kind of file that cannot be drawn, before anything is trained.

    Raises:
        EdgeError: names what was found.
    """
    if file.suffix not in FORMATS:
        raise EdgeError(f"{file}: found {file.suffix!r}, expected one of {', '.join(FORMATS)}")
    check_target(file)
    import matplotlib  # noqa: F401, a missing one is said now rather than after the training


def plot(choice: Choice, file: Path, title: str) -> None:
    """Draw mean accuracy and standard error over rank.

    Args:
        choice: what was measured.
        file: .png, .svg or .pdf.
        title: the figure's heading.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "edge-lra"  # the same figure, the same file
    from matplotlib import pyplot

    ranks = [c.rank for c in choice.candidates]
    means = [100 * c.mean for c in choice.candidates]
    errors = [100 * c.standard_error for c in choice.candidates]
    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    axes.errorbar(ranks, means, errors, color="#1f4e79", marker="o", capsize=4, linewidth=1.5)
    best = next(c for c in choice.candidates if c.rank == choice.best)
    least = 100 * (best.mean - best.standard_error)
    label = "best less one standard error"
    axes.axhline(least, color="#888888", linestyle="--", linewidth=1, label=label)
    chosen = next(c for c in choice.candidates if c.rank == choice.chosen)
    axes.plot(
        chosen.rank, 100 * chosen.mean, marker="o", markersize=13, markerfacecolor="none",
        markeredgecolor="#c55a11", markeredgewidth=2, linestyle="none",
        label=f"chosen: rank {chosen.rank}",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.minorticks_off()
    axes.set_xlabel("rank")
    folds = len(choice.candidates[0].accuracies)
    axes.set_ylabel(f"accuracy, % (mean of {folds} folds, standard error)")
    axes.set_title(title)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)  # clear of the error bars
    figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)
