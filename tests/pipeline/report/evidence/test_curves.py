"""Training curves from logs, also from damaged ones."""

import json

from pipeline.report.evidence.curves import POINTS, curve


def test_lines_that_are_no_epoch_are_passed_over(tmp_path):
    lines = ['{"epoch": 1, "loss": 2.5}', "no json", "[]", '{"epoch": 2}', '{"epoch": 2, "loss": NaN}', '{"epoch": "3", "loss": 1}',
             '{"held_out": {}}', '{"epoch": 4, "loss": 1}', '{"epoch": true, "loss": true}', "[" * 5000]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    found = curve("stage 2", tmp_path)
    assert (found.epochs, found.losses) == ((1, 4), (2.5, 1.0))


def test_without_a_log_or_an_epoch_there_is_no_curve(tmp_path):
    assert curve("stage 1", tmp_path) is None
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\n")
    assert curve("stage 1", tmp_path) is None


def test_long_trainings_are_thinned(tmp_path):
    text = "\n".join(json.dumps({"epoch": n + 1, "loss": 1.0}) for n in range(1000))
    (tmp_path / "log.jsonl").write_text(text)
    assert curve("stage 1", tmp_path).epochs == tuple(range(1, 1001, 3))
    assert POINTS > 1000 / 3
