"""A classifier from the tensors of its file. Which one it is, the names of the tensors say; nothing of the file runs."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.disalign import Aligned
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.neighbours import Votes
from pipeline.classifiers.oltr import Remembering
from pipeline.classifiers.ridge import RandomFeatures
from pipeline.classifiers.scored import Scored

ARCHITECTURES: dict[str, type[Architecture]] = {
    network.NAME: network for network in (Votes, RandomFeatures, Aligned, Remembering)
}
"""The classifiers that are no linear map, by what exported files call them."""


def from_tensors(tensors: Mapping[str, Tensor], prior_power: float | None) -> Classifier | Scored | None:
    """The classifier whose tensors have these names; None where none has, as of earlier versions.

    `prior_power` as in `Classifier`. Raises ValueError where their shapes or types do not fit together.
    """
    if set(tensors) == {"weight", "bias"}:
        return Classifier(tensors["weight"], tensors["bias"], prior_power=prior_power)
    for network in ARCHITECTURES.values():
        if set(tensors) == set(network.shapes()):
            return Scored(network(tensors), prior_power=prior_power)
    return None
