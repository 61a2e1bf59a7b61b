"""Numbers in words, the same in every form of the report. Pure."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes, binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(milliseconds: int | None) -> str:
    """A time, in its largest unit."""
    if milliseconds is None:
        return "-"
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if milliseconds >= length * 2:
            return f"{milliseconds / length:.1f} {unit}"
    return f"{milliseconds / 1000:.1f} s"


def when(text: str | None) -> str:
    """An instant or a day, to the minute, in UTC."""
    if text is None:
        return "-"
    return text if len(text) == 10 else f"{text[:10]} {text[11:16]}"


def share(part: int, whole: int) -> str:
    """Percent, never rounded up to all of it."""
    if not whole:
        return "-"
    return f"{part * 1000 // whole / 10:g} %"
