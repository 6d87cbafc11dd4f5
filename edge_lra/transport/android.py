"""What Android tells of a process and of itself: memory, heat, and the limits of its clocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

MARK = "=memory="
# By dumpsys thermalservice, android.os.PowerManager.THERMAL_STATUS_*.
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
PERIOD_S = 0.2
# $1: the session's folder; the rest is a command. As WATCHED, and reads the memory of the process
# every 0.2 s from outside, and once, after a second, by meminfo; both follow its output.
MEASURED = rf"""
folder=$1; shift
trap "" HUP PIPE
cd "$folder" || exit 1
IFS= read -r line
exec 3<&0
leader=; command -v setsid >/dev/null 2>&1 && leader=setsid
$leader "$@" 3<&- </dev/null &
child=$!
printf "%s" "$child" >"$child.pid"
(
  while read -r _ <&3; do :; done
  kill -KILL "-$child" || kill -KILL "$child"
) >/dev/null 2>&1 &
watcher=$!
(
  count=0
  while kill -0 "$child"; do
    grep -E "^(Rss|Pss):" "/proc/$child/smaps_rollup" >>memory
    count=$((count+1))
    [ "$count" -eq 5 ] && dumpsys meminfo "$child" | grep -E "TOTAL( PSS:)? +[0-9]" >>meminfo
    sleep {PERIOD_S}
  done
) >/dev/null 2>&1 &
sampler=$!
wait "$child" 2>/dev/null; code=$?
kill "$watcher" "$sampler" 2>/dev/null
wait "$sampler" 2>/dev/null
printf "\n{MARK}\n"
cat memory meminfo 2>/dev/null
rm -f "$child.pid" memory meminfo
exit "$code"
"""
STATE = r"""
printf "thermal=%s\n" "$(dumpsys thermalservice 2>/dev/null |
  sed -n "s/^ *Thermal Status: *//p" | head -n 1)"
for file in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq; do
  [ -r "$file" ] && printf "%s=%s\n" "$file" "$(cat "$file")"
done
"""


class State(NamedTuple):
    """How hot a device is, and how fast its cores may run.

    Attributes:
        thermal: Android's status, 0 to 6; None where it is not told.
        limits_mhz: the highest clock that is allowed now, by core.
    """

    thermal: int | None
    limits_mhz: Mapping[str, float]


def read_state(text: str) -> State:
    """Return what STATE printed."""
    thermal = re.search(r"^thermal=(\d+)", text, re.MULTILINE)
    limits = re.findall(r"/(cpu\d+)/cpufreq/scaling_max_freq=(\d+)", text)
    return State(
        int(thermal[1]) if thermal else None, {core: int(khz) / 1e3 for core, khz in limits}
    )


def compare_states(before: State, after: State) -> list[str]:
    """Return a warning for each thing that makes times before and after differ."""
    warnings = []
    if max(before.thermal or 0, after.thermal or 0) > 0:
        warnings.append(
            f"the device was warm: thermal status {_heat(before.thermal)} before, "
            f"{_heat(after.thermal)} after"
        )
    for core, limit in before.limits_mhz.items():
        now = after.limits_mhz.get(core, limit)
        if now != limit:
            warnings.append(f"{core}'s clock limit went from {limit:g} to {now:g} MHz")
    return warnings


def _heat(status: int | None) -> str:
    if status is None:
        return "unknown"
    return THERMAL[status] if status < len(THERMAL) else str(status)


def read_memory(text: str) -> tuple[str, dict[str, Any]]:
    """Return the command's own output, and its memory in MiB as MEASURED saw it.

    peak_rss and peak_pss are the largest samples of smaps_rollup, steady_* the last ones,
    meminfo_pss is dumpsys meminfo's; each None where Android did not tell.
    """
    output, _, told = text.rpartition(f"\n{MARK}\n")

    def values(pattern: str) -> list[float]:
        return [int(kb) / 1024 for kb in re.findall(pattern, told, re.MULTILINE)]

    found: dict[str, Any] = {}
    for name, pattern in (("rss", r"^Rss: +(\d+) kB"), ("pss", r"^Pss: +(\d+) kB")):
        samples = values(pattern)
        found[f"peak_{name}"] = max(samples, default=None)
        found[f"steady_{name}"] = samples[-1] if samples else None
    found["meminfo_pss"] = next(iter(values(r"TOTAL(?: PSS:)? +(\d+)")), None)
    return output, found
