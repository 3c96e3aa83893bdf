"""The object stores that caches are shared through, one row a scheme: credentials, endpoints, client."""

import os
from collections.abc import Callable
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


@dataclass(frozen=True)
class Scheme:
    """An object store: which variables hold its credentials and its endpoint, and what makes a client."""

    credentials: str
    """The variables to set, as an error names them."""
    endpoints: tuple[str, ...]
    """Variables that may hold the endpoint's URL, the usual one first."""
    make: "Callable[..., ObjectStore]"
    options: dict[str, Any]
    """Further arguments of `make`."""

    def client(self, bucket: str) -> "ObjectStore":
        """A client for a bucket; plain http only where the endpoint says so. Nothing is asked of the store yet."""
        endpoint = next((os.environ[name] for name in self.endpoints if os.environ.get(name)), "")
        config: ClientConfig = {"allow_http": endpoint.startswith("http://"), "timeout": "60s", "connect_timeout": "5s"}
        return self.make(bucket, client_options=config, retry_config=RETRY, **self.options)


SCHEMES: dict[str, Scheme] = {
    "s3": Scheme(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
        S3Store,
        {"conditional_put": "etag"},
    ),
    "gs": Scheme("GOOGLE_APPLICATION_CREDENTIALS", ("GOOGLE_BASE_URL",), GCSStore, {}),
    "az": Scheme(
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        AzureStore,
        {},
    ),
}


def unconfigured(url: str, scheme: str, error: Exception) -> CacheStorage:
    """The error for a client that cannot be made: the variables that are missing or wrong."""
    reason = str(error).split("\n")[0]
    credentials = SCHEMES[scheme].credentials
    if "ccount must be specified" in reason:
        return CacheStorage(f"{url}: no credentials found; set {credentials}")
    return CacheStorage(f"{url}: {reason}; look at the variables of {scheme}://, such as {credentials}")
