"""Comparing methods on one cache and on several: figures, contrasts, presets, what is left out."""

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Blobs, write_cache
from in_process import run

import pipeline
from pipeline.comparing.arms import Chosen, MethodArm, every, named, with_method
from pipeline.comparing.divergence import kl_divergence
from pipeline.comparing.methods import compare_methods
from pipeline.comparing.presets import available_presets, preset_arms, read_preset
from pipeline.comparing.several import one_backbone_note, overview
from pipeline.comparing.statistics import exact_p
from pipeline.errors import ConfigError, DataError, TrainingError, out_of_memory
from pipeline.metrics import worst_tenth
from pipeline.report.compared import comparison_frame, comparison_lines, methods_table, overview_lines
from pipeline.settings.load import load
from pipeline.settings.stage3 import AUGMENTATIONS, DEAR, HEADS
from pipeline.stage3_retrain import planned
from pipeline.stage3_together import programs, run_program

FAST = (
    "stg.epochs=2", "stg.batch_size=64", "retrain.epochs=1", "retrain.batch_size=32", "stg.head_classes=2",
    "longtail.few_below=10", "longtail.many_above=100", "retrain.seeds=2",
)  # fmt: skip


def settings(*more):
    return load(overrides=[*FAST, *more]).settings


def compared(cache, root, *methods, **chosen):
    return pipeline.compare_arms(settings(), cache, root, Chosen(methods, **chosen))


def test_figures_and_contrasts_are_those_of_the_runs(cache, tmp_path):
    comparison, runs = compared(cache, tmp_path, "crt", "ncm", "crt+noise")
    labels = cache.labels("test")
    assert comparison.baseline == "cRT"
    assert [arm.method for arm in comparison.arms] == ["crt", "ncm", "crt+noise"]
    rights = []
    for arm, (folder, result) in zip(comparison.arms, runs, strict=True):
        assert (arm.run, arm.seeds) == (str(folder), result.seeds)
        assert arm.mean["accuracy"] == arm.score == pytest.approx(result.accuracy)
        assert arm.mean["worst_tenth"] == pytest.approx(
            np.mean([worst_tenth(one.per_class) for one in result.each_seed])
        )
        from pipeline.artefacts import tensors

        rights.append(tensors.load(folder / "predictions.safetensors")[0]["test"].numpy() == labels)
    crt, ncm, noise = comparison.arms
    assert crt.to_baseline is None
    assert ncm.to_baseline.difference == pytest.approx(ncm.score - crt.score)
    assert ncm.to_baseline.p == pytest.approx(exact_p(2 * rights[1].sum(0) - rights[0].sum(0)))
    assert ncm.to_baseline.low <= ncm.to_baseline.difference <= ncm.to_baseline.high
    smaller, larger = sorted([ncm.to_baseline, noise.to_baseline], key=lambda contrast: contrast.p)
    assert smaller.p_corrected == pytest.approx(min(1, 2 * smaller.p))
    assert larger.p_corrected == pytest.approx(max(min(1, 2 * smaller.p), larger.p))
    assert [arm.to_best is None for arm in comparison.arms].count(True) == 1


def test_done_runs_are_taken_as_they_are(cache, tmp_path):
    first, runs = compared(cache, tmp_path, "crt", "lda")
    times = [(folder / "metrics.json").stat().st_mtime_ns for folder, _ in runs]
    again, _ = compared(cache, tmp_path, "crt", "lda")
    assert again == first
    assert [(folder / "metrics.json").stat().st_mtime_ns for folder, _ in runs] == times


