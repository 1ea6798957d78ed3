"""A client's sidecar and a server's, live, with everything allowed between them.

async with serving(echoing) as tcp, serving(answering) as http:
    pair = await start_pair(mesh, tcp=tcp, http=http)
    await connect(pair.tcp); pair.client; pair.server
"""

from attrs import frozen

from examples.demo.local_mesh import LocalMesh, Sidecar
from tests.support.applications import Application
from tests.support.policies import allow_policy, apply
from tests.support.processes import Memory

HTTP_PORT, TCP_PORT = 8080, 5432  # what policies call the applications' ports


@frozen
class Pair:
    """shop/checkout, who calls, and shop/payments, who is called."""

    client: Sidecar
    server: Sidecar

    @property
    def both(self) -> tuple[Sidecar, Sidecar]:
        """The client's, the server's."""
        return self.client, self.server

    @property
    def http(self) -> str:
        """The client's door to the HTTP application."""
        return self.client.outbound[f"shop/payments:{HTTP_PORT}"]

    @property
    def tcp(self) -> str:
        """The client's door to the TCP application."""
        return self.client.outbound[f"shop/payments:{TCP_PORT}"]

    def memory(self) -> tuple[Memory, Memory]:
        """The client's, the server's."""
        return Memory.of(self.client), Memory.of(self.server)


async def start_pair(
    mesh: LocalMesh, *options: str, http: Application | None = None, tcp: Application | None = None
) -> Pair:
    """Start both with these options, and return once the policy between them is enforced."""
    guarded = [(HTTP_PORT, "http", http), (TCP_PORT, "tcp", tcp)]
    ports = [(port, protocol, application.port) for port, protocol, application in guarded if application is not None]
    inbound = [f"127.0.0.1:0=127.0.0.1:{real}/{protocol},port={port}" for port, protocol, real in ports]
    outbound = [f"127.0.0.1:0=shop/payments:{port}" for port, _, _ in ports]
    server = await mesh.start_sidecar("shop/payments", *options, inbound=inbound)
    client = await mesh.start_sidecar("shop/checkout", *options, outbound=outbound)
    policy = allow_policy("checkout", "payments", HTTP_PORT, http=False)
    policy["spec"]["to"]["ports"] = [port for port, _, _ in ports]
    await apply(mesh, policy)
    return Pair(client, server)
