"""Write files atomically, and tell formats by suffix."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of an OSError: no space left, quota exceeded, or file larger than `ulimit -f` allows."""

GZIP = ".gz"
"""Suffix of text files that are compressed with gzip."""

LOCKED = "locked by another process, which is writing to it; wait until it is done, or end it"
"""Message for a file that cannot be read now."""


def suffix_of(path: str | Path) -> str:
    """Return the suffix of a file in lower case, so that .SDF counts as .sdf."""
    return Path(path).suffix.lower()


def content_suffix(path: str | Path) -> str:
    """Return the suffix of what a file contains: .sdf for drugs.sdf and for drugs.SDF.gz."""
    return suffix_of(Path(path).with_suffix("")) if suffix_of(path) == GZIP else suffix_of(path)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    The suffix is kept, because some writers choose the format by it. After an error the temporary file is removed and
    an older `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(3).hex()}.tmp{path.suffix}")
    try:
        with errors_name(path):
            yield temporary
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def errors_name(path: str | Path) -> Iterator[None]:
    """Add this path to an OSError without a file name, such as the one of a write to a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
