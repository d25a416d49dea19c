"""Where the checkpoints of runs lie: a folder, or a URI that pyarrow understands (s3://, gs://).

What is there decides what a run goes on from, not Ray's own record of it: the record is one file, written in place,
and a full disk leaves it empty.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
import ray.train

from driftline.config import Config
from driftline.errors import TrainingError

RECORD = "checkpoint_manager_snapshot.json"
"""Ray Train's name for it."""


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
        return [Path(folder).name for folder in self._folders("")]

    def checkpoints(self, name: str) -> list[ray.train.Checkpoint]:
        """Checkpoints of a run, newest first; whether they are whole is for their reader to find out."""
        files, _ = pyarrow.fs.FileSystem.from_uri(self.place)
        found = [folder for folder in self._folders(name) if Path(folder).name.startswith("checkpoint_")]
        return [ray.train.Checkpoint(folder, files) for folder in reversed(found)]

    def mend(self, name: str) -> None:
        """Remove Ray's record of a run's checkpoints if it cannot be read: Ray would refuse to start."""
        files, root = pyarrow.fs.FileSystem.from_uri(self.place)
        record = f"{root.rstrip('/')}/{name}/{RECORD}"
        if files.get_file_info(record).type == pyarrow.fs.FileType.NotFound:
            return
        try:
            with files.open_input_stream(record) as stream:
                json.loads(stream.read())
        except ValueError:
            files.delete_file(record)

    def _folders(self, name: str) -> list[str]:
        """Paths of the folders inside one of a run, or of the runs themselves, by name."""
        try:
            files, root = pyarrow.fs.FileSystem.from_uri(self.place)
            inside = pyarrow.fs.FileSelector(f"{root.rstrip('/')}/{name}".rstrip("/"), allow_not_found=True)
            found = files.get_file_info(inside)
        except (OSError, ValueError) as error:
            raise TrainingError(f"training.checkpoints.storage={self.place} cannot be read: {error}") from error
        return sorted(info.path for info in found if info.type == pyarrow.fs.FileType.Directory)
