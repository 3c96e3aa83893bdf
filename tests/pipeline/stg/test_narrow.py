"""Networks for wide features: narrow ones that take the feature off by themselves, with keys and files of their own."""

import dataclasses

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline.artefacts import folders
from pipeline.features import coordinates_of
from pipeline.settings import STG
from pipeline.settings.load import load
from pipeline.stage2_stg import stg_folder, train_stg
from pipeline.stg import trained
from pipeline.stg.fit import NARROW, build, hidden_layers
from pipeline.stg.speed import learning_seconds

WIDE = Blobs(counts=(60, 50, 9, 4), width=520)
FAST = ("stg.head_classes=2", "stg.batch_size=32")


def settings(*more):
    return load(overrides=[*FAST, *more]).settings


def test_hidden_layers_stop_growing_above_512_channels():
    assert hidden_layers(512, STG()) == (2.0, 2.0)
    assert [round(factor * 2048) for factor in hidden_layers(2048, STG())] == [NARROW, NARROW]
    assert hidden_layers(2048, STG(network="paper")) == (2.0, 2.0)
    assert hidden_layers(2048, STG(hidden=(1.0,))) == (1.0,)
    narrow, paper = (
        sum(p.numel() for p in build(2048, 500, STG(network=n), 0).parameters()) for n in ("auto", "paper")
    )
    assert 30 * narrow < paper


def test_the_feature_is_taken_off_what_the_first_network_gives():
    stg = build(520, 2, STG(), 0).eval()
    features_BD, heads_B = torch.randn(5, 520), torch.tensor([0, 1, 0, 1, 1])
    mean_BD, _ = stg(features_BD, heads_B)
    assert torch.equal(
        mean_BD + features_BD, (stg.mean_net(features_BD + stg.tokens_HD[heads_B]) - features_BD) + features_BD
    )


def test_a_plan_says_the_steps_that_such_a_network_is_trained_for_at_most():
    """17,920 of 20,000 rows are 70 batches: 200 passes are 14,000 steps, of which narrow networks make 2,000 at most."""
    counts, rest = [10_000, 10_000], " steps, until it has learnt; the time is that of the fewest"
    assert learning_seconds(STG(), 520, counts)[1] == f"500 to 2,000{rest}"
    assert learning_seconds(STG(network="paper"), 520, counts)[1] == f"500 to 14,000{rest}"


@pytest.mark.parametrize("network", ["auto", "paper"])
def test_a_generator_is_what_it_was_after_a_round_through_its_file(stores, tmp_path, network):
    cache = write_cache(stores, WIDE)
    chosen = settings(f"stg.network={network}", "stg.epochs=2")
    folder, _ = train_stg(chosen, cache, tmp_path)
    first, _ = trained.load(folder, cache, coordinates_of(cache, chosen))
    assert first.stg.offset == (network == "auto")
    assert first.stg.mean_net[0].out_features == (NARROW if network == "auto" else 1040)


def test_narrow_networks_come_closer_to_the_closed_form_than_the_paper_s_in_as_many_steps(stores, tmp_path):
    cache = write_cache(stores, WIDE)
    narrow, paper = (
        train_stg(settings(f"stg.network={network}", "stg.epochs=30"), cache, tmp_path)[1]
        for network in ("auto", "paper")
    )
    assert narrow.steps == paper.steps
    assert narrow.held_out.mean_relative_error < paper.held_out.mean_relative_error


def test_only_narrow_networks_have_another_key_than_before(stores, tmp_path):
    small, wide = write_cache(stores, dataclasses.replace(WIDE, width=12)), write_cache(stores, WIDE)

    def key_before(cache, given):
        stg = given.stg.model_dump(mode="json", exclude={"network"})
        key = folders.key_of(
            stage="stg", stg=stg, coordinates=coordinates_of(cache, given), seed=given.seed, cache=cache.key
        )
        return folders.run_folder(tmp_path, given.name, "stg", key)

    for cache, network, same in (
        (small, "auto", True),
        (small, "paper", True),
        (wide, "paper", True),
        (wide, "auto", False),
    ):
        given = settings(f"stg.network={network}")
        assert (stg_folder(given, cache, tmp_path) == key_before(cache, given)) == same
