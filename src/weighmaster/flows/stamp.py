# SPDX-License-Identifier: Apache-2.0
"""Put a timestamp into a bundle: by files carried across a gap, or fetched from an authority on the network.

Nothing is trusted here. That a timestamp is over the signature of this bundle is checked before it goes in; whether its
authority is believed is for those who verify, by their trust document.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Final

from weighmaster.durable import read_whole, write_atomically
from weighmaster.errors import ServiceError, UsageError
from weighmaster.seal.bundle import MAX_BUNDLE, MAX_TIMESTAMP, parse_bundle, with_timestamp
from weighmaster.seal.timestamps import MEDIA_TYPE_QUERY, MEDIA_TYPE_REPLY, claimed_time, query

__all__ = ["TIMEOUT", "attach_timestamp", "fetch_timestamp", "timestamp_query"]

TIMEOUT: Final = 30.0
"""Seconds: the whole exchange with an authority takes no longer."""

_PIECE: Final = 1 << 12


def timestamp_query(bundle: Path) -> bytes:
    """Return the RFC 3161 request for a timestamp over the signature of a bundle, DER.

    Raises:
        UsageError: there is no such file, or the bundle has a timestamp already.
        MalformedArtefact: it is no bundle.
        ModuleNotFoundError: the extra ``time`` is not installed.
    """
    signature = parse_bundle(read_whole(bundle, limit=MAX_BUNDLE), str(bundle)).signature
    if signature.timestamp is not None:
        raise UsageError(f"{bundle}: expected a bundle without timestamp, found one with: it is not replaced")
    return query(signature.value)


def attach_timestamp(bundle: Path, response: bytes) -> datetime:
    """Put an RFC 3161 response into a bundle, in place; return the moment that it claims.

    Raises:
        UsageError: there is no such file, or the bundle has a timestamp already.
        MalformedArtefact: it is no bundle, or the response is larger than a timestamp.
        SignatureFault: it is no response, was not granted, or is over other bytes than the bundle's signature.
        StorageError: the bundle cannot be written; it stays as it was.
    """
    data = read_whole(bundle, limit=MAX_BUNDLE)
    stamped = with_timestamp(data, response, str(bundle))
    moment = claimed_time(response, parse_bundle(data, str(bundle)).signature.value, str(bundle))
    write_atomically(bundle, stamped)
    return moment


def fetch_timestamp(url: str, request: bytes, *, timeout: float = TIMEOUT) -> bytes:
    """Send a request to a timestamp authority (RFC 3161, 3.4) and return its response, DER, not verified.

    Redirections are not followed. Nothing is believed for where it came from, so that plain HTTP does as well.

    Args:
        url: ``http:`` or ``https:``.
        request: as `timestamp_query` returns it.
        timeout: seconds for the whole exchange.

    Raises:
        UsageError: another kind of URL, or one with a user or password.
        ServiceError: no answer, another answer than a timestamp response, or a longer one than any.
    """
    if "@" in url.partition("?")[0]:  # not quoted: what stands before it may be a password
        raise UsageError("expected a URL without user and password, found one with an @ before its query")
    deadline = time.monotonic() + timeout
    try:
        message = urllib.request.Request(url, data=request, headers=_HEADERS, method="POST")  # noqa: S310  # no other scheme: see _opener
        if message.type not in {"http", "https"} or not message.host:
            raise UsageError(f"{url}: expected a URL with http or https and a host, found another")
        with _opener().open(message, timeout=timeout) as answer:
            kind = answer.headers.get_content_type()
            data = _read(answer, url, deadline)
    except urllib.error.HTTPError as error:
        with error:
            raise ServiceError(f"{url}: expected status 200, found {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ServiceError(f"{url}: no answer: {reason or type(error).__name__}") from None
    except ValueError as error:
        raise UsageError(f"{url}: expected a URL with http or https and a host, found another: {error}") from None
    if kind != MEDIA_TYPE_REPLY:
        raise ServiceError(f"{url}: expected {MEDIA_TYPE_REPLY}, found {kind}")
    return data


_HEADERS: Final = {"Content-Type": MEDIA_TYPE_QUERY, "Accept": MEDIA_TYPE_REPLY}


def _opener() -> urllib.request.OpenerDirector:
    """Return what speaks HTTP and HTTPS, through the proxies of the environment, and no other scheme."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(answer: http.client.HTTPResponse, url: str, deadline: float) -> bytes:
    data = bytearray()
    while piece := answer.read1(_PIECE):
        data += piece
        if len(data) > MAX_TIMESTAMP:
            raise ServiceError(f"{url}: expected at most {MAX_TIMESTAMP} bytes, found more")
        if time.monotonic() > deadline:
            raise ServiceError(f"{url}: expected an answer in time, found one that does not end")
    if answer.length:
        raise ServiceError(f"{url}: expected {len(data) + answer.length} bytes, found {len(data)}")
    return bytes(data)
