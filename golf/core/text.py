"""Read text files as people have them: UTF-8 or UTF-16, with letters of other encodings and control characters."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from golf.core.errors import UserError

logger = logging.getLogger(__name__)

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SNIFFED = 4096
"""Bytes at the beginning of a file that tell its encoding."""

_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def open_text(path: str | Path, newline: str | None = None) -> TextIO:
    """Open a text file in UTF-8, or UTF-16 where it says so, with or without a byte order mark; see `cleaned`.

    Raises:
        UserError: it is UTF-16 without a byte order mark, or no text.
    """
    with open(path, "rb") as stream:
        start = stream.read(_SNIFFED)
    if start.startswith(_UTF16):
        return open(path, encoding="utf-16", errors="replace", newline=newline)
    if start[1::2].count(0) > len(start) // 4 or start[::2].count(0) > len(start) // 4:
        raise UserError(f"{path}: not UTF-8 but UTF-16 without a byte order mark, or not text; save it as UTF-8")
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def cleaned(lines: Iterable[str], path: str | Path) -> Iterator[str]:
    """Yield lines of `open_text` with all letters readable; a warning says where they were not.

    Bytes that are not UTF-8 are read as Latin-1, and control characters, which could do anything to a terminal, become
    U+FFFD.
    """
    encoding = control = False
    for i, line in enumerate(lines, start=1):
        clean = line
        if _NOT_UTF8.search(clean):
            clean = _NOT_UTF8.sub(lambda found: chr(ord(found[0]) - 0xDC00), clean)
            if not encoding:
                logger.warning("%s: line %d is not UTF-8; such letters are read as Latin-1", path, i)
            encoding = True
        if _CONTROL.search(clean):
            clean = _CONTROL.sub("\ufffd", clean)
            if not control:
                logger.warning("%s: line %d has control characters; they are read as \ufffd", path, i)
            control = True
        yield clean


def one_line(text: str) -> str:
    """Replace line breaks in a text by single spaces."""
    return " ".join(filter(None, (line.strip() for line in text.splitlines()))) if len(text.splitlines()) > 1 else text
