"""Hypothesis strategies for what was good once.

mutated(good)   bytes after a few of them were flipped, cut, repeated or overwritten
nonsense()      certificate extensions with mutated values, for `Template.extra`
"""

from cryptography import x509
from hypothesis import strategies as st

from tests.support.pki import Pki

OF_OTHER_CAS: list[x509.ExtensionType] = [
    x509.NameConstraints([x509.UniformResourceIdentifier("cluster.local")], None),
    x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["https://a.example"])]),
    x509.PolicyConstraints(0, 1),
    x509.InhibitAnyPolicy(0),
    x509.TLSFeature([x509.TLSFeatureType.status_request]),
    x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier("http://a.example")], None, None, None)]
    ),
]
GOOD_EXTENSIONS = {
    value.oid: value.public_bytes() for value in (*(each.value for each in Pki().svid().leaf.extensions), *OF_OTHER_CAS)
}
Nonsense = tuple[tuple[x509.ExtensionType, bool], ...]


def mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """`good` after one to four small changes; now and then they cancel out."""
    position = st.integers(0, len(good) - 1)
    change = st.tuples(st.sampled_from(["set", "flip", "cut", "repeat", "insert"]), position, st.integers(0, 255))
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: _apply(good, changes))


def _apply(good: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    data = bytearray(good)
    for kind, at, value in changes:
        match kind:
            case "set" if at < len(data):
                data[at] = value
            case "flip" if at < len(data):
                data[at] ^= 1 << (value % 8)
            case "cut":
                del data[at : at + 1 + value % 16]
            case "repeat":
                data[at:at] = data[at : at + 1 + value % 16]
            case "insert":
                data[at:at] = bytes([value])
    return bytes(data)


@st.composite
def nonsense(draw: st.DrawFn) -> Nonsense:
    """One to three extensions with mutated values, critical or not."""
    oids = draw(st.lists(st.sampled_from(list(GOOD_EXTENSIONS)), min_size=1, max_size=3, unique=True))
    return tuple(
        (
            x509.UnrecognizedExtension(oid, draw(mutated(GOOD_EXTENSIONS[oid]) | st.binary(max_size=40))),
            draw(st.booleans()),
        )
        for oid in oids
    )
