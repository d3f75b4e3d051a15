"""Read text files in UTF-8 or UTF-16 that may have bytes of another encoding and control characters.

Files compressed with gzip are read as if they were not, whatever they are called.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from golf.core.errors import UserError
from golf.core.files import GZIP, suffix_of

logger = logging.getLogger(__name__)

_GZIPPED = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SNIFFED = 4096
"""Number of bytes at the beginning of a file from which its encoding is told."""

_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def open_text(path: str | Path, newline: str | None = None) -> TextIO:
    """Open a text file: UTF-16 if it has that byte order mark, else UTF-8. Read its lines through `cleaned`.

    Raises:
        UserError: the file is UTF-16 without a byte order mark, not text, or called .gz and not compressed. A file
            whose compressed data are damaged or end too early raises it where it is read.
    """
    with _bytes(path) as stream:
        start = stream.read(_SNIFFED)
    if start.startswith(_UTF16):
        return io.TextIOWrapper(_bytes(path), encoding="utf-16", errors="replace", newline=newline)
    if start[1::2].count(0) > len(start) // 4 or start[::2].count(0) > len(start) // 4:
        raise UserError(f"{path}: UTF-16 without a byte order mark, or not a text file; save it as UTF-8")
    return io.TextIOWrapper(_bytes(path), encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _bytes(path: str | Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a file for reading its bytes, decompressed if it is compressed with gzip."""
    with open(path, "rb") as stream:
        compressed = stream.read(len(_GZIPPED)) == _GZIPPED
    if not compressed and suffix_of(path) == GZIP:
        raise UserError(f"{path}: not compressed with gzip; compress it, or take .gz off its name")
    return _Decompressed(path) if compressed else open(path, "rb")


class _Decompressed(gzip.GzipFile):
    """The bytes of a gzip file; damage is raised as a UserError that names it."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "rb")
        self._path = path

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all if it is negative."""
        with self._damage():
            return super().read(size)

    def read1(self, size: int = -1) -> bytes:
        """Read up to `size` bytes with one read of the file."""
        with self._damage():
            return super().read1(size)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except EOFError:
            raise UserError(f"{self._path}: the gzip file is cut off; copy or download it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{self._path}: the gzip file is damaged ({error}); copy or download it again") from None


def cleaned(lines: Iterable[str], path: str | Path) -> Iterator[str]:
    """Yield the lines of an `open_text` stream as printable text, with a warning where something was replaced.

    Bytes that are not UTF-8 are read as Latin-1. Control characters, which could change the state of a terminal, become
    U+FFFD.
    """
    encoding = control = False
    for i, line in enumerate(lines, start=1):
        clean = line
        if _NOT_UTF8.search(clean):
            clean = _NOT_UTF8.sub(lambda found: chr(ord(found[0]) - 0xDC00), clean)
            if not encoding:
                logger.warning("%s: line %d is not UTF-8; its other bytes are read as Latin-1", path, i)
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
