"""The samples are what the tour says they are, and their server speaks HTTP as a real one would."""

import csv
import http.client
import io
import json
import re
import threading
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import structlog

from app import demo
from app.demo import SampleSources, sample_sources

DATA = Path(demo.__file__).parent / "data"
RECORDS = [line.strip().rstrip(b",") for line in (DATA / "posts.json").read_bytes().splitlines()[1:-1]]


class Client:
    """One keep-alive connection."""

    def __init__(self, samples: SampleSources) -> None:
        self.host = urlsplit(samples.api_url).netloc
        self.connection = http.client.HTTPConnection(self.host, timeout=10)

    def request(self, method: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, headers=named)
        response = self.connection.getresponse()
        return response, response.read()

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        return self.request("GET", path, **headers)


@pytest.fixture
def samples() -> Iterator[SampleSources]:
    with sample_sources() as samples:
        yield samples


@pytest.fixture
def client(samples: SampleSources) -> Iterator[Client]:
    client = Client(samples)
    yield client
    client.connection.close()


def read(url: str) -> bytes:
    with urlopen(url, timeout=10) as response:
        body: bytes = response.read()
    return body


def products() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((DATA / "products.csv").read_bytes().decode(), newline="")))


def test_links_lead_through_every_record_byte_for_byte(client: Client) -> None:
    path: str | None = "/posts?_page=1&_limit=7"
    pages: list[bytes] = []

    while path:
        response, body = client.get(path)
        pages.append(body)
        found = re.search(r'<http://([^/]+)(/[^>]+)>; rel="next"', response.headers["Link"])
        assert found is None or found[1] == client.host
        path = found[2] if found else None

    assert [len(json.loads(page)) for page in pages] == [7] * 14 + [2]
    assert b"".join(b",\n".join(RECORDS[at : at + 7]) for at in range(0, 100, 7)) == b"".join(
        page.removeprefix(b"[\n").removesuffix(b"\n]") for page in pages
    )


@pytest.mark.parametrize(
    ("page", "links"),
    [
        (1, {"first": 1, "next": 2, "last": 10}),
        (5, {"first": 1, "prev": 4, "next": 6, "last": 10}),
        (10, {"first": 1, "prev": 9, "last": 10}),
    ],
)
def test_a_page_links_to_the_pages_around_it(client: Client, page: int, links: dict[str, int]) -> None:
    response, _ = client.get(f"/posts?_page={page}&_limit=10")

    assert response.headers["X-Total-Count"] == "100"
    assert response.headers["Link"] == ", ".join(
        f'<http://{client.host}/posts?_page={number}&_limit=10>; rel="{rel}"' for rel, number in links.items()
    )


def test_past_the_end_is_an_empty_array_and_no_links(client: Client) -> None:
    response, body = client.get("/posts?_page=11&_limit=10")

    assert (response.status, body) == (200, b"[]")
    assert response.headers["Link"] == ""
    assert response.headers["X-Total-Count"] == "100"


def test_a_page_that_holds_everything_links_nowhere(client: Client) -> None:
    response, body = client.get("/posts?_page=1&_limit=100")

    assert len(json.loads(body)) == 100
    assert response.headers["Link"] == ""


@pytest.mark.parametrize("query", ["_page=0", "_page=abc", "_page=-3", "_page=" + "9" * 5000, "_limit=10", "_limit=0"])
def test_what_is_not_a_page_number_is_page_one_of_ten(client: Client, query: str) -> None:
    _, body = client.get(f"/posts?{query}")

    assert [record["id"] for record in json.loads(body)] == list(range(1, 11))


@pytest.mark.parametrize(("path", "file"), [("/posts", "posts.json"), ("/products.csv", "products.csv")])
def test_a_whole_file_is_served_as_it_is(client: Client, path: str, file: str) -> None:
    response, body = client.get(path)

    assert body == (DATA / file).read_bytes()
    assert response.headers["Content-Length"] == str(len(body))
    assert parsedate_to_datetime(response.headers["Last-Modified"]).timestamp() == int((DATA / file).stat().st_mtime)


def test_both_addresses_are_what_the_sources_ask_for(samples: SampleSources, client: Client) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", samples.api_url)
    assert samples.csv_url == f"{samples.api_url}/products.csv"

    _, body = client.get("/")

    assert {urlsplit(path).path for path in json.loads(body).values()} == {"/posts", "/products.csv"}


