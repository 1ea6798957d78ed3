"""Keys and tokens: one key per certificate, kept until it is answered; the token read anew, and never shown."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from certs.keys import fingerprint
from certs.svid import Svid
from mesh.wire import Certificate
from sidecar.enrolment import Enrolment, IdentityRefused, Tokens, TokenUnreadable, renewal_due
from tests.support.patience import PATIENCE
from tests.support.pki import HOUR, Pki
from tests.support.simulator import TOKEN, WORKLOAD, Simulator

PKI = Pki()
OWN = WORKLOAD.in_domain(PKI.domain)


def answered(enrolment: Enrolment, pki: Pki = PKI) -> Certificate:
    answer = Simulator(pki, clock=lambda: PKI.now)._certificate(enrolment.request(TOKEN), None)
    assert isinstance(answer, Certificate)
    return answer


def test_a_request_is_repeated_with_the_same_key_until_it_is_answered() -> None:
    enrolment = Enrolment(OWN)
    first = enrolment.request("one")
    assert enrolment.request("two").csr == first.csr
    svid, roots = enrolment.accept(answered(enrolment), PKI.bundle, PKI.now)
    assert svid.id == OWN
    assert roots == PKI.bundle
    assert enrolment.request("three").csr != first.csr


def test_a_refused_answer_keeps_the_key() -> None:
    enrolment = Enrolment(OWN)
    csr = enrolment.request(None).csr
    good = answered(enrolment)
    spoilt = {
        "another's key": evolve(good, chain=PKI.svid().chain_der()),
        "garbage": evolve(good, chain=(b"garbage",)),
        "garbage roots": evolve(good, roots=(b"garbage",)),
        "another authority": answered_by_another(enrolment),
    }
    for name, answer in spoilt.items():
        with pytest.raises(IdentityRefused):
            enrolment.accept(answer, PKI.bundle, PKI.now)
        assert enrolment.request(None).csr == csr, name


def answered_by_another(enrolment: Enrolment) -> Certificate:
    return evolve(answered(enrolment, Pki(now=PKI.now)), roots=PKI.bundle.to_der())


def test_an_answer_that_is_not_valid_now_is_refused() -> None:
    enrolment = Enrolment(OWN)
    answer = answered(enrolment)
    with pytest.raises(IdentityRefused, match="expired"):
        enrolment.accept(answer, PKI.bundle, PKI.now + 2 * HOUR)


@given(st.integers(1, 10**6))
def test_renewal_is_due_about_half_way(seconds: int) -> None:
    svid = SimpleNamespace(not_after=PKI.now + timedelta(seconds=seconds))
    due = renewal_due(svid, PKI.now)  # type: ignore[arg-type]  # only its end matters
    assert 0.44 * seconds <= (due - PKI.now).total_seconds() <= 0.56 * seconds


def test_what_is_over_is_due_at_once() -> None:
    svid = PKI.svid()
    assert renewal_due(svid, svid.not_after + HOUR) == svid.not_after + HOUR


async def test_the_token_file_is_read_at_every_call(tmp_path: Path) -> None:
    file = tmp_path / "token"
    tokens = Tokens(str(file))
    for text in ("dwt_one", "dwt_two"):
        file.write_text(f"  {text}\n")
        assert await tokens.read() == text


async def test_standard_input_is_read_once_and_remembered() -> None:
    reading, writing = os.pipe()
    tokens = Tokens("-", stdin=reading)
    for piece in (b"dwt_", b"one\n"):
        os.write(writing, piece)
    os.close(writing)
    assert [await tokens.read(), await tokens.read()] == ["dwt_one", "dwt_one"]
    os.close(reading)


def test_a_program_that_still_waits_for_standard_input_can_end() -> None:
    program = (
        "import trio\n"
        "from sidecar.enrolment import Tokens\n"
        "async def main():\n"
        "    with trio.move_on_after(0.3):\n"
        "        await Tokens('-').read()\n"
        "trio.run(main)\n"
    )
    reading, writing = os.pipe()  # nobody writes, and nobody ends it
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, stdin=reading, capture_output=True, timeout=PATIENCE, check=False)
    os.close(reading)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("content", [b"", b"  \n", b"two\nlines", b"\xff\xfe", b"x" * 20_000])
async def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(TokenUnreadable, match="token file") as caught:
        await Tokens(str(file)).read()
    assert "lines" not in str(caught.value).removeprefix("the token file").replace(str(file), "")


async def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenUnreadable, match="No such file"):
        await Tokens(str(tmp_path / "none")).read()


def test_every_certificate_has_a_key_of_its_own() -> None:
    enrolment = Enrolment(OWN)
    keys = set()
    for _ in range(3):
        svid, _ = enrolment.accept(answered(enrolment), PKI.bundle, PKI.now)
        assert isinstance(svid, Svid)
        keys.add(fingerprint(svid.key.public_key()))
    assert len(keys) == 3