def test_one_method_by_two_names_is_one_arm(cache, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("pipeline.comparing.arms.note", said.append)
    comparison, runs = compared(cache, tmp_path, "crt+none", "ncm", "crt")
    assert [arm.method for arm in comparison.arms] == ["crt", "ncm"]
    assert comparison.baseline == "cRT"
    assert len(runs) == 2
    assert said == ["crt: the same method as crt+none, which is compared already"]


def test_arms_of_equal_settings_share_a_run_and_keep_their_rows(cache, tmp_path, monkeypatch):
    trained = []

    def counted(program, cache):
        trained.extend(run.folder.name for run in program.runs)
        run_program(program, cache)

    monkeypatch.setattr("pipeline.stage3_together.run_program", counted)
    crt = with_method(settings(), "crt")
    rows = [
        MethodArm("ours", crt, {"C10-LT": 83.1}),
        MethodArm("cRT", crt, {"C10-LT": 80.0}),
        MethodArm("NCM", with_method(settings(), "ncm")),
    ]
    comparison, runs = compare_methods(rows, [], cache, tmp_path, lambda own: None, "cRT")
    assert sorted(trained) == sorted({folder.name for folder, _ in runs})
    assert [(arm.name, arm.published) for arm in comparison.arms] == [
        ("ours", {"C10-LT": 83.1}),
        ("cRT", {"C10-LT": 80.0}),
        ("NCM", {}),
    ]
    assert comparison.baseline == "cRT"
    ours, base, _ = comparison.arms
    assert (ours.run, ours.mean) == (base.run, base.mean)
    assert (ours.to_baseline.difference, ours.to_baseline.p) == (0, 1)
    assert comparison.left_out == []


def test_the_baseline_may_be_an_arms_name(cache, tmp_path):
    comparison, _ = compared(cache, tmp_path, "ncm", "lda", baseline="LDA")
    assert [(arm.method, arm.to_baseline is None) for arm in comparison.arms] == [("ncm", False), ("lda", True)]
    added, _ = compared(cache, tmp_path, "ncm", baseline="lda")
    assert [arm.method for arm in added.arms] == ["ncm", "lda"]
    with pytest.raises(ConfigError) as error:
        compared(cache, tmp_path, "ncm", "lda", baseline="Linear")
    assert str(error.value) == (
        "--baseline Linear: neither an arm nor a method; wanted an arm: nearest class mean (ncm), LDA (lda); or another method, such as crt"
    )


def test_every_arm_that_the_cache_allows(cache, stores, tmp_path):
    arms, left_out = every(settings(), cache)
    assert {arm.settings.retrain.head for arm in arms} == set(HEADS) - set(DEAR)
    without_maps = {"none", *AUGMENTATIONS} - {"feature-aug"}
    assert {arm.settings.retrain.augmentation for arm in arms} == without_maps
    assert [(lost.name, lost.reason) for lost in left_out] == [
        ("cRT + FeatureAug", "the cache holds no feature maps: extract it with extract.maps=true"),
        *((HEADS[name], "it takes long: name it with --methods") for name in DEAR),
    ]
    bare = write_cache(stores, Blobs(seed=1), classifier=False)
    arms, left_out = every(settings(), bare)
    left_out = [lost for lost in left_out[: -len(DEAR)] if lost.name != "cRT + FeatureAug"]
    assert [lost.name for lost in left_out] == ["classifier (stage 1)", "logit adjustment", "tau-normalisation"]
    assert {lost.reason for lost in left_out} == {"the cache holds no stage-1 classifier"}


def test_methods_that_there_are_not(cache, tmp_path):
    with pytest.raises(ConfigError, match="method lad: head 'lad': no such one; did you mean lda"):
        named(settings(), cache, ["lad"])
    with pytest.raises(ConfigError, match="method lda\\+stg: lda is computed, so nothing is augmented"):
        with_method(settings(), "lda+stg")
    with pytest.raises(ConfigError) as error:
        pipeline.compare_arms(settings(), cache, tmp_path, Chosen(preset="ablation-memory", baseline="lws"))
    assert str(error.value) == (
        "--baseline lws: not among the arms; wanted one of m = 0 (crt+stg), m = 600 (crt+stg), m = 1200 (crt+stg)"
    )


def test_a_loss_that_corrects_the_prior_is_not_compared_on_class_balanced_rows(cache, tmp_path, capsys):
    balanced = settings("retrain.sampling=balanced")
    wanted = (
        "method balanced-softmax: retrain.head=balanced-softmax corrects the training prior in its loss, and retrain.sampling=balanced would "
        "correct it again; set retrain.sampling=instance or auto"
    )
    for chosen in (Chosen(("crt", "balanced-softmax")), Chosen(("crt",), baseline="balanced-softmax")):
        with pytest.raises(ConfigError) as error:
            pipeline.compare_arms(balanced, cache, tmp_path, chosen)
        assert str(error.value) == wanted
    arms, _ = every(balanced, cache)
    assert {arm.settings.retrain.sampled for arm in arms if arm.method in ("crt", "lws")} == {"balanced"}
    assert {arm.settings.retrain.sampled for arm in arms if arm.method in ("ldam", "marc")} == {"instance"}
    assert "marc, disalign, max-norm: on rows as they are, since their loss corrects the training prior" in (
        capsys.readouterr().err
    )


def test_without_a_baseline_it_is_an_arm_that_the_cache_allows(stores, tmp_path):
    cache = write_cache(stores, Blobs(), classifier=False)
    comparison, _ = compared(cache, tmp_path, "stage1", "ncm", "lda")
    assert (comparison.baseline, len(comparison.arms)) == ("nearest class mean", 2)
    with pytest.raises(DataError) as error:
        compared(cache, tmp_path, "crt+feature-aug")
    assert str(error.value) == (
        f"compare: no arm can be run on cache {cache.key[:12]}: the cache holds no feature maps: extract it with "
        "extract.maps=true"
    )
    with pytest.raises(ConfigError) as error:
        compared(cache, tmp_path, "ncm", baseline="stage1")
    assert str(error.value) == "--baseline stage1: left out: the cache holds no stage-1 classifier"


def test_balanced_scores_on_unequal_classes_are_tested_by_random_flips(stores, tmp_path):
    cache = write_cache(stores, Blobs())
    comparison, _ = compared(cache, tmp_path, "crt", "ncm", metric="balanced")
    assert comparison.exact  # 20 test rows a class
    assert comparison.arms[1].score == comparison.arms[1].mean["balanced_accuracy"]


def test_the_strength_ablation_trains_arms_of_one_shape_together(cache, tmp_path):
    comparison, _ = compared(cache, tmp_path, preset="ablation-strength")
    assert [arm.name for arm in comparison.arms] == [
        *(f"noise, std {std}" for std in (0.1, 0.5, 1.0, 1.5)),
        *(f"dropout, p {p}" for p in (0.1, 0.2, 0.3)),
        *(f"STG, λ {strength}" for strength in (0.5, 1.0, 1.5)),
    ]
    assert comparison.arms[-1].published == {"C10-LT": 83.1, "C100-LT": 48.6}
    assert len({arm.run for arm in comparison.arms}) == 10
    alone, _ = pipeline.retrain(with_method(settings(), "crt+noise", {"retrain.noise": 1.0}), cache, tmp_path / "alone")
    assert alone.name == comparison.arms[2].run.rpartition("/")[2]


@pytest.mark.parametrize("name", [name for name in available_presets() if name != "divergence"])
def test_presets_are_read_and_say_why_an_arm_is_left_out(name, cache):
    preset = read_preset(name)
    arms, left_out = preset_arms(preset, settings(), cache)
    assert len(arms) + len(left_out) == len(preset.arm) >= 3
    assert all(row.published for row in preset.arm)
    assert all(lost.reason for lost in left_out)
    if name.startswith("paper"):
        assert "wants a cache whose stage 1 is mixup, this one's is not recorded" in {lost.reason for lost in left_out}


def test_published_figures_are_those_of_the_caches_imbalance(stores):
    cache = write_cache(stores, Blobs(counts=(103, 30, 1)))
    arms, left_out = preset_arms(read_preset("paper-table1"), settings(), cache)
    assert {row.name: row.published for row in [*arms, *left_out]}["the paper (STG)"] == {"IF 100": 83.1}
    assert {row.name: row.best_epoch for row in [*arms, *left_out]}["LDAM-DRW"] is True


def test_table_and_files(cache, tmp_path):
    comparison, _ = compared(cache, tmp_path, "crt", "ncm")
    table = methods_table(comparison)
    assert [column.name for column in table.columns][-3:] == ["to cRT", "95 % interval", "p (Holm)"]
    assert table.rows[0][0].startswith("** ")
    frame = comparison_frame(comparison)
    assert frame.filter(pl.col("method") == "ncm")["to_baseline_p"].item() == comparison.arms[1].to_baseline.p
    text = "\n".join(part for part in comparison_lines(comparison) if isinstance(part, str))
    assert "corrected by Holm's method for 1 other arm" in text


def test_several_caches_are_ranked(stores, tmp_path):
    comparisons = [
        compared(write_cache(stores, Blobs(seed=seed)), tmp_path, "crt", "ncm", "lda")[0] for seed in (0, 1, 2)
    ]
    found = overview(comparisons)
    scores = np.array([[arm.score for arm in comparison.arms] for comparison in comparisons])
    by_method = {row.method: row for row in found.standings}
    for place, method in enumerate(("crt", "ncm", "lda")):
        row = by_method[method]
        assert row.mean_score == pytest.approx(scores[:, place].mean())
        assert row.mean_regret == pytest.approx((scores.max(1) - scores[:, place]).mean())
        assert row.wins == (scores[:, place] > scores[:, 0]).sum()
        assert row.losses == (scores[:, place] < scores[:, 0]).sum()
        assert row.spread == pytest.approx(scores[:, place].std(ddof=1))
    assert [row.mean_rank for row in found.standings] == sorted(row.mean_rank for row in found.standings)
    assert found.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / 18), rel=1e-3)
    assert one_backbone_note(comparisons) is None
    assert one_backbone_note(comparisons[:1]).startswith("one backbone only for blobs: ")
    assert "critical difference (Nemenyi): q(0.05, 3 arms) x sqrt(3 x 4 / (6 x 3 caches))" in str(overview_lines(found))


