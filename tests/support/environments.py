"""Fresh virtual environments that have what pip would install, taken from the environment that runs the tests.

Nothing is downloaded: an environment has links to the packages that are asked for and to those that they require, in
the versions of requirements.txt. The clone is not in it.
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import REPOSITORY

SITE = Path(sysconfig.get_paths()["purelib"])
NOT_THE_PACKAGE = {".venv", ".snakemake", "build", "data", "docs", "results", "site", "tests", "__pycache__"}


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this clone, from a copy, as pip does it."""
    clone = folder / "clone"
    ignored = shutil.ignore_patterns(".git*", ".*_cache", "*.egg-info", *NOT_THE_PACKAGE)
    shutil.copytree(REPOSITORY, clone, ignore=ignored)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, clone)
    (wheel,) = folder.glob("golf-*.whl")
    shutil.rmtree(clone)
    return wheel


def pip(*arguments: object, python: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run pip without an index, for another Python where one is given; it must succeed unless it is `check`."""
    target = [] if python is None else ["--python", str(python)]
    command = [sys.executable, "-m", "pip", *target, "--no-input", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PIP_NO_INDEX": "1"})
    assert done.returncode == 0 or "check" in arguments, done.stderr
    return done


def required(names: Iterable[str]) -> Iterator[Distribution]:
    """The packages of these requirements, and all that they require.

    Raises:
        AssertionError: one is missing, or has a version that does not satisfy a requirement.
    """
    left, seen = [Requirement(name) for name in names], set()
    while left:
        requirement = left.pop()
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            raise AssertionError(f"{requirement} is not installed") from None
        assert requirement.specifier.contains(found.version, prereleases=True), f"{requirement}, not {found.version}"
        extras = requirement.extras or {""}
        key = (canonicalize_name(requirement.name), *sorted(extras))
        if key in seen:
            continue
        seen.add(key)
        yield found
        for text in found.requires or []:
            further = Requirement(text)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(further)


def new_environment(folder: Path, *packages: Distribution) -> Path:
    """Make a virtual environment with links to these packages; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    for package in packages:
        for name in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(SITE / name)
    return python
