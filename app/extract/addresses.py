"""
Where a request may go: http and https only, and to public addresses unless the source allows others.

The address is checked three times, because each check has a way around it: the
URL before anything is asked (also the only check of a target behind a proxy), the
answers of DNS, and the address that a socket is about to connect to. The last
sees what the others cannot: a name that resolves anew between check and use, a
cached answer, an address in the URL, and each hop, since every hop connects.

Behind a proxy (`HTTP_PROXY` and its kin) the peer is the proxy. The operator
chose it, so its address may be private. What holds then: no URL may hold a
non-public address, in any spelling, or `localhost`. What does not: names are
resolved by the proxy, and only its own rules keep it from an internal one.
"""

import errno
import ipaddress
import re
import socket
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from app.errors import SourceRefusedError
from app.extract.http_errors import redact

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

_HOST: Final = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f:.]+")
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
# Global, or not yet known as reserved, to the `ipaddress` of some Python that we support
_RESERVED: Final = tuple(
    ipaddress.ip_network(block) for block in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")
)
# Everything else may be a secret that a source file put there
_HARMLESS_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-type",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "range",
        "user-agent",
    }
)


def check_url(url: str) -> None:
    """
    Raises:
        SourceRefusedError: it is not http(s), has no plain host or port, or holds a user name.
    """
    try:
        parts = URL(url, encoded=True)
        scheme, authority, host, port = parts.scheme, parts.raw_authority, parts.raw_host or "", parts.explicit_port
    except ValueError as error:
        raise SourceRefusedError(f"{redact(url)}: not a URL that can be asked") from error
    fault = None
    if scheme not in {"http", "https"}:
        fault = "only http and https are asked"
    elif re.search(r"[\x00-\x20\x7f]", url):
        fault = "holds a space or control character; a space is written %20"
    elif "@" in authority:
        fault = "holds a user name; credentials go into client.auth"
    elif not _HOST.fullmatch(host):
        fault = "has no host in plain ASCII; an international name is written xn--…"
    elif port == 0:
        fault = "port 0 is not a port"
    if fault is not None:
        raise SourceRefusedError(f"{redact(url)}: {fault}")


def is_public(ip: str) -> bool:
    """
    Of the public internet. An IPv6 address that carries IPv4 ones is as public as they are.

    False for what is no address.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if inner := list(_carried(address)):
            return all(is_public(str(carried)) for carried in inner)
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in block for block in _RESERVED)


def _carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


class GuardedResolver(AbstractResolver):
    """
    Leaves out the non-public addresses of hosts that are not allowed to have them.

    Args:
        allowed: whether a host may.
        inner: who answers; by default aiohttp's own.
    """

    def __init__(self, allowed: Callable[[str], bool], inner: AbstractResolver | None = None) -> None:
        self._allowed = allowed
        self._inner = inner or aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Raises:
            SourceRefusedError: it has no public address.
        """
        found = await self._inner.resolve(host, port, family)
        if self._allowed(host):
            return found
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise _refusal(host, found[0]["host"])
        return public

    async def close(self) -> None:
        await self._inner.close()


@dataclass(slots=True)
class _Peer:
    """Whom a connection being opened is for."""

    host: str
    may_be_private: bool
    refused: str | None = None
    """An address that was not connected to."""


# aiohttp's socket factory is told the address, but not for which host
_peer: ContextVar[_Peer | None] = ContextVar("_peer", default=None)


def guarded_connector(
    allowed: Callable[[str], bool], *, resolver: AbstractResolver | None = None
) -> aiohttp.TCPConnector:
    """
    Opens connections to public addresses only, and to any address of an allowed host.

    Refuses with a SourceRefusedError before the first packet. Pooled
    connections were checked when they were opened.

    Args:
        allowed: whether a host, as written in the URL and in lower case, may have a non-public address.
    """
    return _GuardedConnector(allowed, resolver)


