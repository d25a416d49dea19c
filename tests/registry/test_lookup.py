"""Lookups on a model of ten items from random parts: what is asked for is there, in order, and nothing else."""

import numpy as np
import pytest

from driftline.errors import UnknownIdError
from driftline.ranking.requests import RankRequest
from driftline.registry.lookup import LookupRequest
from driftline.registry.model import Model

NEW = {"n1": "Gunfight at Dawn (1957).", "n2": "Tender Letter (1955)."}


def ids(model: Model, **question: object) -> list[str]:
    return [found.item_id for found in model.lookup.find([LookupRequest(**question)])[0]]  # type: ignore[arg-type]


def test_items_like_an_item_are_in_the_order_of_their_cosine(model: Model) -> None:
    vectors = model.scorer.text_vectors_NT.numpy()
    expected = [f"i{n}" for n in np.argsort(-(vectors @ vectors[3]), kind="stable") if n != 3]
    assert ids(model, item_id="i3", k=9) == expected
    assert ids(model, item_id="i3", k=2, exclude=[expected[0]]) == expected[1:3]
    assert set(ids(model, item_id="i3", candidates=["i1", "i8"])) == {"i1", "i8"}


def test_a_new_item_is_found_and_asked_about_by_its_text(model: Model) -> None:
    assert ids(model, text=NEW["n1"], new_items=NEW, k=1) == ["n1"]
    # n2 says word for word what i5 says, so it is like everything that i5 is like
    assert ids(model, item_id="n2", new_items=NEW, k=1) == ["i5"]
    assert model.lookup.find([LookupRequest(item_id="n2", new_items=NEW, k=1)])[0][0].match == pytest.approx(1.0)
    with pytest.raises(UnknownIdError, match="nobody"):
        ids(model, item_id="nobody")


def test_words_bring_up_the_title_that_was_asked_for(model: Model) -> None:
    assert ids(model, text="saloon", by_words=True, k=1) == ["i2"]
    assert ids(model, text="镖", by_words=True, k=1) == ["i0"]


def test_a_taste_moves_a_list_and_leaves_the_match_as_it_is(model: Model) -> None:
    plain, personal = model.lookup.find(
        [LookupRequest(text="a letter", k=12, new_items=NEW, history=h, weight=0.5) for h in (None, ["i1", "i2"])]
    )
    assert all(found.taste is None for found in plain)
    assert {f.item_id: f.match for f in plain} == pytest.approx({f.item_id: f.match for f in personal})
    log_p = model.log_probabilities([RankRequest(["i1", "i2"], keep_seen=True, new_items=NEW)])[0]
    favourite = [*model.item_ids, *NEW][int(log_p.argmax())]
    assert {f.item_id: f.taste for f in personal}[favourite] == 1.0
    for found in personal:
        assert found.taste is not None
        assert found.score == pytest.approx(0.5 * found.match + 0.5 * found.taste)
    scores = [found.score for found in personal]
    assert scores == sorted(scores, reverse=True)


def test_answers_do_not_depend_on_what_else_is_asked_at_once(model: Model) -> None:
    questions = [
        LookupRequest(text="a letter", history=["i1"], new_items=NEW),
        LookupRequest(item_id="i4", history=["i2", "i3"]),
        LookupRequest(text="a letter", new_items={"n1": "Another text."}, history=[]),
    ]
    together = model.lookup.find(questions)
    for question, answer in zip(questions, together, strict=True):
        alone = model.lookup.find([question])[0]
        assert [f.item_id for f in alone] == [f.item_id for f in answer]
        assert [f.score for f in alone] == pytest.approx([f.score for f in answer], abs=1e-5)


def test_relevance_of_documents_is_1_for_the_query_itself_and_a_limit_cuts_them(model: Model) -> None:
    figures = model.lookup.relevance("Silent Orbit", ["Silent Orbit", "Dusty Ranch", ""], 4096)
    assert figures[0] == pytest.approx(1.0)
    assert figures.argmax() == 0
    assert ((figures > 0) & (figures <= 1)).all()
    head = model.text_encoder.tokenizer.head("Silent Orbit and much more", 2)
    assert "Silent Orbit and much more".startswith(head)
    short = model.lookup.relevance("Silent Orbit", ["Silent Orbit and much more"], 2)
    assert short == pytest.approx(model.lookup.relevance("Silent Orbit", [head], 4096))


@pytest.mark.parametrize("question", [{}, {"item_id": "i1", "text": "x"}, {"text": "x", "weight": 0.6}])
def test_a_question_that_makes_no_sense_is_refused(question: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one|must be 0"):
        LookupRequest(**question)  # type: ignore[arg-type]
