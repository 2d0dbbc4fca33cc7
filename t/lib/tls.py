"""A certificate of its own for a test's nginx."""

import subprocess

SERVER = "ssl_certificate @DIR@/cert.pem; ssl_certificate_key @DIR@/key.pem;"


def make_certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, capture_output=True, timeout=30,
    )
