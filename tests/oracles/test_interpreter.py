"""Which Python has Psi4: the real one of this machine, in the places where it may be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from golf.core.errors import UserError
from golf.oracles.programs.interpreter import Psi4Interpreter, find_psi4


@pytest.fixture(autouse=True)
def not_named_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer may need the variable to have Psi4 found at all; the tests look further than that."""
    monkeypatch.delenv("GOLF_PSI4_PYTHON", raising=False)


def imported_from(interpreter: Psi4Interpreter, folder: Path) -> str:
    """File of the psi4 that a child process of this interpreter imports."""
    command = [interpreter.python, "-c", "import psi4; print(psi4.__file__)"]
    done = subprocess.run(command, env=interpreter.environment, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def install_copy(psi4: Psi4Interpreter, prefix: Path, first_line: str) -> Path:
    """The installation of this machine seen at another prefix: its libraries, its Python and its launcher."""
    original = shutil.which("psi4", path=psi4.environment["PATH"])
    if original is None:
        pytest.fail("the launcher `psi4` does not stand beside its Python")
    launcher = prefix / "bin" / "psi4"
    launcher.parent.mkdir(parents=True)
    lines = Path(original).resolve().read_text().splitlines(keepends=True)
    launcher.write_text(first_line + "\n" + "".join(lines[1:]))
    launcher.chmod(0o755)
    (prefix / "lib").symlink_to(Path(original).resolve().parents[1] / "lib")
    (prefix / "share").symlink_to(Path(original).resolve().parents[1] / "share")
    # Not a link: a Python finds its own library from the place that a link leads to, not from where it stands.
    (launcher.parent / "python3").write_text(f'#!/bin/sh\nexec "{psi4.python}" "$@"\n')
    (launcher.parent / "python3").chmod(0o755)
    return launcher


def test_psi4_of_this_machine_imports(psi4: Psi4Interpreter, tmp_path: Path) -> None:
    assert "psi4" in imported_from(psi4, tmp_path)
    assert psi4.version()[0].isdigit()


def test_environment_does_not_leak_ours(psi4: Psi4Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.join(sys.prefix, "bin"), os.environ["PATH"]]))
    found = find_psi4(psi4.python)
    assert not {"VIRTUAL_ENV", "PYTHONHOME"} & found.environment.keys()
    assert "/nowhere" not in found.environment.get("PYTHONPATH", "")
    if sys.prefix != sys.base_prefix:
        assert os.path.join(sys.prefix, "bin") not in found.environment["PATH"].split(os.pathsep)
    imported_from(found, tmp_path)


def test_named_python(psi4: Psi4Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    by_argument = find_psi4(psi4.python, repository=tmp_path)
    assert by_argument.python == psi4.python
    imported_from(by_argument, tmp_path)
    monkeypatch.setenv("GOLF_PSI4_PYTHON", psi4.python)
    assert find_psi4(repository=tmp_path).python == psi4.python


@pytest.mark.parametrize("first_line", ["#!/usr/bin/env python3", "#!/bin/sh"])
def test_launcher_in_the_repository(
    psi4: Psi4Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first_line: str
) -> None:
    launcher = install_copy(psi4, tmp_path / ".psi4", first_line)
    monkeypatch.setenv("PATH", "")
    found = find_psi4(repository=tmp_path)
    assert found.python == str(launcher.with_name("python3"))
    imported_from(found, tmp_path)


def test_link_to_a_launcher_on_path(psi4: Psi4Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launcher = install_copy(psi4, tmp_path / "opt", "#!/usr/bin/env python3")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "psi4").symlink_to(launcher)
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    assert find_psi4(repository=tmp_path).python == str(launcher.with_name("python3"))


def test_named_python_without_psi4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"oracle\.python: .* cannot import psi4; run `make setup`"):
        find_psi4(sys.executable)
    with pytest.raises(UserError, match=r"oracle\.python: no-such-python: no such program"):
        find_psi4("no-such-python")
    monkeypatch.setenv("GOLF_PSI4_PYTHON", sys.executable)
    with pytest.raises(UserError, match="GOLF_PSI4_PYTHON: .* cannot import psi4"):
        find_psi4()


def test_nothing_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError) as caught:
        find_psi4(repository=tmp_path)
    message = str(caught.value)
    assert message.startswith("Psi4 not found: no psi4 on PATH")
    assert "make setup" in message and "oracle.python" in message and "\n" not in message


@pytest.mark.parametrize(
    "code, problem", [("", "cannot import psi4"), ("raise ValueError('no')", "does not run: ValueError: no")]
)
def test_broken_launcher_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, problem: str) -> None:
    (tmp_path / "psi4").write_text(f"#!{sys.executable}\n{code}\n")
    (tmp_path / "psi4").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=f"{problem}.*none in {tmp_path}"):
        find_psi4(repository=tmp_path)
