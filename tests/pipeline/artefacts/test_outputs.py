"""Files that a user names to be written: what cannot be is refused before the work, and no device is replaced."""

import os
import time

import pytest

from pipeline.artefacts.outputs import output_path
from pipeline.errors import ConfigError
from pipeline.predicting.files import Prediction, PredictionFile


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "--csv: wanted the name of a file, found ''"),
        ("folder", "--csv {}/folder: wanted a file, found a folder; give another name"),
        ("pipe", "--csv {}/pipe: wanted a file, found no plain file; give another name"),
        ("null", "--csv /dev/null: wanted a file, found no plain file; give another name"),
        ("gone/x.csv", "--csv {}/gone/x.csv: the folder {}/gone is not there; make it first"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, problem):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    with pytest.raises(ConfigError) as error:
        output_path("--csv", f"{tmp_path}/{name}" if name else "")
    assert str(error.value) == problem.replace("{}", str(tmp_path))


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(ConfigError) as error:
        output_path("-o", "x" * 5000)
    assert str(error.value) == f"-o {'x' * 80}: cannot be written (File name too long); give another name"


def test_a_link_is_written_through_and_home_is_expanded(tmp_path, monkeypatch):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert output_path("--csv", tmp_path / "link.csv") == tmp_path / "real.csv"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_path("--csv", "~/new.csv") == tmp_path / "new.csv"


def test_a_file_of_someone_else_is_no_part_of_predictions(tmp_path):
    (tmp_path / "x.csv.part").write_text("a draft\nof mine\n")
    with pytest.raises(ConfigError) as error:
        PredictionFile(tmp_path / "x.csv", {"classifier": "a", "inputs": "b"})
    assert str(error.value) == (
        f"{tmp_path}/x.csv.part: is no part of a file of predictions; move it away, or give another -o"
    )
    assert (tmp_path / "x.csv.part").read_text() == "a draft\nof mine\n"


@pytest.mark.parametrize("before", ['{"classifier": "other", "inputs": "b"}\n{"name"', '{"classi'])
def test_a_part_of_other_predictions_or_one_cut_short_is_begun_again(tmp_path, before):
    (tmp_path / "x.csv.part").write_text(before)
    file = PredictionFile(tmp_path / "x.csv", {"classifier": "a", "inputs": "b"})
    assert file.done == 0
    file.write([Prediction("x", ("cat",), (1.0,))])
    file.publish(1)
    assert (tmp_path / "x.csv").read_text() == "name,class_1,probability_1,error\nx,cat,1.0,\n"


def test_what_a_killed_process_left_half_written_is_taken_away_after_an_hour(tmp_path):
    old, new = (tmp_path / f".x.csv.{digit * 32}.tmp" for digit in "01")
    stranger = tmp_path / ".x.csv.notes.tmp"
    for path, hours in ((old, 2), (new, 0), (stranger, 2), (tmp_path / f".y.csv.{'0' * 32}.tmp", 2)):
        path.write_text("half")
        os.utime(path, (time.time() - hours * 3600,) * 2)
    output_path("--csv", tmp_path / "x.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [new.name, stranger.name, f".y.csv.{'0' * 32}.tmp"]
    )
