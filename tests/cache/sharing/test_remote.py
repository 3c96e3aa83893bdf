"""What a place may be called, and one line for everything that can be wrong with one."""

import os
import re
import socket
import time
from urllib.parse import quote

import pytest
import toy_caches as toys

from cache import in_use
from cache import sharing as remote
from cache.errors import (
    CacheCorrupt,
    CacheDropped,
    CacheInvalid,
    CacheNotFound,
    CacheSilent,
    CacheStorage,
    CacheUnlisted,
    PlaceInvalid,
)
from cache.sharing import bucket, folder, offers, pull, push, schemes
from cache.sharing.bucket import Bucket

NAME = "ab" * 32 + "/manifest.json"
NO_KEYS = "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket"


def test_places(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "team")
    assert remote.at(str(tmp_path)) == folder.Folder(tmp_path)
    for text, url, prefix in [
        ("s3://team/features", "s3://team/features", "features/"),
        ("gs://team/a/b=1/", "gs://team/a/b=1", "a/b=1/"),
        ("az://team", "az://team", ""),
    ]:
        place = remote.at(text)
        assert isinstance(place, Bucket)
        assert (place.url, place.prefix) == (url, prefix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://team/x", "ftp://team/x: wanted a folder, s3://, gs:// or az://BUCKET/FOLDER, found ftp://"),
        ("file:///x", "file:///x: wanted a folder, s3://, gs:// or az://BUCKET/FOLDER, found file://"),
        *(
            (
                text,
                f"{text}: wanted s3://BUCKET/FOLDER of letters, digits and . _ = + @ - between single slashes",
            )
            for text in ("s3://", "s3:///x", "s3://team/../x", "s3://team/a//b", "s3://team/a b", "s3://team/x?y")
        ),
    ],
)
def test_texts_that_are_no_place(text, message):
    with pytest.raises(PlaceInvalid) as caught:
        remote.at(text)
    assert str(caught.value) == message


def test_a_file_is_no_place(tmp_path):
    file = tmp_path / "features.npz"
    file.write_bytes(b"")
    with pytest.raises(PlaceInvalid) as caught:
        remote.at(str(file))
    assert str(caught.value) == f"{file}: wanted a folder of caches, found a file"
    with pytest.raises(PlaceInvalid):
        remote.at("/dev/null")


