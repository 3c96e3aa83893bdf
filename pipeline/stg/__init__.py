"""The Semantic Transformation Generator (paper, section 3.3)."""

from pipeline.stg.generator import SemanticTransformationGenerator
from pipeline.stg.statistics import transformation_targets

__all__ = ["SemanticTransformationGenerator", "transformation_targets"]
