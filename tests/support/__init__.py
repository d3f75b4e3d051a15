"""What several test files need; no test imports another test."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FINDABLE = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
"""For children that import golf and this package wherever they run."""
