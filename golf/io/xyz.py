"""Split XYZ and extended XYZ files into frames of text, and parse the keys of comment lines.

A frame is a number of atoms, a comment and a line for each atom. Only `key=value` in a comment has a meaning, and
values are text: programs write words, energies and dates there. Nothing here needs RDKit or ASE, since Snakemake uses
it to plan a study.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from golf.core.errors import UserError
from golf.core.text import cleaned, open_text

COUNT = re.compile(r"\s*[0-9]+\s*$")

_KEY = r'"((?:[^"\\]|\\.)+)"|([^\s="\'{}\[\]]+)'
_VALUE = r""""((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(\{[^{}]*\}|\[[^\[\]]*\](?!\S)|\S*)"""
_PAIR = re.compile(rf"(?:^|(?<=\s))(?:{_KEY})\s*=(?:\s+(?=[^\s=]+(?:\s|$)))?(?:{_VALUE})")
_ESCAPE = re.compile(r"""\\(["'\\])""")

QM9 = re.compile(r"gdb\s+[0-9]+\s")
"""Beginning of the comments of QM9 (Ramakrishnan et al., Sci. Data 1, 140022 (2014))."""

QM9_LINES = 3
"""Number of lines after the atoms in QM9: frequencies, SMILES and InChI."""


@dataclass(frozen=True)
class RawFrame:
    """A frame as text.

    Attributes:
        number: of the frame, from 1.
        line: line of its number of atoms, from 1.
        rows: the lines of its atoms.
        problem: why it is not a frame; "" if it is one.
    """

    number: int
    line: int
    comment: str = ""
    rows: list[str] = field(default_factory=list)
    problem: str = ""


class _Lines:
    """The lines of a file with their numbers; the last line read can be put back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._back: list[str] = []
        self.number = 0

    def next(self) -> str:
        """Return the next line; "" at the end of the file."""
        self.number += 1
        return self._back.pop() if self._back else next(self._lines, "")

    def put_back(self, line: str) -> None:
        """Put back the line that `next` returned last, so that it returns it again."""
        self.number -= 1
        self._back.append(line)


def raw_frames(path: str | Path, *, warn: bool = False) -> Iterator[RawFrame]:
    """Yield the frames of a file, one in memory at a time; lines between two frames become a frame with a problem.

    Args:
        warn: replace unreadable characters with a warning (`golf.core.text.cleaned`); otherwise they are kept.

    Raises:
        UserError: the file is missing, or does not begin with a number of atoms.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open_text(path) as stream:
        lines = _Lines(cleaned(stream, path) if warn else stream)
        number = 0
        while line := lines.next():
            if not line.strip():
                continue
            if COUNT.match(line):
                frame = _frame(int(line), number + 1, lines)
            elif number:
                frame = _stray(line, number + 1, lines)
            else:
                raise UserError(
                    f"{path}: frame 1: {line.strip()[:40]!r} is not a number of atoms, so this is not extended XYZ; "
                    "correct the suffix"
                )
            number += 1
            yield frame


def _frame(n_atoms: int, number: int, lines: _Lines) -> RawFrame:
    first, comment = lines.number, lines.next()
    rows: list[str] = []
    while len(rows) < n_atoms:
        line = lines.next()
        if not line.strip() or COUNT.match(line):
            lines.put_back(line)
            break
        rows.append(line)
    if not n_atoms:
        return RawFrame(number, first, comment, problem="has no atoms")
    if len(rows) < n_atoms:
        cut = f"has fewer than {n_atoms} atoms ({len(rows)}); the file is truncated there, or the number is wrong"
        return RawFrame(number, first, comment, problem=cut)
    following = lines.next()
    if QM9.match(comment) and following.strip() and not COUNT.match(following):
        for _ in range(QM9_LINES - 1):
            lines.next()
        return RawFrame(number, first, comment, rows)
    lines.put_back(following)
    if len(following.split()) >= 4 and len(following.split()) == len(rows[-1].split()):
        _pass_over(lines)
        return RawFrame(number, first, comment, problem=f"has more atoms than the stated {n_atoms}")
    return RawFrame(number, first, comment, rows)


def _stray(line: str, number: int, lines: _Lines) -> RawFrame:
    first = lines.number
    _pass_over(lines)
    return RawFrame(number, first, problem=f"{line.strip()[:40]!r} is not a number of atoms")


def _pass_over(lines: _Lines) -> None:
    """Skip lines up to the next number of atoms, or the end of the file."""
    while (line := lines.next()) and not COUNT.match(line):
        pass
    lines.put_back(line)


def keys_of(comment: str) -> dict[str, str]:
    """Parse the keys of a comment line with their values as text; a key that appears twice has its last value.

    A word without "=" is not a key, and neither is text in brackets, which belong to the value, as in a SMILES. A
    backslash is an escape only before a quote or another backslash, so those of a SMILES stay.
    """
    found: dict[str, str] = {}
    for one in _PAIR.finditer(comment):
        quoted, plain, *values = one.groups()
        key = plain if quoted is None else _plain(quoted)
        found[key] = _plain(next((value for value in values if value is not None), ""))
    return found


def _plain(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)


def molecule_name(keys: Mapping[str, str]) -> str:
    """Return the name of a molecule from the keys of a record; "" if there is none.

    It is `molecule`, or `name` without the number that golf appends for conformations ("ethanol/0007"), or nablaDFT's
    `moses_id`.
    """
    return keys.get("molecule", "") or re.sub(r"(?<=.)/[0-9]+$", "", keys.get("name", "")) or keys.get("moses_id", "")
