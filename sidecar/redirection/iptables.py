"""The kernel's rules, read and replaced by iptables-save and iptables-restore. Blocking: a command may."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sidecar.redirection.rules import Redirection, install_text, remove_text, restore_text

PROGRAMS: Final = {4: "iptables", 6: "ip6tables"}
LOCK_SECONDS: Final = 10  # wait for another program that is changing rules, or for another one of us
RUN_SECONDS: Final = 60
SYSTEM: Final = "/usr/sbin:/sbin"  # where the programs are, whether PATH says so or not
NAMESPACE: Final = Path("/proc/thread-self/ns/net")
IPV6: Final = Path("/proc/net/if_inet6")  # is there where the kernel has IPv6

_RIGHTS: Final = ("Permission denied", "Operation not permitted", "you must be root")
_MODULES: Final = ("can't initialize", "missing kernel module", "No chain/target/match", "RULE_APPEND failed")


class CannotRedirect(Exception):
    """The rules are as they were, or the text says what is not; it says what to do next, in one line."""


def has_ipv6() -> bool:
    """Whether there is anything to capture on IPv6."""
    return IPV6.exists()


def install(redirection: Redirection, versions: Sequence[int]) -> None:
    """Install the rules for those IP versions, for all or for none. Raises CannotRedirect."""
    _replace(versions, lambda version, saved: install_text(redirection, version, saved))


def remove(versions: Sequence[int]) -> list[int]:
    """Remove what is there. Returns the IP versions that had something. Raises CannotRedirect."""
    return _replace(versions, lambda _, saved: remove_text(saved))


def _replace(versions: Sequence[int], text: Callable[[int, str], str]) -> list[int]:
    with _alone():
        return _replace_alone(versions, text)


def _replace_alone(versions: Sequence[int], text: Callable[[int, str], str]) -> list[int]:
    before = {version: _saved(version) for version in versions}  # programs, rights and modules are there
    texts = {version: written for version in versions if (written := text(version, before[version]))}
    done: list[int] = []
    for version, written in texts.items():
        try:
            _restore(version, written)
        except CannotRedirect as error:
            raise CannotRedirect(str(error) + _take_back(done, before)) from None
        done.append(version)
    return done


def _take_back(versions: Sequence[int], before: dict[int, str]) -> str:
    said = ""
    for version in versions:
        try:
            if written := restore_text(before[version], _saved(version)):
                _restore(version, written)
            said += f"; IPv{version} was taken back and is as before"
        except CannotRedirect as error:
            said += f"; IPv{version} could not be taken back and stays changed ({error})"
    return said


@contextmanager
def _alone() -> Iterator[None]:
    """While nobody else of us works in this network namespace: what was read is still so when it is written."""
    until = time.monotonic() + LOCK_SECONDS
    with NAMESPACE.open("rb") as namespace:
        while True:
            try:
                fcntl.flock(namespace, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CannotRedirect("another redirect is at work in this network namespace: try again") from None
                time.sleep(0.05)
            else:
                break
        yield  # closing it lets go of the lock


def _saved(version: int) -> str:
    return _run(version, "save", ["-t", "nat"], "")


def _restore(version: int, text: str) -> None:
    _run(version, "restore", ["--noflush", f"--wait={LOCK_SECONDS}"], text)


def _run(version: int, action: str, arguments: Sequence[str], text: str) -> str:
    name = f"{PROGRAMS[version]}-{action}"
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM}")
    if path is None:
        raise CannotRedirect(f"{name} is not installed: install the package iptables")
    try:
        finished = subprocess.run(  # noqa: S603  # a program of the system, with arguments of ours
            [path, *arguments],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=RUN_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise CannotRedirect(f"cannot run {path}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CannotRedirect(
            f"{name} did not end within {RUN_SECONDS} s: look for a program that holds the rules"
        ) from None
    if finished.returncode != 0:
        raise CannotRedirect(f"{name} failed: {_problem(version, finished.stderr)}")
    return finished.stdout


def _problem(version: int, stderr: str) -> str:
    """In one line what the program said, and what to do about it where that is known."""
    said = " ".join(stderr.split())[:500] or "it did not say why"
    if any(each in said for each in _RIGHTS):
        return f"it needs the capability NET_ADMIN, for iptables-legacy NET_RAW too: give it those ({said})"
    if any(each in said for each in _MODULES):
        table = f"{PROGRAMS[version].removesuffix('s')}_nat"
        without = "; where nothing speaks IPv6, --ip-version 4 leaves it alone" if version == 6 else ""
        return (
            f"the kernel lacks a module: load {table}, nf_nat, xt_REDIRECT and xt_owner on the node{without} ({said})"
        )
    return said
