"""Find a Python that has Psi4, and the environment to start it with.

Psi4 is built for one Python, that of its distribution or conda environment, and needs the numpy and QCElemental there.
So it runs in an interpreter of its own and never in the one that runs the networks. This module needs only the standard
library, so that the set-up can call it before anything is installed:

    python3 -m golf.oracles.programs.interpreter
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from golf.core.errors import UserError

CONFIG_KEY = "oracle.python"
VARIABLE = "GOLF_PSI4_PYTHON"
REPOSITORY = Path(__file__).resolve().parents[3]
"""The folder that holds the package golf."""

_TIME_LIMIT = 120.0  # seconds; the first import from a cold network disk is slow
_OF_THIS_PYTHON = frozenset(
    {"PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "__PYVENV_LAUNCHER__"}
)
_REMEDY = f"run `make setup`, or set {CONFIG_KEY} (or the variable {VARIABLE}) to a Python that imports psi4"


@dataclass(frozen=True)
class Psi4Interpreter:
    """A Python that has Psi4.

    `environment` is the complete environment of its process (`env=` of `subprocess`), not an addition to the current
    one.
    """

    python: str
    environment: dict[str, str]

    def version(self) -> str:
        """Return the version of Psi4, by importing it (1-2 s).

        Raises:
            UserError: the import fails.
        """
        done = _run([self.python, "-c", "import psi4; print(psi4.__version__)"], self.environment)
        if isinstance(done, str) or done.returncode:
            reason = done if isinstance(done, str) else _last_line(done.stderr)
            raise UserError(f"{self.python}: `import psi4` fails: {reason}; {_REMEDY}")
        return _last_line(done.stdout)


def find_psi4(python: str | None = None, repository: Path = REPOSITORY) -> Psi4Interpreter:
    """Find a Python that has Psi4.

    In this order: 1. `python`, the value of the configuration key oracle.python; 2. the environment variable
    GOLF_PSI4_PYTHON; 3. the launcher `psi4` on PATH; 4. `.psi4/bin/psi4` in `repository`, where `make setup` puts a
    conda environment. If 1 or 2 is set but does not have Psi4, that is an error, and the search ends.

    Raises:
        UserError: none of them can import psi4.
    """
    for key, named in ((CONFIG_KEY, python), (VARIABLE, os.environ.get(VARIABLE))):
        if named:
            return _named(key, named)
    reasons = []
    on_path = shutil.which("psi4", path=_environment()["PATH"])
    in_repository = repository / ".psi4" / "bin" / "psi4"
    for launcher, absence in ((on_path, "no psi4 on PATH"), (in_repository, f"none in {repository / '.psi4'}")):
        if launcher is None or not Path(launcher).is_file():
            reasons.append(absence)
            continue
        found = _from_launcher(Path(launcher))
        if isinstance(found, Psi4Interpreter):
            return found
        reasons.append(found)
    raise UserError(f"Psi4 not found: {', '.join(reasons)}; {_REMEDY}")


def _named(key: str, named: str) -> Psi4Interpreter:
    """Return the interpreter that the user names; it may need the paths of the launcher beside it to find Psi4."""
    program = shutil.which(os.path.expanduser(named))
    if program is None:
        raise UserError(f"Psi4 not found: {key}: {named}: no such program; {_REMEDY}")
    # The link is not resolved: in a virtual environment its target is a Python outside.
    python = os.path.abspath(program)
    interpreter = Psi4Interpreter(python, _environment(path=[os.path.dirname(python)]))
    if _has_psi4(interpreter):
        return interpreter
    launcher = Path(python).with_name("psi4")
    if launcher.is_file():
        environment = _launcher_environment(python, launcher)
        if not isinstance(environment, str) and _has_psi4(Psi4Interpreter(python, environment)):
            return Psi4Interpreter(python, environment)
    raise UserError(f"Psi4 not found: {key}: {python} cannot import psi4; {_REMEDY}")


def _from_launcher(launcher: Path) -> Psi4Interpreter | str:
    """Return the interpreter of a launcher, or the reason why there is none."""
    launcher = launcher.resolve()  # its Python and libraries are beside the file, not beside a link to it
    python = _launcher_python(launcher)
    if python is None:
        return f"the first line of {launcher} does not name a Python"
    environment = _launcher_environment(python, launcher)
    if isinstance(environment, str):
        return f"{launcher} does not run: {environment}"
    interpreter = Psi4Interpreter(python, environment)
    return interpreter if _has_psi4(interpreter) else f"{python} of {launcher} cannot import psi4"


def _launcher_python(launcher: Path) -> str | None:
    """Return the Python in a launcher's first line; for `env python` and shell wrappers, the one beside it."""
    with open(launcher, "rb") as stream:
        first = stream.readline(4096).decode(errors="replace")
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    names = [word for word in words if re.fullmatch(r"python[\d.]*", os.path.basename(word))]
    if names and os.path.isabs(names[0]):
        return names[0] if os.access(names[0], os.X_OK) else None
    path = os.pathsep.join([str(launcher.parent), _environment()["PATH"] if names else ""])
    for name in [*names, "python3", "python"]:
        if found := shutil.which(name, path=path):
            return found
    return None


