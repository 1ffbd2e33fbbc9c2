"""Small S3 and Swift servers for the contract test: objects in memory, signatures and tokens really checked."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

ACCESS, SECRET = "access", "secret/with+signs"


class Objects:
    """What a server keeps."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.manifests: dict[str, str] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    kept: Objects

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def ranged(self, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        part = data[int(wanted[1]) : int(wanted[2]) + 1] if wanted else data
        self.answer(206 if wanted else 200, part)

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


class S3Handler(_Handler):
    """Path-style S3: PUT, GET, DELETE, multipart; the signature is computed anew from what arrived."""

    def do_PUT(self) -> None:
        self._serve()

    do_GET = do_DELETE = do_POST = do_PUT

    def _serve(self) -> None:
        body, parts = self.body(), urlsplit(self.path)
        if not self._is_signed(body, parts.path, parts.query):
            return self.answer(403, b"<Error>SignatureDoesNotMatch</Error>")
        query, key = dict(parse_qsl(parts.query, keep_blank_values=True)), unquote(parts.path)
        upload = self.kept.uploads.get(query.get("uploadId", ""))
        if self.command == "POST" and "uploads" in query:
            name = f"u{len(self.kept.uploads) + 1}-{key.rpartition('/')[2]}"
            self.kept.uploads[name] = {}
            return self.answer(200, f"<X><UploadId>{name}</UploadId></X>".encode())
        if self.command == "PUT" and upload is not None:
            upload[int(query["partNumber"])] = body
            return self.answer(200, etag=f'"{hashlib.md5(body).hexdigest()}"')
        if self.command == "POST" and upload is not None:
            self.kept.objects[key] = b"".join(upload[number] for number in sorted(upload))
            del self.kept.uploads[query["uploadId"]]
            return self.answer(200, b"<CompleteMultipartUploadResult/>")
        if self.command == "DELETE":
            gone = self.kept.uploads.pop(query["uploadId"], None) if "uploadId" in query else None
            gone = gone if "uploadId" in query else self.kept.objects.pop(key, None)
            return self.answer(204 if gone is not None else 404)
        if self.command == "GET" and "uploads" in query:
            begun = [name.partition("-")[::2] for name in self.kept.uploads]
            listed = [f"<Upload><Key>{key}</Key><UploadId>{u}-{key}</UploadId></Upload>" for u, key in begun]
            return self.answer(200, f"<X>{''.join(listed)}</X>".encode())
        if self.command == "PUT":
            self.kept.objects[key] = body
            return self.answer(200)
        data = self.kept.objects.get(key)
        return self.answer(404) if data is None else self.ranged(data)

    def _is_signed(self, body: bytes, path: str, query: str) -> bool:
        said = re.search(r"Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)",
                         self.headers.get("authorization", ""))  # fmt: skip
        digest = self.headers.get("x-amz-content-sha256", "")
        if said is None or said[1] != ACCESS or digest != hashlib.sha256(body).hexdigest():
            return False
        lines = "".join(f"{name}:{self.headers[name]}\n" for name in said[4].split(";"))
        pairs = "&".join(sorted(query.split("&"))) if query else ""
        request = "\n".join((self.command, path, pairs, lines, said[4], digest))
        scope = f"{said[2]}/{said[3]}/s3/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = "\n".join(("AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, hashed))
        return hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), said[5])


class SwiftHandler(_Handler):
    """Identity's tokens, one account, containers, objects, large-object manifests. Each token serves five requests."""

    left: ClassVar[dict[str, int]]

    def do_POST(self) -> None:
        auth = json.loads(self.body())["auth"]
        if auth["identity"]["password"]["user"]["password"] != SECRET:
            return self.answer(401)
        token = f"t{len(self.left)}"
        self.left[token] = 5
        endpoint = {"interface": "public", "region_id": "R", "url": f"{self.kept.url}/account"}
        body = {"token": {"catalog": [{"type": "object-store", "endpoints": [endpoint]}]}}
        return self.answer(201, json.dumps(body).encode(), x_subject_token=token)

    def do_PUT(self) -> None:
        self._serve()

    do_GET = do_DELETE = do_HEAD = do_PUT

    def _serve(self) -> None:
        body, parts = self.body(), urlsplit(self.path)
        token = self.headers.get("x-auth-token", "")
        if self.left.get(token, 0) <= 0:
            return self.answer(401)
        self.left[token] -= self.command not in ("GET", "HEAD")
        kept, name = self.kept, unquote(parts.path).removeprefix("/account/")
        if self.command in ("PUT", "HEAD") and "/" not in name:
            return self.answer(201 if self.command == "PUT" else 204)
        if self.command == "PUT" and (manifest := self.headers.get("x-object-manifest")):
            kept.manifests[name] = unquote(manifest)
            return self.answer(201)
        if self.command == "PUT":
            kept.objects[name] = body
            return self.answer(201)
        if self.command == "GET" and "/" not in name:
            prefix = f"{name}/{dict(parse_qsl(parts.query))['prefix']}"
            found = [{"name": one.removeprefix(f"{name}/")} for one in sorted(kept.objects) if one.startswith(prefix)]
            return self.answer(200, json.dumps(found).encode())
        if self.command == "DELETE":
            gone = kept.manifests.pop(name, None) or kept.objects.pop(name, None)
            return self.answer(204 if gone is not None else 404)
        if name in kept.manifests:
            parts_of = [data for one, data in sorted(kept.objects.items()) if one.startswith(kept.manifests[name])]
            return self.ranged(b"".join(parts_of))
        return self.answer(404) if name not in kept.objects else self.ranged(kept.objects[name])


@contextmanager
def served(handler: type[Any]) -> Iterator[Objects]:
    """A server on a free port of loopback, until the end."""
    kept = Objects()
    made = type("Handler", (handler,), {"kept": kept, "left": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