class _GuardedConnector(aiohttp.TCPConnector):
    def __init__(self, allowed: Callable[[str], bool], resolver: AbstractResolver | None) -> None:
        self._allowed = allowed
        self._guard = GuardedResolver(self._may_be_private, resolver)
        super().__init__(resolver=self._guard, socket_factory=_open_socket)

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        await self._guard.close()

    # Should aiohttp rename this method, `_peer` stays empty and `_open_socket`
    # refuses all private addresses: too much, but never too little
    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list["Trace"],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own signature
    ) -> "ResponseHandler":
        host = req.url.raw_host or ""
        is_allowed = self._is_allowed(host)
        if not is_allowed and (literal := _literal(host)) is not None and not is_public(literal):
            raise _refusal(host, literal)
        if req.proxy is not None:
            peer = _Peer(req.proxy.raw_host or "", may_be_private=True)
        else:
            peer = _Peer(host, may_be_private=is_allowed)
        token = _peer.set(peer)
        try:
            return await super()._create_connection(req, traces, timeout)
        except aiohttp.ClientConnectorError as error:
            if peer.refused is not None:
                raise _refusal(peer.host, peer.refused) from error
            raise
        finally:
            _peer.reset(token)

    def _may_be_private(self, host: str) -> bool:
        peer = _peer.get()
        return peer is not None and peer.may_be_private and _plain(peer.host) == _plain(host)

    def _is_allowed(self, host: str) -> bool:
        return self._allowed(host.lower()) or self._allowed(_plain(host))


def _open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    ip, peer = str(address[0]), _peer.get()
    if not is_public(ip) and not (peer is not None and peer.may_be_private):
        if peer is not None:
            peer.refused = ip
        # An OSError, for anything else is lost among several addresses (aiohappyeyeballs)
        raise PermissionError(errno.EACCES, f"{ip} is not a public address")
    return socket.socket(family, kind, protocol)


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


def _literal(host: str) -> str | None:
    """The address that a host is, if it is one, in any spelling that some resolver understands."""
    # IDNA's other dots (RFC 3490 §3.1): NFKC makes U+3002 of U+FF61
    text = _plain(unicodedata.normalize("NFKC", host).replace("\u3002", "."))
    if text == "localhost" or text.endswith(".localhost"):  # RFC 6761 §6.3
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def _refusal(host: str, address: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"{host} leads to {address}, which is not a public address; if that is meant, "
        "set client.allow_private_networks = true in the source file"
    )


def next_hop(
    current_url: str, location: str, headers: Mapping[str, str], *, secret_headers: Collection[str] = ()
) -> tuple[str, dict[str, str]]:
    """
    Where a redirect leads, and which headers go along.

    To the same origin all of them; to another one those that are harmless.
    The query of `current_url` never goes along. The caller counts hops.

    Args:
        location: of the answer, as it is.
        secret_headers: names of headers that stay behind although they sound harmless.

    Raises:
        SourceRefusedError: it leads to what `check_url` refuses, or from https to http with credentials.
    """
    current = URL(current_url, encoded=True)
    base = str(current.with_query(None).with_fragment(None))
    # Servers send spaces and bare UTF-8 here; what is encoded already stays as it is
    reference = quote(location.strip(" \t"), safe="!#$%&'()*+,/:;=?@[]~", errors="surrogateescape")
    try:
        url = urljoin(base, reference).partition("#")[0]
    except ValueError as error:
        raise SourceRefusedError(f"{redact(base)}: redirects to what is not a URL") from error
    check_url(url)
    target = URL(url, encoded=True)
    if _origin(target) == _origin(current):
        return url, dict(headers)
    kept_back = {name.lower() for name in headers} - _HARMLESS_HEADERS | {name.lower() for name in secret_headers}
    carries = any(name.lower() in kept_back for name in headers) or "=***" in redact(str(current))
    if current.scheme == "https" and target.scheme == "http" and carries:
        raise SourceRefusedError(f"{redact(base)}: redirects from https to {redact(url)}, and credentials were sent")
    return url, {name: value for name, value in headers.items() if name.lower() not in kept_back}


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, _plain(url.raw_host or ""), url.port
