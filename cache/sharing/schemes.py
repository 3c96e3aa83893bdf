"""The object stores in which caches can be shared. Each is a row of SCHEMES: its variables and its client."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore, GCSStore, S3Store

from cache.errors import CacheStorage

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

RETRY: "RetryConfig" = {
    "max_retries": 5,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=4), "base": 2},
    "retry_timeout": timedelta(seconds=60),
}
SILENCE = 7
"""Seconds without a byte after which a request is given up. It is then sent once more."""
_PRINTABLE = re.compile(r"[!-~]*")
_REGION = re.compile(r"[A-Za-z0-9-]*")
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?(/[!-~]*)?")


@dataclass(frozen=True)
class Scheme:
    """An object store: the environment variables that it needs, and the class of its client."""

    credentials: str
    """The variables of the credentials, as an error names them."""
    endpoints: tuple[str, ...]
    """The variables that may hold the URL of the endpoint, the usual one first."""
    secrets: tuple[str, ...]
    """The variables whose values go into a request as they are. They are never shown."""
    regions: tuple[str, ...]
    """The variables that hold the name of a region."""
    make: "Callable[..., ObjectStore]"
    options: dict[str, Any]
    """Further arguments of `make`."""

    def check(self, variables: Mapping[str, str]) -> None:
        """Raise CacheStorage, which names the variable, for a value that cannot stand in a request.

        The client, which is written in Rust, would panic there instead of raising an error.
        """
        for name in self.secrets:
            value = variables.get(name, "")
            if not _PRINTABLE.fullmatch(value):
                place, sign = next(pair for pair in enumerate(value, 1) if not "!" <= pair[1] <= "~")
                raise CacheStorage(
                    f"{name}: wanted letters, digits and signs of ASCII, found {sign!a} as character {place} of "
                    f"{len(value)}; set it again"
                )
        for name in self.regions:
            if not _REGION.fullmatch(value := variables.get(name, "")):
                raise CacheStorage(f"{name}: wanted a region such as us-east-1, found {value[:60]!a}; set it again")
        for name in self.endpoints:
            value = variables.get(name, "")
            match = _ENDPOINT.fullmatch(value)
            if value and (match is None or int(match[2] or 0) > 65535):
                raise CacheStorage(
                    f"{name}: wanted https://HOST or http://HOST:PORT, found {value.rpartition('@')[2][:60]!a}; set it again"
                )

    def client(self, bucket: str, reading: bool) -> "ObjectStore":
        """A client for a bucket. Plain http is used only where the endpoint says so. No request is sent yet.

        A client for reading gives up after about twice SILENCE seconds without an answer. One for writing waits longer,
        because the store sends nothing while it receives a piece.
        """
        endpoint = next((os.environ[name] for name in self.endpoints if os.environ.get(name)), "")
        config: ClientConfig = {"allow_http": endpoint.startswith("http://"), "timeout": "60s", "connect_timeout": "5s"}
        retry = RETRY
        if reading:
            config["read_timeout"] = f"{SILENCE}s"
            retry = {**RETRY, "retry_timeout": timedelta(seconds=SILENCE + 1)}
        return self.make(bucket, client_options=config, retry_config=retry, **self.options)


SCHEMES: dict[str, Scheme] = {
    "s3": Scheme(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        ("AWS_REGION", "AWS_DEFAULT_REGION"),
        S3Store,
        {"conditional_put": "etag"},
    ),
    "gs": Scheme("GOOGLE_APPLICATION_CREDENTIALS", ("GOOGLE_BASE_URL",), (), (), GCSStore, {}),
    "az": Scheme(
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
        (),
        AzureStore,
        {},
    ),
}


def unconfigured(url: str, scheme: str, error: Exception) -> CacheStorage:
    """The error for a client that cannot be made. It names the variables that are missing or wrong."""
    reason = str(error).split("\n")[0]
    credentials = SCHEMES[scheme].credentials
    if "ccount must be specified" in reason:
        return CacheStorage(f"{url}: no credentials found; set {credentials}")
    return CacheStorage(f"{url}: {reason}; look at the variables of {scheme}://, such as {credentials}")
