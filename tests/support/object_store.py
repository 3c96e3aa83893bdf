"""moto's S3 over HTTP on loopback, behind a proxy that breaks things: a real S3 API for the tests."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection

import pytest
from fault_proxy import Proxy, proxy

_numbers = itertools.count()


@dataclass(frozen=True)
class ObjectStore:
    """`url` is a folder of a fresh bucket, reached through `proxy` with `environment`."""

    url: str
    bucket: str
    proxy: Proxy
    environment: dict[str, str]
    address: tuple[str, int]

    def request(self, method: str, name: str, body: bytes = b"") -> bytes:
        """Straight to the server, without the proxy."""
        connection = HTTPConnection(*self.address)
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request"}
        try:
            connection.request(method, f"/{self.bucket}/{name}".rstrip("/"), body, signed)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, content
        return content


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """moto's server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


@contextmanager
def fresh_bucket(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A bucket of its own for a test; the environment, and short waits between attempts, are set."""
    from cache.sharing import schemes

    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2), "base": 2}
    monkeypatch.setattr(schemes, "RETRY", schemes.RETRY | {"max_retries": 2, "backoff": backoff})
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    with proxy(*address) as running:
        environment = {
            "AWS_ENDPOINT_URL": running.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        bucket = f"team-{next(_numbers)}"
        store = ObjectStore(f"s3://{bucket}/features", bucket, running, environment, address)
        store.request("PUT", "")
        yield store
