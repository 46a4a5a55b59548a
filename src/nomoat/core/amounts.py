"""Durations, sizes and counts as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``0.4 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float) -> str:
    """``512 B``, ``93.8 MB``, ``120 MB``: decimal units, as shops and download pages use them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if unit == "B" or n_bytes >= 100 else f"{n_bytes:.1f} {unit}"


def rounded(n: float) -> str:
    """``812``, ``9.22 k``, ``4.88 M``, ``1.54 B``: a large count in three digits, as parameters of models are told."""
    for unit in ("", " k", " M", " B"):
        if n < 999.5 or unit == " B":
            break
        n /= 1000
    digits = 0 if not unit or n >= 99.95 else 1 if n >= 9.995 else 2
    return f"{n:.{digits}f}{unit}"


def counted(n: int, what: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
