"""Settings of a run that takes a second: all of stage 1 on a few dozen digits."""

from pipeline.settings import Settings


def small(seed=0, **stage1):
    """Digits at their own 8 x 8 pixels, a few dozen of them."""
    return Settings.model_validate(
        {
            "name": "small",
            "seed": seed,
            "data": {"image_size": 8, "workers": 0},
            "longtail": {"profile": "exponential", "n_max": 12, "imbalance_factor": 4, "many_above": 8, "few_below": 5},
            "backbone": {"name": "resnet20"},
            "stage1": {"epochs": 3, "batch_size": 16, "warmup_epochs": 1, "augmentation": "crop", **stage1},
        }
    )
