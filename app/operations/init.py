"""A URL → a source file: what kind of source it is, and what a few requests say about it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from app.clock import utc_now
from app.errors import SourceMalformedError, SourceRefusedError
from app.extract.http import Fetcher
from app.extract.http_body import Response
from app.extract.http_errors import excerpt, redact
from app.extract.probe import Probe, beginning, is_private, read_beginning, whole
from app.extract.requests import build_request
from app.extract.scopes import Scope
from app.operations.draft import Draft, open_draft
from app.operations.init_api import describe_api
from app.operations.init_csv import describe_csv
from app.settings import Settings
from app.settings.secrets import read_secrets
from app.sources.address import Address, checked_name, name_of, read_address
from app.sources.reading import read_source
from app.sources.resource import ResourceSpec, Secrets

_FEED: Final = re.compile(
    rb"\s*(<\?xml[^>]*\?>|<!--.*?-->|<\?[^>]*\?>|<!DOCTYPE[^>]*>|\s)*<(rss|feed|rdf:RDF)[\s>]", re.DOTALL
)
_TABLES: Final = re.compile(r".*\.(csv|tsv|txt|tab)(\.(gz|zip|zst))?|.*\.(gz|zip|zst)", re.IGNORECASE)
PATIENCE: Final = {"max_attempts": 2, "max_elapsed": "PT1M", "max_retry_after": "PT30S"}
"""With a source that is only looked at."""


async def draft_source(
    url: str,
    settings: Settings,
    *,
    name: str | None = None,
    headers: Sequence[str] = (),
    token_secret: str | None = None,
    folder: Path | None = None,
) -> Draft:
    """
    Ask a source a few questions, and draft its file.

    Args:
        url: or the path of a CSV file on this machine.
        folder: where the file is to be written: paths are told from there.

    Raises:
        ConfigError: no URL, or no header.
        SourceError: it does not answer, or is neither JSON, CSV nor a feed.
    """
    if "://" not in url:
        return await _draft_file(Path(url), name=name, folder=folder)
    address = read_address(url, name=name, headers=headers, token_secret=token_secret)
    private = await is_private(address.url)
    draft = open_draft(address, "rest_api", private=private)
    draft.resource["endpoint"] = {"path": address.path} | ({"params": address.params} if address.params else {})
    spec = _spec(draft.tree, address)
    async with Fetcher(settings.http) as fetcher:
        probe = Probe(fetcher.client(spec), f"GET {redact(address.url)}")
        request = build_request(spec, Scope())
        try:
            response = await probe.fetch(request)
        except SourceRefusedError as error:
            raise _advised(error, has_credentials=bool(address.client)) from error
        kind = _kind(response, address.url)
        if kind == "rest_api":
            await describe_api(draft, probe, request, await whole(response))
        else:
            body, is_whole = await beginning(response)
            draft = open_draft(address, kind, private=private)
            if kind == "csv":
                draft.resource["file"] = {"url": address.url}
                describe_csv(draft, body, is_whole=is_whole, what=probe.what, is_said=_is_table(response, address.url))
            else:
                describe_feed(draft, address.url)
    draft.requests = probe.traffic.requests
    draft.comments[""] = [
        f"Written by `etl sources init` on {utc_now():%Y-%m-%d}, after {_counted(draft.requests, 'request')} to",
        f"{redact(address.url)}. Comments say what was seen then.",
        *draft.comments.get("", []),
    ]
    return draft


def name_for(url: str) -> str:
    """
    The name that a source gets when none is given.

    Raises:
        ConfigError: no URL.
    """
    return read_address(url).name if "://" in url else name_of(Path(url).name)


def describe_feed(draft: Draft, url: str) -> None:
    """Atom (RFC 4287) and RSS name the parts of an entry alike once they are read."""
    draft.resource.update(name="entries", primary_key="id", feed={"url": url})
    draft.resource["mapping"] = {
        "name": "title",
        "description": {"template": "{summary}\n{link}"},
        "created_at": {"coalesce": ["published", "updated"], "type": "datetime"},
        "updated_at": {"coalesce": ["updated", "published"], "type": "datetime"},
    }


async def _draft_file(path: Path, *, name: str | None, folder: Path | None) -> Draft:
    body, is_whole = await read_beginning(path)
    url, root = _place(path, folder)
    tree: dict[str, Any] = {"name": checked_name(name) if name else name_of(path.name), "type": "csv"}
    tree["resources"] = [{"name": tree["name"], "file": {"url": url}}]
    draft = Draft(tree["name"], tree, root=root)
    describe_csv(draft, body, is_whole=is_whole, what=str(path), is_said=True)
    seen = f"Written by `etl sources init` on {utc_now():%Y-%m-%d}, after a look at the file's beginning."
    draft.comments[""] = [f"{seen} Comments say what was seen then.", *draft.comments.get("", [])]
    if root is not None:
        draft.say(".file.url", f"outside of this file's folder: FILE_ROOTS must name {root}, or a folder above")
    return draft


def _place(path: Path, folder: Path | None) -> tuple[str, Path | None]:
    """As the source file names it; and, where it does not lie below that file's folder, its own."""
    whole_path = path.absolute()
    if folder is not None and whole_path.is_relative_to(folder.absolute()):
        return str(whole_path.relative_to(folder.absolute())), None
    return str(whole_path), whole_path.parent


