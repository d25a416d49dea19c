"""Facts from knowledge graphs whose scores can be worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest

from driftline.catalog import Graph, facts, read_graph
from driftline.catalog.graph import MAX_SHARED
from driftline.errors import DataError
from driftline.samples import fetch_movielens


def graph(triples: list[tuple[str, str, str]], items: str) -> Graph:
    """Item ``a`` is entity ``m.a`` and so on."""
    return Graph(
        triples=pd.DataFrame(triples, columns=["head_id", "relation_id", "tail_id"]),
        links=pd.DataFrame({"item_id": list(items), "entity_id": [f"m.{item}" for item in items]}),
        rejected=[],
    )


def titles(items: str) -> dict[str, str]:
    return {item: item.upper() for item in items}


def test_direct_facts_are_told_once_though_the_graph_says_them_twice() -> None:
    both_ways = [("m.a", "film.film.sequel", "m.b"), ("m.b", "film.film.prequel", "m.a")]
    assert facts(graph(both_ways, "ab"), titles("ab")) == {"a": "sequel: B", "b": "prequel: A"}
    one_way = both_ways[:1]
    assert facts(graph(one_way, "ab"), titles("ab")) == {"a": "sequel: B", "b": "sequel of: A"}


def test_a_shared_entity_is_named_after_its_type() -> None:
    directed = [(f"m.{item}", "film.film.directed_by", "m.lucas") for item in "ab"]
    directs = [("m.lucas", "film.director.film", f"m.{item}") for item in "ab"]
    expected = {"a": "same director as: B", "b": "same director as: A"}
    assert facts(graph(directed + directs, "ab"), titles("ab")) == expected
    assert facts(graph(directs, "ab"), titles("ab")) == expected
    assert facts(graph(directed, "ab"), titles("ab")) == {"a": "same directed by as: B", "b": "same directed by as: A"}
    url = [(f"m.{item}", "http://example.org/ontology/lead_actor", "m.x") for item in "ab"]
    assert facts(graph(url, "ab"), titles("ab"))["a"] == "same lead actor as: B"


def test_the_most_telling_facts_come_first() -> None:
    # country: d = 1, x has g = 4. writer: a has p and q, b has p, c has q, d has q; d_r = 5/4.
    # For a: score(writer, b) = 1/(5/4 * 2) = 0.4, score(writer, c) = score(writer, d) = 1/(5/4 * 3) = 0.267;
    #        score(country, anyone) = 1/4. So writer before country, and b before c and d.
    triples = [(f"m.{item}", "country", "m.x") for item in "abcd"]
    triples += [("m.a", "writer", "m.p"), ("m.a", "writer", "m.q"), ("m.b", "writer", "m.p")]
    triples += [("m.c", "writer", "m.q"), ("m.d", "writer", "m.q")]
    told = facts(graph(triples, "abcd"), titles("abcd"))
    assert told["a"] == "same writer as: B, C, D; same country as: B, C, D"
    assert told["b"] == "same writer as: A; same country as: A, C, D"
    short = facts(graph(triples, "abcd"), titles("abcd"), max_facts=1, max_titles=2)
    assert short["a"] == "same writer as: B, C"


def test_entities_that_everyone_has_and_that_one_has_say_nothing() -> None:
    many = [f"i{number}" for number in range(MAX_SHARED + 1)]
    triples = pd.DataFrame({"head_id": many, "relation_id": "language", "tail_id": "english"})
    links = pd.DataFrame({"item_id": many, "entity_id": many})
    assert facts(Graph(triples, links, []), dict.fromkeys(many, "t")) == {}
    assert len(facts(Graph(triples[1:], links, []), dict.fromkeys(many, "t"))) == MAX_SHARED
    assert facts(graph([("m.a", "writer", "m.p")], "ab"), titles("ab")) == {}


def test_items_without_title_or_link_are_left_out() -> None:
    triples = [(f"m.{item}", "writer", "m.p") for item in "abc"]
    assert facts(graph(triples, "abc"), {"a": "A", "b": "", "z": "Z"}) == {}
    assert facts(graph(triples, "abc"), {"a": "甲", "c": "乙"}) == {
        "a": "same writer as: 乙",
        "c": "same writer as: 甲",
    }
    assert facts(graph(triples, "abc"), {}) == {}


def test_reading(tmp_path: Path) -> None:
    kg, link = tmp_path / "a.kg", tmp_path / "a.link"
    kg.write_text("head_id:token\trelation_id:token\ttail_id:token\nm.a\tr\tm.p\nm.a\tr\tm.p\nm.b\t\tm.p\n")
    link.write_text("item_id:token\tentity_id:token\na\tm.a\nb\n")
    read = read_graph(kg, link)
    assert read.triples.to_numpy().tolist() == [["m.a", "r", "m.p"]]
    assert read.links.to_numpy().tolist() == [["a", "m.a"]]
    assert [(Path(rejection.file).name, rejection.line, rejection.reason) for rejection in read.rejected] == [
        ("a.kg", 4, "relation_id is missing"),
        ("a.link", 3, "1 fields where the header has 2 (item_id, entity_id)"),
    ]
    with pytest.raises(DataError, match=r"missing\.kg: no such file"):
        read_graph(tmp_path / "missing.kg", link)


def test_movielens_graph() -> None:
    folder = fetch_movielens()
    read = read_graph(folder / "ml-100k.kg", folder / "ml-100k.link")
    assert read.rejected == []
    assert (len(read.triples), len(read.links)) == (91_631, 1_598)
    # The links carry item ids of MovieLens-1M/20M (see driftline.catalog.agreement); for those they tell the truth:
    told = facts(
        read,
        {"260": "Star Wars", "1196": "The Empire Strikes Back", "1210": "Return of the Jedi", "858": "The Godfather"},
    )
    assert told["1196"].startswith("prequel: Star Wars; sequel: Return of the Jedi; same producer as: ")
