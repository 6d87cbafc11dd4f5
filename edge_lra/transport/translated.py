"""Which multiplying instructions an emulated program ran: what kernels were really chosen.

The emulator translates code when it is first reached and can log what it translates, so that a
word in the log was run. Encodings are those of the Arm Architecture Reference Manual (DDI 0487),
for sums of 8-bit products and of float32 ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

LINE = re.compile(rb"^0x([0-9a-f]+):\s+([0-9a-f]{8})\b", re.MULTILINE)
BLOCK_BYTES = 1 << 24


class Encoding(NamedTuple):
    """An instruction: what `word & mask` gives, and its name."""

    mask: int
    value: int
    name: str


ENCODINGS = (
    Encoding(0xBFE0FC00, 0x0E208000, "SMLAL (8 bits)"),
    Encoding(0xBFE0FC00, 0x2E208000, "UMLAL (8 bits)"),
    Encoding(0xBFE0FC00, 0x0E809400, "SDOT"),
    Encoding(0xBFC0F400, 0x0F80E000, "SDOT"),
    Encoding(0xBFE0FC00, 0x2E809400, "UDOT"),
    Encoding(0xBFC0F400, 0x2F80E000, "UDOT"),
    Encoding(0xBFE0FC00, 0x0E809C00, "USDOT"),
    Encoding(0xFFE0FC00, 0x4E80A400, "SMMLA"),
    Encoding(0xFFE0FC00, 0x6E80A400, "UMMLA"),
    Encoding(0xFFE0FC00, 0x4E80AC00, "USMMLA"),
    Encoding(0xFFE0FC00, 0x44800000, "SDOT (SVE)"),
    Encoding(0xFFE0FC00, 0x44A00000, "SDOT (SVE)"),
    Encoding(0xFFE0FC00, 0x44800400, "UDOT (SVE)"),
    Encoding(0xFFE0FC00, 0x44A00400, "UDOT (SVE)"),
    Encoding(0xFFE0FC00, 0x45009800, "SMMLA (SVE)"),
    Encoding(0xFFE0FC00, 0x45809800, "USMMLA (SVE)"),
    Encoding(0xFFE0FC00, 0x45C09800, "UMMLA (SVE)"),
    Encoding(0xFFE0001C, 0xA0800000, "SMOPA (SME)"),
    Encoding(0xFFE0001C, 0xA1A00000, "UMOPA (SME)"),
    Encoding(0xFFE0001C, 0xA1800000, "USMOPA (SME)"),
    Encoding(0xBFE0FC00, 0x0E20CC00, "FMLA"),
    Encoding(0xBFC0F400, 0x0F801000, "FMLA"),
    Encoding(0xFFE0E000, 0x65A00000, "FMLA (SVE)"),
    Encoding(0xFFE0FC00, 0x64A00000, "FMLA (SVE)"),
    Encoding(0xFFE0001C, 0x80800000, "FMOPA (SME)"),
)


def read_instructions(log: Path, ranges: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Return the multiplying instructions that ran inside address ranges, in ENCODINGS' order.

    Args:
        log: what the emulator wrote for `-d in_asm`.
        ranges: [start, end) of the code that is asked about.
    """
    words: set[int] = set()
    with log.open("rb") as file:
        while lines := file.readlines(BLOCK_BYTES):
            for match in LINE.finditer(b"".join(lines)):
                address = int(match[1], 16)
                if any(start <= address < end for start, end in ranges):
                    words.add(int(match[2], 16))
    return name_instructions(words)


def name_instructions(words: set[int]) -> tuple[str, ...]:
    """Return the names of those words that multiply."""
    found = (e.name for e in ENCODINGS if any(word & e.mask == e.value for word in words))
    return tuple(dict.fromkeys(found))
