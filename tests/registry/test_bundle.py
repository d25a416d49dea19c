"""A bundle exists completely or not at all, and says what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from driftline.errors import BundleError
from driftline.registry.bundle import FORMAT_VERSION, MANIFEST, open_bundle, write_bundle
from tests.registry.parts import manifest_of


def fill(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "config.yaml").write_text("name: x\n", encoding="utf-8")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundles" / "b1", fill, lambda: manifest_of("b1"))


def test_what_was_written_opens(bundle: Path) -> None:
    folder, manifest = open_bundle(str(bundle))
    assert folder == bundle
    assert (manifest.id, manifest.metrics) == ("b1", {"validation/NDCG@10": 0.25})
    assert manifest.files.keys() == {"weights.bin", "config.yaml"}
    # sha256 of the bytes 0..255
    assert manifest.files["weights.bin"] == "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"
    assert "not installed" not in {manifest.versions["torch"], manifest.versions["transformers"]}


def interrupted(folder: Path) -> None:
    fill(folder)
    raise KeyboardInterrupt


def full_disk(folder: Path) -> None:
    fill(folder)
    raise OSError("no space left on device")


@pytest.mark.parametrize(("failing", "error"), [(interrupted, KeyboardInterrupt), (full_disk, OSError)])
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, failing: Callable[[Path], None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        write_bundle(tmp_path / "bundles" / "b1", failing, lambda: manifest_of("b1"))
    assert list((tmp_path / "bundles").iterdir()) == []


def test_while_it_is_written_there_is_no_bundle(tmp_path: Path) -> None:
    target = tmp_path / "b1"

    def look(folder: Path) -> None:
        fill(folder)
        assert not target.exists()
        with pytest.raises(BundleError):
            open_bundle(folder)

    assert write_bundle(target, look, lambda: manifest_of("b1")).is_dir()


def test_a_bundle_is_never_overwritten(bundle: Path) -> None:
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(bundle, fill, lambda: manifest_of("b2"))
    assert open_bundle(bundle)[1].id == "b1"


@pytest.mark.parametrize("name", ["weights.bin", "config.yaml"])
def test_one_flipped_bit_is_found_and_its_file_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[3] ^= 1
    (bundle / name).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"corrupt bundle .*b1: {name} has sha256 .*the manifest says"):
        open_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "weights.bin").unlink()
    with pytest.raises(BundleError, match="corrupt bundle .*: weights.bin is missing"):
        open_bundle(bundle)


def test_a_missing_bundle_lists_its_neighbours(bundle: Path) -> None:
    write_bundle(bundle.parent / "b2", fill, lambda: manifest_of("b2"))
    (bundle.parent / "notes").mkdir()
    with pytest.raises(BundleError, match=r"no bundle at .*b3 .*; bundles beside it: b1, b2; train one"):
        open_bundle(bundle.parent / "b3")


def test_a_missing_folder_is_said_to_have_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*gone/b1 \(it has no manifest.json\); train one"):
        open_bundle(tmp_path / "gone" / "b1")


def test_another_format_version_is_refused(bundle: Path) -> None:
    described = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    # a later version may have other fields: the version is what is said
    described |= {"format_version": FORMAT_VERSION + 1, "novelty": True}
    (bundle / MANIFEST).write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(
        BundleError, match=f"format version {FORMAT_VERSION + 1}; this Driftline reads 2, 3, {FORMAT_VERSION}"
    ):
        open_bundle(bundle)


@pytest.mark.parametrize("version", [2, 3])
def test_the_format_versions_before_are_read(bundle: Path, version: int) -> None:
    described = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    (bundle / MANIFEST).write_text(json.dumps(described | {"format_version": version}), encoding="utf-8")
    assert open_bundle(bundle)[1].format_version == version


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format_version": 2}', '{"format_version": 2, "surprise": 2}', "\ud800", "\x00"]
)
def test_an_unreadable_manifest_is_a_corrupt_bundle(bundle: Path, text: str) -> None:
    (bundle / MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError, match="corrupt bundle .*b1: manifest.json"):
        open_bundle(bundle)


def test_a_manifest_whose_files_are_no_table_is_corrupt(bundle: Path) -> None:
    described = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    (bundle / MANIFEST).write_text(json.dumps(described | {"files": ["weights.bin"]}), encoding="utf-8")
    with pytest.raises(BundleError, match="corrupt bundle .*b1: manifest.json"):
        open_bundle(bundle)