def test_kl_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean_SD, variance_SD = torch.randn(4, 6, generator=generator), torch.rand(4, 6, generator=generator) + 0.1
    each = [
        torch.distributions.Normal(mean, variance.sqrt()) for mean, variance in zip(mean_SD, variance_SD, strict=True)
    ]
    wanted = [[float(torch.distributions.kl_divergence(p, q).sum()) for q in each] for p in each]
    torch.testing.assert_close(kl_divergence(mean_SD, variance_SD).float(), torch.tensor(wanted))


def test_divergence_between_five_samples_of_a_tail_class(cache, tmp_path):
    found = pipeline.divergence_of(settings(), cache, tmp_path)
    values = np.array(found.divergences)
    assert values.shape == (5, 5)
    assert np.diag(values) == pytest.approx(0, abs=1e-9)
    assert (values[~np.eye(5, dtype=bool)] > 0).all()
    assert found.tail_class in ("class-2", "class-3", "class-4")
    assert (cache.labels("train")[found.rows] == int(found.tail_class[-1])).all()
    assert set(found.nearest) <= {"class-0", "class-1"}


def test_divergence_of_a_generator_that_lends_a_mixture(cache, tmp_path):
    others = [setting for setting in FAST if not setting.startswith("stg.head_classes")]
    soft = load(overrides=[*others, "stg.similarity=soft", "stg.head_classes=4"]).settings
    divergence = pipeline.divergence_of(soft, cache, tmp_path)
    assert (divergence.tail_class, len(divergence.rows)) == ("class-4", 5)
    assert set(divergence.nearest) <= {"class-0", "class-1", "class-2", "class-3"}
    values = np.array(divergence.divergences)
    assert values == pytest.approx(values.T)  # all rows of a class get one variance, so KL(i || j) = KL(j || i)


