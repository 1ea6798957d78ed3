"""Laws 14 and 15: one form of a path, which is matched and forwarded, and one of a target and its host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.policy import PathRefused, canonical_target
from tests.laws.conftest import Shop, policy

REFUSED = (
    "/open/%00",
    "/open\\..\\admin",
    "/open%5c..%5cadmin",
    "/open/..%2fadmin",
    "/open%2F..%2Fadmin",
    "/open/%",
    "/open/%2",
    "/open/%zz",
    "/open/%252e%252e/admin",
    "/open/%25%32%65",
    "/open/%c0%ae%c0%ae/admin",
    "/open/%C1%9C",
    "/open/%e0%80%af",
    "/open/.;/admin",
    "/open/..;/admin",
    "/open/..;a=b/admin",
    "/open/%2e%2e;/admin",
    "/open/..%3b/admin",
    "/..",
    "/open/../../admin",
    "/open/#/../admin",
)

SPELLINGS = {
    "/open/a": "/open/a",
    "/open//a": "/open/a",
    "//open/a": "/open/a",
    "/open/./a": "/open/a",
    "/x/../open/a": "/open/a",
    "/open/%61": "/open/a",
    "/open/x/%2e%2e/a": "/open/a",
    "/open/%c3%a9": "/open/%C3%A9",
    "/open/a%3fb": "/open/a%3Fb",
    "/open/a?q=%2e%2e/../x": "/open/a?q=%2e%2e/../x",
}


@pytest.mark.parametrize("door", ["outbound", "inbound"])
async def test_law_14_a_path_without_one_meaning_is_a_400_at_either_door(shop: Shop, door: str) -> None:
    await shop.open({"paths": ["/open/*"]})
    for path in REFUSED:
        answer = await shop.get(path, straight=door == "inbound")
        assert answer.startswith(b"HTTP/1.1 400 "), (path, answer)
    assert shop.heads == []


async def test_law_14_what_was_matched_is_forwarded(shop: Shop) -> None:
    await shop.open({"paths": ["/open/*"]})
    for spelling in SPELLINGS:
        assert (await shop.get(spelling, straight=True)).endswith(b"ok"), spelling
    assert [head.split(b" ")[1].decode() for head in shop.heads] == list(SPELLINGS.values())
    for spelling in ("/open/../admin", "/open/%2e%2e/admin", "//admin", "/%61dmin"):
        assert b"403" in await shop.get(spelling, straight=True)
    assert len(shop.heads) == len(SPELLINGS)


PIECES = st.sampled_from(
    ["/", "//", ".", "..", ";", "%2e", "%2F", "%5C", "%25", "%c0", "%", "a", "%61", "\\", "é", "#", "%00"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_law_14_the_form_stays_as_it_is_when_it_is_made_again(path: str) -> None:
    try:
        once = canonical_target("/" + path).path
    except PathRefused:
        return
    assert canonical_target(once).path == once
    assert "/../" not in f"{once}/"
    assert "//" not in once


async def test_law_15_absolute_form_becomes_origin_form_and_its_authority_the_host(shop: Shop) -> None:
    await shop.open()
    request = b"GET http://PAYMENTS.shop:8080/a?b HTTP/1.1\r\nHost: ignored\r\n\r\n"
    assert (await shop.say(request)).endswith(b"ok"), "own names are own names in any case"
    assert shop.heads[0].startswith(b"GET /a?b HTTP/1.1\r\nhost: PAYMENTS.shop:8080\r\n")
    assert b"421" in await shop.say(b"GET http://evil.example/ HTTP/1.1\r\nHost: payments\r\n\r\n")
    assert b"421" in await shop.say(b"GET / HTTP/1.1\r\nHost: EVIL.example\r\n\r\n")
    assert len(shop.heads) == 1


async def test_law_15_no_pattern_matches_the_asterisk_and_connect_is_refused(shop: Shop) -> None:
    await shop.open({"methods": ["OPTIONS"], "paths": ["/*"]})
    assert b" 403 " in await shop.say(b"OPTIONS * HTTP/1.1\r\nHost: payments\r\n\r\n", straight=True)
    shop.payments.learn(policies=[policy(shop.app_port, {"methods": ["OPTIONS"]})])
    assert (await shop.say(b"OPTIONS * HTTP/1.1\r\nHost: payments\r\n\r\n", straight=True)).endswith(b"ok")
    shop.payments.learn(policies=[policy(shop.app_port, tcp=True)])  # whatever it is: it is no CONNECT
    connect = b"CONNECT payments:8080 HTTP/1.1\r\nHost: payments:8080\r\n\r\n"
    for straight in (False, True):
        assert b" 501 " in await shop.say(connect, straight=straight)
    assert len(shop.heads) == 1
