"""Messages and progress go to stderr, whoever reads it and for how long: no message is worth a measurement.

A reader that ends (`2> >(head)`), a terminal that is closed, a full disk: what there is to say is lost then,
and the work goes on.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def messages() -> TextIOWrapper:
    """Return what `sys.stderr` is to be; it also stands for one that was closed from the beginning."""
    if sys.stderr is None:
        return _Messages(open(os.devnull, "wb"))
    return _Messages(sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True)


class _Messages(TextIOWrapper):
    """A file that takes whatever it is given."""

    def write(self, text: str, /) -> int:
        """Write as far as that is possible."""
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush likewise."""
        try:
            super().flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Send it nowhere from now on, and what is left in the buffers, too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
