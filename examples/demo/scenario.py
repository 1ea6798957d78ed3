"""What the demo does, step by step: every step makes real calls and says whether it came out as expected."""

import json
import socket
import ssl
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import trio
from attrs import define, field
from rich.console import Console

from examples.demo.local_mesh import LocalMesh, Result, Sidecar, http_get, wait_for

EXAMPLES = Path(__file__).parent.parent
PAYMENTS_POLICY = EXAMPLES / "shop" / "payments.yaml"
CHARGE = {"amount": 4200, "currency": "EUR"}
CALLS = {"payments": (), "checkout": ("payments",), "frontend": ("checkout", "payments")}
SECONDS = 30  # for what takes a moment, also on a machine that is busy


@define
class Shop:
    """The demo's three workloads, each behind a sidecar of its own, and the narration of what happens to them."""

    mesh: LocalMesh
    console: Console
    client: httpx2.AsyncClient
    sidecars: dict[str, Sidecar] = field(factory=dict)
    applications: dict[str, str] = field(factory=dict)
    failures: list[str] = field(factory=list)

    def title(self, text: str) -> None:
        """Open a step."""
        self.console.print(f"\n[bold]{text}[/bold]")

    def say(self, text: str) -> None:
        """Tell a fact, as it is: no markup is read from it."""
        self.console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def expect(self, what: str, *, came_out: bool, got: object = "") -> None:
        """Check one expectation. A failed one fails the whole demo, which goes on to show the rest."""
        mark = "[green]✓[/green]" if came_out else "[red]✗[/red]"
        self.console.print(f"  {mark} ", end="")
        self.console.print(what if came_out else f"{what}: got {got}", markup=False, highlight=False, soft_wrap=True)
        if not came_out:
            self.failures.append(what)

    async def start_workload(self, name: str, *, calls: tuple[str, ...]) -> None:
        """Start a sidecar and then the application behind it, which is handed its listening socket."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            sidecar = await self.mesh.start_sidecar(
                f"shop/{name}",
                "--drain-timeout",
                "2s",
                inbound=[f"127.0.0.1:0=127.0.0.1:{port}/http,port=8080"],
                outbound=[f"127.0.0.1:0=shop/{each}:8080" for each in calls],
            )
            upstreams = [f"--upstream={each}={sidecar.url(f'shop/{each}:8080')}" for each in calls]
            command = [sys.executable, "-m", "examples.demo.workload", "--name", name, f"--fd={listening.fileno()}"]
            self.mesh.start(f"{name}-application", [*command, *upstreams], pass_fds=[listening.fileno()])
        self.sidecars[name] = sidecar
        self.applications[name] = f"http://127.0.0.1:{port}"

    async def post(self, url: str) -> tuple[int, Any]:
        """POST a charge from outside any process of the mesh: status and decoded body."""
        response = await self.client.post(url, json=CHARGE)
        return response.status_code, response.json()

    async def buy(self) -> tuple[int, Any]:
        """A shopper's call: frontend → checkout → payments, through four sidecars on the way."""
        return await self.post(f"{self.applications['frontend']}/call/checkout/call/payments/charges")

    async def checkout_charges(self) -> tuple[int, Any]:
        """checkout's own call: checkout → payments."""
        return await self.post(f"{self.applications['checkout']}/call/payments/charges")

    async def frontend_charges(self) -> tuple[int, Any]:
        """The call that nobody allowed: frontend → payments."""
        return await self.post(f"{self.applications['frontend']}/call/payments/charges")


async def run(shop: Shop) -> None:
    """Play every step in order."""
    for step in (start, closed_by_default, allowed, denied, unauthenticated, change_while_running, certificates):
        await step(shop)


async def start(shop: Shop) -> None:
    """Control plane, then three workloads that prove who they are with one-time tokens."""
    shop.title("1. A control plane, and three workloads with a sidecar each")
    began = trio.current_time()
    await shop.mesh.start_control_plane()
    shop.say(f"control plane with an embedded store on {shop.mesh.address}: {trio.current_time() - began:.1f} s")
    async with trio.open_nursery() as nursery:
        for name, calls in CALLS.items():
            nursery.start_soon(_start_workload, shop, name, calls)
    for name in CALLS:
        await _introduced(shop, name)
    shop.expect("three sidecars attested with one-time tokens and are ready", came_out=True)


async def closed_by_default(shop: Shop) -> None:
    """Without a policy nothing may talk."""
    shop.title("2. Nothing is allowed until a policy says so")
    status, answer = await shop.checkout_charges()
    refusal = answer.get("got", {})
    shop.say(f"checkout → POST payments/charges: {status} {json.dumps(refusal)}")
    shop.expect("refused: the default is deny", came_out=(status, refusal.get("error")) == (403, "denied"), got=answer)


async def allowed(shop: Shop) -> None:
    """The policy set of examples/shop, and the call that it allows."""
    shop.title("3. doorward policy apply -f examples/shop")
    result = await shop.mesh.doorward(
        "policy", "apply", "-f", str(EXAMPLES / "shop"), "-m", "open the shop", "--wait", str(SECONDS)
    )
    _narrate(shop, result)
    shop.expect(
        "the policies are stored and every sidecar concerned enforces them", came_out=result.exit == 0, got=result
    )
    status, answer = await shop.buy()
    receipt = answer.get("got", {}).get("got", {})
    shop.say(f"frontend → checkout → POST payments/charges: {status}")
    shop.say(f"payments was told, from the certificate: {receipt.get('caller')}")
    proven = "URI=spiffe://cluster.local/ns/shop/sa/checkout" in str(receipt.get("caller"))
    shop.expect("allowed, and payments knows that checkout is calling", came_out=status == 201 and proven, got=answer)