def _launcher_environment(python: str, launcher: Path) -> dict[str, str] | str:
    """Return the environment that `psi4 --psiapi-path` prints as shell commands, or why it fails."""
    done = _run([python, str(launcher), "--psiapi-path"], _environment())
    if isinstance(done, str) or done.returncode:
        return done if isinstance(done, str) else _last_line(done.stderr)
    folders: dict[str, list[str]] = {"PATH": [], "PYTHONPATH": []}
    for name, value in re.findall(r"^\s*(?:export\s+)?(PATH|PYTHONPATH)=(.*)$", done.stdout, re.MULTILINE):
        parts = value.strip().strip("'\"").split(":")
        folders[name] += [os.path.normpath(part) for part in parts if part and not part.startswith("$")]
    return _environment(path=folders["PATH"], pythonpath=folders["PYTHONPATH"])


def _environment(path: list[str] | None = None, pythonpath: list[str] | None = None) -> dict[str, str]:
    """Return the current environment without the variables of the current Python, and with folders before PATH."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THIS_PYTHON}
    prefixes = [os.environ.get("VIRTUAL_ENV"), sys.prefix if sys.prefix != sys.base_prefix else None]
    ours = {os.path.join(prefix, "bin") for prefix in prefixes if prefix}
    inherited = os.environ.get("PATH", os.defpath).split(os.pathsep)
    kept = [folder for folder in inherited if folder and folder.rstrip("/") not in ours]
    environment["PATH"] = os.pathsep.join([*(path or []), *kept])
    if pythonpath:
        environment["PYTHONPATH"] = os.pathsep.join(pythonpath)
    # Packages in the home folder would take precedence over the numpy that Psi4 was built against.
    environment["PYTHONNOUSERSITE"] = "1"
    return environment


def _has_psi4(interpreter: Psi4Interpreter) -> bool:
    """Tell whether psi4 can be imported; a folder of that name without code (no origin) does not count."""
    code = "import importlib.util as u; s = u.find_spec('psi4'); raise SystemExit(s is None or s.origin is None)"
    done = _run([interpreter.python, "-c", code], interpreter.environment)
    return not isinstance(done, str) and done.returncode == 0


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str] | str:
    """Run a command; return the finished process, or why it did not start or end."""
    try:
        with tempfile.TemporaryDirectory(prefix="golf-find-psi4-") as folder:  # Psi4 leaves a timer.dat in its folder
            return subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=_TIME_LIMIT,
                check=False,
            )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{command[0]}: no answer within {_TIME_LIMIT:.0f} s"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1].strip()


def main() -> int:
    """Import Psi4 and print its Python; if there is none, print one line to stderr and return exit status 1."""
    try:
        interpreter = find_psi4()
        print(f"Psi4 {interpreter.version()} in {interpreter.python}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
