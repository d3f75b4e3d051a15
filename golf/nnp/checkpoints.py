"""Write checkpoints of a training, and its metrics: a CSV with each row once, however often it was interrupted."""

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
    """Write a checkpoint of tensors, numbers and text atomically.

    Args:
        path: file to write.
        fingerprint: hash of the inputs that the checkpoint belongs to.
        content: state to restore.
    """
    save_whole(path, {"format": FORMAT, "fingerprint": fingerprint, "content": dict(content)})


def save_whole(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a file for `torch.load` atomically.

    Raises:
        OSError: the file cannot be written (torch itself raises a RuntimeError of many lines if the disk is full).
    """
    stream = io.BytesIO()
    torch.save(dict(content), stream)
    with written_whole(path) as temporary:
        temporary.write_bytes(stream.getbuffer())


def read_checkpoint(path: str | Path, fingerprint: str) -> dict[str, Any] | None:
    """Read the content of a checkpoint; None if there is no checkpoint, or, with a warning, none of these inputs."""
    if not Path(path).exists():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        logger.warning("%s: unreadable checkpoint ignored, training restarts: %s", path, error)
        return None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT or stored.get("fingerprint") != fingerprint:
        logger.warning("%s: checkpoint of other data or settings ignored, training restarts", path)
        return None
    return stored["content"]


_HEADER = ",".join(METRICS) + "\n"


def is_metrics(path: str | Path) -> bool:
    """Tell whether a file contains the metrics of a training, possibly cut off within the header."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return _HEADER.startswith(file.readline(len(_HEADER)))


class Metrics:
    """The metrics file of a training, which grows by rows; checkpoints contain a copy of its text."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._text = ""

    def start(self, text: str | None = None) -> None:
        """Start the file, with the text from a checkpoint if given; later rows will be computed again."""
        self._text = _HEADER if text is None else text
        with written_whole(self._path) as temporary:
            temporary.write_text(self._text, encoding="utf-8")

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; values that are not finite are left empty."""
        stream = io.StringIO()
        values = [f"{row[name]:.8g}" if math.isfinite(row[name]) else "" for name in METRICS]
        csv.writer(stream, lineterminator="\n").writerow(values)
        self._text += stream.getvalue()
        with errors_name(self._path), open(self._path, "a", encoding="utf-8") as file:
            file.write(stream.getvalue())

    def text(self) -> str:
        """Return the text of the whole file."""
        return self._text
