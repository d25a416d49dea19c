"""Item text: what the text tower reads about an item, most telling first.

Year and genre stand at the front, where truncation cannot reach them. Any script works: text is normalised to NFC
(Unicode Annex 15), which keeps full-width forms and never changes meaning, and rid of what no reader can see.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

ARTICLES: Final = (
    *("The", "A", "An"),
    *("Le", "La", "Les", "L'", "L’", "Un", "Une"),
    *("Il", "Lo", "Gli"),
    *("El", "Los", "Las", "Una"),
    *("Der", "Die", "Das", "Ein", "Eine"),
    *("Het", "Een", "Det", "Den", "En", "Os"),
)
"""Articles that catalogues move behind the title, by language."""

_REMOVED: Final = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"  # control characters other than white space
    "|[\ud800-\udfff]"  # lone surrogates
    "|[\u202a-\u202e\u2066-\u2069]"  # bidirectional overrides; joiners stay: Persian and emoji need them
    "|[\ufeff\u00ad]"  # byte order mark, soft hyphen
)
_MOVED_ARTICLE: Final = re.compile(rf"^(?P<name>[^()]+?), (?P<article>{'|'.join(ARTICLES)})(?= *$| *\()")
_MOVED_IN_PARENTHESES: Final = re.compile(rf"\((?P<name>[^()]+?), (?P<article>{'|'.join(ARTICLES)})\)")
_SENTENCE_END: Final = (".", "!", "?", "…", "。", "！", "？", "؟", "۔", "।")


def clean(text: str) -> str:
    """Normalise to NFC, drop control characters, lone surrogates and invisible marks, collapse white space."""
    return " ".join(unicodedata.normalize("NFC", _REMOVED.sub("", text)).split())


def display_title(title: str) -> str:
    """Clean a title and put a moved article back in front, in alternative titles in parentheses too.

    Examples
    --------
    >>> display_title("Horseman on the Roof, The (Hussard sur le toit, Le)")
    'The Horseman on the Roof (Le Hussard sur le toit)'
    >>> display_title("Enfer, L' (1994)")
    "L'Enfer (1994)"
    """
    title = _MOVED_ARTICLE.sub(_article_first, clean(title))
    return _MOVED_IN_PARENTHESES.sub(lambda match: f"({_article_first(match)})", title)


def _article_first(match: re.Match[str]) -> str:
    article = match["article"]
    return article + ("" if article.endswith(("'", "’")) else " ") + match["name"]


def compose(
    title: str,
    year: str = "",
    categories: Sequence[str] = (),
    description: str = "",
    facts: str = "",
    *,
    max_facts_chars: int = 300,
) -> str:
    """Text of an item: ``title (year). Genres: a, b. description. facts``, absent parts left out.

    Parameters
    ----------
    title
        As in the item table; see ``display_title``.
    year
        Release year; not repeated where the title already ends with it.
    categories
        Genres or other categories.
    description
        Free text.
    facts
        Facts between semicolons, most specific first; see ``graph.facts``.
    max_facts_chars
        Characters of ``facts`` to keep, cut after a fact where one fits, else after a name, else after a word.

    Raises
    ------
    ValueError
        If ``max_facts_chars`` is negative.

    Examples
    --------
    >>> compose("Usual Suspects, The", "1995", ("Crime", "Thriller"))
    'The Usual Suspects (1995). Genres: Crime, Thriller.'
    """
    if max_facts_chars < 0:
        raise ValueError(f"max_facts_chars is {max_facts_chars}; give 0 or more")
    name, year = display_title(title), clean(year)
    if year and not name.endswith(f"({year})"):
        name = f"{name} ({year})".lstrip()
    genres = ", ".join(filter(None, map(clean, categories)))
    parts = [name, f"Genres: {genres}" if genres else "", clean(description), _shortened(clean(facts), max_facts_chars)]
    return " ".join(part if part.endswith(_SENTENCE_END) else f"{part}." for part in parts if part)


def _shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters of ``text``, cut where it hurts least."""
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    for boundary in ("; ", ", ", " "):
        cut = head.rfind(boundary)
        if cut > 0:
            return head[:cut].rstrip(" ,;:")
    return text[:limit]
