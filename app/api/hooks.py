"""`POST /hooks/{path}`: what a sender delivers, answered once it is stored."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from app.api.problems import ProblemError, problem_responses
from app.errors import StoreError
from app.extract.deliveries import Delivery
from app.extract.webhook import ForgedError
from app.operations.hooks import Hooks

log = structlog.get_logger()

router = APIRouter(tags=["hooks"])

BODY_SECONDS: Final = 15.0
"""For a body to come."""
STORE_SECONDS: Final = 25.0
"""Senders wait 15 to 30 s; then they try again, and what was stored meanwhile is known again."""
RETRY_SECONDS: Final = 5
MAX_HELD_BYTES: Final = 128 * 1024 * 1024
"""Of all bodies that are coming: anybody may send them, and none is proven yet."""
PACKING_BYTES: Final = 64 * 1024
"""By which a body may grow when it is compressed."""
_WINDOW_BITS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}

_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {}}, "*/*": {"schema": {}}}}
}


@router.post("/hooks/{path}/", include_in_schema=False)  # else a redirect, which senders do not follow
@router.post(
    "/hooks/{path}",
    response_class=Response,
    status_code=HTTPStatus.ACCEPTED,
    openapi_extra=_BODY,
    responses=problem_responses(
        _400="The body is not what its Content-Encoding says.",
        _401="It is not proven who sent it, or it is too old.",
        _404="No source takes deliveries there.",
        _408="The body came too slowly.",
        _413="The body is larger than `max_body_bytes`.",
        _415="A Content-Encoding that is not known here.",
        _429="More than the source's rate limit, or more bodies at a time than are held.",
        _503="It could not be stored; deliver it again.",
    ),
)
async def receive(path: str, request: Request) -> Response:
    """
    Take a delivery, if its signature is right. The answer comes after it is committed (`respond` of the webhook).

    A delivery that was stored before is answered alike, and stored once.
    """
    hooks: Hooks = request.app.state.hooks
    hook = hooks.find(path)
    if hook is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no source takes deliveries there; a new one does after a restart")
    body = await _read_body(request, hooks, max_bytes=hook.webhook.max_body_bytes)
    try:
        key = hook.verifier.verify(request.headers.raw, body, now=time.time())
    except ForgedError as error:
        log.warning("delivery_refused", path=path, reason=str(error))
        raise ProblemError(HTTPStatus.UNAUTHORIZED, str(error)) from None
    if hook.bucket is not None and (wait := hook.bucket.wait_seconds()):
        raise _too_many("more than the source's rate_limit", wait)
    if hook.bucket is not None:
        hook.bucket.take()
    try:
        async with asyncio.timeout(STORE_SECONDS):
            await hook.receiver.deliver(Delivery(body, key))
    except (StoreError, TimeoutError) as error:
        reason = error.reason if isinstance(error, StoreError) else "it took too long"
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"it could not be stored: {reason}; deliver it again",
            headers={"Retry-After": str(RETRY_SECONDS)},
        ) from error
    return Response(status_code=hook.webhook.respond)


async def _read_body(request: Request, hooks: Hooks, *, max_bytes: int) -> bytes:
    """
    Raises:
        ProblemError: 413 as soon as it is too large, decompressed; 400, 408, 415 or 429.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in _unpacked(request, max_bytes=max_bytes):
                body += part
                hooks.held_bytes += len(part)
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                if hooks.held_bytes > MAX_HELD_BYTES:
                    raise _too_many("more than is received at a time", RETRY_SECONDS)
    except zlib.error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body is not what its Content-Encoding says") from None
    except TimeoutError:
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the sender left") from None
    finally:
        hooks.held_bytes -= len(body)
    return bytes(body)


async def _unpacked(request: Request, *, max_bytes: int) -> AsyncIterator[bytes]:
    """
    The body as it was before its Content-Encoding, up to one byte more than it may have.

    Raises:
        ProblemError: 413 when what comes is too large as it comes; 415.
        zlib.error: it is damaged, or something follows its end.
    """
    headers = request.headers.raw
    encodings = b",".join(value for name, value in headers if name == b"content-encoding").strip().lower()
    bits = _WINDOW_BITS.get(encodings)
    if encodings not in {b"", b"identity"} and bits is None:
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding: gzip, deflate or none")
    unpack = None if bits is None else zlib.decompressobj(bits)
    most_received = max_bytes if unpack is None else max_bytes + PACKING_BYTES
    if any(name == b"content-length" and int(value) > most_received for name, value in headers):
        raise _too_large(max_bytes)  # the server has refused what is no number
    received = size = 0
    async for part in request.stream():
        received += len(part)
        if received > most_received:
            raise _too_large(max_bytes)
        data = part if unpack is None else unpack.decompress(part, max_bytes + 1 - size)
        if unpack is not None and unpack.unused_data:
            raise zlib.error("more follows its end")  # and all of it would be kept
        size += len(data)
        yield data
    if unpack is not None and not unpack.eof:
        raise zlib.error("it ends too soon")


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a delivery has at most {max_bytes} bytes")


def _too_many(detail: str, seconds: float) -> ProblemError:
    return ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(ceil(seconds))})
