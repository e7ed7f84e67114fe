"""
Who a delivery is from, and which one it is. No I/O: the clock is an argument.

Whatever bytes a stranger's headers and body hold, the answer is a refusal with a reason, never another exception.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from app.sources.values import fill
from app.sources.webhook import BearerSpec, HmacSpec, StandardWebhooks, WebhookSpec

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, as ASGI has them."""

MAX_SIGNATURES: Final = 32
"""Looked at in one header."""
MAX_ID_BYTES: Final = 500
_MAX_DIGITS: Final = 12


class ForgedError(Exception):
    """It is not proven who sent this; the message says what is missing, and nothing of what was expected."""


class Verifier:
    """
    One resource's way of telling its sender's deliveries from anybody else's.

    Args:
        keys: of `WebhookSpec.read_keys`.
    """

    def __init__(self, webhook: WebhookSpec, keys: Sequence[bytes]) -> None:
        self._verify = webhook.verify
        self._dedupe = webhook.dedupe
        self._keys = keys

    def verify(self, headers: Headers, body: bytes, *, now: float) -> str | None:
        """
        Args:
            body: as received, decoded from nothing but a Content-Encoding.
            now: seconds since 1970.

        Returns:
            The delivery's key; None where deliveries are not told apart.

        Raises:
            ForgedError: the sender did not prove that it knows the secret, or the delivery is too old or too new.
        """
        verify = self._verify
        if isinstance(verify, BearerSpec):
            scheme, _, token = _only(headers, "authorization").partition(b" ")
            if scheme.lower() != b"bearer" or not self._matches([token.strip()], lambda key: key):
                raise ForgedError("the bearer token is missing or wrong")
            delivery = None
        elif isinstance(verify, StandardWebhooks):
            delivery = self._verify_standard(headers, body, verify, now)
        else:
            delivery = self._verify_hmac(headers, body, verify, now)
        if delivery is not None:
            return f"id:{delivery}"
        return f"body:{hashlib.blake2b(body, digest_size=16).hexdigest()}" if self._dedupe.body_hash else None

    def _verify_standard(self, headers: Headers, body: bytes, verify: StandardWebhooks, now: float) -> str:
        # Svix, from which the standard comes, has kept its own names
        prefix = "svix" if any(name == b"svix-id" for name, _ in headers) else "webhook"
        delivery = _only(headers, f"{prefix}-id")
        timestamp = _only(headers, f"{prefix}-timestamp")
        _check_time(timestamp, verify.tolerance, now)
        parts = (part.partition(b",") for part in _only(headers, f"{prefix}-signature").split())
        given = [signature for version, _, signature in parts if version == b"v1"]
        signed = b".".join((delivery, timestamp, body))
        if not self._matches(_decoded(given, "base64"), lambda key: hmac.digest(key, signed, "sha256")):
            raise ForgedError(f"no v1 signature in {prefix}-signature is right")
        return _as_id(delivery)

    def _verify_hmac(self, headers: Headers, body: bytes, verify: HmacSpec, now: float) -> str | None:
        sent = _only(headers, verify.header)
        timestamp = b""
        if verify.pairs:
            pairs = [(name.strip(), value.strip()) for name, _, value in (p.partition(b"=") for p in sent.split(b","))]
            timestamp = next((value for name, value in pairs if name == b"t"), b"")
            given = [value for name, value in pairs if name == b"v1"]
        else:
            prefix = verify.prefix.encode()
            if not sent.startswith(prefix):
                raise ForgedError(f"{verify.header} does not begin with {verify.prefix}")
            given = [sent.removeprefix(prefix)]
        if verify.timestamp_header is not None:
            timestamp = _only(headers, verify.timestamp_header)
        parts = {"timestamp": timestamp, "body": body}
        if names_id := "{id}" in verify.signed_payload:
            parts["id"] = _only(headers, self._dedupe.id_header or "")
        if timestamp or "{timestamp}" in verify.signed_payload:
            _check_time(timestamp, verify.tolerance, now)
        # Latin-1: each byte stands for itself
        said = verify.signed_payload.encode().decode("latin-1")
        signed = fill(said, lambda name: parts[name].decode("latin-1")).encode("latin-1")
        if not self._matches(_decoded(given, verify.encoding), lambda key: hmac.digest(key, signed, verify.algorithm)):
            raise ForgedError(f"the signature in {verify.header} is not right")
        return _as_id(parts["id"]) if names_id else None

    def _matches(self, given: Iterable[bytes], make: Callable[[bytes], bytes]) -> bool:
        """Each with each, whether one was right already or not: time tells nothing."""
        expected = [make(key) for key in self._keys]
        found = False
        for one in islice(given, MAX_SIGNATURES):
            for right in expected:
                found |= hmac.compare_digest(one, right)
        return found


def _only(headers: Headers, name: str) -> bytes:
    """
    Raises:
        ForgedError: it is not there, or more than once: which one was signed could not be told.
    """
    found = [value for given, value in headers if given == name.lower().encode()]
    if len(found) != 1 or not found[0].strip():
        raise ForgedError(f"the header {name} is {'there more than once' if len(found) > 1 else 'missing'}")
    return found[0].strip()


def _check_time(timestamp: bytes, tolerance: float, now: float) -> None:
    if not timestamp.isdigit() or len(timestamp) > _MAX_DIGITS:
        raise ForgedError("its timestamp is missing, or not seconds since 1970")
    age = now - int(timestamp)
    if abs(age) > tolerance:
        raise ForgedError(f"its timestamp is {'too old' if age > 0 else 'in the future'}")


def _decoded(given: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    for one in given:
        try:
            if encoding == "hex":
                yield binascii.unhexlify(one)
            else:
                yield base64.b64decode(one + b"=" * (-len(one) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue


def _as_id(delivery: bytes) -> str:
    """As text for PostgreSQL; a long one by its hash."""
    if len(delivery) > MAX_ID_BYTES:
        return f"#{hashlib.blake2b(delivery, digest_size=16).hexdigest()}"
    return delivery.decode("latin-1").replace("\x00", "\\0")
