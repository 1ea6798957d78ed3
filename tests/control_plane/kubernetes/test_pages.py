"""Lists, whatever their objects hold."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from control_plane.kubernetes import api as api_module
from control_plane.kubernetes.errors import AnswerTooLarge
from control_plane.kubernetes.pages import pages
from tests.support.api_server import Answer, Asked, api_server

OBJECTS = [{"metadata": {"name": f"o{index}"}, "x": "y" * (20_000 if index == 700 else 5)} for index in range(1200)]


def some(asked: Asked) -> Answer:
    """As an API server: at most `limit` of them, from where `continue` says."""
    wanted = parse_qs(urlsplit(asked.path).query)
    begin, limit = int(wanted.get("continue", ["0"])[0]), int(wanted["limit"][0])
    end = begin + limit
    metadata = {"resourceVersion": "7", **({"continue": str(end)} if end < len(OBJECTS) else {})}
    return 200, {"metadata": metadata, "items": OBJECTS[begin:end]}


async def test_vast_objects_are_asked_for_in_shorter_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "BODY_BYTES", 30_000)
    with api_server(tmp_path, some) as server:
        async with server.api() as api:
            found = [item async for page in pages(api, "/api/v1/things", labelSelector="a=b") for item in page.items]
    assert found == OBJECTS
    assert all("labelSelector=a%3Db" in asked.path for asked in server.asked)
    assert len(server.asked) < 40


async def test_one_object_that_is_too_large_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "BODY_BYTES", 10_000)
    with api_server(tmp_path, some) as server:
        async with server.api() as api:
            with pytest.raises(AnswerTooLarge, match="10000 bytes"):
                _ = [page async for page in pages(api, "/api/v1/things")]
