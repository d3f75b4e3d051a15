"""Read configuration files with the text of each value: duplicate keys, and words that YAML reads as another type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from golf.core.errors import UserError

_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"

KeyPath = tuple[str | int, ...]
"""Keys and indices that lead to a value."""


def read_mapping(path: str | Path) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Read the mapping in a YAML file, and the text that each of its values is written as.

    Raises:
        UserError: the file is missing, not YAML or not a mapping, or a key is there twice or not a text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        node, raw = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
    ) as error:  # ValueError: a month 13, or not UTF-8; TypeError: a list as a key
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: not a configuration of keys and values")
    return raw, dict(_written(node, (), path))


def _written(node: yaml.Node, at: KeyPath, path: str | Path) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(node, yaml.ScalarNode):
        yield at, node.value
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _written(item, (*at, i), path)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            where, line = ".".join(map(str, (*at, key.value))), key.start_mark.line + 1
            if key.tag not in (_TEXT, _MERGE):
                raise UserError(f"{path}: line {line}: YAML does not read the key {where} as text; write it in quotes")
            if key.value in lines:
                raise UserError(f"{path}: key {where} is there twice (lines {lines[key.value]} and {line}); remove one")
            lines[key.value] = line
            yield from _written(value, (*at, key.value), path)