def _spec(tree: dict[str, Any], address: Address) -> ResourceSpec:
    """How it is asked while it is looked at: patience is short, and no other private host is reached."""
    source = read_source({**tree, "retry": PATIENCE}, where=redact(address.url))
    host = urlsplit(address.url).hostname
    return ResourceSpec(
        source=source.name,
        table=source.resources[0],
        single=True,
        client=source.client,
        retry=source.retry,
        secrets=Secrets({**read_secrets(), **address.secrets}, "the credentials given"),
        where=redact(address.url),
        private_hosts=frozenset({host} if host else ()),
    )


def _kind(response: Response, url: str) -> str:
    """
    Raises:
        SourceMalformedError: it is neither JSON, nor CSV, nor a feed.
    """
    body = response.body.lstrip(b"\xef\xbb\xbf \t\r\n")
    said = _content_type(response)
    if _FEED.match(body):
        return "rss"
    is_table = _is_table(response, url)
    if body[:1] in {b"{", b"["} and not is_table:
        return "rest_api"
    if body[:1] == b"<":
        raise SourceMalformedError(
            f"GET {redact(url)}: is a page of HTML or XML ({said or 'no type'}); give the address of the JSON API, "
            "the CSV file or the feed itself"
        )
    if body and (is_table or said in {"text/plain", "application/octet-stream", "application/vnd.ms-excel", ""}):
        return "csv"
    if not body:
        raise SourceMalformedError(
            f"GET {redact(url)}: HTTP {response.status} with an empty body; there is nothing to read"
        )
    if said == "application/json" or said.endswith("+json"):
        raise SourceMalformedError(
            f"GET {redact(url)}: {said} that is neither a list nor an object; it begins {excerpt(body[:40])!r}"
        )
    raise SourceMalformedError(f"GET {redact(url)}: {said or 'no type'} is neither JSON, CSV, RSS nor Atom")


def _content_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _is_table(response: Response, url: str) -> bool:
    """The type or the name says so."""
    said = _content_type(response)
    return said in {"text/csv", "text/tab-separated-values"} or _TABLES.fullmatch(urlsplit(url).path) is not None


def _advised(error: SourceRefusedError, *, has_credentials: bool) -> SourceRefusedError:
    """The same, with what can be done about it where there is no source file yet."""
    if error.status in {401, 403} and not has_credentials:
        advice = "; give them with --auth-secret NAME, or --header 'Name: value'"
    elif error.status == 405:
        advice = '; it is asked by GET: for an API that takes POST write the file by hand, endpoint.method = "POST"'
    elif error.status is None and "allow_private_networks" in str(error):
        advice = ", or give the address there instead of this one"
    else:
        return error
    return SourceRefusedError(f"{error}{advice}", status=error.status, said=error.said)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
