"""Where what the tests of this room run on cannot be kept, `make kubernetes-assets` says so, and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import kept
from tests.support.assets import ROOT


@pytest.mark.parametrize("home", ["/proc", "/dev/null"], ids=["nothing can be made there", "no directory"])
def test_a_home_that_cannot_be_written_to_is_said_with_what_to_do(home: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.assets"],
        cwd=ROOT, env={**os.environ, "HOME": home, "KUBEBUILDER_ASSETS": str(tmp_path)},
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{home}/.cache/doorward cannot be written to: ")
    assert "HOME=DIR make kubernetes-assets" in line


def test_a_cache_that_cannot_be_written_to_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", Path("/proc/self"))
    with pytest.raises(kept.CannotMake, match="/proc/self cannot be written to"):
        kept.keep("something", lambda into: pytest.fail("it was made"))
