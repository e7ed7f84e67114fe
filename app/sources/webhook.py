"""What a sender delivers, and how it proves who it is: `webhook` of a resource."""

import base64
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from app.sources.paginators import Path
from app.sources.values import Duration, SecretRef, Spec, placeholders

SIGNED: Final = frozenset({"id", "timestamp", "body"})
"""What `signed_payload` may name."""


class StandardWebhooks(Spec):
    """Headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, as Standard Webhooks 1.0 has them."""

    type: Literal["standard_webhooks"]
    secret: SecretRef = Field(description="Base64, with or without the prefix whsec_.")
    previous_secret: SecretRef | None = Field(None, description="Still good, while senders change over.")
    tolerance: Duration = Field("PT5M", validate_default=True, description="Older or newer than this: refused.")


class HmacSpec(Spec):
    """A keyed hash (RFC 2104) of the body, or of what `signed_payload` says, in one header."""

    type: Literal["hmac"]
    header: str = Field(min_length=1, max_length=200, description="For example X-Hub-Signature-256.")
    prefix: str = Field("", description="Before the signature, for example sha256=.")
    pairs: bool = Field(
        default=False,
        description="The header is Stripe's: t=TIMESTAMP,v1=SIGNATURE, more than one v1 while keys change.",
    )
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    secret: SecretRef
    previous_secret: SecretRef | None = Field(None, description="Still good, while senders change over.")
    timestamp_header: str | None = Field(None, description="What {timestamp} stands for: seconds since 1970.")
    signed_payload: str = Field("{body}", description="What is signed: {id}, {timestamp}, {body}.")
    tolerance: Duration = Field("PT5M", validate_default=True, description="Older or newer than this: refused.")

    @model_validator(mode="after")
    def _what_is_signed_is_known(self) -> Self:
        named = set(placeholders(self.signed_payload))
        if unknown := named - SIGNED:
            raise ValueError(
                f"signed_payload: {{{min(unknown)}}} means nothing here; there are {{id}}, {{timestamp}}, {{body}}"
            )
        if "body" not in named:
            raise ValueError("signed_payload: without {body} anybody could change what is delivered")
        if "timestamp" in named and self.timestamp_header is None and not self.pairs:
            raise ValueError("signed_payload names {timestamp}: say in timestamp_header where it is")
        if self.timestamp_header is not None and "timestamp" not in named:
            raise ValueError(
                "timestamp_header: a time that is not signed proves nothing; name {timestamp} in signed_payload"
            )
        if self.pairs and (self.prefix or self.timestamp_header):
            raise ValueError("pairs: the header itself says the time, and has no prefix")
        return self


class BearerSpec(Spec):
    """`Authorization: Bearer TOKEN`: whoever has the token may deliver anything; a signature is better."""

    type: Literal["bearer"]
    token: SecretRef
    previous_token: SecretRef | None = Field(None, description="Still good, while senders change over.")


VerifySpec = Annotated[StandardWebhooks | HmacSpec | BearerSpec, Field(discriminator="type")]


class Dedupe(Spec):
    id_header: str | None = Field(
        None, description="The delivery's id. It counts where signed_payload names {id}; else the body's hash does."
    )
    body_hash: bool = Field(default=True, description="Without a signed id, the same body again is the same delivery.")
    retention: Duration = Field("P7D", validate_default=True, description="So long a delivery is known again.")


class WebhookSpec(Spec):
    path: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,99}$", description="Of POST /hooks/PATH.")
    verify: VerifySpec
    data_selector: Path | None = Field(
        None, description="JMESPath to the records, where a delivery holds several; omitted: its body is the record."
    )
    dedupe: Dedupe = Field(default_factory=Dedupe)
    max_body_bytes: int = Field(1024 * 1024, ge=1, le=64 * 1024 * 1024, description="Decompressed.")
    respond: Literal[200, 201, 202, 204] = Field(202, description="To a delivery that is stored.")

    @model_validator(mode="after")
    def _ids_are_somewhere(self) -> Self:
        if isinstance(self.verify, HmacSpec) and "{id}" in self.verify.signed_payload and self.dedupe.id_header is None:
            raise ValueError("verify.signed_payload names {id}: say in dedupe.id_header where it is")
        return self

    def read_keys(self, read_secret: Callable[[str], str]) -> list[bytes]:
        """
        What senders sign with, the new key first.

        Args:
            read_secret: a reference → what it leads to.

        Raises:
            ConfigError: there is no such secret.
            ValueError: it is none to sign with; the message names its reference.
        """
        verify = self.verify
        if isinstance(verify, BearerSpec):
            references = [verify.token, verify.previous_token]
        else:
            references = [verify.secret, verify.previous_secret]
        is_standard = isinstance(verify, StandardWebhooks)
        return [_key(ref, read_secret(ref), is_base64=is_standard) for ref in references if ref]


def _key(reference: str, secret: str, *, is_base64: bool) -> bytes:
    text = secret.strip()
    if not text:
        raise ValueError(f"the secret behind {reference} is empty")
    if not is_base64:
        # A variable may hold bytes that are no UTF-8
        return text.encode("utf-8", "surrogateescape")
    text = text.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError(f"the secret behind {reference} is not base64, with or without whsec_ before it")
    return key
