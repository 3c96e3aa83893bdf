"""All stages on a few hundred real CIFAR images: images in, figures out, tail classes better than the plain classifier's."""

import polars as pl
import pytest

import pipeline
from cache import FeatureCache
from pipeline.settings.load import load

COUNTS = [120, 90, 70, 52, 39, 29, 22, 16, 12, 9]


@pytest.fixture(scope="module")
def images(real_data, tmp_path_factory):
    """The first images of each class of the real train and test files, as Parquet with the class names kept."""
    folder = tmp_path_factory.mktemp("cifar")
    for split, counts in (("train", COUNTS), ("test", [30] * 10)):
        file = next((real_data / "cifar10").glob(f"{split}-*.parquet"))
        frame = pl.read_parquet(file)
        parts = [frame.filter(pl.col("label") == c).head(n) for c, n in enumerate(counts)]
        names = pl.read_parquet_metadata(file)["huggingface"]
        pl.concat(parts).write_parquet(folder / f"{split}.parquet", metadata={"huggingface": names})
    return folder


def test_images_to_figures_on_real_cifar(images, tmp_path):
    settings = load(
        "cifar10-lt",
        [
            f"data.train={images}/train.parquet", f"data.test={images}/test.parquet", "longtail.profile=natural",
            "backbone.name=resnet20", "stage1.epochs=10", "stage1.warmup_epochs=1", "stage1.batch_size=32",
            "stage1.learning_rate=0.02", "stage1.mixing=none", "extract.views=1", "longtail.many_above=60",
            "stg.head_above=60", "stg.epochs=20", "stg.batch_size=64", "retrain.epochs=20",
        ],
    ).settings  # fmt: skip
    found = pipeline.run(settings, tmp_path / "stores", tmp_path / "runs")
    arms = {arm.method: arm for arm in found.arms}
    cache = FeatureCache.open(tmp_path / "stores" / found.cache)
    assert cache.classes[:3] == ("airplane", "automobile", "bird")
    assert cache.counts().tolist() == COUNTS
    assert cache.features("train", "view-01").shape == (sum(COUNTS), 64)
    assert arms["stage1"].accuracy > 12  # chance is 10
    assert arms["stage1"].few < 10  # the plain classifier all but ignores the rarest three classes
    for method in ("crt", "crt+stg", "crt+closed-form"):
        assert arms[method].few > arms["stage1"].few + 5
    assert found.held_out.mean_cosine > 0.3

    again = pipeline.run(settings, tmp_path / "stores", tmp_path / "runs")
    assert again == found
    elsewhere = pipeline.run(settings, tmp_path / "stores-2", tmp_path / "runs-2")
    assert elsewhere.cache == found.cache
    assert [arm.digest for arm in elsewhere.arms] == [arm.digest for arm in found.arms]
