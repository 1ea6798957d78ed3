"""A control plane killed at random moments of its answer to `policy apply` comes back with the old policies or the new.

Never with a part of either; the audit chain verifies; and what the command line said of the change was true.
"""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from examples.demo.local_mesh import LocalMesh, Result
from tests.support.policies import allow_policy

POLICIES = 200
ROUNDS = 6
MOST_ROUNDS = 30  # where none of the first ones came between the question and its answer
SEED = 20251122
MAYBE = "A change may have been stored all the same"
NOBODY = "no control plane"


async def test_whenever_it_is_killed_a_change_happened_whole_or_not_at_all(mesh: LocalMesh) -> None:
    draw = random.Random(SEED)
    async with _answering(mesh, 0) as said:
        began = trio.current_time()
    assert said[0].exit == 0
    latest = trio.current_time() - began
    held, answers = 0, []
    for generation in range(1, MOST_ROUNDS + 1):
        if generation > ROUNDS and answers:
            break
        delay = draw.uniform(0, latest)
        async with _answering(mesh, generation) as answer:
            await trio.sleep(delay)
            assert mesh.control_plane is not None
            await mesh.control_plane.stop(9)
        (said,) = answer
        await mesh.start_control_plane()
        found = await _generation(mesh)
        verified = await mesh.doorward("audit", "verify")
        assert verified.exit == 0, verified.err
        if said.exit == 0:
            assert found == generation
            latest = delay  # it was over: come sooner next time
        elif NOBODY in said.err:
            assert (said.exit, found) == (2, held)
        else:
            assert said.exit == 2
            assert MAYBE in said.err, said
            assert found in (held, generation)
            answers.append(found == generation)
        held = found
    assert answers, "no kill came between the question and its answer: nothing was tried"


async def _apply(mesh: LocalMesh, generation: int) -> Result:
    """Every policy once more, with a port that tells the generation."""
    directory = mesh.directory / f"generation-{generation}"
    directory.mkdir()
    for number in range(POLICIES):
        policy = allow_policy(f"caller-{number}", "payments", 1000 + generation)
        (directory / f"{number}.yaml").write_text(json.dumps(policy))  # JSON is YAML
    return await mesh.doorward("policy", "apply", "-f", str(directory))


@asynccontextmanager
async def _answering(mesh: LocalMesh, generation: int) -> AsyncIterator[list[Result]]:
    """The block begins when the control plane has been asked, and ends when the command line has said something."""
    said: list[Result] = []

    async def apply() -> None:
        said.append(await _apply(mesh, generation))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(apply)
        while not said and not _is_asked(mesh):
            await trio.sleep(0.001)
        yield said


def _is_asked(mesh: LocalMesh) -> bool:
    """Whether anybody is connected to the admin socket: the kernel lists it once more for each."""
    return Path("/proc/net/unix").read_text().count(f" {mesh.state / 'admin.sock'}\n") > 1


async def _generation(mesh: LocalMesh) -> int:
    """Which generation is stored; fails where that is a mixture."""
    stored = (await mesh.admin(lambda client: client.get("/v1/policies")))["policies"]
    ports = {port for each in stored for port in each["document"]["spec"]["to"]["ports"]}
    assert len(stored) == POLICIES
    assert len(ports) == 1, ports
    return int(ports.pop()) - 1000
