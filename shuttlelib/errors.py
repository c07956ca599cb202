"""Errors a user is meant to read; a leaf that every module may import.

The command line prints the message on standard error and turns the class into an exit status, so a
message is one line that names the file, row or argument, its value, and the fix.
"""

from collections.abc import Sequence


class ShuttleError(Exception):
    """Something went wrong that the user can act on (exit status 1)."""


class UsageError(ShuttleError):
    """An argument is wrong (exit status 2)."""


class StoppedError(ShuttleError):
    """Somebody asked to stop, and nothing of the work is kept."""


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is none of those known.

    Raises:
        UsageError: names the option, the value and what there is.
    """
    if value not in known:
        raise UsageError(f"{option} {value}: choose one of {', '.join(known)}")
