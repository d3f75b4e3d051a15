"""Run notebooks of the documentation; `python tests/support/notebooks.py docs/notebooks/*.ipynb` writes their outputs.

Cells print; nothing else of a notebook is needed, so that no kernel has to be installed.
"""

import io
import json
import os
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path


def cells(path: Path) -> list[dict]:
    """The code cells of a notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(path: Path) -> list[str]:
    """What each code cell prints, run in order in an empty folder."""
    names: dict = {}
    texts = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for cell in cells(path):
            with redirect_stdout(io.StringIO()) as stream:
                exec("".join(cell["source"]), names)
            texts.append(stream.getvalue())
    return texts


def stored(path: Path) -> list[str]:
    """What each code cell has printed, as the notebook shows it."""
    return ["".join(text for output in cell["outputs"] for text in output["text"]) for cell in cells(path)]


def write_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, text) in enumerate(zip(code, printed(path), strict=True), start=1):
        cell["execution_count"] = number
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell["outputs"] = [stream] if text else []
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in sys.argv[1:]:
        write_outputs(Path(name).absolute())
