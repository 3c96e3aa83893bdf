"""Eigenvalues against the product they come from, with empty columns and where LAPACK gives up."""

import pytest
import torch

from pipeline.classifiers.eigen import eigen


def covariance(width: int, dead: tuple[int, ...] = (), diagonal: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(width)
    rows = torch.randn(3 * width, width, generator=g, dtype=torch.float64)
    rows[:, list(dead)] = 0
    return rows.T @ rows / len(rows) + diagonal * torch.eye(width, dtype=torch.float64)


@pytest.mark.parametrize("dead", [(), (0,), (2, 3, 6), tuple(range(7))])
@pytest.mark.parametrize("diagonal", [0.0, 0.3])
def test_values_and_axes_give_the_matrix_again_whatever_columns_are_empty(dead, diagonal):
    matrix = covariance(7, dead, diagonal)
    value, axis = eigen(matrix)
    torch.testing.assert_close((axis * value) @ axis.T, matrix)
    torch.testing.assert_close(axis.T @ axis, torch.eye(7, dtype=torch.float64))
    torch.testing.assert_close(value.sort().values, torch.linalg.eigvalsh(matrix))


def test_an_empty_column_is_an_axis_by_itself_to_the_bit():
    value, axis = eigen(covariance(5, (1,), 0.25))
    assert value[1] == 0.25
    assert axis[:, 1].tolist() == axis[1].tolist() == [0, 1, 0, 0, 0]


def test_where_lapack_gives_up_the_other_routine_is_taken(monkeypatch):
    def gives_up(_matrix):
        raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")

    matrix = covariance(6)
    monkeypatch.setattr(torch.linalg, "eigh", gives_up)
    value, axis = eigen(matrix)
    torch.testing.assert_close((axis * value) @ axis.T, matrix)
    with pytest.raises(torch.linalg.LinAlgError):  # what no routine can do is said by the first
        eigen(matrix * torch.nan)
