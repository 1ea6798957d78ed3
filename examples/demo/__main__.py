"""`make demo`: a mesh of three workloads on this machine, narrated. `--once` exits 0 only if all went well."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import httpx2
import trio
from rich.console import Console

from examples.demo import scenario
from examples.demo.local_mesh import StartFailed, open_local_mesh

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last one where the terminal's window is closed


async def demo(console: Console, *, once: bool) -> int:
    """Play the scenario; without `once`, stay up until a signal comes. Returns the exit code."""
    began = trio.current_time()
    with tempfile.TemporaryDirectory(prefix="doorward-demo-") as directory:
        client = httpx2.AsyncClient(timeout=scenario.SECONDS, trust_env=False)
        async with client, open_local_mesh(Path(directory)) as mesh:
            shop = scenario.Shop(mesh, console, client)
            await scenario.run(shop)
            if shop.failures:
                console.print(f"\n[red]{len(shop.failures)} of the demo's expectations did not come out.[/red]")
                for process in mesh.processes:
                    console.print(f"--- {process.name}\n{process.tail()}", markup=False, highlight=False)
                return 1
            console.print(f"\n[green]Every step came out as expected[/green] ({trio.current_time() - began:.1f} s).")
            if not once:
                _invite(shop)
                await trio.sleep_forever()
    return 0


def _invite(shop: scenario.Shop) -> None:
    mesh, doorward = shop.mesh, Path(sys.executable).with_name("doorward")
    shop.title("The mesh is yours. From another terminal:")
    check = "policy check --from shop/frontend --to shop/payments:8080 --request 'POST /charges'"
    for line in (
        f"export DOORWARD_ADMIN={mesh.state / 'admin.sock'}",
        f"{doorward} sidecars",
        f"{doorward} policy get",
        f"{doorward} {check}",
        f"curl -i -X POST {shop.sidecars['checkout'].url('shop/payments:8080')}/charges # as checkout: allowed",
        f"curl -i -X POST {shop.sidecars['frontend'].url('shop/payments:8080')}/charges # as frontend: denied",
        f"{doorward} policy delete checkout-calls-payments # then try checkout again",
        f"{doorward} policy apply -f {scenario.PAYMENTS_POLICY} # and give it back",
        f"curl -s http://{shop.sidecars['payments'].observe}/config # what it enforces",
        f"tail -f {shop.sidecars['payments'].output} # its access log",
    ):
        shop.say(line)
    shop.title("Ctrl-C ends it.")


async def until_signalled(console: Console, *, once: bool) -> int:
    """Run the demo, and take it down in order when a signal comes."""
    exit_code = 0
    async with trio.open_nursery() as nursery:

        async def watch(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(*ENDS) as signals:
                task_status.started()
                async for _ in signals:
                    nursery.cancel_scope.cancel()  # first: a terminal that went away takes no more words
                    console.print("\nstopping …")

        await nursery.start(watch)
        exit_code = 1 if once else 0  # what a run that was interrupted says
        exit_code = await demo(console, once=once)
        nursery.cancel_scope.cancel()
    return exit_code


def main() -> int:
    """Read the one option and run."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="play the scenario once, then exit: 0 if all came out well")
    once = parser.parse_args().once
    console = Console(soft_wrap=True)
    exit_code = 1
    try:
        exit_code = trio.run(lambda: until_signalled(console, once=once))
    except* StartFailed as failed:
        for error in failed.exceptions:
            console.print(str(error), markup=False, highlight=False)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
