"""A real Kubernetes API in a network of its own: etcd and kube-apiserver in one pod, without kubelets or controllers.

    cluster = Cluster.start(directory)              once per test process: the fixture `cluster`
    async with open_kube(cluster) as kube: …        tests.support.kube: objects made for one test, the fixture `kube`
    result = await cluster.kubectl("get", "pods", "-A")
    result = await cluster.helm("template", "helm/doorward")
    await cluster.route("10.78.0.9", 443, pod.ipv4, 9443)           what kube-proxy would do, for the API server
    async with cluster.api_server_away(): …                          killed, and started again at the end

The API server answers on `cluster.url` from every pod of `cluster.network`; `cluster.ca` verifies it. It gives Services
addresses of 10.78.0.0/16 and fd00:78::/112, authorizes by RBAC, and checks pods as it does anywhere (service accounts,
Pod Security). Nobody runs pods, makes EndpointSlices, deletes what a terminating namespace holds, or creates the
service account `default`: tests do what they need of it.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import trio
from attrs import define, field

from examples.demo.local_mesh import Result, json_lines
from tests.support.assets import asset
from tests.support.cluster_files import write_files
from tests.support.namespaces import Network, Pod, new_network
from tests.support.stock import missing, program

START_SECONDS = 120.0
PORT = 6443
ETCD = "http://127.0.0.1:2379"


def require_cluster() -> None:
    """Skip the test where the programs have not been built; in CI it fails."""
    for name in ("etcd", "kube-apiserver", "kubectl", "helm"):
        if not asset(name).exists():
            missing(f"{asset(name)} is not there: `make kubernetes-assets` builds it")


@define
class Cluster:
    """A running API server. `pod` holds it and etcd, `directory` their files and logs."""

    directory: Path
    network: Network
    pod: Pod
    admin_token: str = field(factory=lambda: secrets.token_hex(16), repr=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(factory=dict)

    @classmethod
    def start(cls, directory: Path) -> Self:
        """Start both programs and return when the API server is ready. Stop it in the end."""
        network = trio.run(new_network)
        try:
            cluster = cls(directory, network, trio.run(network.pod, "kubernetes"))
            write_files(directory, cluster.pod.ipv4, cluster.admin_token)
            cluster._start_etcd()
            trio.run(cluster.start_api_server)
        except BaseException:
            network.close()
            raise
        return cluster

    @property
    def url(self) -> str:
        """Where the API server answers."""
        return f"https://{self.pod.ipv4}:{PORT}"

    @property
    def ca(self) -> Path:
        """The CA of its certificate, PEM."""
        return self.directory / "ca.crt"

    @property
    def admin_token_file(self) -> Path:
        """The token of a member of system:masters."""
        return self.directory / "admin.token"

    def stop(self) -> None:
        """End both programs and the network."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self.network.close()

    async def start_api_server(self) -> None:
        """Start it and return when it is ready."""
        files = self.directory
        self._run(
            "kube-apiserver",
            f"--etcd-servers={ETCD}",
            f"--secure-port={PORT}",
            f"--advertise-address={self.pod.ipv4}",
            f"--tls-cert-file={files / 'server.crt'}",
            f"--tls-private-key-file={files / 'server.key'}",
            f"--token-auth-file={files / 'tokens.csv'}",
            f"--service-account-key-file={files / 'accounts.key'}",
            f"--service-account-signing-key-file={files / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.78.0.0/16,fd00:78::/112",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--enable-priority-and-fairness=false",
            f"--audit-policy-file={files / 'audit.json'}",
            f"--audit-log-path={files / 'lists.log'}",
        )
        with trio.move_on_after(START_SECONDS):
            while self._processes["kube-apiserver"].poll() is None:
                if (await self.kubectl("get", "--raw", "/readyz")).exit == 0:
                    return
                await trio.sleep(0.25)
        raise AssertionError(f"kube-apiserver is not ready: {self.log('kube-apiserver')[-4000:]}")

    async def kill_api_server(self) -> None:
        """End it at once, as a crash does."""
        process = self._processes.pop("kube-apiserver")
        process.send_signal(signal.SIGKILL)
        await trio.to_thread.run_sync(process.wait)

    @asynccontextmanager
    async def api_server_away(self) -> AsyncIterator[None]:
        """Without an API server for the block; ready again after it. What it had stored is still there."""
        await self.kill_api_server()
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self.start_api_server()

    def log(self, name: str) -> str:
        """What `etcd` or `kube-apiserver` has written."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def lists(self, user: str) -> Counter[str]:
        """How many lists of each kind the API server has answered to that user, such as system:serviceaccount:…"""
        asked = [each for each in json_lines(self.directory / "lists.log") if each["user"]["username"] == user]
        return Counter(each["objectRef"]["resource"] for each in asked)

    async def kubectl(self, *arguments: str, stdin: str = "", seconds: float = 60.0) -> Result:
        """Run kubectl as the administrator."""
        return await self._run_tool("kubectl", arguments, stdin, seconds)

    async def helm(self, *arguments: str, stdin: str = "", seconds: float = 120.0) -> Result:
        """Run helm as the administrator."""
        return await self._run_tool("helm", arguments, stdin, seconds)

    async def route(self, address: str, port: int, to: str, to_port: int, *, pods: Sequence[Pod] = ()) -> None:
        """Send what the API server (and `pods`) dial at a Service's address to another, as kube-proxy would."""
        tables = "ip6tables" if ":" in address else "iptables"
        target = f"[{to}]:{to_port}" if ":" in to else f"{to}:{to_port}"
        for pod in (self.pod, *pods):
            rule = ["-d", address, "-p", "tcp", "--dport", str(port), "-j", "DNAT", "--to-destination", target]
            await pod.must(program(tables), "-t", "nat", "-I", "OUTPUT", *rule)

    async def compact(self) -> None:
        """Forget all history of etcd, so that an old resourceVersion or continue token is answered by 410."""
        status = await self.pod.must(program("curl"), "-sf", "-d", "{}", f"{ETCD}/v3/maintenance/status")
        revision = status.partition('"revision":"')[2].partition('"')[0]
        body = f'{{"revision": "{revision}", "physical": true}}'
        await self.pod.must(program("curl"), "-sf", "-d", body, f"{ETCD}/v3/kv/compaction")

    def _start_etcd(self) -> None:
        data = self.directory / "etcd"
        self._run(
            "etcd",
            f"--data-dir={data}",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        )

    def _run(self, name: str, *options: str) -> None:
        """In the pod; it ends with this process however this ends."""
        tied = [program("setpriv"), "--pdeathsig", "KILL", "--", *self.pod.command([str(asset(name)), *options])]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                tied, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def _run_tool(self, name: str, arguments: Sequence[str], stdin: str, seconds: float) -> Result:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.directory / "kubeconfig"),
            "HOME": str(self.directory),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        with trio.fail_after(seconds):
            done = await trio.run_process(
                self.pod.command([str(asset(name)), *arguments]),
                stdin=stdin.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment,
            )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())
