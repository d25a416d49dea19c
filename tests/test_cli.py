"""The command as people run it: in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

import driftline


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "driftline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_help_lists_the_commands_and_where_to_start() -> None:
    for arguments in ((), ("--help",)):
        result = run(*arguments)
        assert "fetch" in result.stdout
        assert "Start with: driftline fetch" in result.stdout


def test_help_of_fetch_has_an_example() -> None:
    result = run("fetch", "--help")
    assert result.returncode == 0
    assert "Example: driftline fetch --home /data/driftline" in result.stdout
    assert "DRIFTLINE_HOME" in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"driftline {driftline.__version__}\n"


def test_unknown_command_is_named() -> None:
    result = run("fetsch")
    assert result.returncode == 2
    assert "fetsch" in result.stderr


def test_an_error_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    taken = tmp_path / "data" / "ml-100k"
    taken.mkdir(parents=True)
    result = run("fetch", "--home", str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {taken}: exists but was not written by 'driftline fetch'")
    assert "Traceback" not in result.stderr


def test_importing_the_package_is_cheap() -> None:
    probe = "import sys, driftline; print([m for m in ('torch', 'ray', 'pandas', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_an_unknown_attribute_of_the_package_is_named() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = driftline.laod
