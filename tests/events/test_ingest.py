"""Ingesting with Ray Data ends with the same histories, split and catalogue as reading into memory."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from driftline.config import Config, load_config, parse_config
from driftline.errors import ConfigError, DataError
from driftline.events import ingest as module
from driftline.sequences.dataset import Dataset, ingest_dataset, load_dataset
from driftline.sequences.stream import StreamSampler, ranking_counts, ranking_sampler

USERS, ITEMS = 60, 40


def rows(rng: np.random.Generator) -> list[str]:
    """Ties, unknown times, repeated rows, ids that two users share, users of one to forty events, malformed rows."""
    lines: list[str] = []
    for user in range(USERS):
        for number in range(1 if user < 5 else int(rng.integers(2, 40))):
            time = "" if rng.random() < 0.1 else str(int(rng.integers(0, 50)))
            event_id = f"e{rng.integers(0, 900)}" if rng.random() < 0.3 else ""
            lines.append(f"u{user},i{rng.integers(0, ITEMS)},{time},{number % 5 + 1 if user % 2 else ''},{event_id}")
    lines += [lines[number] for number in rng.integers(0, len(lines), 50)]
    lines += ["u1,,3,,", ",i3,4,,", "u2,i2,soon,,"]
    return [lines[number] for number in rng.permutation(len(lines))]


HEAD = "user_id,item_id,timestamp,rating,event_id"


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return path


def config_of(folder: Path, source: Path, **data: object) -> Config:
    table = folder / "items.csv"
    table.write_text("item_id,title\ni3,Three\nnew,Nobody has touched it\n", encoding="utf-8")
    section = {"interactions": str(source), "items": str(table), "max_rejected_fraction": 0.05, **data}
    return parse_config({"data": section, "storage": str(folder / "storage"), "training": {"batch_users": 4}})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, ray_cluster: str) -> tuple[Dataset, Dataset, Config]:
    """The same log in memory and ingested from three files in several partitions, and the latter's configuration."""
    folder = tmp_path_factory.mktemp("ingest")
    lines = rows(np.random.default_rng(4))
    third = len(lines) // 3
    for number in range(3):
        write(
            folder / "log" / f"part-{number}.csv", lines[number * third : (number + 1) * third if number < 2 else None]
        )
    memory = load_dataset(config_of(folder, write(folder / "log.csv", lines)))
    config = config_of(folder, folder / "log", ingest="ray-data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EVENTS_PER_PARTITION", 250)
        ingest_dataset(config, Console())
    return memory, load_dataset(config), config


@pytest.mark.slow
def test_the_same_data_set_comes_out(both: tuple[Dataset, Dataset, Config]) -> None:
    memory, ingested, _ = both
    assert ingested.ingested is not None
    assert len({file.name.partition("-")[2] for file in ingested.ingested.files}) > 2  # partitions
    counts = {name: ingested.report[name] for name in memory.report}
    assert counts == memory.report
    assert memory.report["duplicates"] > 50
    assert memory.report["rejected"] == 3
    assert sorted(r.reason for r in ingested.ingested.rejected) == sorted(r.reason for r in memory.rejected)
    assert ingested.catalog.ids == memory.catalog.ids
    for part in (lambda dataset: dataset.events, lambda dataset: dataset.split.fit):
        expected, found = memory.histories(part(memory)), ingested.histories(part(ingested))
        assert found.keys() == expected.keys()
        for user, history in expected.items():
            for name in ("items", "times_s", "values"):
                np.testing.assert_array_equal(getattr(found[user], name), getattr(history, name))
    for name in ("validation", "test"):
        targets = [getattr(dataset.split, name) for dataset in (memory, ingested)]
        expected, found = (dict(zip(t.user_ids, zip(t.item_ids, t.history_lengths), strict=True)) for t in targets)  # noqa: B905
        assert found == expected


