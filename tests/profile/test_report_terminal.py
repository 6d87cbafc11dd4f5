"""The terminal report: every way at 80 columns, its words, and what long names do to it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from edge_lra.profile import render
from edge_lra.profile.latencies import Timing
from edge_lra.profile.measurement import Layer, Mark, Memory, Operator, Sample
from edge_lra.profile.report.series import columns, histogram, thin
from edge_lra.profile.result import Profile, Ratio
from tests.profile import profiles

PROFILES: dict[str, Callable[[], Profile]] = {
    "measured": lambda: profiles.profile(profiles.entry(measured=profiles.measured())),
    "emulated": lambda: profiles.profile(profiles.entry(emulated=profiles.emulated())),
    "estimated": lambda: profiles.profile(
        profiles.entry(device="pi5", estimated=profiles.estimated())
    ),
    "against": profiles.against,
    "generating": lambda: profiles.profile(profiles.entry(measured=profiles.generating())),
    "tokens": profiles.tokens,
    "everything": profiles.everything,
    "dropped": lambda: profiles.profile(
        profiles.entry(
            measured=profiles.measured(
                timings=(), operators=(), layers=(), spans=(), sweep=(), complete=False,
                memory=Memory(92.0, 91.0, 44.0), switch_ms=None,
            )
        )
    ),
}  # fmt: skip


def shown(profile: Profile, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    render(profile, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture(params=PROFILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_report_fits_80_columns_and_cuts_nothing(name: str) -> None:
    text = shown(PROFILES[name]())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "  Latency, ms" in text or name in ("emulated", "estimated", "dropped")


def test_one_bundle_takes_no_more_than_two_screens() -> None:
    assert len(shown(PROFILES["measured"]()).splitlines()) <= 48


def test_a_measurement_names_its_machine_and_its_numbers() -> None:
    text = shown(PROFILES["measured"]())
    assert "Measured on AMD EPYC 9R14, 2 cores, x86_64, Linux 6.1.0, 1 thread\n" in text
    timing = profiles.measured().timings[1]
    low, high = timing.interval_ms(50)
    row = next(line for line in text.splitlines() if line.startswith("  1x128"))
    found = [float(value) for value in re.findall(r"[\d.]+", row)[2:]]
    expected = [200, timing.percentile_ms(50), low, high]
    expected += [timing.percentile_ms(p) for p in (90, 95, 99)] + [timing.texts_per_s]
    assert found == pytest.approx(expected, rel=0.002)
    for value in ("0.612", "9.31", "92.1", "3.1", "MatMulIntegerToFloat x18", "layer 5", "(1.59x)"):
        assert value in text
    assert "a loaded 0.101 s, b first run 0.212 s, c steady 0.250 s" in text


def test_a_language_model_is_told_in_tokens() -> None:
    found = profiles.generating()
    text = shown(PROFILES["generating"]())
    rows = {line.strip().rsplit(maxsplit=1)[0]: line for line in text.splitlines() if line.strip()}
    row = next(line for line in rows.values() if line.startswith("  token after 1024 "))
    assert float(row.split()[-1]) == pytest.approx(found.decoding[1].tokens_per_s, abs=0.05)
    prompt = next(line for line in rows.values() if line.startswith("  1x128 "))
    assert float(prompt.split()[-1]) == pytest.approx(found.timings[1].tokens_per_s, abs=0.05)
    assert "texts/s" not in text
    assert "Keys and values: 128 tokens 5.6, 1024 tokens 45.0" in text
    assert "Operators, token after 128" in text and "Operators, 1x16" in text
    assert re.search(r"a token  1: 8\.60 ms \(1\.00x\) +2: 5\.10 ms \(1\.69x\)", text)
    assert len(text.splitlines()) <= 56


def test_a_ratio_of_tokens_says_behind_how_many() -> None:
    flat = " ".join(shown(profiles.tokens()).split())
    assert "token after 128 at p50: m.edge is 1.100x faster than n.edge" in flat


def test_a_device_reached_from_afar_is_named_with_the_way() -> None:
    pi = profiles.measured(host=profiles.PI, warnings=("the clock fell",))
    text = shown(profiles.profile(profiles.entry(device="pi5", measured=pi)))
    flat = " ".join(text.split())
    assert "Measured on Raspberry Pi 5 (Cortex-A76, 4 cores, aarch64, Linux 6.6.20)" in flat
    assert "1 thread, over ssh" in flat
    assert "Warning: the clock fell" in text


def test_an_emulation_shows_no_time() -> None:
    text = shown(PROFILES["emulated"]())
    assert "Executed on an emulated cortex-a76 (no times: an emulator's say nothing)" in text
    assert "24 of 24 equal" in text and "1x128 1,634,567,890" in text and "passed" in text
    assert not re.search(r"\d\s*m?s\b", text)
    assert "Measured" not in text and "p50" not in text


def test_a_failed_comparison_is_said_where_it_failed() -> None:
    found = profiles.emulated(passed=False, matmuls_equal=23, unequal=("layer.1.down",))
    lines = shown(profiles.profile(profiles.entry(emulated=found))).splitlines()
    failed = [line.split()[0] for line in lines if "FAILED" in line]
    assert failed == ["verdict", "int8"]
    assert "not those of layer.1.down" in " ".join(" ".join(lines).split())


def test_an_estimate_is_a_range_and_says_what_it_is() -> None:
    text = shown(PROFILES["estimated"]())
    heading = "Estimated for Raspberry Pi 5 from its data sheet, 1 thread; not measured"
    assert heading in text
    assert "measured" not in text.replace(heading, "") and "Measured" not in text
    assert re.search(r"1x128 +17\.9 +22\.1 +31\.2", text)
    assert "peak RSS 71 to 108 MiB, fits in its memory" in text
    assert "total 6 %, matmul int8 8 %, attention -14 %" in text
    assert "one of 4 Cortex-A76" in text and "2 more, in --html and --json" in text


def test_an_estimate_beside_a_measurement_rests_on_no_data_sheet() -> None:
    both = profiles.entry(measured=profiles.measured(), estimated=profiles.estimated())
    text = shown(profiles.profile(both))
    assert "Estimated for this machine from its kernels' times, 1 thread; not measured" in text
    assert "data sheet" not in text


def test_a_bundle_that_does_not_fit_is_said_so() -> None:
    text = shown(profiles.profile(profiles.entry(estimated=profiles.estimated(fits=False))))
    assert "DOES NOT FIT" in text


def test_several_are_set_side_by_side_by_what_differs() -> None:
    table = shown(profiles.everything()).split("\n\n")[0]
    rows = [line.rstrip() for line in table.splitlines()]
    assert rows[0].split() == ["device", "how", "shape", "p50", "ms", "peak", "MiB", "files", "MiB"]
    assert re.search(r"Raspberry Pi 5 +measured +1x16 +4\.\d+ +92\.1", table)
    assert re.search(r"64-bit ARM board +executed +passed", table)
    assert re.search(r"64-bit ARM board +estimate +1x16 +3\.1-6\.0 +71-108", table)
    assert shown(profiles.against()).split()[0] == "bundle"


def test_a_ratio_is_said_only_where_the_interval_leaves_one_out() -> None:
    flat = " ".join(shown(profiles.against()).split())
    assert "1x16 at p50: sentiment.edge and other.edge cannot be told apart (1.004x" in flat
    assert (
        "1x128 at p50: sentiment.edge is 1.243x faster than other.edge "
        "(95 % interval 1.221 to 1.262)" in flat
    )
    slower = Ratio((8, 128), 0.5, (0.4, 0.8))
    flat = " ".join(shown(profiles.profile(*profiles.against().entries, ratios=(slower,))).split())
    assert "sentiment.edge is 2.000x slower than other.edge (95 % interval 1.250 to 2.500)" in flat


def test_a_target_that_dropped_shows_what_there_is() -> None:
    text = shown(PROFILES["dropped"]())
    assert "Incomplete: the target dropped before everything was taken" in text
    assert "peak RSS" in text and "92.0" in text


def test_long_names_are_folded_whole() -> None:
    found = profiles.measured(
        operators=(Operator("Ω" * 70, 3, 1.0),), layers=(Layer("Λ" * 50, 3, 1.0),)
    )
    one = profiles.entry("Σ" * 120, "Δ" * 90, measured=found)
    text = shown(profiles.profile(one, profiles.entry("other.edge", measured=found)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    counts = {letter: text.count(letter) for letter in "ΩΛΣΔ"}
    assert counts == {"Ω": 140, "Λ": 100, "Σ": 240, "Δ": 180}  # twice each


def test_brackets_in_names_are_no_markup() -> None:
    name = "[bold]x[/bold][/].edge:smile:"
    assumed = profiles.estimated(assumptions=("[red]hot[/red]",))
    text = shown(profiles.profile(profiles.entry(name, estimated=assumed)))
    assert name in text and "[red]hot[/red]" in text


def test_a_terminal_without_blocks_gets_plain_letters() -> None:
    raw = io.BytesIO()
    console = Console(width=80, file=io.TextIOWrapper(raw, encoding="ascii"))
    render(profiles.everything(), console)
    console.file.flush()
    assert b"##" in raw.getvalue()


def test_an_outlier_does_not_squeeze_the_distribution() -> None:
    timing = profiles.timing((1, 128), 6.2, runs=50, outlier_ms=61.0)
    found = histogram(timing, 24)
    assert found.high_ms < 8 and found.above == 1 and found.max_ms == 61.0
    assert sum(found.counts) == 49
    assert sum(value > 0 for value in found.counts) > 10
    assert "1 run beyond, up to 61.00 ms" in shown(
        profiles.profile(profiles.entry(measured=profiles.measured()))
    )


@pytest.mark.parametrize("latencies", [(5.0,), (5.0, 5.0, 5.0), (1.0, 9.0)])
def test_few_runs_are_all_counted(latencies: tuple[float, ...]) -> None:
    found = histogram(Timing((1, 8), latencies), 10)
    assert sum(found.counts) + found.above == len(latencies)
    assert found.high_ms > found.low_ms


def test_two_modes_are_both_shown() -> None:
    latencies = (*np.linspace(6, 6.5, 80), *np.linspace(12, 12.5, 20))
    found = histogram(Timing((1, 8), tuple(map(float, latencies))), 20)
    assert found.high_ms >= 12


def samples(count: int) -> tuple[Sample, ...]:
    random = np.random.default_rng(0)
    levels = 50 + random.random(count)
    levels[count // 2] = 99.0
    return tuple(Sample(i / 50, float(rss), None) for i, rss in enumerate(levels))


def test_a_short_peak_stays_in_a_thinned_timeline() -> None:
    many = samples(10_000)
    kept = thin(many, 400)
    assert len(kept) <= 400 and kept[0] == many[0] and kept[-1] == many[-1]
    assert max(sample.rss_mib for sample in kept) == 99.0
    assert [s.second for s in kept] == sorted(s.second for s in kept)
    assert max(columns(many, 48)) == 99.0


def test_marks_of_one_moment_do_not_hide_each_other() -> None:
    marks = tuple(Mark(f"mark {i}", 199.98) for i in range(4))
    memory = Memory(99.0, 50.0, 40.0, samples=samples(10_000), marks=marks)
    text = shown(profiles.profile(profiles.entry(measured=profiles.measured(memory=memory))))
    assert any(set(line.split()) == {"dcba"} for line in text.splitlines())
