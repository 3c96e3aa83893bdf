"""Eigenvalues of covariances of which most rows and columns may be empty. Pure."""

import scipy.linalg
import torch
from torch import Tensor


def eigen(matrix_DD: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), in no order, and eigenvectors (D, D), in columns, of a symmetric matrix.

    A column with nothing beside its diagonal is its own axis: a backbone leaves a thousand features at one value on images
    unlike its own. LAPACK's divide and conquer can give up on so many equal eigenvalues, and takes long over them. Where it
    gives up on the others, SciPy's other routine is taken.
    """
    value_D, axis_DD = matrix_DD.diagonal().clone(), torch.eye(len(matrix_DD)).to(matrix_DD)
    bound_D = (matrix_DD - value_D.diag()).any(dim=0)
    if bool(bound_D.all()):
        return _dense(matrix_DD)
    at_L = bound_D.nonzero()[:, 0]
    if len(at_L):
        value_D[at_L], axis_DD[at_L[:, None], at_L] = _dense(matrix_DD[at_L[:, None], at_L])
    return value_D, axis_DD


def _dense(matrix_DD: Tensor) -> tuple[Tensor, Tensor]:
    try:
        value_D, axis_DD = torch.linalg.eigh(matrix_DD)
    except torch.linalg.LinAlgError:
        if not bool(matrix_DD.isfinite().all()):
            raise
        values, axes = scipy.linalg.eigh(matrix_DD.cpu().numpy(), driver="evr")
        value_D, axis_DD = torch.from_numpy(values).to(matrix_DD), torch.from_numpy(axes).to(matrix_DD)
    return value_D, axis_DD
