"""The bundle: one directory with everything that serving needs.

    manifest.json             id, format version, protocol, fingerprints, metrics, versions, sha256 of every other file
    config.yaml               the whole configuration
    items.parquet             catalogue: ids, titles, years, categories, texts
    text_vectors.safetensors  vectors of the text tower, by catalogue index
    text.safetensors          adapter, read-out and projection of the text tower
    ranker.safetensors        ranking model (item residuals, encoder, heads)
    drift.safetensors         drift model and verifier; drift_calibration.json threshold and probabilities
    collaborative.safetensors popularity; EASE or item-kNN, Markov and co-occurrence, dense or sparse; trend and
                              user-kNN where the configuration asks for them
    gate.safetensors          fusion gate
    judge.safetensors         the LLM judge, where it is enabled
    item_vectors.safetensors  vectors of other modalities, where there are any
    user_attributes.json      values of users' attributes, where the ranker reads any
    users.json                held-out users of the drift part

The base language model is not copied: the manifest names it and the sha256 of its weights, and it is needed only to
read the text of items that the catalogue lacks. Safetensors and JSON only; nothing is unpickled.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from driftline.errors import BundleError

FORMAT_VERSION = 4
"""Version 3 is the same without the drift part's verifier and without co-occurrence, trend, user-kNN, text head and
item vectors; version 2 also without sparse rows."""
READABLE = (2, 3, FORMAT_VERSION)
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    id: str
    protocol: str
    seed: int
    data_fingerprint: str
    base_model: str
    base_sha256: str
    metrics: dict[str, float]
    versions: dict[str, str]
    created: str
    files: dict[str, str] = field(default_factory=dict)
    """File name to sha256."""
    format_version: int = FORMAT_VERSION


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(target: Path, fill: Callable[[Path], None], manifest: Callable[[], Manifest]) -> Path:
    """Write a bundle so that it exists completely or not at all.

    Parameters
    ----------
    target
        The directory to create; must not exist.
    fill
        Writes the files into the directory it is given.
    manifest
        Called after ``fill``; checksums are added here.

    Raises
    ------
    BundleError
        If the target exists.
    """
    if target.exists():
        raise BundleError(f"{target} exists already; a bundle is never overwritten: choose another directory")

    def fill_and_describe(work: Path) -> None:
        fill(work)
        described = asdict(manifest())
        described["files"] = {path.name: sha256_of(path) for path in sorted(work.iterdir())}
        (work / MANIFEST).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    return write_directory(target, fill_and_describe)


def write_directory(target: Path, fill: Callable[[Path], None]) -> Path:
    """Write a directory so that it exists completely or not at all.

    Raises
    ------
    BundleError
        If there is something at the target already; an empty directory is nothing.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BundleError(f"{target} exists already and is never overwritten: choose another directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fill(work)
        work.chmod(0o755)
        os.replace(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return target


def open_bundle(path: Path | str) -> tuple[Path, Manifest]:
    """Check a bundle's format version and every checksum.

    Raises
    ------
    BundleError
        If it is missing, of another format version, incomplete or corrupt; the message names the file.
    """
    folder = Path(path).expanduser()
    if not (folder / MANIFEST).is_file():
        near = (
            [p.name for p in sorted(folder.parent.glob("*")) if (p / MANIFEST).is_file()]
            if folder.parent.is_dir()
            else []
        )
        there = f"; bundles beside it: {', '.join(near)}" if near else ""
        raise BundleError(
            f"no bundle at {folder} (it has no {MANIFEST}){there}; train one: python jobs/train.py --config …"
        )
    try:
        raw: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = raw.get("format_version")
        if found not in READABLE:
            raise BundleError(
                f"bundle {folder} has format version {found!r}; this Driftline reads "
                f"{', '.join(map(str, READABLE))}: train it again"
            )
        manifest = Manifest(**raw)
        checksums = manifest.files.items()
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"corrupt bundle {folder}: {MANIFEST} is unreadable ({error})") from error
    for name, expected in checksums:
        file = folder / name
        if not file.is_file():
            raise BundleError(f"corrupt bundle {folder}: {name} is missing; copy or train it again")
        actual = sha256_of(file)
        if actual != expected:
            raise BundleError(
                f"corrupt bundle {folder}: {name} has sha256 {actual[:16]}…, the manifest says {expected[:16]}…; "
                "copy or train it again"
            )
    return folder, manifest
