"""Embed SVG files in a page; several SVGs in one document must not share ids or styles."""

from __future__ import annotations

import re
from html import escape

from golf.core.errors import UserError

_PROLOG = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<style\b[^>]*>.*?</style>", re.DOTALL)
_NAME = re.compile(r'\bid="([^"]+)"')
_USE = re.compile(r'(xlink:href="#|href="#|url\(#)([^")]+)')
_ROOT = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'\b(width|height|xmlns|xmlns:xlink|version)="[^"]*"\s*')
_STROKES = 'style="stroke-linejoin:round;stroke-linecap:butt"'  # from matplotlib's style sheet, for all elements


def inline(svg: str, prefix: str, words: str) -> str:
    """Convert an SVG file of matplotlib to an element of a page, with unique ids, no size and no shared style sheet.

    Args:
        svg: content of the file.
        prefix: prefix of all ids, different for each figure of a page.
        words: description for screen readers.

    Raises:
        UserError: the file is not an SVG.
    """
    if not _ROOT.search(svg):
        raise UserError(f"{prefix}: the figure is not an SVG; remove its file and run again")
    text = _LEFT_OUT.sub("", _PROLOG.sub("", svg, count=1))
    text = _NAME.sub(lambda found: f'id="{prefix}-{found[1]}"', text)
    text = _USE.sub(lambda found: f"{found[1]}{prefix}-{found[2]}", text)
    label = f'role="img" aria-label="{escape(words, quote=True)}" {_STROKES}'

    def root(found: re.Match[str]) -> str:
        kept = _SIZE.sub("", found[0])
        return kept.replace("<svg", f"<svg {label}", 1)

    return _ROOT.sub(root, text, count=1).strip()


def width_of(svg: str) -> float:
    """Return the width of an SVG in its own units, which are points for matplotlib; 0 if it has no viewBox."""
    found = re.search(r'viewBox="\S+ \S+ (\S+) \S+"', svg)
    return float(found[1]) if found else 0.0
