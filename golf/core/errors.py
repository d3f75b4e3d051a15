"""The exception for problems that the user can fix."""


class UserError(Exception):
    """Wrong input, or another problem that the user can fix, such as a full disk.

    The message is one line: "file or key: what is wrong; what to do". Commands print it and exit with status 2; scripts
    of rules print it, log it and exit with status 1.
    """
