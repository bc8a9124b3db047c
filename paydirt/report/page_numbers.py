"""How numbers are printed on the page: one form for each unit, short enough for a table cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOTHING = "–"
THIN = "\u202f"  # a narrow space that does not break


def power(exponent: int) -> str:
    """10 to an integer power, in characters that work in SVG as in HTML."""
    return "10" + str(exponent).translate(SUPERSCRIPT)


def flops(value: float | None) -> str:
    """6.9×10¹⁰; a dash for what was not counted, 0 for what cost nothing."""
    if value is None or math.isnan(value):
        return NOTHING
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}×{power(int(exponent))}"


def percent(fraction: float) -> str:
    """2.5 % from 0.025; no more digits than the fraction has."""
    return f"{100 * fraction:.4g}{THIN}%"


def share(value: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}{THIN}%"


def count(value: float | None) -> str:
    """12,345 with thin spaces: 12 345."""
    return NOTHING if value is None else f"{round(value):,}".replace(",", THIN)


def seconds(value: float | None) -> str:
    """Seconds up to two minutes, then minutes, then hours."""
    if value is None:
        return NOTHING
    if value >= 7200:
        return f"{value / 3600:.1f}{THIN}h"
    if value >= 120:
        return f"{value / 60:.1f}{THIN}min"
    if value < 0.01:
        return f"<{THIN}0.01{THIN}s"
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}{THIN}s"


def memory(value: float | None) -> str:
    """Bytes as MB or GB (powers of ten)."""
    if not value:
        return NOTHING
    return f"{value / 1e9:.1f}{THIN}GB" if value >= 1e9 else f"{value / 1e6:.0f}{THIN}MB"


def ratio(measured: float | None, predicted: float | None) -> str:
    """Measured over predicted; a dash where either is unknown or nothing was predicted."""
    return f"{measured / predicted:.2f}" if measured is not None and predicted else NOTHING


def spread(values: Sequence[float], digits: int) -> str:
    """Lowest to highest over seeds; empty for a single one."""
    return f"{min(values):.{digits}f}–{max(values):.{digits}f}" if len(values) > 1 else ""


def words(items: Sequence[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
