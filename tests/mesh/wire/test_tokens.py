"""Which kind of token attests, by its form alone."""

import pytest

from mesh.wire import is_jwt


@pytest.mark.parametrize("token", ["a.b.c", "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsiZG9vcndhcmQiXX0.c2ln-_nature"])
def test_three_parts_of_base64url_are_a_jwt(token: str) -> None:
    assert is_jwt(token)


@pytest.mark.parametrize(
    "token",
    ["", "dwt_" + "A" * 43, "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", "a.b.c\n", "a.b.c=", "a.b.ü", " a.b.c", "a.b. c"],
)
def test_anything_else_is_none(token: str) -> None:
    assert not is_jwt(token)
