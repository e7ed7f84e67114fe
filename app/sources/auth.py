"""How a source wants to be asked: `client.auth`."""

from typing import Annotated, Literal

from pydantic import Field

from app.sources.values import SecretRef, Spec


class NoAuth(Spec):
    type: Literal["none"] = "none"


class BearerAuth(Spec):
    """`Authorization: Bearer …` (RFC 6750)."""

    type: Literal["bearer"]
    token: SecretRef


class ApiKeyAuth(Spec):
    type: Literal["api_key"]
    name: str = Field(min_length=1, description="Of the header, query parameter or cookie.")
    api_key: SecretRef
    location: Literal["header", "query", "cookie"] = "header"


class HttpBasicAuth(Spec):
    """RFC 7617, in UTF-8."""

    type: Literal["http_basic"]
    username: str
    password: SecretRef | None = Field(None, description="Empty when omitted: some APIs take a key as the user name.")


class _OAuth2(Spec):
    access_token_url: str = Field(pattern=r"^https?://")
    client_id: str
    client_secret: SecretRef | None = None
    scope: str | None = None
    client_auth: Literal["body", "basic"] = Field("body", description="How client_id and client_secret are sent.")
    default_token_expiration: int = Field(
        3600, ge=1, description="Seconds, where the server does not say `expires_in`."
    )


class OAuth2ClientCredentials(_OAuth2):
    """RFC 6749 §4.4."""

    type: Literal["oauth2_client_credentials"]


class OAuth2RefreshToken(_OAuth2):
    """RFC 6749 §6. A refresh token that the server rotates is kept, encrypted, in the database."""

    type: Literal["oauth2_refresh_token"]
    refresh_token: SecretRef = Field(description="The first one; later ones come from the server.")


class HmacAuth(Spec):
    """Each request is signed: the HMAC of a text made of its parts, in a header."""

    type: Literal["hmac"]
    secret: SecretRef
    header: str = Field("X-Signature", min_length=1)
    prefix: str = ""
    algorithm: Literal["sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    signed_payload: str = Field(
        "{method}\n{path}\n{query}\n{timestamp}\n{body}",
        description="May hold {method} {path} {query} {timestamp} {body}.",
    )
    timestamp_header: str | None = Field("X-Timestamp", description="Carries the Unix time, in seconds.")


AuthSpec = Annotated[
    NoAuth | BearerAuth | ApiKeyAuth | HttpBasicAuth | OAuth2ClientCredentials | OAuth2RefreshToken | HmacAuth,
    Field(discriminator="type"),
]
