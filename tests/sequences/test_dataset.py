"""From files to histories as item indices."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from driftline.columns import Events
from driftline.config import Config, parse_config
from driftline.errors import DataError
from driftline.sequences.dataset import Dataset, load_dataset, ranking_split

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ROWS = [
    "u1\ta\t1\t10",
    "u2\tb\t3\t11",
    "u1\tc\t5\t12",
    "u1\tb\t2\t13",
    "u2\ta\t5\t14",
    "u2\td\t1\t15",  # d has no row in the item table
    "u1\td\t4\t16",
]


def config_of(folder: Path, rows: list[str], **sections: object) -> Config:
    (folder / "log.inter").write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
    (folder / "log.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "a\t卧虎藏龙\t2000\tAction\nb\tFargo\t1996\tCrime\nc\tAlien\t1979\tHorror\n",
        encoding="utf-8",
    )
    data = {"interactions": str(folder / "log.inter"), "items": str(folder / "log.item"), **sections}
    return parse_config({"data": data, "storage": str(folder)})


def test_histories_are_indices_into_the_catalogue(tmp_path: Path) -> None:
    dataset = load_dataset(config_of(tmp_path, ROWS))
    assert dataset.catalog.ids == ["a", "b", "c", "d"]
    assert dataset.catalog.titles == ["卧虎藏龙", "Fargo", "Alien", "d"]
    histories = dataset.histories(dataset.events)
    items = {user: history.items.tolist() for user, history in histories.items()}
    assert items == {"u1": [0, 2, 1, 3], "u2": [1, 0, 3]}
    values = histories["u1"].values
    assert values is not None
    np.testing.assert_allclose(values, [0, 1, 0.25, 0.75])  # ratings 1, 5, 2, 4 on the scale 1..5
    assert histories["u2"].times_s is not None
    assert histories["u2"].times_s.tolist() == [11, 14, 15]
    assert histories["u2"].types is not None
    assert histories["u2"].types.tolist() == [7, 7, 7]  # view, click, cart, purchase, listen, read, rating
    assert dataset.histories(dataset.events, ["u2"]).keys() == {"u2"}
    assert dataset.users == ["u1", "u2"]


def test_a_target_is_ranked_with_what_came_before_it(tmp_path: Path) -> None:
    dataset = load_dataset(config_of(tmp_path, ROWS))
    test = dataset.split.test
    known = {
        (user, item): dataset.target_history(test, number).items.tolist()
        for number, (user, item) in enumerate(zip(test.user_ids, test.item_ids, strict=True))
    }
    assert known == {("u1", "d"): [0, 2, 1], ("u2", "d"): [1, 0]}
    types = dataset.target_history(test, 0).types
    assert types is not None
    assert set(types.tolist()) == {7}


def test_the_report_counts_rows(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0], "u3\ta\tmany\t17"]
    dataset = load_dataset(config_of(tmp_path, rows, max_rejected_fraction=0.2))
    events = {"rows": 9, "rejected": 1, "duplicates": 1, "events": 7, "users": 2}
    assert dataset.report == events | {"items": 4, "rejected items": 0, "items without a catalogue row": 1}
    assert [(Path(r.file).name, r.line, r.reason.startswith("value: 'many'")) for r in dataset.rejected] == [
        ("log.inter", 10, True)
    ]


def test_too_many_malformed_rows_stop_the_job_with_the_first_of_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 8 rows .* are malformed(.|\n)*log.inter:9: value: 'many'"):
        load_dataset(config_of(tmp_path, [*ROWS, "u3\ta\tmany\t17"]))


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    original = load_dataset(config_of(tmp_path, ROWS)).fingerprint
    assert load_dataset(config_of(tmp_path, ROWS)).fingerprint == original
    assert load_dataset(config_of(tmp_path, [*ROWS[:-1], "u1\td\t5\t16"])).fingerprint != original


def test_the_fingerprint_follows_event_types_where_they_are_read(tmp_path: Path) -> None:
    def fingerprint(last: str, reads_types: bool) -> str:
        log = tmp_path / "log.csv"
        log.write_text(f"user_id,item_id,timestamp,type\nu,a,1,view\nu,b,2,view\nu,c,3,{last}\n", encoding="utf-8")
        raw = {"data": {"interactions": str(log)}, "storage": str(tmp_path)}
        return load_dataset(parse_config(raw | {"encoder": {"event_types": reads_types}})).fingerprint

    assert fingerprint("view", False) == fingerprint("click", False) != fingerprint("view", True)
    assert fingerprint("view", True) != fingerprint("click", True)


def test_item_vectors_belong_to_the_data(tmp_path: Path) -> None:
    def loaded(length: float) -> Dataset:
        path = tmp_path / "vectors.parquet"
        pd.DataFrame({"item_id": ["c", "d"], "image": [[0.0, length], [-length, 0.0]]}).to_parquet(path)
        return load_dataset(config_of(tmp_path, ROWS, item_vectors=str(path)))

    dataset = loaded(2)
    assert dataset.item_vectors_NV is not None
    assert dataset.item_vectors_NV.tolist() == [[0, 0], [0, 0], [0, 1], [-1, 0]]
    without = load_dataset(config_of(tmp_path, ROWS))
    assert without.item_vectors_NV is None
    assert without.fingerprint != dataset.fingerprint != loaded(-2).fingerprint


def test_held_out_users_are_kept_from_the_ranker_on_request(tmp_path: Path) -> None:
    # the drift protocol's parts by hash: md5("u12") % 100 = 91 is a test user; u1 (4) and u2 (39) train
    rows = [*ROWS, "u12\ta\t1\t20", "u12\tb\t1\t21", "u12\tc\t1\t22"]
    config = config_of(tmp_path, rows)
    dataset = load_dataset(config)
    assert (dataset.users_of("train"), dataset.users_of("test")) == (["u1", "u2"], ["u12"])
    assert set(ranking_split(dataset, config).fit[Events.USER]) == {"u1", "u2", "u12"}
    without = parse_config(config.model_dump(mode="json"), ["ranking.exclude_held_out=true"])
    split = ranking_split(dataset, without)
    assert set(split.fit[Events.USER]) == {"u1", "u2"}
    assert set(split.validation.user_ids) == {"u1", "u2"}
