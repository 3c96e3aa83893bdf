"""Images that cannot be decoded: how many may be left out, and the file that lists them all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pipeline.artefacts.folders import runs_folder
from pipeline.errors import DataError
from pipeline.images.listing import NAMED, listed
from pipeline.progress import note
from pipeline.report.printable import printable
from pipeline.settings.stage1 import Data

BAD_LIST = "bad-images.txt"
"""The file in the folder of runs that lists every image that could not be decoded, with the reason, a line each."""


_is_listed = True


@contextmanager
def unlisted() -> Iterator[None]:
    """Within, broken images are not listed in a file: a dry run writes nothing."""
    global _is_listed
    before, _is_listed = _is_listed, False
    try:
        yield
    finally:
        _is_listed = before


def say_left_out(split: str, broken: Mapping[int, str], names: Sequence[str], data: Data) -> list[str]:
    """Each image that is left out of a split, with its reason; notes name the first, a file lists all.

    Raises DataError where every image is broken, or a larger share than `data.bad_limit`.
    """
    left_out = [f"{names[row]} ({reason})" for row, reason in sorted(broken.items())]
    if len(left_out) == len(names):
        raise DataError(f"data.{split}: every image is broken: {listed(left_out)}")
    place = list_all(f"data.{split}: ", left_out)
    if len(left_out) > data.bad_limit * len(names):
        raise DataError(
            f"data.{split}: {len(left_out)} of {len(names)} images cannot be decoded, at most a share of {data.bad_limit:g} may "
            f"be left out: {listed(left_out)}{place}; replace them, or allow more with --set data.bad_limit=SHARE"
        )
    for text in left_out[:NAMED]:
        note(f"left out: {text}")
    if len(left_out) > NAMED:
        note(f"left out: {len(left_out) - NAMED} more of data.{split}{place}")
    return left_out


def raise_broken(broken: Mapping[int, str], names: Sequence[str]) -> None:
    """Raises DataError that names the broken rows, up to 20, with the reason for each; nothing where there are none."""
    if not broken:
        return
    rows = sorted(broken)
    remedy = "or leave such images out with --set data.on_bad=skip"
    if len(rows) == 1:
        raise DataError(f"image {names[rows[0]]}: cannot be decoded ({broken[rows[0]]}); replace it, {remedy}")
    each = [f"{names[row]} ({broken[row]})" for row in rows]
    raise DataError(f"{len(rows)} images cannot be decoded: {listed(each)}{list_all('', each)}; replace them, {remedy}")


def list_all(prefix: str, texts: Sequence[str]) -> str:
    """Where more are broken than a line names: write all into a file, and give its place as the end of a sentence."""
    if len(texts) <= NAMED or not _is_listed:
        return ""
    place = runs_folder() / BAD_LIST
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"{prefix}{printable(text)}\n" for text in texts), encoding="utf-8")
    except OSError:
        return ""  # the error that names the first of them matters more than the list
    return f" (all in {place})"
