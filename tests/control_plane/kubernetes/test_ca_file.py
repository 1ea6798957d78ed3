"""The API server's CAs as their file has them now: changed while requests run, broken, gone, and back."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from attrs import define

from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.ca_file import CaFile
from control_plane.kubernetes.errors import ApiUnreachable
from control_plane.metrics import Metrics
from tests.support.api_server import Answer, ApiServer, Asked, api_server
from tests.support.patience import PATIENCE


@define(eq=False)
class Rotating:
    """An API server before and after its CA was replaced, and the projected file that says which one holds."""

    before: ApiServer
    after: ApiServer
    volume: Path
    blocked: threading.Event
    rounds: int = 0

    @property
    def file(self) -> Path:
        return self.volume / "ca.crt"

    def project(self, content: bytes) -> None:
        """As the kubelet does it: a new directory, and one rename that makes all of it current."""
        self.rounds += 1
        made = self.volume / f"..{self.rounds}"
        made.mkdir()
        (made / "ca.crt").write_bytes(content)
        new = self.volume / "..data_tmp"
        new.symlink_to(made.name)
        new.rename(self.volume / "..data")
        if not self.file.is_symlink():
            self.file.symlink_to("..data/ca.crt")

    def trust(self, server: ApiServer) -> None:
        self.project((server.directory / "api-server.pem").read_bytes())

    def api(self) -> KubernetesApi:
        """A client that believes the file, and finds the API server of after by the address of before."""
        self.trust(self.before)
        token = self.volume / "token"
        token.write_text("t")
        return KubernetesApi.open(
            f"https://127.0.0.1:{self.after.port}", ca=self.file, token_file=token, metrics=Metrics()
        )


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Rotating]:
    blocked = threading.Event()

    def answer(asked: Asked) -> Answer:
        if asked.path == "/slow":
            blocked.wait(2 * PATIENCE)
        return 200, {}

    with ExitStack() as stack:
        for name in ("before", "after", "volume"):
            (tmp_path / name).mkdir()
        before, after = (stack.enter_context(api_server(tmp_path / name, answer)) for name in ("before", "after"))
        yield Rotating(before, after, tmp_path / "volume", blocked)
        blocked.set()


async def test_a_new_ca_is_trusted_and_the_former_one_no_longer(rotating: Rotating) -> None:
    async with rotating.api() as api:
        with pytest.raises(ApiUnreachable, match="certificate verify failed"):
            await api.get("/p")
        rotating.trust(rotating.after)
        await api.get("/p")
        rotating.trust(rotating.before)
        with pytest.raises(ApiUnreachable, match="certificate verify failed"):
            await api.get("/p")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n", b"\xff", None])
async def test_a_broken_file_keeps_the_last_good_cas_and_is_said_once(
    rotating: Rotating, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with rotating.api() as api:
        rotating.trust(rotating.after)
        await api.get("/p")
        caplog.clear()
        if content is None:
            rotating.file.unlink()
        else:
            rotating.project(content)
        for _ in range(2):
            await api.get("/p")
        (record,) = caplog.records
        assert (record.levelname, "stay trusted" in record.getMessage()) == ("WARNING", True)
        rotating.trust(rotating.before)
        with pytest.raises(ApiUnreachable, match="certificate verify failed"):
            await api.get("/p")


async def test_requests_that_are_under_way_go_on_and_what_carried_them_is_closed_then(rotating: Rotating) -> None:
    rotating.trust(rotating.after)
    async with rotating.api() as api:
        rotating.trust(rotating.after)
        answers: list[object] = []

        async def slow() -> None:
            answers.append(await api.get("/slow"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            with trio.fail_after(PATIENCE):
                while not rotating.after.asked:
                    await trio.sleep(0.01)
            rotating.project(rotating.file.read_bytes() + b"# and another one\n")
            await api.get("/quick")
            assert (answers, len(api._transmission._pools)) == ([], 2)
            rotating.blocked.set()
        assert (answers, len(api._transmission._pools)) == ([{}], 1)


def test_a_file_that_says_the_same_again_changes_nothing(rotating: Rotating) -> None:
    rotating.trust(rotating.before)
    found = CaFile.open(rotating.file)
    context = found.current()
    rotating.trust(rotating.before)  # with every new token all of the volume is written anew
    assert found.current() is context
    rotating.trust(rotating.after)
    assert found.current() is not context


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_at_the_start_it_has_to_be_usable(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OSError, match=r"NO_CERTIFICATE|No such file") as refused:
        CaFile.open(file)
    assert isinstance(refused.value, FileNotFoundError if content is None else ssl.SSLError)
