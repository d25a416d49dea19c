"""Item text: exact sentences, every script, and nothing that crashes."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.catalog import compose, display_title


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Fish Called Wanda, A", "A Fish Called Wanda"),
        ("Postino, Il", "Il Postino"),
        ("Enfer, L'", "L'Enfer"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Horseman on the Roof, The (Hussard sur le toit, Le)", "The Horseman on the Roof (Le Hussard sur le toit)"),
        ("Contempt (Mépris, Le)", "Contempt (Le Mépris)"),
        ("Usual Suspects, The (1995)", "The Usual Suspects (1995)"),
        ("I, The Jury", "I, The Jury"),
        ("Sex, Lies, and Videotape", "Sex, Lies, and Videotape"),
        ("卧虎藏龙", "卧虎藏龙"),
        ("  Toy\tStory \x07\u202e ", "Toy Story"),
        ("Cafe\u0301 au Lait", "Café au Lait"),
        ("", ""),
    ],
)
def test_display_title(title: str, expected: str) -> None:
    assert display_title(title) == expected


def test_year_and_genres_follow_the_title() -> None:
    text = compose("Usual Suspects, The", "1995", ("Crime", "Thriller"), "A heist.", "sequel: None Such")
    assert text == "The Usual Suspects (1995). Genres: Crime, Thriller. A heist. sequel: None Such."


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("Shall We Dance?", ""), "Shall We Dance?"),
        (("Shall We Dance?", "1996"), "Shall We Dance? (1996)."),
        (("Heat (1995)", "1995"), "Heat (1995)."),
        (("", "1995", ("Drama",)), "(1995). Genres: Drama."),
        (("42",), "42."),
        (("",), ""),
        (("卧虎藏龙", "2000", ("动作", "爱情"), "江湖传奇。"), "卧虎藏龙 (2000). Genres: 动作, 爱情. 江湖传奇。"),
        (("פעמון", "2001", ("דרמה",), "האם זה נכון?"), "פעמון (2001). Genres: דרמה. האם זה נכון?"),
        (("می‌خواهم", "1990"), "می\u200cخواهم (1990)."),  # the joiner is part of the word
        (("ＡＢＣ", "2001"), "ＡＢＣ (2001)."),  # full width stays: NFC, not NFKC
        (("👨‍👩‍👧", "2020"), "👨‍👩‍👧 (2020)."),
    ],
)
def test_every_script_and_absent_parts(arguments: tuple[str, ...], expected: str) -> None:
    assert compose(*arguments) == expected


FACTS = "same director as: Jaws, Alien Nation; same writer as: Dune"


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (1000, FACTS),
        (len(FACTS), FACTS),
        (len(FACTS) - 1, "same director as: Jaws, Alien Nation"),
        (30, "same director as: Jaws"),
        (19, "same director as"),
        (0, ""),
    ],
)
def test_facts_are_cut_at_a_boundary(limit: int, kept: str) -> None:
    assert compose("X", facts=FACTS, max_facts_chars=limit) == ("X. " + (f"{kept}." if kept else "")).strip()


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="max_facts_chars is -1"):
        compose("X", max_facts_chars=-1)


ANY = st.text(st.characters(), max_size=40)


@given(ANY, st.from_regex(r"[12][0-9]{3}", fullmatch=True), st.lists(ANY, max_size=4), ANY, ANY, st.integers(0, 50))
def test_any_text_composes(
    title: str, year: str, categories: list[str], description: str, facts: str, limit: int
) -> None:
    text = compose(title, year, categories, description, facts, max_facts_chars=limit)
    assert year in text
    assert unicodedata.is_normalized("NFC", text)
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)
    assert "  " not in text
    text.encode("utf-8")
