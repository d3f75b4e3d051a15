"""Checkpoint of a training, and its metrics: a CSV with each row once, however often the training was killed."""

from __future__ import annotations

import csv
import io
import logging
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf.core.files import errors_name, written_whole

logger = logging.getLogger(__name__)

FORMAT = "golf-checkpoint-1"
METRICS = (
    "step",
    "learning_rate",
    "loss",
    "train_force_mae_kcal_per_mol_angstrom",
    "validation_force_mae_kcal_per_mol_angstrom",
    "validation_energy_mae_kcal_per_mol",
    "seconds",
)


def write_checkpoint(path: str | Path, fingerprint: str, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers and text, whole."""
    save_whole(path, {"format": FORMAT, "fingerprint": fingerprint, "content": dict(content)})


def save_whole(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write what `torch.load` reads, whole.

    Raises:
        OSError: it cannot be written; torch itself raises a RuntimeError of many lines where the disk is full.
    """
    stream = io.BytesIO()
    torch.save(dict(content), stream)
    with written_whole(path) as temporary:
        temporary.write_bytes(stream.getbuffer())


def read_checkpoint(path: str | Path, fingerprint: str) -> dict[str, Any] | None:
    """The content of a checkpoint, or None where there is none that belongs to these inputs (which is warned of)."""
    if not Path(path).exists():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        logger.warning("%s: unreadable checkpoint ignored, training starts anew: %s", path, error)
        return None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or stored.get("fingerprint") != fingerprint:
        logger.warning("%s: checkpoint of other data or settings ignored, training starts anew", path)
        return None
    return stored["content"]


_HEADER = ",".join(METRICS) + "\n"


def is_metrics(path: str | Path) -> bool:
    """Whether a file is the metrics of a training, perhaps of one that was killed as it began them."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return _HEADER.startswith(file.readline(len(_HEADER)))


class Metrics:
    """The metrics of a training. Rows are written as they come; a checkpoint keeps a copy of them."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._text = ""

    def start(self, text: str | None = None) -> None:
        """Begin the file, with the rows that a checkpoint kept: later ones are computed again."""
        self._text = _HEADER if text is None else text
        with written_whole(self._path) as temporary:
            temporary.write_text(self._text, encoding="utf-8")

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; a value that is not there (NaN) is left empty."""
        stream = io.StringIO()
        values = [f"{row[name]:.8g}" if math.isfinite(row[name]) else "" for name in METRICS]
        csv.writer(stream, lineterminator="\n").writerow(values)
        self._text += stream.getvalue()
        with errors_name(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write(stream.getvalue())

    def text(self) -> str:
        """The whole file."""
        return self._text
