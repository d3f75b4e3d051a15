"""Hooks for MkDocs: order of the pages, table of modules, equations as MathML, search from disk.

Browsers draw MathML themselves, so that pages need neither a script nor a network.
"""

import ast
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

# Pages that are not named here come last, by their names.
SECTIONS = {
    "Start": ("index", "install", "tutorial", "molecules", "relax", "potentials", "check", "report", "troubleshooting"),
    "A study": ("default-study", "paper", "data", "convert", "configuration", "oracles", "hpc"),
    "The model": ("training", "calculator", "python", "export"),
    "Reference": ("hdf5", "method", "performance"),
    "Inside": ("architecture", "extending", "api"),
}
REST = "Further"

MODULES = "<!-- modules -->"  # in a page: replaced by the table of modules

_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def navigation(pages: list[str]) -> list[dict[str, list[str]]]:
    """The sections and their pages, of those that are there."""
    known = {name for names in SECTIONS.values() for name in names}
    sections = SECTIONS | {REST: tuple(sorted(set(pages) - known))}
    present = {title: [f"{name}.md" for name in names if name in pages] for title, names in sections.items()}
    return [{title: files} for title, files in present.items() if files]


def modules(package: Path) -> str:
    """Return a table of all modules of each room, with the first sentence of their docstrings."""
    lines: list[str] = []
    for room in sorted(path for path in package.iterdir() if (path / "__init__.py").is_file()):
        lines += [f"### `{room.relative_to(package.parent)}/`", "", "| module | what it is for |", "|---|---|"]
        for path in sorted(room.rglob("*.py")):
            about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if about or path.name != "__init__.py":
                first = re.split(r"\n\n|(?<=\.)\s", about)[0].replace("\n", " ").replace("|", "\\|")
                lines.append(f"| `{path.relative_to(package.parent)}` | {first} |")
        lines.append("")
    return "\n".join(lines)


def with_mathml(page: str) -> str:
    """The HTML of a page, its equations as MathML."""

    def drawn(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return convert(unescape(match[3]).strip(), display=display)

    return _EQUATION.sub(drawn, page)


def on_config(config: Any) -> Any:
    config["nav"] = navigation([path.stem for path in Path(config["docs_dir"]).glob("*.md")])
    return config


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    if MODULES not in markdown:
        return markdown
    return markdown.replace(MODULES, modules(Path(config["docs_dir"]).parent / "golf"))


def on_page_content(html: str, **_: Any) -> str:
    return with_mathml(html)


def on_post_build(config: Any) -> None:
    """Replace MkDocs' search by one that needs no server (search.js)."""
    folder = Path(config["site_dir"]) / "search"
    pages = json.loads((folder / "search_index.json").read_text())["docs"]
    (folder / "pages.js").write_text(f"const golfPages = {json.dumps(pages)};\n")
    (folder / "main.js").write_text((Path(config["docs_dir"]) / "site/search.js").read_text())
    for name in ("worker.js", "search_index.json"):
        (folder / name).unlink()
