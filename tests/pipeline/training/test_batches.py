"""Batches and their parts: every row once, partners found wherever they lie, weights that sum to the global mean."""

import pytest
import torch

from pipeline.settings.stage1 import Stage1
from pipeline.training.batches import Batch, batches, part


def _parts(batch, world, accumulate):
    return [part(batch, rank, world, accumulate) for rank in range(world)]


def test_an_epoch_has_each_row_once_and_partners_are_a_permutation_of_the_batch():
    found = batches(70, Stage1(batch_size=16), seed=0, epoch=3)
    assert [len(batch.rows_B) for batch in found] == [16, 16, 16, 16, 6]
    assert torch.cat([batch.rows_B for batch in found]).sort().values.tolist() == list(range(70))
    assert all(batch.rows_B.sort().values.equal(batch.partner_rows_B.sort().values) for batch in found)
    assert any(not batch.rows_B.equal(batch.partner_rows_B) for batch in found)


def test_a_last_batch_of_one_row_is_left_out_unless_it_is_all_there_is():
    assert [len(batch.rows_B) for batch in batches(33, Stage1(batch_size=16), 0, 0)] == [16, 16]
    assert [len(batch.rows_B) for batch in batches(1, Stage1(batch_size=16), 0, 0)] == [1]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 7, 16])
def test_parts_sum_to_the_mean_of_the_whole_batch(world, accumulate, size):
    """The weighted sum of the parts' means of any function of a row and its partner is the global batch's mean."""
    batch = batches(size, Stage1(batch_size=size), seed=size, epoch=0)[0]
    value_NN = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = value_NN[batch.rows_B, batch.partner_rows_B].mean()
    found, rows = torch.zeros((), dtype=torch.float64), []
    for own in _parts(batch, world, accumulate):
        for micro in own.micros:
            rows_M = own.rows_Q[micro.start : micro.stop]
            found += micro.weight * value_NN[rows_M, own.rows_Q[micro.partner_M]].mean()
            assert len(rows_M) >= 2
            rows += rows_M.tolist() if micro.weight else []
    torch.testing.assert_close(found, wanted)
    assert rows == batch.rows_B.tolist()


def test_one_process_fetches_the_batch_in_its_order_and_weighs_it_with_exactly_one():
    batch = batches(49, Stage1(batch_size=49), seed=0, epoch=0)[0]
    own = part(batch, 0, 1, 1)
    assert own.rows_Q.equal(batch.rows_B)
    assert [(micro.start, micro.stop, micro.weight) for micro in own.micros] == [(0, 49, 1.0)]


def test_only_what_a_process_needs_is_fetched():
    rows_B = torch.tensor([4, 9, 2, 7])
    own = part(Batch(rows_B, torch.tensor([9, 2, 2, 4]), 0.5), 0, 2, 1)
    assert own.rows_Q.tolist() == [4, 9, 2]
    assert own.micros[0].partner_M.tolist() == [1, 2]
    alone = part(batches(8, Stage1(batch_size=8, mixing="none"), 0, 0)[0], 1, 2, 1)
    assert len(alone.rows_Q) == 4
    assert alone.micros[0].partner_M.tolist() == [0, 1, 2, 3]


def test_a_process_that_a_small_batch_leaves_out_joins_at_weight_0():
    batch = Batch(torch.tensor([5, 6, 7]), torch.tensor([6, 7, 5]), 0.5)
    weights = [[micro.weight for micro in own.micros] for own in _parts(batch, 3, 2)]
    assert weights == [[1.0], [0.0], [0.0]]
