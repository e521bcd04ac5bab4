"""Values as text: fixed words for units, ``—`` for what is not known. No Textual in it."""

import re
import time
import unicodedata
from typing import Final

UNKNOWN: Final = "—"

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0

MIB_PER_GIB: Final = 1024.0

_FORM_FACTOR: Final = re.compile(r"[- ](?:SXM\d?|PCIE|NVL)(?:[- ]|$)", re.IGNORECASE)

_REPLACEMENT: Final = "�"
_HARMFUL_CATEGORIES: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def safe(text: str) -> str:
    """Make text from outside harmless: what a terminal or the reader's eye could obey becomes ``�``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _REPLACEMENT if unicodedata.category(character) in _HARMFUL_CATEGORIES else character
        for character in text
    )


def format_age(seconds: float | None) -> str:
    """Give an age in at most four characters: ``0.4s``, ``7s``, ``3m``, ``2h``, ``12d``."""
    if seconds is None:
        return UNKNOWN
    seconds = max(0.0, seconds)
    if seconds < 0.95:
        return f"{seconds:.1f}s"
    if seconds < MINUTE:
        return f"{seconds:.0f}s" if seconds < 59.5 else "1m"
    if seconds < HOUR:
        return f"{int(seconds // MINUTE)}m"
    if seconds < DAY:
        return f"{int(seconds // HOUR)}h"
    return f"{int(seconds // DAY)}d"


def format_duration(seconds: float | None) -> str:
    """Give a span in its two largest units: ``12s``, ``3m12s``, ``2h05m``, ``12d3h``."""
    if seconds is None:
        return UNKNOWN
    whole = int(max(0.0, seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < DAY:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def format_percent(value: float | None) -> str:
    """Give a share as ``88%``."""
    return UNKNOWN if value is None else f"{value:.0f}%"


def format_temp(value: float | None) -> str:
    """Give a temperature in °C as ``87°``."""
    return UNKNOWN if value is None else f"{value:.0f}°"


def format_mem(used_mb: float | None, total_mb: float | None) -> str:
    """Give memory in GiB, used of total, from MiB: ``78.1/96G``."""
    used = UNKNOWN if used_mb is None else _gib(used_mb)
    total = UNKNOWN if total_mb is None else f"{total_mb / MIB_PER_GIB:.0f}"
    return UNKNOWN if used_mb is None and total_mb is None else f"{used}/{total}G"


def _gib(mebibytes: float) -> str:
    gibibytes = mebibytes / MIB_PER_GIB
    return f"{gibibytes:.1f}" if gibibytes < 999.95 else f"{gibibytes:.0f}"


def format_power(watts: float | None, limit: float | None) -> str:
    """Give power and its limit: ``438/450W``."""
    if watts is None and limit is None:
        return UNKNOWN
    return f"{_whole(watts)}/{_whole(limit)}W" if limit is not None else f"{_whole(watts)}W"


def format_rate(bytes_per_second: float | None) -> str:
    """Give a rate of bytes: ``640B/s``, ``12.4M/s``."""
    if bytes_per_second is None:
        return UNKNOWN
    value = max(0.0, bytes_per_second)
    if value < 1000:
        return f"{value:.0f}B/s"
    for unit in ("k", "M", "G"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f}{unit}/s"
    return f"{value / 1000:.1f}T/s"


def format_count(value: float | None) -> str:
    """Give a number of things, or of things a second, in at most six characters: ``0.4``, ``12.4k``."""
    if value is None:
        return UNKNOWN
    if value < 1000:
        return f"{value:.0f}" if value >= 99.95 or value == int(value) else f"{value:.1f}"
    for unit in ("k", "M", "G"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f}{unit}"
    return f"{value / 1000:.1f}T"


def format_bytes(value: float | None) -> str:
    """Give a size in bytes: ``640B``, ``1.2MB``."""
    return UNKNOWN if value is None else f"{format_count(round(value))}B"


def format_latency(seconds: float | None) -> str:
    """Give a short span: ``0.25ms``, ``10ms``, ``1.5s``."""
    if seconds is None:
        return UNKNOWN
    if seconds >= 1:
        return f"{seconds:.1f}s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f}ms" if milliseconds >= 10 else f"{milliseconds:.2g}ms"


def format_price(per_hour: float | None) -> str:
    """Give a price per hour without its unit, which stands in the head of its column: ``0.45``."""
    return UNKNOWN if per_hour is None else f"{per_hour:.2f}"


def format_money(micros: int | None) -> str:
    """Give an amount of the hub's currency, from millionths: ``0.31``; four digits below a hundredth."""
    if micros is None:
        return UNKNOWN
    amount = micros / 1_000_000
    return f"{amount:.4f}" if 0 < amount < 0.01 else f"{amount:.2f}"


def format_moment(moment: float, now: float) -> str:
    """Give a moment in this machine's time zone: ``14:07:31``, with its date from a day of age on."""
    local = time.localtime(moment)
    clock = time.strftime("%H:%M:%S", local)
    return clock if abs(now - moment) < DAY else f"{time.strftime('%Y-%m-%d', local)} {clock}"


def format_gpus(count: int | None, model: str | None) -> str:
    """Give the GPUs of a machine: ``4× RTX 4090``, ``no GPU``."""
    if count == 0:
        return "no GPU"
    if count is None and model is None:
        return UNKNOWN
    name = UNKNOWN if model is None else short_model(model)
    return f"{count}× {name}" if count is not None else name


def short_model(model: str) -> str:
    """Give a GPU's model without what all have in common: ``RTX 4090``, ``A100 80GB``, ``RTX 6000 Ada``."""
    name = safe(model).removeprefix("NVIDIA ").removeprefix("GeForce ")
    return _FORM_FACTOR.sub(" ", name).replace(" Generation", "").rstrip()


def _whole(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}"
