"""Stage 1 trains with fewer threads where steps are clearly quicker so, and a run keeps its number."""

import copy
from types import SimpleNamespace

import pytest
import torch
from small_runs import small

from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build_for
from pipeline.images.dataset import load
from pipeline.stage1_backbone import stage1_key, train_backbone
from pipeline.training import threads
from pipeline.training.epochs import train_epochs
from pipeline.training.steps import Training
from pipeline.training.threads import CHOSEN_BY_USER, as_many_threads_as_help, quickest, trial_step


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Two threads that nobody chose, whatever this machine and its user have."""
    for name in CHOSEN_BY_USER:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Clock:
    """Time that passes in steps alone: `seconds` for each number of threads, and more in the calls that `more` lists."""

    def __init__(self, seconds, more=None):
        self.now, self.calls, self.seconds, self.more = 0.0, 0, seconds, more or {}

    def step(self):
        self.now += self.seconds[torch.get_num_threads()] + self.more.get(self.calls, 0.0)
        self.calls += 1

    def quickest(self, monkeypatch, most):
        monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: self.now))
        return quickest(self.step, most)


def test_halves_as_long_as_a_step_gains(monkeypatch):
    clock = Clock({8: 1.0, 4: 0.5, 2: 0.4, 1: 0.38})
    number, seconds = clock.quickest(monkeypatch, 8)
    assert number == 2
    assert seconds == pytest.approx(clock.seconds)


@pytest.mark.parametrize(
    ("one", "more", "calls"),
    [
        (0.9, {}, 4),  # two threads are quicker
        (0.45, {}, 4),  # one is quicker, but not by much
        (0.45, {0: 9.0}, 4),  # the first step warms up
        (0.9, {2: 9.0}, 8),  # something else ran during one step
    ],
)
def test_all_threads_stay_unless_fewer_are_clearly_quicker(monkeypatch, one, more, calls):
    clock = Clock({2: 0.5, 1: one}, more)
    assert clock.quickest(monkeypatch, 2)[0] == 2
    assert clock.calls == calls


def test_an_idle_machine_loses_at_most_two_percent_of_the_shortest_training_that_is_measured(monkeypatch):
    clock = Clock({2: 0.5, 1: 1.0})  # nothing is quicker with half the threads than half as quick
    clock.quickest(monkeypatch, 2)
    assert clock.now <= 0.02 * threads.SHORTEST * 0.5


def test_one_thread_needs_no_trial():
    assert quickest(lambda: pytest.fail("measured"), 1) == (1, {})


def a_training(**stage1):
    settings = small(**stage1)
    dataset = load(settings)
    return Training(build_for(settings, len(dataset.classes)), dataset.splits["train"], settings)


def test_a_trial_changes_neither_weights_nor_statistics_nor_random_numbers():
    training = a_training(amp="bf16")
    before, drawn = copy.deepcopy(training.state()), torch.get_rng_state()
    step = trial_step(training)
    step()
    step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.state().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_fewer_threads_within_a_long_training_as_before_afterwards(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(threads, "quickest", lambda step, most: (1, {2: 0.9, 1: 0.25}))
    monkeypatch.setattr(threads, "SHORTEST", 5)
    with as_many_threads_as_help(a_training(), tmp_path):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert capsys.readouterr().err.endswith(
        "\nstage 1 trains with 1 of 2 threads: a step takes 0.25 s so and 0.9 s with all; the variable OMP_NUM_THREADS sets "
        "another number\n"
    )


@pytest.mark.parametrize("why", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "short"])
def test_the_user_s_number_stands_and_short_trainings_are_not_measured(monkeypatch, tmp_path, why):
    monkeypatch.setattr(threads, "quickest", lambda *_: pytest.fail("measured"))
    if why != "short":
        monkeypatch.setattr(threads, "SHORTEST", 5)
        monkeypatch.setenv(why, "2")
    with as_many_threads_as_help(a_training(), tmp_path):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("told", "wanted"), [("1", 1), ("64", 2), ("", 2), ("no number", 2)])
def test_a_run_goes_on_with_the_threads_that_it_began_with(monkeypatch, tmp_path, told, wanted):
    monkeypatch.setattr(threads, "quickest", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(threads, "SHORTEST", 5)
    settings = small()
    training, key = a_training(), stage1_key(settings, load(settings))
    folders.start(tmp_path / "run", settings)
    train_epochs(training, tmp_path / "run", key)
    path = tmp_path / "run" / folders.CHECKPOINT
    tensors, metadata = checkpoint.load(path)
    assert metadata["threads"] == "2"
    checkpoint.save(path, tensors, {**metadata, "threads": told})
    assert train_backbone(settings, tmp_path / "run").metrics["threads"] == wanted
