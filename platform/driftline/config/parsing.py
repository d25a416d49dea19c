"""From a YAML file and ``--set a.b=c`` overrides to a :class:`~driftline.config.Config`, or to every fault at once."""

import copy
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from driftline.config.conflicts import find_conflicts, missing_paths
from driftline.config.run import Config
from driftline.errors import ConfigError

Root = TypeVar("Root", bound=BaseModel)


def load_config(path: Path | str, overrides: Sequence[str] = (), for_run: bool = False) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides, validate.

    Parameters
    ----------
    for_run
        Also check that the inputs are there; a bundle's own configuration is read where they may not be.

    Raises
    ------
    ConfigError
        With every fault at once.
    """
    return parse_config(read_tree(path), overrides, source=str(path), for_run=for_run)


def read_tree(path: Path | str) -> Any:
    """What a YAML file says, not validated.

    Raises
    ------
    ConfigError
        If there is no such file, or it is not YAML.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise ConfigError([f"no such file: {path}" + (f"; there are: {', '.join(near)}" if near else "")], str(path))
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"not a YAML document: {error}"], str(path)) from error


def parse_config(
    tree: Any, overrides: Sequence[str] = (), source: str = "configuration", for_run: bool = False
) -> Config:
    """Validate an already parsed tree with overrides applied on top."""
    if not isinstance(tree, dict):
        raise ConfigError([f"the document must be a mapping of sections, not {type(tree).__name__}"], source)
    tree = copy.deepcopy(tree)
    faults = [fault for override in overrides if (fault := apply_override(tree, override))]
    config, found = validated(tree, Config)
    faults += found
    if config is not None:
        faults += find_conflicts(config)
        faults += missing_paths(config) if for_run else []
    if faults or config is None:
        raise ConfigError(faults, source)
    return config


def validated(tree: dict[str, Any], root: type[Root]) -> tuple[Root | None, list[str]]:
    """The section (of type ``root``) that ``tree`` describes, and the faults of its single values.

    Faulty values are reported, left out, and the rest is read again, so that the conflicts in it can be told too; with
    faults, the section is what is left. None: not even that can be read.
    """
    faults: list[str] = []
    removed: set[tuple[str | int, ...]] = set()
    while True:
        try:
            return root.model_validate(tree), faults
        except ValidationError as error:
            found = error.errors()
        faults += [fault_sentence(fault, root) for fault in found if not _follows(fault["loc"], removed)]
        news = {path for fault in found if (path := _remove(tree, fault["loc"]))}
        if not news:
            return None, faults
        removed |= news


def _follows(location: tuple[str | int, ...], removed: set[tuple[str | int, ...]]) -> bool:
    """Whether a fault comes from values having been left out: at this place or somewhere inside it."""
    return any(path[: len(location)] == location for path in removed)


def _remove(tree: Any, location: Sequence[str | int]) -> tuple[str | int, ...]:
    """Take the innermost value of a mapping that ``location`` leads to out of the tree; returns its path."""
    owners: list[dict[Any, Any]] = []
    for part in location:
        if not isinstance(tree, dict) or part not in tree:
            break
        owners.append(tree)
        tree = tree[part]
    path = tuple(location[: len(owners)])
    if path:
        del owners[-1][path[-1]]
    return path


def apply_override(tree: dict[str, Any], override: str) -> str | None:
    """Write one ``a.b=c`` into the tree; a returned sentence says why that was impossible."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        return f"--set {override!r}: write it as section.key=value, for example training.epochs=2"
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            return f"--set {override!r}: `{parent}` is a value, not a section"
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        node[last] = text
    return None


def fault_sentence(error: Any, root: type[BaseModel]) -> str:
    """Turn one pydantic error into: field, value, way out."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(error["loc"][:-1], root)
        close = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        return f"`{path}` = {error['input']!r}: unknown key{hint}; valid keys here: {', '.join(valid)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"`{path}`: {message}" if path else message
    return f"`{path}` = {error['input']!r}: {message}"


def _valid_keys(location: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    """Field names of the section at ``location``."""
    section: Any = root
    for part in location:
        annotation = section.model_fields[part].annotation
        options = [annotation, *get_args(annotation)]
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), section)
    return list(section.model_fields)
