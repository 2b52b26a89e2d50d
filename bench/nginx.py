"""nginx with TLS 1.3 as a peer to measure against."""

from __future__ import annotations

import subprocess
from pathlib import Path


def command(root: Path, place: Path, address: str) -> list[str]:
    """What serves the files of `root` at HOST:PORT in one process; key, certificate and configuration go to `place`."""
    key, certificate = place / "key.pem", place / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=source", "-keyout", str(key), "-out", str(certificate)],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (place / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {place}/pid; error_log {place}/error.log; user root;\n"
        f"events {{}}\nhttp {{ access_log off; server {{ listen {address} ssl; root {root};\n"
        f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; }} }}\n"
    )
    return ["nginx", "-c", str(place / "nginx.conf"), "-p", str(place)]
