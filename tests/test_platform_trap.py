"""The source root is called ``platform``, as a standard-library module is: nothing may let it win over that one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PROBE = """
import platform, sysconfig, uuid
import driftline
print(platform.__file__.startswith(sysconfig.get_path("stdlib")), platform.system() != "", uuid.uuid4().version)
print(driftline.__file__)
"""


def test_standard_library_wins_over_the_source_root(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    result = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["True True 4", str(ROOT / "platform" / "driftline" / "__init__.py")]


def test_pip_and_pytest_start_in_the_root() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    for module in ("pip", "pytest"):
        result = subprocess.run(
            [sys.executable, "-m", module, "--version"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr


def test_the_source_root_is_no_package_and_holds_one() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform").exists()
    inside = sorted(path.name for path in (ROOT / "platform").iterdir() if path.name != "__pycache__")
    assert inside == ["driftline"]


def test_no_job_is_named_after_a_standard_library_module() -> None:
    """``ray job submit`` puts ``jobs/`` on the path."""
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert not jobs & sys.stdlib_module_names
