"""What a user likes, in words: the categories of the history."""

from collections import defaultdict
from collections.abc import Sequence


def interest_tags(categories_by_event: Sequence[Sequence[str]], most: int = 20) -> list[tuple[str, float]]:
    """Share of the history in each category.

    Every event has one vote, split evenly over the categories of its item; events without any do not vote.

    Parameters
    ----------
    categories_by_event
        Categories of each event's item.
    most
        Keep this many of the heaviest tags; the weights of all tags add up to 1.

    Returns
    -------
    list of (tag, weight)
        Heaviest first, then by name.
    """
    votes: defaultdict[str, float] = defaultdict(float)
    for categories in categories_by_event:
        for name in categories:
            votes[name] += 1 / len(categories)
    total = sum(votes.values())
    ordered = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))
    return [(name, weight / total) for name, weight in ordered[:most]]
