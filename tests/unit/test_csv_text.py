"""Text in whatever encoding: found out, decoded, and given back to the byte."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.extract import csv_text
from app.extract.csv_text import TextDecoder, split_lines

JAPANESE = "id,name,city\n1,田中太郎,東京都\n2,カタカナ,大阪府\n3,ひらがな,京都\n"
CHINESE = "id,名称,城市\n1,中国人民,北京\n2,数据,上海\n3,软件工程,广州市\n"
TAIWANESE = "id,名稱,城市\n1,中華民國,臺北\n2,資料,高雄\n3,軟體工程,臺中市\n"
KOREAN = "id,이름,도시\n1,김철수,서울\n2,이영희,부산\n3,데이터,대구\n"
FRENCH = "id,nom\n1,Éléonore été à Orléans\n2,Hélène\n3,L'Haÿ-les-Roses\n"

ENCODINGS = (
    *("utf-8", "cp1252", "latin-1", "cp037", "mac_arabic", "shift_jis", "cp932", "euc_jp", "gb18030", "big5", "johab"),
    *("euc_kr", "cp949", "iso2022_jp", "hz", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"),
)


def decoded(body: bytes, encoding: str | None = None) -> tuple[str, TextDecoder]:
    decoder = TextDecoder(encoding)
    return decoder.feed(body, final=True), decoder


@pytest.mark.parametrize(
    ("text", "written", "found"),
    [
        (FRENCH, "utf-8", ("utf-8", "utf-8")),
        (FRENCH, "utf-8-sig", ("utf-8", "bom")),
        (FRENCH, "utf-16", ("utf-16-le", "bom")),
        ("\ufeff" + FRENCH, "utf-16-be", ("utf-16-be", "bom")),
        (FRENCH, "utf-32", ("utf-32-le", "bom")),
        ("\ufeff" + FRENCH, "utf-32-be", ("utf-32-be", "bom")),
        (FRENCH, "utf-16-le", ("utf-16-le", "detected")),
        (FRENCH, "utf-16-be", ("utf-16-be", "detected")),
        (FRENCH, "cp1252", ("cp1252", "fallback")),
        ("id,name\n1,english\n2,©\n", "cp1252", ("cp1252", "fallback")),
        ("id,name\n0,São João\n", "cp1252", ("cp1252", "fallback")),
        ("id,name\n0,Öl\n", "cp1252", ("cp1252", "fallback")),
        ("id,name\n1,Müller Straße\n2,“Größe”\n", "cp1252", ("cp1252", "fallback")),
        (JAPANESE, "shift_jis", ("cp932", "detected")),
        (JAPANESE, "euc_jp", ("euc_jp", "detected")),
        (JAPANESE, "utf-16-le", ("utf-16-le", "detected")),
        (CHINESE, "gb18030", ("gb18030", "detected")),
        (TAIWANESE, "big5", ("big5", "detected")),
        (KOREAN, "euc_kr", ("cp949", "detected")),
        ("id,name\n", "ascii", ("utf-8", "utf-8")),
        ("", "ascii", ("utf-8", "utf-8")),
    ],
)
@pytest.mark.parametrize("times", [1, 3000])
def test_the_encoding_is_found_out(text: str, written: str, found: tuple[str, str], times: int) -> None:
    plain = text.removeprefix("\ufeff")
    body = (text + plain * (times - 1)).encode(written)

    read, decoder = decoded(body)

    assert (decoder.encoding, decoder.evidence) == found
    assert read == plain * times
    assert decoder.taken(read) == body


@pytest.mark.parametrize(
    ("declared", "body", "text", "encoding"),
    [
        ("windows-1252", "é€".encode("cp1252"), "é€", "cp1252"),
        ("windows-1252", "é".encode(), "Ã©", "cp1252"),
        ("utf-8", b"\xef\xbb\xbfa", "a", "utf-8"),
        ("utf-8-sig", b"a", "a", "utf-8"),
        ("utf-16", b"\xfe\xff\x00a", "a", "utf-16-be"),
        ("utf-16", b"a\x00", "a", "utf-16-le"),
        ("UTF-16LE", b"\xff\xfea\x00", "a", "utf-16-le"),
        ("latin1", b"\xef\xbb\xbfa", "ï»¿a", "iso8859-1"),
    ],
)
def test_a_declared_encoding_is_used_as_said(declared: str, body: bytes, text: str, encoding: str) -> None:
    read, decoder = decoded(body, declared)

    assert (read, decoder.encoding, decoder.evidence) == (text, encoding, "declared")
    assert decoder.taken(read) == body


@pytest.mark.parametrize("declared", ["rot13", "base64", "utf-7", "unicode_escape", "idna", "no such thing"])
def test_what_is_no_encoding_of_files_is_a_wrong_setting(declared: str) -> None:
    with pytest.raises(ConfigError, match="encoding"):
        TextDecoder(declared)


def test_a_body_that_begins_as_utf_8_stays_it() -> None:
    body = b"x" * csv_text.SAMPLE_BYTES + b"\xe9\xff"

    read, decoder = decoded(body)

    assert decoder.encoding == "utf-8"
    assert read.endswith("x\udce9\udcff")
    assert decoder.taken(read) == body


@pytest.mark.parametrize(
    "body", [b"1,\xff\n", b"1,\xff\xfe\n", b"1,\x81\n", "1,é\n2,è\n3,\udce9\n".encode("utf-8", "surrogateescape")]
)
def test_damage_is_not_an_encoding(body: bytes) -> None:
    """Bytes that are letters nowhere, or few among good UTF-8, make bad rows and not another encoding."""
    read, decoder = decoded(body)

    assert decoder.encoding == "utf-8"
    assert read == body.decode("utf-8", "surrogateescape")


def test_half_a_character_at_the_end_of_the_sample_is_no_reason() -> None:
    body = b"x" * (csv_text.SAMPLE_BYTES - 1) + "é".encode() * 10

    assert decoded(body)[1].encoding == "utf-8"


def test_nothing_is_given_out_before_it_is_certain() -> None:
    decoder = TextDecoder()
    body = FRENCH.encode("cp1252")

    assert [decoder.feed(bytes([byte])) for byte in body] == [""] * len(body)
    assert decoder.encoding == ""
    assert decoder.feed(b"", final=True) == FRENCH


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("cp1252", b"a\x81\n", "a\udc81\n"),
        ("shift_jis", b"a\x81\nb", "a\udc81\nb"),
        ("gb18030", b"a\x81\x30\nb", "a\udc810\nb"),
        ("gb18030", b"a\x81\x30\n", "a\udc810\n"),
        ("euc_jp", b"a\x8f\xa1\nb", "a\udc8f\udca1\nb"),
        ("utf-16-le", b"a\x00\x0a\xd8\n\x00", "a\udcc0\udc8a\udcd8\n"),
        ("utf-16-le", b"a\x00\n", "a\udcc0\udc8a"),
        (
            "utf-32-le",
            b"a\x00\x00\x00\x00\x00\x11\x00\n\x00\x00\x00",
            "a\udcc0\udc80\udcc0\udc80\udcc0\udc91\udcc0\udc80\n",
        ),
    ],
)
def test_a_byte_that_does_not_fit_is_marked_and_costs_no_line_end(encoding: str, body: bytes, text: str) -> None:
    read, decoder = decoded(body, encoding)

    assert read == text
    assert decoder.taken(read) == body


@given(encoding=st.sampled_from(ENCODINGS), body=st.binary(max_size=120), seed=st.integers(0, 1 << 30))
def test_text_taken_in_any_pieces_gives_the_bytes_it_came_from(encoding: str, body: bytes, seed: int) -> None:
    chance = random.Random(seed)
    body = "a,b\n".encode(encoding) + body
    decoder = TextDecoder(encoding)
    pending, given_back, at = "", b"", 0
    while at < len(body):
        size = chance.randint(1, 30)
        pending += decoder.feed(body[at : at + size], final=at + size >= len(body))
        at += size
        piece = pending if at >= len(body) else pending[: chance.randint(0, len(pending))]
        given_back += decoder.taken(piece)
        pending = pending[len(piece) :]

    assert given_back == body


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("block_bytes", [7, 51, 1024])
def test_bytes_taken_up_to_a_line_end_end_there(
    encoding: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run goes on is counted in bytes: one too many would be half a character."""
    monkeypatch.setattr(csv_text, "SAMPLE_BYTES", 1)
    monkeypatch.setattr(csv_text, "_BLOCK_BYTES", block_bytes)
    lines = [f"{number},東京é서울".encode(encoding, "ignore") + "\n".encode(encoding) for number in range(40)]
    decoder = TextDecoder(encoding)
    text = decoder.feed(b"".join(lines)[:-3])

    taken = [decoder.taken(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    assert taken == lines[:39]


def test_a_decoder_goes_on_in_the_middle_without_looking_for_a_mark() -> None:
    decoder = TextDecoder("utf-16-le", evidence="bom", at_start=False)

    text = decoder.feed("\ufeffx".encode("utf-16-le"), final=True)

    assert (text, decoder.evidence) == ("\ufeffx", "bom")


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", ""])
def test_lines_end_with_lf_crlf_or_cr_and_nothing_else(end: str) -> None:
    assert split_lines(f"a{end}b\nc\r\nd\re") == [f"a{end}b\n", "c\r\n", "d\r", "e"]
