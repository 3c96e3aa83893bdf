"""Every setting of the three stages, as frozen models; the defaults are the paper's.

A config file gives any of them, and `--set section.key=value` overrides one: see `load.py`.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings.section import NonNegative, Section
from pipeline.settings.stage1 import TEST_VIEWS, Backbone, Data, Extract, LongTail, Stage1
from pipeline.settings.stage2 import STG
from pipeline.settings.stage3 import Choice, Evaluate, Retrain


class Settings(Section):
    """All settings of a run."""

    name: str = Field(default="own", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    ram_limit: NonNegative = 0.0
    """GiB of a split's features that stages 2 and 3 hold in RAM; above it they are copied into a local file and
    memory-mapped. 0: half of the machine's RAM. The results are the same bits."""
    coordinates: Literal["standard", "raw"] = "standard"
    """What stages 2 and 3 work in: each column centred and divided by its spread over the training rows, so that no unit of
    the features matters; or the features as they are, as in the paper. Of features without a stage-1 classifier, columns that
    differ in fewer than some 16 rows count less."""
    device: str = "cpu"
    """What stages 2 and 3 compute on: `cpu`, `cuda`, `cuda:1`; `auto`: an accelerator with float64 where there is one, else
    `cpu`. Random numbers are drawn on the CPU whatever it is. Figures of another device than `cpu` may differ in their last bits,
    so their runs have keys of their own."""
    data: Data = Data()
    longtail: LongTail = LongTail()
    backbone: Backbone = Backbone()
    stage1: Stage1 = Stage1()
    extract: Extract = Extract()
    stg: STG = STG()
    retrain: Retrain = Retrain()
    choice: Choice = Choice()
    evaluate: Evaluate = Evaluate()

    @property
    def device_key(self) -> dict[str, str]:
        """What a run's key and record say of the device: its kind, such as `cuda`, but nothing of a CPU, so older keys hold."""
        kind = self.device.partition(":")[0]
        return {} if kind == "cpu" else {"device": kind}

    @model_validator(mode="after")
    def _the_sample_can_be_left_out(self) -> "Settings":
        if not self.stg.include_self and (self.stg.full_statistics or self.stg.smoothing == "class"):
            raise ValueError(
                "stg.include_self=false wants stg.smoothing=sample or none and stg.full_statistics=false: "
                "statistics of other steps do not hold the sample at the weight that would be taken out"
            )
        return self

    @model_validator(mode="after")
    def _settings_of_stage_1_go_together(self) -> "Settings":
        if self.stage1.label_smoothing and self.stage1.loss != "ce":
            raise ValueError(
                f"stage1.label_smoothing is for stage1.loss=ce, found loss {self.stage1.loss}; set either back"
            )
        corrects = (
            "stage1.loss=logit-adjusted"
            if self.stage1.loss == "logit-adjusted"
            else ""
            if self.stage1.reweight == "none"
            else f"stage1.reweight={self.stage1.reweight}"
        )
        if self.backbone.ending == "bbn" and corrects:
            raise ValueError(
                f"backbone.ending=bbn samples rare classes more often, and {corrects} would correct the training prior again; "
                "set either back"
            )
        if self.stage1.loss == "logit-adjusted" and self.stage1.reweight != "none":
            raise ValueError(
                f"stage1.loss=logit-adjusted corrects the training prior, and stage1.reweight={self.stage1.reweight} would "
                "correct it again; set either back"
            )
        if self.backbone.ending == "bbn" and self.stage1.mixing != "none":
            raise ValueError(
                f"backbone.ending=bbn has two batches a step and mixes none, found stage1.mixing={self.stage1.mixing}; "
                "set stage1.mixing=none"
            )
        return self

    @model_validator(mode="after")
    def _there_is_one_val_split(self) -> "Settings":
        if self.data.val and self.data.val_share:
            raise ValueError(
                f"data.val_share is for an empty data.val, found data.val_share={self.data.val_share:g} and {self.data.val}; "
                "leave one out"
            )
        return self

    @model_validator(mode="after")
    def _test_views_are_those_that_training_knows(self) -> "Settings":
        most = TEST_VIEWS[self.stage1.augmentation]
        if self.extract.test_views > most:
            raise ValueError(
                f"extract.test_views: wanted at most {most} where stage1.augmentation={self.stage1.augmentation}, found "
                f"{self.extract.test_views}: images are moved and mirrored only as the backbone has seen them in training"
            )
        return self

    @model_validator(mode="after")
    def _groups_do_not_overlap(self) -> "Settings":
        if 0 < self.longtail.many_above < self.longtail.few_below - 1:
            raise ValueError(
                "longtail.few_below must not exceed longtail.many_above + 1, or a class is both many and few"
            )
        return self
