"""Commands on a terminal of 24 lines of 100 characters."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios

from support import REPOSITORY


def on_a_terminal(command, interrupt_after=None):
    """What a command shows, and its exit status.

    Args:
        interrupt_after: send SIGINT (Ctrl-C) when it has shown this text twice.
    """
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(list(map(str, command)), cwd=REPOSITORY, stdin=child, stdout=child, stderr=child)
    os.close(child)
    text = ""
    try:
        while True:
            text += os.read(parent, 65536).decode()
            if interrupt_after is not None and text.count(interrupt_after) >= 2:
                process.send_signal(signal.SIGINT)
                interrupt_after = None
    except OSError:  # the command has closed the other end
        os.close(parent)
    return text, process.wait()