async def denied(shop: Shop) -> None:
    """The call that no policy allows, and why: from the answer, the log and the command line alike."""
    shop.title("4. A refusal explains itself")
    status, answer = await shop.frontend_charges()
    refusal = answer.get("got", {})
    shop.say(f"frontend → POST payments/charges: {status} {json.dumps(refusal)}")
    shop.expect("denied with a reason and a decision id", came_out=status == 403 and "decision" in refusal, got=answer)
    payments = shop.sidecars["payments"]
    record = await wait_for(
        lambda: [each for each in payments.records() if each.get("decision") == refusal.get("decision")],
        what="the log line of the decision",
    )
    shop.say(f"the log line of payments' sidecar: {json.dumps(record[0])}")
    shop.expect("the operator finds the decision by its id", came_out=len(record) == 1, got=record)
    check = await shop.mesh.doorward(
        "policy", "check", "--from", "shop/frontend", "--to", "shop/payments:8080", "--request", "POST /charges"
    )
    shop.say('doorward policy check --from shop/frontend --to shop/payments:8080 --request "POST /charges"')
    _narrate(shop, check)
    same = check.exit == 1 and str(refusal.get("reason")) in check.out
    shop.expect("the tool gives the sidecar's answer: both call the same function", came_out=same, got=check)


async def unauthenticated(shop: Shop) -> None:
    """Callers without a certificate of the mesh."""
    shop.title("5. A caller who cannot prove who it is")
    payments = shop.sidecars["payments"]
    host, _, port = payments.inbound[8080].rpartition(":")
    outcome = await trio.to_thread.run_sync(_call_without_certificate, host, int(port))
    shop.say(f"TLS without a certificate to payments' sidecar: {outcome}")
    record = await wait_for(
        lambda: [each for each in payments.records() if each.get("reason") == "certificate_missing"],
        what="the log line of the refusal",
    )
    shop.expect(f"refused, and logged as {record[0]['reason']}", came_out=outcome.startswith("refused"), got=outcome)


async def change_while_running(shop: Shop) -> None:
    """A policy taken away and given back, and how long each took to be enforced."""
    shop.title("6. A policy change reaches the running mesh")
    removed = await _timed(shop, 403, "policy", "delete", "checkout-calls-payments")
    shop.expect(f"policy delete checkout-calls-payments: refused {removed}", came_out=removed != "")
    restored = await _timed(shop, 201, "policy", "apply", "-f", str(PAYMENTS_POLICY), "-m", "let checkout charge again")
    shop.expect(f"policy apply -f {PAYMENTS_POLICY.name}: allowed {restored}", came_out=restored != "")


async def certificates(shop: Shop) -> None:
    """Who is in the mesh, until when."""
    shop.title("7. doorward sidecars")
    _narrate(shop, await shop.mesh.doorward("sidecars"))
    listed = (await shop.mesh.doorward("sidecars", "-o", "json")).json()
    identities = {each["identity"] for each in listed["sidecars"]}
    wanted = {f"spiffe://cluster.local/ns/shop/sa/{name}" for name in shop.sidecars}
    shop.expect("three identities, three short-lived certificates", came_out=identities == wanted, got=listed)


async def _start_workload(shop: Shop, name: str, calls: tuple[str, ...]) -> None:
    await shop.start_workload(name, calls=calls)


async def _introduced(shop: Shop, name: str) -> None:
    """Return once this sidecar knows where those are whom it calls: it may have been ready before they were."""
    with trio.fail_after(SECONDS):
        while True:
            with suppress(OSError):  # let go by a sidecar that stood still
                _, config = await http_get(shop.sidecars[name].observe, "/config")
                known = {each["workload"] for each in json.loads(config)["snapshot"]["endpoints"]}
                if {f"shop/{each}" for each in CALLS[name]} <= known:
                    return
            await trio.sleep(0.02)


async def _timed(shop: Shop, status: int, *command: str) -> str:
    """Run the command while checkout keeps charging; say when the first call came out with the new `status`."""
    enforced_at: list[datetime] = []

    async def keep_charging() -> None:
        while (await shop.checkout_charges())[0] != status:
            await trio.sleep(0.002)
        enforced_at.append(datetime.now(UTC))

    with trio.move_on_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_charging)
            result = await shop.mesh.doorward(*command, "-o", "json")
            if result.exit:
                _narrate(shop, result)
                nursery.cancel_scope.cancel()
    if not enforced_at:
        return ""
    stored_at = datetime.fromisoformat(result.json()["time"])
    return f"{(enforced_at[0] - stored_at).total_seconds() * 1000:.0f} ms after it was stored"


def _call_without_certificate(host: str, port: int) -> str:
    """A stock TLS client that trusts anyone and proves nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["doorward-http/1"])
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as plain, context.wrap_socket(plain) as tls:
            tls.sendall(b"POST /charges HTTP/1.1\r\nHost: payments\r\nContent-Length: 0\r\n\r\n")
            return f"answered: {tls.recv(100)!r}"
    except OSError as error:
        return f"refused: {error}"


def _narrate(shop: Shop, result: Result) -> None:
    for line in (result.out + result.err).rstrip().splitlines():
        shop.say(f"  {line}")