@pytest.mark.slow
def test_the_ranking_stage_streams_the_histories_it_had_in_memory(both: tuple[Dataset, Dataset, Config]) -> None:
    memory, ingested, config = both
    longest = config.model_copy(update={"encoder": config.encoder.model_copy(update={"window_events": 500})})
    batches = ranking_sampler(ingested, longest)
    assert isinstance(batches, StreamSampler)
    expected = ranking_sampler(memory, longest)
    assert batches.batches_per_epoch(2) == expected.batches_per_epoch(2)
    histories = memory.histories(memory.split.fit)
    seen = set()
    for batch in batches.epoch(0):
        for row, user in enumerate(batch.users):
            assert batch.items_BL[row][batch.mask_BL[row]].tolist() == histories[user].items.tolist()
            seen.add(user)
    assert seen == {user for user, history in histories.items() if len(history) >= 2}
    for options in ([], ["ranking.exclude_held_out=true"]):
        chosen = parse_config(config.model_dump(mode="json"), options)
        np.testing.assert_array_equal(ranking_counts(ingested, chosen), ranking_counts(memory, chosen))


@pytest.mark.slow
def test_what_is_there_is_not_ingested_again(both: tuple[Dataset, Dataset, Config]) -> None:
    _, ingested, config = both
    assert ingested.ingested is not None
    manifest = ingested.ingested.folder / "manifest.json"
    written = manifest.stat().st_mtime_ns
    assert ingest_dataset(config, Console()).fingerprint == ingested.ingested.fingerprint
    assert manifest.stat().st_mtime_ns == written
    assert [path.name for path in manifest.parent.parent.iterdir()] == [manifest.parent.name]  # nothing half done
    assert sorted(path.name for path in manifest.parent.iterdir()) == ["histories", "items.parquet", "manifest.json"]


@pytest.mark.slow
def test_a_sample_is_the_same_in_every_process_and_has_whole_histories(both: tuple[Dataset, Dataset, Config]) -> None:
    memory, _, config = both
    smaller = parse_config(config.model_dump(mode="json"), ["data.sample_users=20"])
    sample = load_dataset(smaller)
    assert len(sample.users) == sample.report["sampled users"] == 20
    assert sample.users == load_dataset(smaller).users
    assert sample.fingerprint == both[1].fingerprint
    histories = memory.histories(memory.events)
    for user, history in sample.histories(sample.events).items():
        np.testing.assert_array_equal(history.items, histories[user].items)


@pytest.mark.slow
def test_too_many_malformed_rows_stop_the_ingest_and_leave_nothing(tmp_path: Path, ray_cluster: str) -> None:
    source = write(tmp_path / "bad" / "a.csv", ["u1,a,1,,", "u1,b,2,,", "u1,c,much,,"])
    config = config_of(tmp_path, source, ingest="ray-data")
    with pytest.raises(DataError, match=r"1 of 3 rows(.|\n)*a.csv:3: timestamp: 'much' is not a finite number"):
        ingest_dataset(config, Console())
    assert list((tmp_path / "storage" / "ingest").iterdir()) == []


def test_without_an_ingest_the_way_to_it_is_told(tmp_path: Path) -> None:
    config = config_of(tmp_path, write(tmp_path / "log.csv", ["u1,a,1,,"]), ingest="ray-data")
    with pytest.raises(DataError, match=r"is not ingested yet: (.|\n)*jobs/ingest.py"):
        load_dataset(config)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    from driftline.events.histories import open_ingested

    (tmp_path / "manifest.json").write_text('{"format": 1')
    with pytest.raises(DataError, match=r"manifest.json cannot be read"):
        open_ingested(tmp_path)


def test_conflicts_of_the_ingest_are_told_before_anything_is_read(tmp_path: Path) -> None:
    source = tmp_path / "log.jsonl"
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, source, ingest="ray-data").model_dump()
    assert "piece by piece" in str(caught.value)
    (tmp_path / "log").mkdir()
    tree = {"data": {"interactions": str(tmp_path / "log")}, "storage": str(tmp_path)}
    settings = tmp_path / "run.yaml"
    settings.write_text(str(tree).replace("'", '"'))
    options = ["text.base=smollm2-135m", "protocol=temporal-successive", "data.ingest=ray-data"]
    with pytest.raises(ConfigError, match="needs protocol=leave-one-out"):
        load_config(settings, options, for_run=True)
    assert load_config(settings, ["data.ingest=ray-data"], for_run=True).data.interactions == tmp_path / "log"
    with pytest.raises(ConfigError, match="no such file"):
        load_config(settings, [], for_run=True)
