"""An answer that comes before its request has ended arrives whole, while the upload goes on as slowly as it likes."""

from contextlib import suppress

import h11
import trio

from examples.demo.local_mesh import LocalMesh, wait_for
from tests.support.applications import Application, serving
from tests.support.http_peers import HttpPeer, framed
from tests.support.pairs import start_pair
from tests.support.payloads import MIB, blocks, expected

SIZE = 32 * MIB
PATIENCE = 120.0


async def answering_at_once(application: Application, stream: trio.SocketStream) -> None:
    """Answers with SIZE bytes as soon as it has read the head, and reads the body all the while, however it ends."""
    peer = HttpPeer.answering(stream)
    await peer.receive_head()

    async def read_on() -> None:
        try:
            await peer.receive_body()
        except trio.BrokenResourceError:
            application.heads.append(b"cut off")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await peer.answer(200, framed(SIZE, chunked=False))
        await peer.send_body(blocks(SIZE))


async def test_a_large_answer_overtakes_a_slow_upload(mesh: LocalMesh) -> None:
    async with serving(answering_at_once) as http:
        pair = await start_pair(mesh, http=http)
        with trio.fail_after(PATIENCE):
            peer = await HttpPeer.calling(pair.http)
            async with peer.stream, trio.open_nursery() as nursery:

                async def upload_slowly() -> None:
                    with suppress(trio.BrokenResourceError):  # once its answer was whole
                        while True:
                            await peer.send(h11.Data(data=b"slowly"))
                            await trio.sleep(0.01)

                await peer.begin("POST", "/", framed(0, chunked=True))
                nursery.start_soon(upload_slowly)
                head = await peer.receive_head()
                received = await peer.receive_body()
                await wait_for(lambda: http.heads, what="the end of the upload")
                nursery.cancel_scope.cancel()
        assert head.status_code == 200
        assert (b"connection", b"close") in head.headers
        assert received == expected(SIZE)
        assert http.heads == [b"cut off"], "what was not sent to its end never looks whole"
