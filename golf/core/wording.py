"""Phrases and tables of messages."""

from collections.abc import Sequence


def and_more(n: int) -> str:
    """Return " and 3 more", to follow the first of n = 4 items; "" for one item."""
    return f" and {n - 1} more" if n > 1 else ""


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 label", "2 labels"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def shortened(text: object, longest: int) -> str:
    """Return a text as one line of at most `longest` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def aligned(rows: Sequence[Sequence[str]], *, n_left: int) -> list[str]:
    """Format rows as lines with aligned columns and a rule below the first; the first `n_left` columns are text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(w) if k < n_left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
