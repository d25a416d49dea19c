"""Fetching: against the real PyPI, and where it is to fail, without an index or against a directory of wheels."""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from driftline import samples
from driftline.errors import FetchError


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip reaches no index and knows no other place to look."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file beneath, hidden ones too."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def forged_recbole(directory: Path) -> str:
    """Write an installable wheel with the right name and the wrong content; returns its sha256."""
    wheel = directory / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("recbole/__init__.py", "")
        info = "recbole-1.2.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_home_is_absolute_and_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path / "there"))
    assert samples.home() == tmp_path / "there"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLINE_HOME", "here")
    assert samples.home() == tmp_path / "here"
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("DRIFTLINE_HOME")
    assert samples.home() == Path("/home/ada/.driftline")


def test_movielens_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = samples.fetch_movielens(tmp_path)

    assert directory == tmp_path / "data" / "ml-100k"
    rows = {path.suffix: len(path.read_text("utf-8").splitlines()) - 1 for path in directory.glob("ml-100k.*")}
    assert rows == {".inter": 100_000, ".item": 1_682, ".user": 943, ".kg": 91_631, ".link": 1_598}
    licence = (directory / "LICENSE").read_text("utf-8")
    assert "GroupLens" in licence
    assert "MIT License" in licence
    assert [path.name for path in directory.parent.iterdir() if path.is_dir()] == ["ml-100k"]

    before = contents(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert samples.fetch_movielens(tmp_path) == directory
    assert contents(tmp_path) == before


def test_concurrent_calls_fetch_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = [threading.Thread(target=samples.fetch_movielens, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples.fetch_movielens(tmp_path).is_dir()
    assert capsys.readouterr().err.count("downloading MovieLens-100K (recbole==1.2.1 from PyPI)\n") == 1


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    left = tmp_path / "data" / ".ml-100k.partial" / "ml-100k"
    left.mkdir(parents=True)
    (left / "ml-100k.inter").write_text("half a fi")
    assert (samples.fetch_movielens(tmp_path) / "ml-100k.inter").stat().st_size == 1_979_230
    assert not left.exists()


def test_a_directory_of_another_version_is_made_anew(tmp_path: Path) -> None:
    old = tmp_path / "data" / "ml-100k"
    old.mkdir(parents=True)
    (old / "SOURCE.json").write_text('{"wheel": "recbole==1.2.0", "sha256": "0", "layout": 1}')
    samples.fetch_movielens(tmp_path)
    assert (old / "ml-100k.inter").is_file()
    assert "recbole==1.2.1" in (old / "SOURCE.json").read_text()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "data" / "ml-100k"
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("years of work")
    with pytest.raises(FetchError, match="not written by 'driftline fetch'"):
        samples.fetch_movielens(tmp_path)
    assert (theirs / "thesis.txt").read_text() == "years of work"


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "data" / "ml-100k"
    damaged.mkdir(parents=True)
    (damaged / "SOURCE.json").write_text("{")
    with pytest.raises(FetchError, match="SOURCE.json: not valid JSON"):
        samples.fetch_movielens(tmp_path)


@pytest.mark.usefixtures("offline")
def test_offline_says_what_failed_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        samples.fetch_movielens(tmp_path)
    message = str(caught.value)
    assert message.startswith("recbole==1.2.1: pip could not download it.\n  pip: ERROR:")
    assert "PIP_INDEX_URL" in message
    assert "PIP_FIND_LINKS" in message
    assert list(contents(tmp_path)) == ["data/.ml-100k.lock"]


def test_an_index_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: connection refused
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FetchError, match="recbole==1.2.1: pip could not download it"):
        samples.fetch_movielens(tmp_path)


@pytest.mark.usefixtures("offline")
def test_wrong_checksum_names_both_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    forged = forged_recbole(wheels)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(FetchError, match="wrong checksum") as caught:
        samples.fetch_movielens(tmp_path / "home")
    assert "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407" in str(caught.value)
    assert forged in str(caught.value)
    assert not (tmp_path / "home" / "data" / "ml-100k").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a directory is wanted")
    with pytest.raises(FetchError, match="could not be written there") as caught:
        samples.fetch_movielens(tmp_path)
    assert "DRIFTLINE_HOME" in str(caught.value)


@pytest.mark.slow
def test_the_command_fetches_everything_and_the_model_loads_plainly(tmp_path: Path) -> None:
    """The golden figures are those of the GGUF itself, loaded with ``gguf_file=`` (largest difference of logits: 0)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    command = [sys.executable, "-m", "driftline.cli", "fetch", "--home", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert result.returncode == 0, result.stderr
    directory = tmp_path / "models" / "smollm2-135m"
    assert result.stdout.splitlines()[-2:] == [  # libraries write their own warnings before
        f"MovieLens-100K         {tmp_path}/data/ml-100k",
        f"SmolLM2-135M-Instruct  {directory}",
    ]
    assert "converting SmolLM2-135M-Instruct to safetensors (about 30 s, once)" in result.stderr
    assert "… working" in result.stderr
    assert not list(directory.glob("*.gguf"))
    assert "Apache License" in (directory / "LICENSE").read_text("utf-8")

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = model(**prompt).logits[0, -1].log_softmax(-1).topk(3)
    assert tokenizer.convert_ids_to_tokens(best.indices.tolist()) == ["ĠParis", "Ġthe", "ĠLondon"]
    assert best.values.tolist() == pytest.approx([-0.2581, -2.7407, -4.3844], abs=1e-3)

    before = contents(tmp_path)
    assert samples.fetch_smollm2(tmp_path) == directory
    assert contents(tmp_path) == before
