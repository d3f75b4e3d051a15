"""`golf relax` on a library of 100,000 small molecules: wall time, peak memory, size of the output.

The molecules are chains of groups drawn at random; the model has 16 features and one interaction and is trained for a
moment on data/initial.h5, so its geometries mean nothing. A relaxation has 5 steps at most. What is measured is
reading, embedding, working off in pieces and putting together.

    python benchmarks/library.py
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import facts

REPOSITORY = Path(__file__).resolve().parent.parent
GROUPS = ("C", "C", "O", "N", "S", "C(C)", "C(=O)", "C(F)", "C(O)", "C(N)")
MODEL = "nnp: {n_atom_basis: 16, n_interactions: 1, n_rbf: 8}\ndataset: {train: data/initial.h5}\n"


def library(path: Path, n: int) -> None:
    """Write n molecules of 4 to 6 groups."""
    draw = random.Random(1)
    with open(path, "w", encoding="utf-8") as stream:
        for i in range(n):
            groups = [draw.choice(GROUPS) for _ in range(draw.randint(3, 5))]
            stream.write(f"C{''.join(groups)} m{i}\n")


def main() -> int:
    """Run it and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=100_000, help="molecules (default: %(default)s)")
    parser.add_argument("--suffix", default=".sdf", help="of the output (default: %(default)s)")
    options = parser.parse_args()
    golf = [sys.executable, "-m", "golf.cli.main"]
    with tempfile.TemporaryDirectory(prefix="golf-library-") as name:
        folder = Path(name)
        library(folder / "library.smi", options.n)
        (folder / "model.yaml").write_text(MODEL, encoding="utf-8")
        training = ["train", "data/initial.h5", "-o", folder / "model.pt", "--config", folder / "model.yaml"]
        subprocess.run([*golf, *training, "--updates", "100"], check=True, cwd=REPOSITORY)
        output = folder / f"relaxed{options.suffix}"
        relaxation = ["relax", folder / "library.smi", "-m", folder / "model.pt", "-o", output]
        started = time.monotonic()
        process = subprocess.Popen([*golf, *relaxation, "--max-steps", "5", "--optimizer", "lbfgs"], cwd=REPOSITORY)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        print(facts("torch", "rdkit"))
        print(
            f"{options.n} molecules: {wall:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU time, peak memory "
            f"{used.ru_maxrss / 1024:.0f} MB, output {output.stat().st_size / 2**20:.0f} MB"
        )
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
