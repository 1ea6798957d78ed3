"""Reason codes: complete, and each with its words and its line of advice."""

import re
from pathlib import Path

import pytest

from certs.errors import CertificateRefused
from mesh.policy import Reason

ROOT = Path(__file__).parents[3]
PAGE, _, CERTIFICATES = (ROOT / "docs/reasons.md").read_text().partition("\n# When a certificate is refused\n")

RAISED = re.compile(r"""(?:code=|Refused\(\s*|_refusal\(|_show_out\(message, )"([a-z]+_[a-z_]+|banned)\"""")
ISSUING = ("push/attest.py", "push/visit.py", "kubernetes/token_review.py", "store/tokens.py")


def test_every_reason_has_a_row_with_its_text_and_advice() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {code: text for code, text, _ in rows} == {reason.value: reason.text for reason in Reason}
    assert all(len(advice) > 10 or advice.startswith("nothing") for _, _, advice in rows)


def test_every_refusal_of_a_certificate_has_a_row_with_advice() -> None:
    said = "".join((ROOT / "control_plane" / path).read_text() for path in ISSUING)
    codes = set(re.findall(RAISED, said))
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", CERTIFICATES, re.MULTILINE)
    assert {code for code, _ in rows} == codes - {"bad_token"}
    assert all(len(advice) > 10 for _, advice in rows)


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_pages_that_show_an_answer_quote_it_as_it_is(page: str) -> None:
    quoted = re.findall(r"^ +reason   (\w+): (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert quoted == [(code, Reason(code).text) for code, _ in quoted]
    assert quoted


def test_the_guide_names_no_reason_that_nobody_gives() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", (ROOT / "docs/kubernetes.md").read_text()))
    assert named
    assert named <= set(re.findall(r"^\| `(\w+)` \|", PAGE + CERTIFICATES, re.MULTILINE))


def _leaves(kind: type[CertificateRefused]) -> list[type[CertificateRefused]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


@pytest.mark.parametrize("refusal", _leaves(CertificateRefused)[1:])
def test_every_refused_certificate_has_its_reason(refusal: type[CertificateRefused]) -> None:
    assert Reason(refusal.code).value == refusal.code