def test_azure_wants_an_account(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(CacheStorage) as caught:
        remote.at("az://team/x")
    assert str(caught.value) == (
        "az://team/x: no credentials found; set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
    )


def test_no_bucket(s3):
    place = remote.at("s3://nobody/x")
    for act in (place.names, lambda: place.put("a", b"1"), lambda: place.create("a", b"1"), lambda: place.read("a", 9)):
        with pytest.raises(CacheStorage) as caught:
            act()
        assert str(caught.value) == "s3://nobody/x: no such bucket; make it, or correct its name"


def test_no_permission(s3):
    s3.proxy.fault = lambda method, path: "deny"
    place = remote.at(s3.url)
    for name, verb, act in (
        (f"/{NAME}", "read", lambda: place.read(NAME, 9)),
        (f"/{NAME}", "write", lambda: place.put(NAME, b"1")),
        ("", "read", place.names),
        ("/x", "read", lambda: place.sizes("x")),
    ):
        with pytest.raises(CacheStorage) as caught:
            act()
        assert str(caught.value) == (
            f"{s3.url}{name}: not allowed to {verb} (AccessDenied); ask for permission, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket"
        )


def test_no_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")  # instead of a cloud machine's own
    with pytest.raises(CacheStorage) as caught:
        remote.at(s3.url).names()
    assert str(caught.value) == f"{s3.url}: {NO_KEYS}"


def test_nobody_answers(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CacheDropped) as caught:
        remote.at(s3.url).read(NAME, 9)
    assert str(caught.value) == (
        f"{s3.url}/{NAME}: no whole answer (error sending request); look at the network and at AWS_ENDPOINT_URL, "
        "then run the same command again"
    )


def test_a_server_that_is_busy(s3):
    s3.proxy.fault = lambda method, path: "busy"
    with pytest.raises(
        CacheDropped, match=re.escape(f"{s3.url}/{NAME}: no whole answer (503 Service Unavailable); look at")
    ):
        remote.at(s3.url).read(NAME, 9)
    assert s3.proxy.count("GET") == 3 * 3  # obstore asks for it three times here, and so do we
    s3.proxy.fault = lambda method, path: "busy" if s3.proxy.count(method) % 2 == 0 else ""
    remote.at(s3.url).put(NAME, b"whole")
    assert remote.at(s3.url).read(NAME, 9)[0] == b"whole"


def test_objects_appear_whole_and_are_created_once(s3):
    place = remote.at(s3.url)
    with pytest.raises(CacheNotFound) as caught:
        place.read(NAME, 9)
    assert str(caught.value) == f"{s3.url}/{NAME}: no such object"
    assert place.create(NAME, b"mine")
    assert not place.create(NAME, b"theirs")
    assert place.read(NAME, 9)[0] == b"mine"
    with pytest.raises(CacheInvalid, match="wanted at most 3 bytes, found 4"):
        place.read(NAME, 3)
    assert place.sizes("ab" * 32) == {"manifest.json": 4}
    assert place.names() == ["ab" * 32]
    place.put(f"{'cd' * 32}/x", b"")
    place.put("stranger/x", b"")
    assert place.names() == ["ab" * 32, "cd" * 32]


def test_an_answer_that_breaks_off_is_gone_on_with(s3, monkeypatch):
    content = bytes(range(256)) * 4096 * 4
    place = remote.at(s3.url)
    place.put("x", content)
    s3.proxy.fault = lambda method, path: "cut" if s3.proxy.count("GET") == 1 else ""
    found = b""
    for _ in range(3):
        try:
            found += b"".join(place.blocks("x", len(content), len(found)))
        except CacheDropped:
            continue
    assert found[: len(content)] == content


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_folder_gives_plain_files_only(tmp_path, kind):
    (tmp_path / "real").write_bytes(b"1")
    file = tmp_path / "file"
    {"link": lambda: file.symlink_to("real"), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}[kind]()
    with pytest.raises(
        (CacheInvalid, CacheCorrupt), match=r"file: (a symbolic link|not a plain file|missing, a folder)"
    ):
        list(remote.at(str(tmp_path)).blocks("file", 1))


ENDPOINT = "wanted https://HOST or http://HOST:PORT, found"
SIGNS = "wanted letters, digits and signs of ASCII, found"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_ACCESS_KEY_ID", "ab\nc", f"{SIGNS} '\\n' as character 3 of 4"),
        ("AWS_ACCESS_KEY_ID", "a\u00e9", f"{SIGNS} '\\xe9' as character 2 of 2"),
        ("AWS_SECRET_ACCESS_KEY", "abc ", f"{SIGNS} ' ' as character 4 of 4"),
        ("AWS_SESSION_TOKEN", "\r", f"{SIGNS} '\\r' as character 1 of 1"),
        ("AWS_REGION", "us\n", "wanted a region such as us-east-1, found 'us\\n'"),
        ("AWS_DEFAULT_REGION", "us east", "wanted a region such as us-east-1, found 'us east'"),
        *(
            (name, value, f"{ENDPOINT} {value!a}")
            for name, value in [
                ("AWS_ENDPOINT_URL", "nonsense"),
                ("AWS_ENDPOINT_URL", "http://"),
                ("AWS_ENDPOINT_URL", "http://h\n"),
                ("AWS_ENDPOINT_URL", "ftp://host"),
                ("AWS_ENDPOINT_URL_S3", "http://[::1"),
                ("AWS_ENDPOINT", "http://host:99999"),
            ]
        ),
        ("AWS_ENDPOINT_URL", "http://me:secret@host", f"{ENDPOINT} 'host'"),
    ],
)
def test_variables_that_no_request_can_hold(s3, monkeypatch, capfd, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(CacheStorage) as caught:
        remote.at(s3.url)
    assert str(caught.value) == f"{name}: {message}; set it again"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "url", ["https://s3.example.com", "http://127.0.0.1:9000/", "http://[::1]:9000", "http://minio/x"]
)
def test_endpoints_that_are_some(s3, monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    remote.at(s3.url)


UNLISTED = (
    "{}: an object there has the name {!a}, which the client cannot read, so that the place cannot be listed; delete that "
    "object, or pull a cache by its whole key"
)


@pytest.mark.parametrize("name", [f"{chr(1)}x/", "./", "../", "/", f"z{chr(127)}/", f"{'ab' * 32}{chr(1)}"])
def test_a_name_that_the_client_cannot_read(s3, name, tmp_path):
    """Before the keys it is passed over; among them, or after them, the caches are had by their whole keys alone."""
    path = toys.make(tmp_path / "mine", toys.identity({"train": 10}, views=0))
    for key in ("01" * 32, "fe" * 32):
        s3.request("PUT", f"features/{key}/manifest.json", b"{}")
        s3.request("PUT", f"features/{key}/more", b"1")
    push.push(path, remote.at(s3.url))
    s3.request("PUT", f"features/{quote(name)}{'y' * name.endswith('/')}", b"1")
    named = f"features/{name}"
    if name < "0":
        assert remote.at(s3.url).names() == sorted(["01" * 32, path.name, "fe" * 32])
        listed = {listing.key: listing for listing in offers.ls(remote.at(s3.url))}
        assert {key: listing.state for key, listing in listed.items()} == {
            path.name: "published", "01" * 32: "damaged", "fe" * 32: "damaged", named: "foreign"
        }  # fmt: skip
        assert listed[named].problem == UNLISTED.format(s3.url, named)
        assert pull.find(remote.at(s3.url), path.name[:6]).manifest.key == path.name
    else:
        for act in (remote.at(s3.url).names, lambda: pull.find(remote.at(s3.url), path.name[:6])):
            with pytest.raises(CacheUnlisted) as caught:
                act()
            assert str(caught.value) == UNLISTED.format(s3.url, named)
    assert pull.pull(pull.find(remote.at(s3.url), path.name), tmp_path / "yours").state == "pulled"


def test_no_place_to_write(s3):
    s3.proxy.fault = lambda method, path: "none"
    place = remote.at(s3.url)
    for act in (lambda: place.put(NAME, b"1"), lambda: place.put(NAME, iter([b"1"])), lambda: place.create(NAME, b"1")):
        with pytest.raises(CacheStorage) as caught:
            act()
        assert str(caught.value) == (
            f"{s3.url}/{NAME}: the store does not let it be written (404 Not Found); look at the bucket's name and at "
            "AWS_ENDPOINT_URL"
        )


def test_a_server_that_says_nothing(s3, monkeypatch):
    monkeypatch.setattr(schemes, "SILENCE", 1)
    monkeypatch.setattr(bucket, "SILENCE", 1)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for act in (remote.at(s3.url).names, lambda: remote.at(s3.url).read(NAME, 9)):
            began = time.monotonic()
            with pytest.raises(
                CacheSilent, match=r"no answer for 1 s or more; look at the network and at AWS_ENDPOINT_URL"
            ):
                act()
            assert time.monotonic() - began < 5


def test_a_manifest_that_does_not_let_itself_be_closed_is_no_news():
    in_use._close(-1)
