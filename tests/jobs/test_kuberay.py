"""The KubeRay manifests against KubeRay's and Kubernetes' schemas, read strictly, and against what they refer to."""

import copy
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "tests/assets/kuberay"
TRAIN, SWEEP = ROOT / "jobs/kuberay/rayjob-train.yaml", ROOT / "jobs/kuberay/rayjob-sweep.yaml"
SERVICE, STORAGE = ROOT / "serve/kuberay/rayservice.yaml", ROOT / "jobs/kuberay/storage.yaml"
IMAGE_HOME = "/home/ray/driftline"


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    """Both schemas; every object that they describe forbids keys that they do not know."""
    found: dict[str, Any] = {}
    for path in sorted(ASSETS.glob("*.json")):
        found |= json.loads(path.read_text())["$defs"]
    return found


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def faults(manifest: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """What the schema of its kind has against a manifest: where, and what."""
    schema = {"$ref": f"#/$defs/{manifest['kind']}", "$defs": definitions}
    found = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    return [f"{error.json_path}: {error.message}" for error in found]


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Its RayCluster."""
    spec: dict[str, Any] = manifest["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    return found


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Specifications of the pods of all groups."""
    cluster = cluster_of(manifest)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("path", [TRAIN, SWEEP, SERVICE, STORAGE], ids=lambda path: path.stem)
def test_a_manifest_is_valid(path: Path, definitions: dict[str, Any]) -> None:
    assert faults(read(path), definitions) == []


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ((), "specs"),
        (("spec",), "entrypont"),
        (("spec", "rayClusterSpec"), "enableInTreeAutoscalng"),
        (("spec", "rayClusterSpec", "autoscalerOptions"), "idleTimeoutSecond"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "minReplica"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec"), "restartPolcy"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0), "imagePullPolcy"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "volumes", 0), "persistentVolumeClaims"),
    ],
)
def test_a_mistyped_key_is_caught_at_every_depth(
    place: tuple[str | int, ...], key: str, definitions: dict[str, Any]
) -> None:
    manifest = copy.deepcopy(read(TRAIN))
    part = manifest
    for step in place:
        part = part[step]
    part[key] = "value"
    assert any(key in fault for fault in faults(manifest, definitions))


def test_a_wrong_value_is_caught(definitions: dict[str, Any]) -> None:
    manifest = read(TRAIN)
    cluster_of(manifest)["autoscalerOptions"]["version"] = "v3"
    cluster_of(manifest)["workerGroupSpecs"][0]["maxReplicas"] = "eight"
    cluster_of(manifest)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0  # KubeRay takes strings only
    assert len(faults(manifest, definitions)) == 3


@pytest.mark.parametrize("path", [TRAIN, SWEEP, SERVICE], ids=lambda path: path.stem)
def test_the_fault_tolerance_that_is_commented_out_would_be_valid(path: Path, definitions: dict[str, Any]) -> None:
    text = re.sub(r"^    # (gcsFault|  redis|    valueFrom)", r"    \1", path.read_text(), flags=re.MULTILINE)
    manifest = yaml.safe_load(text)
    assert cluster_of(manifest)["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]
    assert faults(manifest, definitions) == []


def test_a_training_s_entrypoint_is_a_job_with_a_valid_configuration() -> None:
    from driftline.config import load_config

    manifest = read(TRAIN)
    python, job, *arguments = shlex.split(manifest["spec"]["entrypoint"])
    assert (python, job, arguments[0]) == ("python", "jobs/train.py", "--config")
    config = load_config(ROOT / arguments[1])
    group = cluster_of(manifest)["workerGroupSpecs"][0]
    container = group["template"]["spec"]["containers"][0]
    assert (
        group["maxReplicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"]) >= config.training.most_workers
    )
    assert int(container["resources"]["requests"]["cpu"]) >= config.training.threads_per_worker
    assert {"name": "storage", "mountPath": str(config.storage)} in container["volumeMounts"]


def test_a_sweep_s_entrypoint_is_a_job_with_a_valid_configuration() -> None:
    from driftline.sweep.study import load_sweep

    manifest = read(SWEEP)
    python, job, option, config, *overrides = shlex.split(manifest["spec"]["entrypoint"])
    assert (python, job, option) == ("python", "jobs/sweep.py", "--config")
    assert overrides[::2] == ["--set"] * (len(overrides) // 2)
    sweep = load_sweep(ROOT / config, overrides[1::2])
    assert sweep.base.training.use_gpu
    assert sweep.search.max_concurrent_trials == cluster_of(manifest)["workerGroupSpecs"][0]["maxReplicas"]


@pytest.mark.parametrize("path", [TRAIN, SWEEP], ids=lambda path: path.stem)
def test_a_job_s_environment_is_that_of_a_submitted_one(path: Path) -> None:
    environment = yaml.safe_load(read(path)["spec"]["runtimeEnvYAML"])
    assert environment.pop("working_dir") == IMAGE_HOME
    assert environment == read(ROOT / "jobs/runtime_env.yaml")


def test_the_service_is_that_of_app_yaml() -> None:
    """But for the address to listen on and the place of the code, which lies in the image."""
    here, there = read(ROOT / "serve/app.yaml"), yaml.safe_load(read(SERVICE)["spec"]["serveConfigV2"])
    assert there["http_options"].pop("host") == "0.0.0.0"
    assert here["http_options"].pop("host") == "127.0.0.1"
    path = there["applications"][0]["runtime_env"]["env_vars"].pop("PYTHONPATH")
    assert path == f"{IMAGE_HOME}:{IMAGE_HOME}/platform"
    assert here["applications"][0]["runtime_env"]["env_vars"].pop("PYTHONPATH") == "platform"
    assert there == here
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(there)


def test_nodes_that_serve_have_what_cluster_yaml_gives_them() -> None:
    setup = " ".join(read(ROOT / "cluster.yaml")["setup_commands"])
    for pod in pods(read(SERVICE)):
        environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
        for name in ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED"):
            assert f"{name}={environment[name]}" in setup


@pytest.mark.parametrize("path", [TRAIN, SWEEP, SERVICE], ids=lambda path: path.stem)
def test_all_pods_share_the_volume_the_image_and_the_version_of_ray(path: Path) -> None:
    manifest, claim = read(path), read(STORAGE)["metadata"]["name"]
    images = set()
    for pod in pods(manifest):
        (container,) = pod["containers"]
        images.add(container["image"])
        assert {"name": "storage", "mountPath": "/mnt/driftline"} in container["volumeMounts"]
        assert {"name": "storage", "persistentVolumeClaim": {"claimName": claim}} in pod["volumes"]
        assert pod["restartPolicy"] == "Never"
    assert len(images) == 1
    version = cluster_of(manifest)["rayVersion"]
    assert f"ray=={version}\n" in (ROOT / "constraints.txt").read_text()


def test_the_image_copies_what_exists_and_has_the_tested_ray() -> None:
    text = (ROOT / "jobs/kuberay/Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY --chown=\S+ (.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "platform", "jobs", "serve"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert f"WORKDIR {IMAGE_HOME}\n" in text
    (version,) = re.findall(r"^ARG RAY=rayproject/ray:([\d.]+)-py311", text, re.MULTILINE)
    assert version == cluster_of(read(TRAIN))["rayVersion"]
