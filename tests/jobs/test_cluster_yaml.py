"""``cluster.yaml`` read as ``ray up`` reads it, without a cloud; and what ``ray job submit`` would upload."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftline.config import load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The configuration with Ray's defaults filled in, valid against Ray's schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(prepared)
    return prepared


def test_an_unknown_key_is_refused(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(ValidationError, match="max_worker"):
        validate_config({**cluster, "max_worker": 3})


def test_the_head_has_cpus_for_drivers_and_no_gpu(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]["resources"]
    assert head["CPU"] >= 1
    assert "GPU" not in head


def test_gpu_nodes_come_and_go_and_hold_the_gpu_configuration(cluster: dict[str, Any]) -> None:
    training = cluster["available_node_types"]["training"]
    config = load_config(ROOT / "jobs/configs/gpu-8b-zero3.yaml").training
    assert training["min_workers"] == 0
    assert training["max_workers"] * training["resources"]["GPU"] >= config.num_workers
    assert training["resources"]["CPU"] >= config.threads_per_worker


def test_a_serving_node_without_gpu_stays_up(cluster: dict[str, Any]) -> None:
    serving = cluster["available_node_types"]["serving"]
    assert serving["min_workers"] >= 1
    assert "GPU" not in serving["resources"]


def test_all_nodes_together_fit_the_cluster(cluster: dict[str, Any]) -> None:
    workers = [kind for name, kind in cluster["available_node_types"].items() if name != cluster["head_node_type"]]
    assert sum(kind["max_workers"] for kind in workers) <= cluster["max_workers"]


def test_every_node_demands_the_token(cluster: dict[str, Any]) -> None:
    assert "/home/ubuntu/.ray/auth_token" in cluster["file_mounts"]
    for kind in ("head", "worker"):  # what runs before Ray starts
        assert any("RAY_AUTH_MODE=token" in command for command in cluster[f"{kind}_setup_commands"])
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster["head_start_ray_commands"])


def test_the_project_is_installed_with_its_constraints_from_files_that_exist(cluster: dict[str, Any]) -> None:
    for kind in ("head", "worker"):
        installed = "pip install -q -e /home/ubuntu/driftline -c /home/ubuntu/driftline/constraints.txt"
        assert any(installed in command for command in cluster[f"{kind}_setup_commands"])
    project = "/home/ubuntu/driftline/"
    mounted = {Path(local) for remote, local in cluster["file_mounts"].items() if remote.startswith(project)}
    assert {Path("pyproject.toml"), Path("constraints.txt"), Path("platform")} <= mounted
    for needed in re.findall(r'^readme = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE):
        assert Path(needed) in mounted
    # README.md is written last; without it a copy of the project could not be installed at all
    assert all((ROOT / local).exists() for local in mounted - {Path("README.md")})


def test_no_command_carries_a_comment_that_would_swallow_the_rest(cluster: dict[str, Any]) -> None:
    commands = [command for key, value in cluster.items() if key.endswith("_commands") for command in value]
    assert not [command for command in commands if " #" in command]


def test_the_configurations_store_on_the_shared_file_system(cluster: dict[str, Any]) -> None:
    storage = load_config(ROOT / "jobs/configs/gpu-8b-zero3.yaml").storage
    assert any(f"mountpoint -q {storage}" in command for command in cluster["initialization_commands"])
    assert any(f"DRIFTLINE_HOME={storage}" in command for command in cluster["setup_commands"])


def test_a_submitted_job_uploads_the_code_and_little_else() -> None:
    from ray._private.runtime_env.packaging import _dir_travel

    files: list[Path] = []
    _dir_travel(ROOT, [], lambda path: files.append(path.relative_to(ROOT)), include_gitignore=True)
    uploaded = {path for path in files if (ROOT / path).is_file()}
    assert {Path("jobs/train.py"), Path("platform/driftline/cli.py"), Path("jobs/configs/demo.yaml")} <= uploaded
    assert not {path.parts[0] for path in uploaded} & {".git", ".venv", "tests", "docs"}
    assert not [path for path in uploaded if path.suffix == ".pyc"]
    assert sum((ROOT / path).stat().st_size for path in uploaded) < 5 * 1024**2


def test_the_runtime_environment_is_one_that_ray_accepts() -> None:
    from ray.runtime_env import RuntimeEnv

    environment = RuntimeEnv(**yaml.safe_load((ROOT / "jobs/runtime_env.yaml").read_text()))
    assert environment.env_vars()["PYTHONPATH"] == "platform"
