# SPDX-License-Identifier: Apache-2.0
"""Have OpenSSL make the one timestamp of the vectors that is not hand-made: ``python vectors/seal/tsa/make.py``.

It is over the signature of the vector ``p256``. OpenSSL stamps the present time with an ECDSA signature of its own, so
that every run gives another: ``response.tsr`` is kept, and this is run only where the signature of that vector changes.
"""

from __future__ import annotations

import runpy
import shutil
import tempfile
from pathlib import Path

from weighmaster.core.instant import instant_text
from weighmaster.seal.bundle import parse_bundle
from weighmaster.seal.timestamps import claimed_time, query

HERE = Path(__file__).parent


def main() -> None:
    """Make the response; keep it, its moment, and the certificate to trust."""
    pki = runpy.run_path(str(HERE.parent / "pki.py"))
    bundle = HERE.parent / "p256" / "signer-1.sigstore.json"
    value = parse_bundle(bundle.read_bytes(), bundle.name).signature.value
    with tempfile.TemporaryDirectory() as folder:
        response = pki["openssl_authority"](Path(folder) / "tsa")(query(value))
        shutil.copy(Path(folder) / "tsa" / "root.pem", HERE / "root.pem")
    (HERE / "response.tsr").write_bytes(response)
    (HERE / "moment").write_text(instant_text(claimed_time(response, value, bundle.name)) + "\n")


if __name__ == "__main__":
    main()
