"""The way to a real cluster: ``ray start --head``, ``ray job submit``, and a bundle at the end."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import driftline
from driftline.local_cluster import LocalCluster, local_cluster
from tests.tiny import ROOT, tiny_overrides


@pytest.fixture(scope="module")
def head() -> Iterator[LocalCluster]:
    """A head node of its own beside the suite's cluster."""
    with local_cluster(workers=0, cpus=0, head_cpus=8) as cluster:
        yield cluster


def submit(cluster: LocalCluster, *command: str) -> tuple[int, str]:
    """Exit code and output of a job."""
    lines: list[str] = []
    code = cluster.submit(command, ROOT, lines.append)
    return code, "\n".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_submitted_job_leaves_a_bundle(head: LocalCluster, tmp_path: Path) -> None:
    overrides = [*tiny_overrides(tmp_path), "text.epochs=0", "training.epochs=2", "drift.epochs=2"]
    options = [argument for override in overrides for argument in ("--set", override)]
    code, output = submit(head, "python", "jobs/train.py", "--config", "jobs/configs/tiny.yaml", *options)
    assert code == 0, output[-4000:]
    assert "succeeded" in output
    (bundle,) = (tmp_path / "storage/bundles").iterdir()
    assert f"bundle  {bundle}" in output
    assert len(driftline.load(bundle).recommend(["i1", "i2"], k=5).items) == 5


@pytest.mark.slow
def test_a_job_runs_the_uploaded_library_and_not_an_installed_one(head: LocalCluster) -> None:
    code, output = submit(head, "python", "-c", "import driftline, uuid; print('from', driftline.__file__)")
    assert code == 0, output[-4000:]
    assert re.search(r"from /.*/working_dir_files/.*/platform/driftline/__init__\.py", output)


@pytest.mark.slow
def test_a_job_with_a_wrong_configuration_fails_with_the_reason(head: LocalCluster) -> None:
    wrong = ["--config", "jobs/configs/tiny.yaml", "--set", "training.epocs=2"]
    code, output = submit(head, "python", "jobs/train.py", *wrong)
    assert code != 0
    assert "did you mean `epochs`?" in output
