"""Errors that a user can act on; each carries the exit code that the command line ends with."""

from __future__ import annotations

from collections.abc import Sequence


class DeblurkitError(Exception):
    """Something the user can mend; the message says what was expected, what came and what to do."""

    exit_code = 1


class ConfigError(DeblurkitError):
    """One or more problems in a configuration, all of them reported at once.

    Attributes:
        problems: one line each, beginning with the file and line or the option where the problem stands.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class DataError(DeblurkitError):
    """A dataset or recording that is missing, damaged or not of the form that was asked for."""


class CheckpointError(DeblurkitError):
    """A checkpoint that cannot be read or does not belong to this run."""


class UsageError(DeblurkitError):
    """A command called in a way that cannot be carried out."""

    exit_code = 2


class LostPeer(DeblurkitError):
    """A process that cannot go on because another one of its run has ended, which knows the reason."""
