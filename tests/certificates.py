"""A certificate authority of the tests' own, and a certificate for the loopback names, made by `openssl`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "DNS:localhost,IP:127.0.0.1,IP:::1"
VALID_DAYS = "30"


@dataclass(frozen=True)
class Certificates:
    """PEM files, which any user may read: servers drop their privileges, some before they read them."""

    authority: Path
    """What a client trusts."""
    certificate: Path
    key: Path


def issue_certificates(folder: Path) -> Certificates:
    """Make an authority, and a certificate for 127.0.0.1, ::1 and localhost that it has signed.

    Raises:
        RuntimeError: `openssl` refused, with what it said.
    """
    issued = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority_key = folder / "authority-key.pem"
    # Elliptic curves: a thousand handshakes cost a second, not ten.
    new = (
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        VALID_DAYS,
    )
    _openssl(
        *(*new, "-subj", "/CN=wirespan tests", "-keyout", str(authority_key), "-out", str(issued.authority)),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    _openssl(
        *(*new, "-subj", "/CN=localhost", "-keyout", str(issued.key), "-out", str(issued.certificate)),
        *("-CA", str(issued.authority), "-CAkey", str(authority_key)),
        *("-addext", f"subjectAltName={NAMES}", "-addext", "basicConstraints=critical,CA:FALSE"),
    )
    for file in (issued.authority, issued.certificate, issued.key):
        file.chmod(0o644)
    return issued


def _openssl(*arguments: str) -> None:
    ran = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}:\n{ran.stderr}")
