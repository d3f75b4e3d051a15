"""Writes docs/configuration.md from schemas/config.schema.yaml. `make docs` calls it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from golf.study.config import GROWING_KEYS, MACHINE_KEYS, schema

PAGE = Path(__file__).resolve().parent.parent / "configuration.md"

HEAD = """# Every key of the configuration

<!-- Made by docs/site/configuration.py from schemas/config.schema.yaml; edit that. -->

A study is one YAML file, such as `config.yaml`. Only `dataset.train` has to be there; a key that is not on this page is
an error, and so is a value of another type or out of range. `golf estimate CONFIG.yaml` checks a file without running
it.

A folder of results belongs to one configuration: a changed one needs another `results_dir`. Keys that say where and how
fast a study runs, not what it computes, may be changed at any time:
"""
GROWING = """
Keys that say what is compared may be changed as well. Type the same command again: a finished study computes what is
new and keeps the labels that it has paid for:
"""
TABLE = ("| key | type | default | unit | meaning |", "|---|---|---|---|---|")


def page() -> str:
    """The text of docs/configuration.md."""
    top = schema()["properties"]
    lines = [HEAD, *_list(MACHINE_KEYS), GROWING, *_list(GROWING_KEYS), "", "## Top level", "", *TABLE]
    lines += [_row(key, part, False) for key, part in top.items() if "properties" not in part]
    for section, part in top.items():
        if "properties" in part:
            lines += ["", f"## {section}", "", *TABLE, *_rows(section, part)]
    return "\n".join(lines) + "\n"


def _list(keys: Iterable[str]) -> list[str]:
    return [f"- `{key}`" for key in keys]


def _rows(path: str, part: Mapping[str, Any]) -> Iterator[str]:
    for name, sub in part["properties"].items():
        yield _row(f"{path}.{name}", sub, name in part.get("required", ()))
        if "properties" in sub.get("items", {}):
            yield from _rows(f"{path}.{name}[]", sub["items"])


def _row(key: str, part: Mapping[str, Any], required: bool) -> str:
    default = "required" if required else _code(part["default"]) if "default" in part else ""
    cells = [f"`{key}`", _type(part), default, part.get("unit", ""), _text(part["description"])]
    return f"| {' | '.join(cells)} |"


def _type(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return "one of " + ", ".join(_code(value) for value in part["enum"])
    names = {"object": "mapping", "array": "list", "boolean": "true or false"}
    kinds = [part["type"]] if isinstance(part["type"], str) else part["type"]
    words = " or ".join(names.get(kind, kind) for kind in kinds)
    if "items" in part:
        words += f" of {_plural(part['items'])}"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {part[name]:g}" for name, word in bounds.items() if name in part]
    return ", ".join([words, *limits])


def _plural(items: Mapping[str, Any]) -> str:
    if "enum" in items:
        return ", ".join(_code(value) for value in items["enum"])
    return "mappings" if items["type"] == "object" else f"{items['type']}s"


def _code(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return f"`{text}`"


def _text(description: str) -> str:
    return re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", " ".join(description.split()).replace("|", "\\|"))


if __name__ == "__main__":
    PAGE.write_text(page())