@pytest.mark.parametrize("path", ["/products.csv", "/posts", "/posts?_page=2&_limit=10"])
@pytest.mark.parametrize("known", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
def test_a_known_etag_gets_304_and_no_body(client: Client, path: str, known: str) -> None:
    first, _ = client.get(path)

    second, body = client.get(path, If_None_Match=known.format(etag=first.headers["ETag"]))

    assert (second.status, body) == (304, b"")
    assert second.headers["ETag"] == first.headers["ETag"]
    assert second.headers["Link"] == first.headers["Link"]
    assert client.get("/")[0].status == 200  # the connection is still in step


def test_an_etag_is_strong_and_tells_bodies_apart(client: Client) -> None:
    tags = [client.get(f"/posts?_page={page}")[0].headers["ETag"] for page in (1, 2)]

    response, _ = client.get("/posts?_page=2", If_None_Match=tags[0])

    assert all(re.fullmatch('"[0-9a-f]{32}"', tag) for tag in tags)
    assert response.status == 200


@pytest.mark.parametrize("path", ["/products.csv", "/posts?_page=3", "/", "/nowhere"])
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    got, _ = client.get(path)
    head, body = client.request("HEAD", path)

    assert body == b""
    assert head.status == got.status
    assert {**dict(head.headers), "Date": ""} == {**dict(got.headers), "Date": ""}


def test_another_path_is_a_404_in_json(client: Client) -> None:
    response, body = client.get("/posts/1?secret=1")

    assert response.status == 404
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"error": "no such path: /posts/1"}


def test_one_connection_serves_many_requests(client: Client) -> None:
    client.get("/")
    first = client.connection.sock

    client.get("/nowhere")
    client.get("/products.csv")

    assert client.connection.sock is first


def test_a_request_is_logged_without_its_query_and_nothing_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with structlog.testing.capture_logs() as logs, sample_sources() as samples:
        client = Client(samples)
        client.get("/posts?_page=2&token=secret")
        client.request("BREW", "/")
        client.connection.close()

    assert logs == [
        {"event": "demo_request", "log_level": "debug", "method": "GET", "path": "/posts", "status": 200},
    ]
    assert capfd.readouterr().err == ""


def test_two_servers_stand_side_by_side() -> None:
    with sample_sources() as one, sample_sources() as other:
        bodies = [read(samples.csv_url) for samples in (one, other)]

    assert one.api_url != other.api_url
    assert bodies[0] == bodies[1]


def test_leaving_hangs_up_on_an_idle_connection_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())

    with sample_sources() as samples:
        client = Client(samples)
        client.get("/")
        assert set(threading.enumerate()) - before

    assert not set(threading.enumerate()) - before
    assert client.connection.sock.recv(1) == b""
    client.connection.close()


def test_a_port_can_be_used_again_at_once() -> None:
    with sample_sources() as first:
        port = urlsplit(first.api_url).port
        read(first.csv_url)

    with sample_sources(port=port or 0) as second:
        assert second == first


def test_posts_are_a_hundred_records_of_ten_users() -> None:
    posts = json.loads((DATA / "posts.json").read_bytes())

    assert [post["id"] for post in posts] == list(range(1, 101))
    assert [post["userId"] for post in posts] == [1 + at // 10 for at in range(100)]
    assert {tuple(post) for post in posts} == {("userId", "id", "title", "body")}
    assert [json.loads(record) for record in RECORDS] == posts


def test_posts_hold_newlines_and_letters_from_elsewhere() -> None:
    bodies = [post["body"] for post in json.loads((DATA / "posts.json").read_bytes())]

    assert any("\n" in body for body in bodies)
    assert all(any(letter in body for body in bodies) for letter in ("é", "\u2013", "日本"))


def test_products_are_two_hundred_rows_with_ids_of_their_own() -> None:
    rows = products()

    assert list(rows[0]) == ["id", "name", "value", "description", "created_at", "updated_at"]
    assert len(rows) == len({row["id"] for row in rows}) == 200
    assert "00017" in {row["id"] for row in rows}
    assert all(None not in row and None not in row.values() for row in rows)


def test_products_hold_three_bad_values_and_four_empty_ones() -> None:
    values = [row["value"] for row in products()]

    odd = sorted(value for value in values if not re.fullmatch(r"\d+\.\d\d", value))

    assert odd == ["", "", "", "", "1.2.3", "call us", "n/a"]


def test_products_quote_commas_quotes_and_two_newlines() -> None:
    descriptions = [row["description"] for row in products()]

    assert any("," in description for description in descriptions)
    assert any('"' in description for description in descriptions)
    assert sum("\n" in description for description in descriptions) == 2
    assert b"\r" not in (DATA / "products.csv").read_bytes()


def test_product_times_carry_their_zone_and_run_forwards() -> None:
    rows = products()

    zones = {row[name][19:] for row in rows for name in ("created_at", "updated_at")}

    assert {"Z", "+05:30"} <= zones
    assert "" not in zones
