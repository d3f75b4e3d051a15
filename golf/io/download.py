"""Download public files over HTTP: resume after interruptions, verify checksums, rename when complete."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPResponse
from pathlib import Path

from golf import __version__
from golf.core.deadline import Deadline
from golf.core.errors import UserError
from golf.core.locks import LockedFile

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60.0
LOG_INTERVAL_SECONDS = 30.0

RETRIES = 5
"""Number of consecutive connections without any data before giving up."""

PAUSE_SECONDS = 2.0
"""Pause before the first retry; it doubles with every further one."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of temporary errors, after which a retry makes sense."""

ETAG_PART = 8 << 20
"""Bytes per part of an upload to S3 and similar stores; the ETag is the MD5 of the parts' MD5s and the part count."""


class _CutOff(Exception):
    """The connection ended before the end of the file."""


def download(
    url: str,
    path: str | Path,
    checksums: Mapping[str, str],
    *,
    deadline: Deadline | None = None,
    pause: float = PAUSE_SECONDS,
) -> None:
    """Download a file, resuming from the data that an earlier call left in `.NAME.part` beside it.

    Args:
        checksums: sha256, md5 or etag, in hexadecimal. If empty, only the length is checked, and the SHA-256 is logged.
        deadline: time limit of the job, for waiting while another process downloads the same file.
        pause: see `PAUSE_SECONDS`.

    Raises:
        UserError: the server cannot be reached or has no such file, the disk is too small, or the checksum is wrong; in
            the last case the file is removed.
        OSError: the disk is full; the data so far are kept.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    validator = part.with_name(f"{part.name}.validator")
    was_there = path.exists()
    with LockedFile(part, deadline):
        if not was_there and path.exists() and _is_right(path, checksums):  # downloaded by another process meanwhile
            part.unlink()
            return
        _fetch_all(url, part, validator, pause)
        try:
            _verify(url, part, checksums)
        except UserError:
            part.unlink()
            raise
        finally:
            validator.unlink(missing_ok=True)
        with open(part, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)


def _fetch_all(url: str, part: Path, validator: Path, pause: float) -> None:
    failures = 0
    while True:
        before = part.stat().st_size
        try:
            _fetch_rest(url, part, validator)
            return
        except _CutOff as error:
            failures = 0 if part.stat().st_size > before else failures + 1
            if failures > RETRIES:
                kept = part.stat().st_size
                raise UserError(f"{url}: {error}; {_NETWORK} (the {kept} bytes so far are kept)") from None
            logger.warning("%s: %s; retrying", url, error)
            time.sleep(pause * 2 ** max(0, failures - 1))


def _fetch_rest(url: str, part: Path, validator: Path) -> None:
    """Append the missing bytes; start over if the file has changed or the server sends all of it."""
    have = part.stat().st_size
    headers = {"User-Agent": f"golf/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator.exists():
            headers["If-Range"] = validator.read_text(encoding="utf-8")
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            os.truncate(part, 0)
            raise _CutOff("the partial download was longer than the file") from None
        if error.code in PASSING:
            raise _CutOff(f"the server answers {error.code} {error.reason}") from None
        raise UserError(f"{url}: the server answers {error.code} {error.reason}; correct the address") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            raise UserError(f"{url}: host not found ({error.reason.strerror}); {_NETWORK}") from None
        raise _CutOff(str(error.reason)) from None
    except (http.client.HTTPException, OSError) as error:
        raise _CutOff(str(error) or type(error).__name__) from None
    with response:
        _append(response, part, validator, have)


def _append(response: HTTPResponse, part: Path, validator: Path, have: int) -> None:
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        have = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        os.truncate(part, 0)
        raise _CutOff("the server sent another range than the requested one")
    os.truncate(part, have)  # before the validator is written, which must not vouch for bytes of another version
    known = next(filter(None, (response.headers.get(name) for name in ("ETag", "Last-Modified"))), "")
    if known and not known.startswith("W/"):
        validator.write_text(known, encoding="utf-8")
    else:
        validator.unlink(missing_ok=True)
    length = response.headers.get("Content-Length")
    total = None if length is None else have + int(length)
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise UserError(
            f"{part.parent}: {(total - have) / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; free some space"
        )
    last = time.monotonic()
    with open(part, "ab") as stream:
        while chunk := _read(response):
            stream.write(chunk)
            if time.monotonic() - last > LOG_INTERVAL_SECONDS:
                last = time.monotonic()
                whole = "?" if total is None else f"{total / 1e6:.0f}"
                logger.info("%s: %.0f of %s MB", part.name, stream.tell() / 1e6, whole)
        size = stream.tell()
    if total is not None and size < total:
        raise _CutOff(f"the connection was cut after {size} of {total} bytes")


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (http.client.HTTPException, OSError):  # the caller notices by the length
        return b""


def _verify(url: str, part: Path, checksums: Mapping[str, str]) -> None:
    found = _digests(part, checksums or ("sha256",))
    if not checksums:
        logger.warning("%s: no checksum is given; to pin this file, add sha256: %s", url, found["sha256"])
    for name, expected in checksums.items():
        if found[name] != expected:
            raise UserError(
                f"{url}: {name} is {found[name]}, not {expected}; the file is another one or damaged, and was removed; "
                "correct the checksum, or run the same command again"
            )


def _is_right(path: Path, checksums: Mapping[str, str]) -> bool:
    return not checksums or checksums.items() <= _digests(path, checksums).items()


def _digests(path: Path, names: Mapping[str, str] | tuple[str, ...]) -> dict[str, str]:
    """Compute the named checksums of a file, in one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names if name != "etag"}
    parts = []
    with open(path, "rb") as stream:
        while chunk := stream.read(ETAG_PART):
            for digest in digests.values():
                digest.update(chunk)
            if "etag" in names:
                parts.append(hashlib.md5(chunk, usedforsecurity=False).digest())
    found = {name: digest.hexdigest() for name, digest in digests.items()}
    return found | {"etag": f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"}


_NETWORK = "check the network (on a cluster, download on a node that has one); run the same command again to resume"
