"""What can go wrong, as one tree. Each message names the field, the value and the way out.

DriftlineError
├── ConfigError            a configuration that cannot mean anything; lists every fault at once
├── DataError              input files or rows that cannot be used
├── FetchError             sample data or model could not be obtained (offline, checksum)
├── BundleError            a bundle that is missing, corrupt or of another version
├── UnknownIdError         a user or item id that nobody has heard of
├── DatabaseError          the service's database cannot be used right now; the same call may succeed later
└── TrainingError          a training run that cannot go on
"""

from typing import Any


class DriftlineError(Exception):
    """Base of every error that Driftline raises on purpose."""


class ConfigError(DriftlineError, ValueError):
    """A configuration is invalid; ``faults`` lists every fault found.

    Parameters
    ----------
    faults
        One sentence each: field, value, and the valid choices.
    source
        Where the configuration came from (a file name), for the first line of the message.
    """

    def __init__(self, faults: list[str], source: str = "configuration") -> None:
        self.faults = faults
        self.source = source
        count = f"{len(faults)} fault" + ("s" if len(faults) != 1 else "")
        super().__init__("\n".join([f"{source}: {count}", *(f"  - {fault}" for fault in faults)]))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str], str]]:
        """Cross a process boundary whole: by default an exception is rebuilt from its message alone."""
        return type(self), (self.faults, self.source)


class DataError(DriftlineError, ValueError):
    """Input data cannot be used."""


class FetchError(DriftlineError, OSError):
    """Sample data or a sample model could not be fetched."""


class BundleError(DriftlineError, ValueError):
    """A bundle is missing, corrupt, or written by an incompatible version."""


class UnknownIdError(DriftlineError, KeyError):
    """An external id is not in the catalogue or the store."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DatabaseError(DriftlineError, ConnectionError):
    """The database cannot be reached, is locked, or is full."""


class TrainingError(DriftlineError, RuntimeError):
    """A training run cannot go on.

    Parameters
    ----------
    details
        What a person needs to look into it (JSON values), for a file beside the run.
    """

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        self.details = details or {}
        super().__init__(message)
