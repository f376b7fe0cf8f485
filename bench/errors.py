"""Every exception that bench raises on purpose, and the exit code each ends with.

::

    BenchError                 2   a message of one line: what is wrong, where, what to do
    ├── ConfigError            2   the experiment file or an argument is wrong
    ├── NotAvailable           2   a model, device, library or package cannot be had here
    ├── ResultError            2   a stored result or CSV cannot be read or compared
    └── RunFailed              3   a job failed or is invalid; what was measured is kept
        ├── TreatmentError     3   the optimization did not take effect
        └── EngineLost         3   the device under the engine cannot be used any more

The command line prints ``str(error)`` and exits with ``error.exit_code``; any other exception is a
defect of bench and keeps its traceback.
"""

from __future__ import annotations


class BenchError(Exception):
    """Base of all expected failures; the message says what, where and what to do."""

    exit_code = 2


class ConfigError(BenchError):
    """The experiment file or a command-line argument is wrong."""


class NotAvailable(BenchError):
    """Something that the run needs cannot be had on this machine."""


class ResultError(BenchError):
    """A stored run or a metrics CSV cannot be read, trusted or compared."""


class RunFailed(BenchError):
    """A job failed or its result is invalid; finished results were kept."""

    exit_code = 3


class EngineLost(RunFailed):
    """The device failed in a way that ends every further call; not the fault of a request."""


class TreatmentError(RunFailed):
    """The loaded model is not what the system's precision or attention asks for."""
