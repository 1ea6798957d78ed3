"""The values inside a policy's spec: names, ports, sources and HTTP rules, each read by one function."""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network

from certs.errors import SpiffeIdMalformed
from certs.spiffe import SpiffeId, WorkloadName
from mesh.policy.fields import Node, show
from mesh.policy.model import EVERY, HttpRule, IdentitySource, Source, UnauthenticatedSource, WorkloadSource
from mesh.policy.patterns import PathPattern, PatternMalformed

MAX_NAME = 253  # as long as a Kubernetes name may be

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_FORMS = ("workload", "identity", "unauthenticated")
_Check = Callable[[Node, str], bool]


def read_name(node: Node) -> str | None:
    """A namespace, workload or policy name: one segment of a SPIFFE ID, at most MAX_NAME long."""
    name = node.text()
    if name is None:
        return None
    if name == EVERY:
        node.fault("'*' is not allowed here: write a name")
    elif not _is_segment(name):
        node.fault(f"{show(name)} is no name: write 1 to {MAX_NAME} of A-Z, a-z, 0-9, '.', '_' and '-'")
    else:
        return name
    return None


def read_workload(node: Node) -> str | None:
    """A workload's name, or `*`."""
    return EVERY if node.value == EVERY else read_name(node)


def read_ports(node: Node) -> tuple[int, ...]:
    """Port numbers, without repetition; empty where there was a fault."""
    ports: list[int] = []
    for item in node.items("port numbers") or ():
        if type(item.value) is not int or not 1 <= item.value <= 65535:
            hint = ": write it without quotes" if isinstance(item.value, str) and item.value.isdecimal() else ""
            item.fault(f"must be a port number from 1 to 65535, got {show(item.value)}{hint}")
        elif item.value in ports:
            item.fault(f"port {item.value} is listed twice")
        else:
            ports.append(item.value)
    return tuple(ports)


def read_sources(node: Node, namespace: str) -> tuple[Source, ...]:
    """The clauses of `from`. A workload clause without a namespace means `namespace`, the policy's own."""
    clauses = [_source(item, namespace) for item in node.items("callers") or ()]
    return tuple(clause for clause in clauses if clause is not None)


def read_http(node: Node) -> tuple[HttpRule, ...] | None:
    """The rules of `http`; None where there was a fault."""
    rules = [_http_rule(item) for item in node.items("rules with methods, paths or both") or ()]
    return tuple(rule for rule in rules if rule is not None) or None


def _source(node: Node, namespace: str) -> Source | None:
    fields = node.mapping(optional=(*_FORMS, "namespace", "addresses"))
    if fields is None:
        return None
    forms = [form for form in _FORMS if form in fields]
    if len(forms) > 1:
        node.fault(f"has {' and '.join(forms)}: write one of them, and another item for the other")
        return None
    if not forms:
        if "namespace" in fields:
            node.fault_at("workload", "is missing: write '*' for every workload of the namespace")
        elif "addresses" in fields:
            node.fault_at("unauthenticated", "is missing: addresses are for plaintext callers; write true")
        elif isinstance(node.value, dict) and not node.value:
            node.fault(f"is empty: write one of {', '.join(_FORMS)}")
        return None
    for key, form in (("namespace", "workload"), ("addresses", "unauthenticated")):
        if key in fields and form not in forms:
            fields[key].fault(f"goes only with {form}, not with {forms[0]}")
    if forms == ["workload"]:
        return _workload_source(fields, namespace)
    return _identity_source(fields["identity"]) if forms == ["identity"] else _unauthenticated_source(fields)


def _workload_source(fields: dict[str, Node], own: str) -> WorkloadSource | None:
    workload = read_workload(fields["workload"])
    namespace = read_name(fields["namespace"]) if "namespace" in fields else own
    return WorkloadSource(namespace, workload) if namespace is not None and workload is not None else None


def _identity_source(node: Node) -> IdentitySource | None:
    text = node.text()
    if text is None:
        return None
    try:
        return IdentitySource(SpiffeId.parse(text))
    except SpiffeIdMalformed as error:
        node.fault(f"{error}: write spiffe://<trust domain>/<path>")
        return None


def _unauthenticated_source(fields: dict[str, Node]) -> UnauthenticatedSource:
    if fields["unauthenticated"].value is not True:
        fields["unauthenticated"].fault(f"must be true, got {show(fields['unauthenticated'].value)}")
    if "addresses" not in fields:
        return UnauthenticatedSource()
    networks = [_network(item) for item in fields["addresses"].items("networks such as 10.0.0.0/8") or ()]
    return UnauthenticatedSource(tuple(network for network in networks if network is not None))


def _network(node: Node) -> IPv4Network | IPv6Network | None:
    text = node.text()
    if text is None:
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        node.fault(f"{show(text)} is no network: write one such as 10.0.0.0/8 or fd00::/8")
        return None
    if "%" in text:
        node.fault(f"{show(text)} has an interface: write the network without it")
        return None
    if str(network) != text and str(network.network_address) != text:
        node.fault(f"{show(text)} is not in its one form: write {network}")
        return None
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        node.fault(f"{show(text)} maps IPv4 addresses into IPv6: write the IPv4 network")
        return None
    return network


def _http_rule(node: Node) -> HttpRule | None:
    fields = node.mapping(optional=("methods", "paths"))
    if fields is None:
        return None
    if isinstance(node.value, dict) and not node.value:
        node.fault("is empty: write methods, paths or both; for any HTTP request write paths: ['/*']")
    methods = _each(fields.get("methods"), "methods such as GET", _method)
    paths = _each(fields.get("paths"), "paths such as /charges/{id}", _pattern)
    return HttpRule(methods, paths)


def _each(node: Node | None, what: str, check: _Check) -> tuple[str, ...]:
    texts: list[str] = []
    for item in (node.items(what) if node else None) or ():
        text = item.text()
        if text is None or not check(item, text):
            continue
        if text in texts:
            item.fault(f"{show(text)} is listed twice")
        texts.append(text)
    return tuple(texts)


def _method(node: Node, text: str) -> bool:
    if _METHOD.fullmatch(text):
        return True
    if text == "*":
        node.fault("'*' is no method: leave methods out to mean any method")
    elif _METHOD.fullmatch(text.upper()):
        node.fault(f"{show(text)} must be in upper case: write {text.upper()}")
    else:
        node.fault(f"{show(text)} is no HTTP method: write one such as GET")
    return False


def _pattern(node: Node, text: str) -> bool:
    try:
        PathPattern.parse(text)
    except PatternMalformed as error:
        node.fault(str(error))
        return False
    return True


def _is_segment(name: str) -> bool:
    try:
        WorkloadName(name, name)
    except SpiffeIdMalformed:
        return False
    return len(name) <= MAX_NAME
