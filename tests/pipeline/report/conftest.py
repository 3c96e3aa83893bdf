"""One small report for all tests of this folder: computing and drawing it takes seconds."""

import pytest
from reported import HOSTILE, Reported, reported

from pipeline.report.document import Document, documents
from pipeline.report.evidence import Evidence, gather
from pipeline.report.html import html
from pipeline.report.subject import Subject, subject


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Reported:
    return reported(tmp_path_factory.mktemp("reported"), HOSTILE)


@pytest.fixture(scope="session")
def about(runs) -> Subject:
    return subject(runs.cache, runs.runs)


@pytest.fixture(scope="session")
def evidence(about) -> Evidence:
    return gather(about)


@pytest.fixture(scope="session")
def document(about, evidence) -> Document:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.report.document.gather", lambda _: evidence)
        return documents([about])[0]


@pytest.fixture(scope="session")
def page(document) -> str:
    return html([document])
