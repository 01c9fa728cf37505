# SPDX-License-Identifier: Apache-2.0
"""Timestamps by file and over HTTP, from an authority that OpenSSL runs on this machine."""

from __future__ import annotations

import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from weighmaster.errors import MalformedArtefact, ServiceError, SignatureFault, UsageError
from weighmaster.flows.stamp import attach_timestamp, fetch_timestamp, timestamp_query
from weighmaster.seal.bundle import MAX_TIMESTAMP, make_bundle, parse_bundle
from weighmaster.seal.keys import generate
from weighmaster.seal.timestamps import query

PKI = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "vectors" / "seal" / "pki.py")))
REPLY = "application/timestamp-reply"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "signer-1.sigstore.json"
    path.write_bytes(make_bundle(b'{"a":1}', generate("ecdsa-p256-sha256")))
    return path


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[[bytes], bytes]:
    made: Callable[[bytes], bytes] = PKI.openssl_authority(tmp_path / "tsa")
    return made


Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def _answering(status: int, kind: str, make: Callable[[bytes], bytes]) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, request: bytes) -> None:
        data = make(request)
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Start a server that answers each request in one way; return its address."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/timestamp-query"
                answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/tsr"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_across_a_gap(bundle: Path, openssl: Callable[[bytes], bytes]) -> None:
    before = parse_bundle(bundle.read_bytes(), "b")
    response = openssl(timestamp_query(bundle))
    moment = attach_timestamp(bundle, response)
    after = parse_bundle(bundle.read_bytes(), "b")
    assert abs(moment.timestamp() - time.time()) < 60
    assert after.signature.timestamp == response
    assert (after.payload, after.signature.value) == (before.payload, before.signature.value)


def test_over_a_network(bundle: Path, openssl: Callable[[bytes], bytes], serve: Callable[[Answer], str]) -> None:
    response = fetch_timestamp(serve(_answering(200, REPLY, openssl)), timestamp_query(bundle))
    attach_timestamp(bundle, response)
    assert parse_bundle(bundle.read_bytes(), "b").signature.timestamp == response


def test_the_timestamp_of_another_bundle_is_not_attached(bundle: Path, openssl: Callable[[bytes], bytes]) -> None:
    before = bundle.read_bytes()
    with pytest.raises(SignatureFault, match="the timestamp is over other bytes than this signature"):
        attach_timestamp(bundle, openssl(query(b"another signature")))
    with pytest.raises(SignatureFault, match="its timestamp cannot be read"):
        attach_timestamp(bundle, b"garbage")
    with pytest.raises(SignatureFault, match="expected granted, found rejected"):
        attach_timestamp(bundle, bytes.fromhex("30053003020102"))
    with pytest.raises(MalformedArtefact, match="expected at most 65536 bytes"):
        attach_timestamp(bundle, b"x" * (MAX_TIMESTAMP + 1))
    assert bundle.read_bytes() == before


def test_a_second_timestamp_is_not_attached(bundle: Path, openssl: Callable[[bytes], bytes]) -> None:
    response = openssl(timestamp_query(bundle))
    attach_timestamp(bundle, response)
    for again in (lambda: timestamp_query(bundle), lambda: attach_timestamp(bundle, response)):
        with pytest.raises(UsageError, match="expected a bundle without timestamp, found one with: it is not replaced"):
            again()


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        timestamp_query(tmp_path / "absent")
    (tmp_path / "b").write_bytes(b"{}")
    with pytest.raises(MalformedArtefact, match="mediaType: expected a value"):
        timestamp_query(tmp_path / "b")


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http:", "http:///x", "127.0.0.1", "", "http://[::1", "tsa"],
)
def test_other_kinds_of_addresses(url: str) -> None:
    with pytest.raises(UsageError, match="expected a URL with http or https and a host, found another"):
        fetch_timestamp(url, b"q")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_answering(500, REPLY, lambda _: b""), "expected status 200, found 500 Internal Server Error"),
        (_answering(404, REPLY, lambda _: b""), "expected status 200, found 404 Not Found"),
        (_answering(200, "text/html", lambda _: b"<p>"), "expected application/timestamp-reply, found text/html"),
        (_answering(200, REPLY, lambda _: b"x" * (MAX_TIMESTAMP + 1)), "expected at most 65536 bytes, found more"),
    ],
)
def test_other_answers(answer: Answer, message: str, serve: Callable[[Answer], str]) -> None:
    url = serve(answer)
    with pytest.raises(ServiceError) as caught:
        fetch_timestamp(url, b"q")
    assert str(caught.value) == f"{url}: {message}"


@pytest.mark.parametrize("url", ["https://ana:pa55@tsa.example/", "http://pa55@[::1", "ftp://ana:pa55@x", "http:pa55@"])
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="expected a URL without user and password") as caught:
        fetch_timestamp(url, b"")
    assert "pa55" not in str(caught.value)


def test_a_redirection_is_not_followed(serve: Callable[[Answer], str]) -> None:
    reached = []
    target = serve(_answering(200, REPLY, lambda request: reached.append(request) or b"x"))  # type: ignore[func-returns-value]

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(307)
        handler.send_header("Location", target)
        handler.end_headers()

    with pytest.raises(ServiceError, match="expected status 200, found 307 Temporary Redirect"):
        fetch_timestamp(serve(answer), b"q")
    assert reached == []


def test_an_answer_that_stops_short(serve: Callable[[Answer], str]) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", REPLY)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"short")

    url = serve(answer)
    with pytest.raises(ServiceError, match="expected 100 bytes, found 5"):
        fetch_timestamp(url, b"q")


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        begin = time.monotonic()
        with pytest.raises(ServiceError, match="no answer: "):
            fetch_timestamp(url, b"q", timeout=0.3)
        assert time.monotonic() - begin < 10
    with pytest.raises(ServiceError, match=r"no answer: .*refused"):
        fetch_timestamp(url, b"q", timeout=5)


def test_a_server_that_answers_by_drops(serve: Callable[[Answer], str]) -> None:
    """Each byte comes in time, and the answer never ends."""
    stop = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", REPLY)
        handler.end_headers()
        while not stop.wait(0.02):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    try:
        with pytest.raises(ServiceError, match="expected an answer in time, found one that does not end"):
            fetch_timestamp(serve(answer), b"q", timeout=0.5)
    finally:
        stop.set()


def test_something_else_than_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 smtp.example.org ready\r\n")

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(ServiceError, match="no answer: "):
            fetch_timestamp(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"q", timeout=5)
