"""Which runs a report is about."""

from dataclasses import replace

import pytest
import torch
from conftest import write_cache

from pipeline.errors import ConfigError, DataError
from pipeline.features import load
from pipeline.report.subject import ArmRun, backbone_folder, generator_folder, shown_classifier, subject
from pipeline.settings.stage3 import Evaluate
from pipeline.stage3_retrain import retrain


def test_the_method_is_the_one_with_a_generator_beside_stage_1(about, runs):
    assert [arm.result.method for arm in about.arms] == ["stage1", "lda", "crt", "crt+stg"]
    assert about.method.folder == runs.folders["crt+stg"]
    assert about.baseline.folder == runs.folders["stage1"]
    assert about.settings.retrain.seeds == 2
    assert generator_folder(about).name.startswith("stg-")
    assert shown_classifier(about.method, about.cache).weight_RCD.shape == (2, 5, 12)


def test_arms_can_be_named(runs):
    named = subject(runs.cache, runs.runs, method="lda", baseline="crt")
    assert (named.method.result.method, named.baseline.result.method) == ("lda", "crt")
    chosen = subject(runs.cache, runs.runs, runs.folders["stage1"])
    assert (chosen.method.result.method, chosen.baseline.result.method) == ("stage1", "crt")
    wanted = r"--method knn: no finished run of this cache has it; wanted one of stage1, lda, crt, crt\+stg"
    with pytest.raises(ConfigError, match=wanted):
        subject(runs.cache, runs.runs, method="knn")


def test_one_arm_alone_has_nothing_beside_it(runs, about):
    only = subject(runs.cache, runs.runs, digests={about.arm("lda").result.digest})
    assert only.method.result.method == "lda"
    assert only.baseline is None


def test_a_cache_without_runs_is_refused(tmp_path):
    cache = write_cache(tmp_path / "stores")
    with pytest.raises(DataError) as raised:
        subject(cache, tmp_path / "runs")
    assert str(raised.value) == (
        f"cache {cache.key[:12]}: no finished run of stage 3 in {tmp_path / 'runs'}; run coattail run --cache {cache.key[:12]}"
    )


def test_a_shown_classifier_has_the_accuracy_of_its_run(about, runs, tmp_path):
    stated = about.settings.model_copy(update={"evaluate": Evaluate(prior="train")})
    folder, result = retrain(stated, runs.cache, tmp_path, generator_folder(about))
    assert result.prior == "train"
    test = load(runs.cache, "test", views=False)
    for arm in (*about.arms, ArmRun(folder, result, "with a prior")):
        logits_RNC = shown_classifier(arm, runs.cache).logits(test.gather(0, torch.arange(len(test.labels_N))))
        for logits_NC, recorded in zip(logits_RNC, arm.result.each_seed, strict=True):
            found = 100 * float((logits_NC.argmax(dim=1) == test.labels_N).double().mean())
            assert found == pytest.approx(recorded.accuracy), arm.name


@pytest.mark.parametrize("name", ["", "..", "../toy", "/etc", "*", "[a-z]*"])
def test_a_stranger_s_name_of_a_backbone_leads_nowhere(about, name):
    manifest = about.cache.manifest
    provenance = manifest.provenance.model_copy(update={"backbone_run": name})
    cache = type(about.cache).__new__(type(about.cache))
    cache.manifest = manifest.model_copy(update={"provenance": provenance})
    assert backbone_folder(replace(about, cache=cache)) is None
