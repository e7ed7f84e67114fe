"""Who a delivery is from: published vectors, forged ones, and what no sender would send."""

import base64
import hashlib
import hmac
import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from app.extract.webhook import ForgedError, Headers, Verifier
from app.sources.resource import Secrets
from app.sources.webhook import WebhookSpec

# Standard Webhooks, libraries/python/tests/test_webhooks.py (MIT)
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_TIME = 1614265330
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_SIGNATURE = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
STANDARD_ID = b"msg_p5jXN8AQM9LWM0D4loKWxJek"
# GitHub documentation, "Validating webhook deliveries"
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

STANDARD = {"type": "standard_webhooks", "secret": "{secrets.A}", "previous_secret": "{secrets.B}"}
GITHUB = {"type": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": "{secrets.A}"}
STRIPE = {
    "type": "hmac",
    "header": "Stripe-Signature",
    "pairs": True,
    "signed_payload": "{timestamp}.{body}",
    "secret": "{secrets.A}",
}
SHOP = {
    "type": "hmac",
    "header": "X-Shop-Signature",
    "encoding": "base64",
    "algorithm": "sha512",
    "timestamp_header": "X-Shop-Timestamp",
    "signed_payload": "{id}:{timestamp}:{body}",
    "secret": "{secrets.A}",
}
BEARER = {"type": "bearer", "token": "{secrets.A}"}


def verifier(verify: dict[str, Any], secret: str = "s3cret", previous: str = "MTIz", **dedupe: Any) -> Verifier:
    webhook = WebhookSpec.model_validate({"path": "x", "verify": verify, "dedupe": dedupe})
    secrets = Secrets({"A": SecretStr(secret), "B": SecretStr(previous)}, "x.toml")
    return Verifier(webhook, webhook.read_keys(secrets.fill))


def standard(
    *, time: int = STANDARD_TIME, signature: bytes = STANDARD_SIGNATURE, delivery: bytes = STANDARD_ID
) -> Headers:
    return [
        (b"webhook-id", delivery),
        (b"webhook-timestamp", str(time).encode()),
        (b"webhook-signature", signature),
    ]


def signed(time: int, secret: str = STANDARD_SECRET, body: bytes = STANDARD_BODY) -> bytes:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, b".".join((STANDARD_ID, str(time).encode(), body)), "sha256")
    return b"v1," + base64.b64encode(digest)


def test_the_published_vectors_are_right() -> None:
    key = verifier(STANDARD, STANDARD_SECRET).verify(standard(), STANDARD_BODY, now=STANDARD_TIME)
    assert key == f"id:{STANDARD_ID.decode()}"

    key = verifier(GITHUB, GITHUB_SECRET).verify([(b"x-hub-signature-256", GITHUB_SIGNATURE)], GITHUB_BODY, now=0)
    assert key == f"body:{hashlib.blake2b(GITHUB_BODY, digest_size=16).hexdigest()}"


def test_svix_has_names_of_its_own() -> None:
    headers = [(name.replace(b"webhook", b"svix"), value) for name, value in standard()]
    assert verifier(STANDARD, STANDARD_SECRET).verify(headers, STANDARD_BODY, now=STANDARD_TIME)
    with pytest.raises(ForgedError):
        verifier(STANDARD, STANDARD_SECRET).verify([*headers[:2], standard()[2]], STANDARD_BODY, now=STANDARD_TIME)


@pytest.mark.parametrize("late", [-300, 0, 300])
def test_a_delivery_may_be_five_minutes_off(late: int) -> None:
    assert verifier(STANDARD, STANDARD_SECRET).verify(standard(), STANDARD_BODY, now=STANDARD_TIME + late)


@pytest.mark.parametrize("late", [-301, 301])
def test_one_second_more_is_refused(late: int) -> None:
    with pytest.raises(ForgedError, match=r"too old|in the future"):
        verifier(STANDARD, STANDARD_SECRET).verify(standard(), STANDARD_BODY, now=STANDARD_TIME + late)


@pytest.mark.parametrize(
    ("secret", "previous"),
    [
        (STANDARD_SECRET.removeprefix("whsec_"), "MTIz"),
        (base64.b64encode(b"another").decode(), STANDARD_SECRET),
    ],
    ids=["without its prefix", "of before"],
)
def test_secrets_rotate_and_need_no_prefix(secret: str, previous: str) -> None:
    assert verifier(STANDARD, secret, previous).verify(standard(), STANDARD_BODY, now=STANDARD_TIME)


def test_an_unpadded_secret_is_good() -> None:
    secret = base64.b64encode(b"sixteen bytes ok").decode()
    assert secret.endswith("==")
    headers = standard(signature=signed(STANDARD_TIME, secret))
    assert verifier(STANDARD, secret.rstrip("=")).verify(headers, STANDARD_BODY, now=STANDARD_TIME)


def test_one_right_signature_of_several_is_enough() -> None:
    many = b" ".join((b"v2,AAAA", b"v1,AAAA", b"nothing", STANDARD_SIGNATURE, b"v1a,xyz"))
    assert verifier(STANDARD, STANDARD_SECRET).verify(standard(signature=many), STANDARD_BODY, now=STANDARD_TIME)


