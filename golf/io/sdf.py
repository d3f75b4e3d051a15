"""Split SDF files into records of text, tolerating common mistakes of programs, and write records.

Format: CTfile Formats, BIOVIA 2020, chapter "SDfiles".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rdkit import Chem

from golf.core.text import one_line

logger = logging.getLogger(__name__)

END = "$$$$"
_HEADER = 4  # first lines of a molfile: name, program and comment, which may be blank, and the counts


@dataclass(frozen=True)
class Block:
    """A record of an SDF file as text.

    Attributes:
        molfile: text up to "M  END", without the blank lines that some programs insert.
        properties: data items as written; an item without a name is named "unnamed".
    """

    molfile: str
    properties: Mapping[str, str]

    @property
    def name(self) -> str:
        """First line of the record."""
        return self.molfile.partition("\n")[0].strip()


def blocks(lines: Iterable[str], path: object) -> Iterator[Block]:
    """Yield the records of an SDF file, with a warning if the last one is cut off."""
    record: list[str] = []
    for line in lines:
        if line.startswith(END):
            yield _block(record)
            record = []
        else:
            record.append(line.rstrip("\r\n"))
    if any(line.strip() for line in record):
        yield _block(record)
        logger.warning("%s: the last record does not end with $$$$; the file may be cut off", path)


def _block(lines: list[str]) -> Block:
    is_end = (i for i, line in enumerate(lines) if line.startswith("M  END"))
    is_item = (i for i, line in enumerate(lines) if i >= _HEADER and line.startswith(">"))
    end = next(is_end, next(is_item, len(lines)) - 1) + 1
    body = [line for line in lines[_HEADER:end] if line.strip()]
    return Block("\n".join([*lines[:_HEADER], *body, ""]), _properties(lines[end:]))


def _properties(lines: Iterable[str]) -> dict[str, str]:
    """Parse data items: a line with ">" and a name in "<>", lines of the value, and a blank line."""
    found: dict[str, list[str]] = {}
    item: list[str] | None = None
    for line in lines:
        if item is None and line.startswith(">"):
            key = line[line.find("<") + 1 : line.rfind(">")] if "<" in line else ""
            item = found[unique(key or "unnamed", found)] = []
        elif not line.strip():
            item = None
        elif item is not None:
            item.append(line)
    return {key: "\n".join(value) for key, value in found.items()}


def unique(key: str, taken: Iterable[str]) -> str:
    """Return the key, with a number appended if it is taken."""
    known, k, name = set(taken), 2, key
    while name in known:
        name, k = f"{key}_{k}", k + 1
    return name


def record_text(mol: Chem.Mol, name: str, properties: Mapping[str, str]) -> str:
    """Return the SDF record of a molecule with one conformer.

    Text that the format cannot hold is changed: line breaks in names and keys, blank lines in values, and lines that
    would end the record.
    """
    copy = Chem.Mol(mol)
    copy.SetProp("_Name", _inner(one_line(name)))
    items: dict[str, str] = {}
    for key, value in properties.items():
        text = "\n".join(_inner(line) for line in value.splitlines() if line.strip())
        items[unique(one_line(key).strip() or "unnamed", items)] = text
    data = "".join(f">  <{key}>\n{value}\n\n" if value else f">  <{key}>\n\n" for key, value in items.items())
    return f"{Chem.MolToMolBlock(copy)}{data}{END}\n"


def _inner(line: str) -> str:
    """Indent a line that would end the record."""
    return f" {line}" if line.startswith(END) else line
