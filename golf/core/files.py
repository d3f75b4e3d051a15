"""Files that are either whole or not there, and the suffixes that say what is in them."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Of an OSError: no space, no quota, or a file larger than `ulimit -f` allows."""

LOCKED = "locked by another process, which is writing to it; wait until it is done, or end it"
"""Of a file that cannot be read now."""


def suffix_of(path: str | Path) -> str:
    """The suffix that tells the format: in lower case, so that .SDF is .sdf."""
    return Path(path).suffix.lower()


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    The suffix is kept, so that writers which look at it (SDF, CSV) behave. After an error the temporary file is
    removed and an older `path` is untouched.
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
    """Let an OSError that names no file, as after a write to a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
