"""Places where caches are shared: a folder, or a bucket of an object store.

Both hold `KEY/manifest.json`. A folder has the other files beside it, as `stores/` has. A bucket cannot rename. There the
other files lie in `KEY/CHECKSUM/`, CHECKSUM being that of the manifest. So nobody who pushes another cache of the same key
writes to the files that a published manifest lists.
"""

import os
import re

from obstore import exceptions

from cache import ownership
from cache.errors import PlaceInvalid
from cache.sharing.bucket import Bucket
from cache.sharing.folder import Folder
from cache.sharing.schemes import SCHEMES, unconfigured

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*?)/?", re.DOTALL)
_NAME = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._=+@-]+")


def at(text: str) -> Folder | Bucket:
    """The place that a user named: a folder, or s3://, gs:// or az://BUCKET/FOLDER. No request is sent yet.

    Endpoint, region and credentials come from the usual environment variables, such as AWS_ENDPOINT_URL. Plain http is used
    only where the endpoint says so. Raises PlaceInvalid for any other text, and CacheStorage for a variable whose value
    cannot stand in a request.
    """
    if "://" not in text:
        folder = ownership.expanded(text)
        if folder.exists() and not folder.is_dir():
            raise PlaceInvalid(f"{text}: wanted a folder of caches, found a file")
        return Folder(folder)
    match = _URL.fullmatch(text)
    scheme, bucket, path = match.groups() if match else (text.partition("://")[0], "", "")
    if scheme not in SCHEMES:
        known = [f"{name}://" for name in SCHEMES]
        wanted = f"{', '.join(known[:-1])} or {known[-1]}BUCKET/FOLDER"
        raise PlaceInvalid(f"{text}: wanted a folder, {wanted}, found {scheme}://")
    if not all(_NAME.fullmatch(part) for part in [bucket, *(path.split("/") if path else [])]):
        raise PlaceInvalid(
            f"{text}: wanted {scheme}://BUCKET/FOLDER of letters, digits and . _ = + @ - between single slashes"
        )
    url = f"{scheme}://{bucket}" + (f"/{path}" if path else "")
    SCHEMES[scheme].check(os.environ)
    try:
        reading, writing = (SCHEMES[scheme].client(bucket, reading) for reading in (True, False))
        return Bucket(url, scheme, f"{path}/" if path else "", reading, writing)
    except (exceptions.BaseError, ValueError) as error:
        raise unconfigured(url, scheme, error) from None
