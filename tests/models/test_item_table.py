"""An item is its projected text plus a residual of its own, if it is known."""

import pytest
import torch

from driftline.models.item_table import ItemTable

TEXT = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
KNOWN = torch.tensor([True, True, False])


def table_of(id_dropout: float = 0.0) -> ItemTable:
    table = ItemTable(TEXT, KNOWN, dim=2, id_dropout=id_dropout)
    with torch.no_grad():
        table.project.weight.copy_(torch.tensor([[2.0, 0], [0, 3]]))
        table.residual_ND.copy_(torch.tensor([[0.5, 0], [0, -1], [7, 7]]))
        table.bias_N.copy_(torch.tensor([0.1, 0.2, 9]))
    return table


def test_vectors_by_hand() -> None:
    vectors, bias = table_of()()
    assert vectors.tolist() == [[2.5, 0], [0, 2], [2, 3]]  # the third item is unknown: its text alone
    assert bias.tolist() == pytest.approx([0.1, 0.2, 0])


def test_some_rows_are_those_of_the_whole_table() -> None:
    vectors, bias = table_of()(torch.tensor([2, 0]))
    assert vectors.tolist() == [[2, 3], [2.5, 0]]
    assert bias.tolist() == pytest.approx([0, 0.1])


def test_an_unknown_item_equals_a_new_one_of_the_same_text() -> None:
    table = table_of().eval()
    assert torch.equal(table.from_text(TEXT)[2], table()[0][2])
    assert not torch.equal(table.from_text(TEXT)[0], table()[0][0])


def test_a_new_item_has_no_vectors_of_other_modalities() -> None:
    table = table_of()  # its second column is of another modality than text
    assert table.from_text(torch.tensor([[1.0], [3.0]])).tolist() == [[2, 0], [6, 0]]


def test_items_that_are_known_now_begin_by_their_popularity() -> None:
    """The third was unknown when the others' residuals and biases were trained."""
    table = table_of()
    table.known_N = torch.tensor([True, True, True])
    table.begin_anew(KNOWN, torch.tensor([1.0, 2.0, 3.0]))
    vectors, bias = table()
    assert vectors.tolist() == [[2.5, 0], [0, 2], [2, 3]]
    assert bias.tolist() == pytest.approx([0.1, 0.2, 3])


def test_an_unknown_item_learns_no_residual() -> None:
    table = table_of()
    vectors, bias = table()
    (vectors.sum() + bias.sum()).backward()
    assert table.residual_ND.grad is not None
    assert table.residual_ND.grad.tolist() == [[1, 1], [1, 1], [0, 0]]
    assert table.bias_N.grad is not None
    assert table.bias_N.grad.tolist() == [1, 1, 0]


def test_id_dropout_hides_the_stated_share_of_residuals_in_training_only() -> None:
    torch.manual_seed(0)
    table = ItemTable(torch.ones(2000, 1), torch.ones(2000, dtype=torch.bool), dim=3, id_dropout=0.3)
    with torch.no_grad():
        table.bias_N.fill_(1)
    vectors, bias = table.train()()
    hidden = (vectors == table.from_text(torch.ones(1, 1))).all(dim=1)
    assert 0.25 < float(hidden.float().mean()) < 0.35
    assert torch.equal(bias == 0, hidden)  # the bias goes with the residual
    kept, _ = table.eval()()
    assert not (kept == table.from_text(torch.ones(1, 1))).all(dim=1).any()
    assert torch.equal(kept, table()[0])
