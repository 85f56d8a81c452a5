"""What a session does now. Numbers of a module: to name a member of an Enum, or of a class, takes longer, and
each message names some sixty."""

from typing import Final

COMMAND: Final = 0  # waits for a line
DATA: Final = 1  # takes the message
BUSY: Final = 2  # waits for a commit, or for a command's coroutine
CLOSING: Final = 3  # the last reply is being written, or the connection is gone
PROXY: Final = 4  # waits for the PROXY header
HANDSHAKE: Final = 5  # TLS begins
