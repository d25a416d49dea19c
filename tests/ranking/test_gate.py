"""What the gate is fitted on, over the six items of ``test_scoring``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from driftline.models.collaborative import CollaborativeTables
from driftline.models.content import ContentRidge
from driftline.models.fusion import history_features
from driftline.ranking.gate import gate_examples, unknown_item_examples
from driftline.ranking.scoring import Scorer
from tests.ranking.test_scoring import ITEMS, SEQUENCES, TEXT, history, scorer

ATTRIBUTES = torch.eye(ITEMS)
READ = torch.cat([ATTRIBUTES, TEXT], dim=1)


@pytest.fixture
def made() -> Scorer:
    tables = replace(CollaborativeTables.fit(SEQUENCES, ITEMS), content=ContentRidge.fit(SEQUENCES, READ.numpy()))
    return scorer(components=("neural", "markov", "content"), tables=tables, attributes=ATTRIBUTES)


def test_targets_are_ranked_among_all_items_that_are_not_in_the_history(made: Scorer) -> None:
    examples = gate_examples(made, [history(0, 1), history()], np.array([3, 4]), np.array([0.5, 0.0]), seed=0)
    assert examples.targets_B.tolist() == [3, 4]
    assert examples.candidate_BN.tolist() == [[False, False, True, True, True, True], [True] * 6]
    assert torch.equal(examples.history_BF, history_features(np.array([2, 0]), np.array([0.5, 0.0])))
    assert examples.items.distinct_VG[examples.items.row_N.long()][:, 1].tolist() == [0] * 5 + [1]  # nobody had item 5


def test_items_taken_for_unknown_are_ranked_among_themselves_by_what_their_text_says(made: Scorer) -> None:
    """Items 1, 3 and 4; the second history has had 3 and 4, of which 4 comes again."""
    unknown = np.array([1, 3, 4])
    histories = [history(0, 1, 2), history(3, 2, 4)]
    examples = unknown_item_examples(made, histories, np.array([3, 4]), np.array([0.5, 0.0]), unknown, READ[unknown])
    assert examples.targets_B.tolist() == [1, 2]
    assert examples.candidate_BN.tolist() == [[False, True, True], [True, False, True]]
    assert torch.equal(examples.history_BF, history_features(np.array([2, 1]), np.array([0.5, 0.0])))
    assert examples.items.distinct_VG[examples.items.row_N.long()].tolist() == [[0, 1]] * 3
    neural, markov, content = examples.z_CBN[:, 0, 1:]
    left = [history(0, 2)]
    by_text = made.neural(left, READ[unknown])[0, -2:]
    # z-scores keep the order, and constants say nothing
    assert float((neural[0] - neural[1]) * (by_text[0] - by_text[1])) > 0
    assert float(markov[0]) == float(markov[1])
    by_content = made.content(left, READ[unknown])[0, -2:]
    assert float((content[0] - content[1]) * (by_content[0] - by_content[1])) > 0
