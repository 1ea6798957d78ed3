"""The reasons to refuse a certificate, seen from outside."""

from certs.errors import CertificateRefused
from mesh.policy.reasons import Reason


def test_every_refusal_has_a_code_of_its_own_that_logs_and_metrics_know() -> None:
    codes = [refusal.code for refusal in CertificateRefused.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert set(codes) <= {reason.value for reason in Reason}
