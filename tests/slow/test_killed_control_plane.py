"""Killed at random moments of `policy apply`, the control plane comes back with the old policies or the new ones.

Never with a part of either; the audit chain verifies; and what the command line said of the change was true.
"""

import json
import random

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
    began = trio.current_time()
    assert (await _apply(mesh, 0)).exit == 0
    earliest, latest = 0.0, (trio.current_time() - began) * 1.5
    held, answers = 0, []
    for generation in range(1, MOST_ROUNDS + 1):
        if generation > ROUNDS and answers:
            break
        delay = draw.uniform(earliest, latest)
        said = await _apply_and_kill(mesh, generation, delay)
        await mesh.start_control_plane()
        found = await _generation(mesh)
        verified = await mesh.doorward("audit", "verify")
        assert verified.exit == 0, verified.err
        if said.exit == 0:
            assert found == generation
            earliest, latest = min(earliest, delay / 2), max(delay, latest * 0.8)  # it was over: come sooner next time
        elif NOBODY in said.err:
            assert (said.exit, found) == (2, held)
            earliest, latest = min(delay, latest / 2), max(latest, delay * 1.5)  # it had not begun: come later
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


async def _apply_and_kill(mesh: LocalMesh, generation: int, delay: float) -> Result:
    """Apply, and kill the control plane `delay` seconds after the beginning. What the command line said."""
    said: list[Result] = []

    async def apply() -> None:
        said.append(await _apply(mesh, generation))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(apply)
        await trio.sleep(delay)
        assert mesh.control_plane is not None
        await mesh.control_plane.stop(9)
    return said[0]


async def _generation(mesh: LocalMesh) -> int:
    """Which generation is stored; fails where that is a mixture."""
    stored = (await mesh.admin(lambda client: client.get("/v1/policies")))["policies"]
    ports = {port for each in stored for port in each["document"]["spec"]["to"]["ports"]}
    assert len(stored) == POLICIES
    assert len(ports) == 1, ports
    return int(ports.pop()) - 1000
