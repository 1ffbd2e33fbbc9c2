"""A small OpenID Connect provider on loopback: discovery, keys, and whatever access tokens a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class OidcProvider:
    """Who signs. `issuer` is also its address."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.asked: list[str] = []

    def documents(self) -> dict[str, Any]:
        """What it serves."""
        described = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_PRIVATE.public_key()))
        discovery = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        keys = {"keys": [described | {"kid": "first", "use": "sig", "alg": "RS256"}, {"kty": "odd", "kid": "odd"}]}
        return {"/.well-known/openid-configuration": discovery, "/keys": keys}

    def access_token(
        self, *, key: Any = _PRIVATE, kid: str = "first", algorithm: str = "RS256", seconds: int = 300, **claims: Any
    ) -> str:
        """A token of `alice`, in groups, for this cloud; claims change that, None takes one away."""
        said = {"iss": self.issuer, "aud": "kilonova", "sub": "a1", "preferred_username": "alice"}
        said |= {"email": "alice@example.org", "groups": ["staff", "ops", "chess"], "exp": int(time.time()) + seconds}
        said |= claims
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid})


@contextmanager
def oidc_provider() -> Iterator[OidcProvider]:
    """A provider that answers while the test runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            document = provider.documents().get(self.path)
            self.send_response(200 if document else 404)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document or {}).encode())

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = OidcProvider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
