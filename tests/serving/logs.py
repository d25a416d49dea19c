"""What logs must not hold: API keys, and ids of users."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote


def session_logs() -> Path:
    """Directory of the logs of the suite's Ray session: those of every replica, proxy, worker, and of Ray itself."""
    from ray._private.worker import global_worker

    return Path(global_worker.node.get_logs_dir_path())


def assert_nothing_personal(folder: Path, users: Iterable[str]) -> None:
    """Search every file below ``folder`` for whatever looks like a key, and for users where ids stand: within quotes or
    in a path, as their names are words that logs may use.

    Raises
    ------
    AssertionError
        With some of the lines, or if there is nothing that could have been searched.
    """
    spellings = {spelt for user in users for spelt in (user, quote(user, safe=""), json.dumps(user)[1:-1])}
    names = "|".join(map(re.escape, sorted(spellings))) or "(?!)"  # which is never there
    personal = re.compile(rf"dl_[0-9a-f]{{12}}_|[Bb]earer |[\"'/](?:{names})(?=[\\\"'/?])")
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10, f"{folder} has hardly any logs"
    found = [
        f"{file}: {line[:500]}"
        for file in files
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if personal.search(line)
    ]
    assert not found, "\n".join(found[:5])