@pytest.mark.parametrize(
    "headers",
    [
        standard(signature=STANDARD_SIGNATURE.replace(b"g0", b"g1")),
        standard(signature=STANDARD_SIGNATURE.replace(b"v1", b"v2")),
        standard(signature=b"v1,"),
        standard(signature=b"\xff\xfe"),
        standard(delivery=b"another"),
        standard(time=STANDARD_TIME + 1),
        standard()[1:],
        standard()[:-1],
        [*standard(), standard()[0]],
        [],
    ],
)
def test_what_was_tampered_with_is_refused(headers: Headers) -> None:
    with pytest.raises(ForgedError):
        verifier(STANDARD, STANDARD_SECRET).verify(headers, STANDARD_BODY, now=STANDARD_TIME)


def test_another_body_is_refused() -> None:
    with pytest.raises(ForgedError):
        verifier(STANDARD, STANDARD_SECRET).verify(standard(), STANDARD_BODY + b" ", now=STANDARD_TIME)


def test_stripes_shape() -> None:
    right = hmac.new(b"s3cret", b"1000.{}", "sha256").hexdigest().encode()
    wrong = b"0" * 64
    header = b"t=1000, v1=" + wrong + b",v1=" + right + b",v0=zz"
    assert verifier(STRIPE).verify([(b"stripe-signature", header)], b"{}", now=1000)
    for forged in (b"t=1001,v1=" + right, b"v1=" + right, b"t=1000,v0=" + right, b"t=,v1=" + right):
        with pytest.raises(ForgedError):
            verifier(STRIPE).verify([(b"stripe-signature", forged)], b"{}", now=1000)


def test_an_id_counts_where_it_is_signed() -> None:
    digest = base64.b64encode(hmac.digest(b"s3cret", b"e-7:1000:{}", "sha512"))
    headers = [(b"x-shop-signature", digest), (b"x-shop-timestamp", b"1000"), (b"x-shop-delivery", b"e-7")]
    assert verifier(SHOP, id_header="X-Shop-Delivery").verify(headers, b"{}", now=1000) == "id:e-7"
    headers[2] = (b"x-shop-delivery", b"e-8")
    with pytest.raises(ForgedError):
        verifier(SHOP, id_header="X-Shop-Delivery").verify(headers, b"{}", now=1000)


def test_an_id_that_is_not_signed_counts_for_nothing() -> None:
    one = verifier(GITHUB, GITHUB_SECRET, id_header="X-GitHub-Delivery")
    keys = {
        one.verify([(b"x-hub-signature-256", GITHUB_SIGNATURE), (b"x-github-delivery", name)], GITHUB_BODY, now=0)
        for name in (b"a", b"b")
    }
    assert len(keys) == 1


def test_bearer_tokens() -> None:
    assert verifier(BEARER).verify([(b"authorization", b"bearer s3cret")], b"{}", now=0)
    for forged in (b"Bearer s3cre", b"Basic s3cret", b"s3cret", b"Bearer"):
        with pytest.raises(ForgedError):
            verifier(BEARER).verify([(b"authorization", forged)], b"{}", now=0)


NAMES = [b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"x-hub-signature-256", b"stripe-signature"]
NAMES += [b"x-shop-signature", b"x-shop-timestamp", b"x-shop-delivery", b"authorization"]


@given(
    headers=st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=80) | st.just(b"9" * 5000)), max_size=8),
    body=st.binary(max_size=100),
    now=st.floats(min_value=0, max_value=4e9),
)
@pytest.mark.parametrize("verify", [STANDARD, GITHUB, STRIPE, SHOP, BEARER], ids=str)
def test_no_bytes_of_a_stranger_are_more_than_refused(
    verify: dict[str, Any], headers: Headers, body: bytes, now: float
) -> None:
    one = verifier(verify, STANDARD_SECRET, id_header="X-Shop-Delivery")
    with pytest.raises(ForgedError):
        one.verify(headers, body, now=now)


@pytest.mark.parametrize(
    ("verify", "secret", "previous", "said"),
    [
        (STANDARD, "", "MTIz", "{secrets.A} is empty"),
        (STANDARD, "whsec_", "MTIz", "{secrets.A} is not base64"),
        (STANDARD, "no base64!", "MTIz", "{secrets.A} is not base64"),
        (STANDARD, STANDARD_SECRET, "schlüssel", "{secrets.B} is not base64"),
        (GITHUB, "  ", "MTIz", "{secrets.A} is empty"),
        (BEARER, "", "MTIz", "{secrets.A} is empty"),
    ],
)
def test_a_secret_that_is_none_is_named(verify: dict[str, Any], secret: str, previous: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"the secret behind {said}")):
        verifier(verify, secret, previous)


def test_bytes_that_are_no_utf8_sign_as_they_are() -> None:
    """A secret of the environment, and words of the sender between what is signed."""
    verify = {**SHOP, "signed_payload": "ü{timestamp}{body}"}
    digest = base64.b64encode(hmac.digest(b"s\xff", "ü1000{}".encode(), "sha512"))
    headers = [(b"x-shop-signature", digest), (b"x-shop-timestamp", b"1000")]

    assert verifier(verify, os.fsdecode(b"s\xff")).verify(headers, b"{}", now=1000)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"signed_payload": "{timestamp}"}, "without {body}"),
        ({"signed_payload": "{body}{what}"}, "{what} means nothing"),
        ({"signed_payload": "{timestamp}{body}"}, "say in timestamp_header"),
        ({"signed_payload": "{id}{body}"}, "say in dedupe.id_header"),
        ({"timestamp_header": "X-Time"}, "a time that is not signed proves nothing"),
        ({"pairs": True}, "the header itself says the time"),
        ({"secret": "in clear"}, "holds a literal"),
    ],
)
def test_what_would_prove_nothing_is_refused_in_the_file(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        WebhookSpec.model_validate({"path": "x", "verify": {**GITHUB, **changed}})
