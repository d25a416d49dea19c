"""Where the checkpoints of runs lie: a folder, or a URI that pyarrow understands (s3://, gs://)."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs

from driftline.config import Config
from driftline.errors import TrainingError


@dataclass(frozen=True)
class Runs:
    """The place that holds one folder a run.

    Attributes
    ----------
    place
        An absolute path, or a URI such as ``s3://bucket/runs`` (options of pyarrow's file systems may follow a
        question mark: ``?endpoint_override=http://127.0.0.1:9000``).
    """

    place: str

    @classmethod
    def of(cls, config: Config) -> "Runs":
        """``training.checkpoints.storage``, or a folder under ``storage``."""
        place = config.training.checkpoints.storage
        if place is None:
            return cls(str(config.storage / "runs"))
        return cls(place if "://" in place else str(Path(place).expanduser()))

    def of_run(self, name: str) -> str:
        """Where one run lies, for people to read."""
        path, question, options = self.place.partition("?")
        return f"{path.rstrip('/')}/{name}{question}{options}"

    def require(self, name: str) -> None:
        """Make sure that a run is there to go on with.

        Raises
        ------
        TrainingError
            If it is not, or the place cannot be read; the message lists the runs that are there.
        """
        known = self.names()
        if name not in known:
            raise TrainingError(f"no run {name!r} under {self.place}; there are: {', '.join(known) or 'none'}")

    def names(self) -> list[str]:
        """The runs that are there."""
        try:
            files, path = pyarrow.fs.FileSystem.from_uri(self.place)
            found = files.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
        except (OSError, ValueError) as error:
            raise TrainingError(f"training.checkpoints.storage={self.place} cannot be read: {error}") from error
        return sorted(info.base_name for info in found if info.type == pyarrow.fs.FileType.Directory)
