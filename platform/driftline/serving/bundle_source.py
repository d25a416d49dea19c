"""Where bundles may be promoted from, and what the registry offers."""

from dataclasses import dataclass
from pathlib import Path

from driftline.config import default_storage
from driftline.errors import BundleError
from driftline.registry.bundle import open_bundle


@dataclass(frozen=True)
class BundleSource:
    """Bundles that a running service may be told to serve.

    Parameters
    ----------
    root
        Directory that they lie in; nothing outside it is opened.
    registry
        MLflow tracking URI; empty: there is none.
    registry_model
        Name that they are registered under.
    """

    root: Path
    registry: str
    registry_model: str

    def find(self, named: str) -> tuple[Path, str]:
        """Directory and id of a bundle, after checking every checksum.

        Parameters
        ----------
        named
            Name of a directory under the root, or its absolute path.

        Raises
        ------
        BundleError
            If it lies outside the root, links included, or is no intact bundle.
        """
        root = self.root.expanduser().resolve()
        try:
            folder = (root / named).resolve()
            if folder == root or not folder.is_relative_to(root):
                raise BundleError(f"{named!r} is not under {root}: bundles are promoted from there only")
            found, manifest = open_bundle(folder)
        except OSError as error:
            raise BundleError(f"{named!r} cannot be read: {error.strerror}") from error
        return found, manifest.id

    def registered(self) -> dict[str, str]:
        """Directory of the bundle behind each alias of the registry (champion, challenger)."""
        if not self.registry:
            return {}
        from driftline.training.tracking import aliased_bundles

        return aliased_bundles(self.registry, self.registry_model)


def default_registry() -> str:
    """The SQLite file under the storage root that training registers bundles in, or nothing if there is none."""
    file = default_storage() / "mlflow.db"
    return f"sqlite:///{file}" if file.is_file() else ""
