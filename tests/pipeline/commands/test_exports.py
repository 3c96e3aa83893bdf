"""Which files the command line asks for: what cannot be meant is refused before the work."""

import pytest

from pipeline.commands.exports import Exports
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"csv": "a.csv", "md": "./a.csv"}, "--csv and --md: both name a.csv; name a file for each"),
        ({"csv": "-", "md": "-"}, "--csv - and --md -: one document goes to stdout; name files for the others"),
        ({"parquet": "-"}, "--parquet -: Parquet is no text; name a file"),
    ],
)
def test_files_that_cannot_be_meant(files, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        Exports.of(False, **files)
    assert str(error.value) == said


def test_files_of_their_own_and_one_document_on_stdout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Exports.of(False, csv="a.csv", md="-", latex=None).files == {"csv": "a.csv", "md": "-"}