def test_the_command(monkeypatch, cache, tmp_path):
    monkeypatch.chdir(tmp_path)
    common = [part for setting in FAST[:-1] if not setting.startswith("stg.") for part in ("--set", setting)]
    done = run(
        monkeypatch,
        "compare", "--cache", cache.key[:8], "--methods", "crt,ncm", "--seeds", "2", "--json", "--csv", "x.csv", "--latex", "x.tex",
        *common,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [arm["method"] for arm in done.json["comparisons"][0]["arms"]] == ["crt", "ncm"]
    assert pl.read_csv(tmp_path / "x.csv")["method"].to_list() == ["crt", "ncm"]
    assert "\\toprule" in (tmp_path / "x.tex").read_text()
    wrong = run(monkeypatch, "compare", "--cache", cache.key[:8], "--preset", "paper-tabel2")
    assert (wrong.code, wrong.err.partition(";")[0]) == (2, "coattail: --preset paper-tabel2: no such preset")
    assert "did you mean paper-table2?" in wrong.err


def test_an_arm_that_diverges_is_left_out_and_those_trained_beside_it_stand(cache, tmp_path):
    wild = with_method(settings(), "crt", {"retrain.learning_rate": 1e38, "retrain.optimizer": "sgd"})
    tame = with_method(settings(), "crt", {"retrain.optimizer": "sgd"})
    rows = [MethodArm("wild", wild), MethodArm("tame", tame), MethodArm("NCM", with_method(settings(), "ncm"))]
    assert len(programs([planned(row.settings, cache, tmp_path) for row in rows], cache)) == 2
    with pytest.raises(TrainingError, match="the loss is not finite by step "):
        compare_methods(rows, [], cache, tmp_path, lambda own: None, "NCM", strict=True)
    comparison, _ = compare_methods(rows, [], cache, tmp_path, lambda own: None, "NCM")
    assert [arm.name for arm in comparison.arms] == ["tame", "NCM"]
    (lost,) = comparison.left_out
    assert lost.name == "wild"
    assert lost.reason.startswith("retrain: the loss is not finite by step ")


def test_arms_too_large_for_one_program_are_trained_one_by_one(cache, tmp_path, monkeypatch):
    def small(program, cache):
        if len(program.runs) > 1 or program.runs[0].settings.retrain.learning_rate == 0.5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        run_program(program, cache)

    monkeypatch.setattr("pipeline.stage3_together.run_program", small)
    rates = {"first": 0.1, "second": 0.2, "large": 0.5}
    rows = [
        MethodArm(name, with_method(settings(), "crt", {"retrain.learning_rate": rate})) for name, rate in rates.items()
    ]
    assert len(programs([planned(row.settings, cache, tmp_path) for row in rows], cache)) == 1
    comparison, _ = compare_methods(rows, [], cache, tmp_path, lambda own: None, "first")
    assert [arm.name for arm in comparison.arms] == ["first", "second"]
    (lost,) = comparison.left_out
    assert (lost.name, lost.reason) == ("large", out_of_memory(torch.OutOfMemoryError("CUDA out of memory.")))
