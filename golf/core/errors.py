"""The one exception that means: this is wrong, and here is what to do about it."""


class UserError(Exception):
    """Wrong input, or something else that the user can mend, such as a full disk.

    The message is one line that names the file or key, the record and the remedy. Commands print it and exit with
    status 2; scripts of rules print it, log it and exit with status 1.
    """
