"""`kilonova image sources` and `kilonova image fetch NAME`: well-known cloud images, verified, into this cloud."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from posixpath import basename
from typing import Any
from urllib.parse import urlsplit

import httpx

from kilonova.base.faults import Fault, Kind, invalid, unavailable
from kilonova.base.units import MIB
from kilonova.cli.environment import base_url, program
from kilonova.cli.state import State
from kilonova.image.sources import ALGORITHMS, Source, digest_in, named, sources

BAR = 30


def run(options: argparse.Namespace) -> int:
    """`sources` or `fetch`."""
    state = State(options.state)
    found = sources(options.list or state.directory / "image-sources.toml")
    if options.what == "sources":
        for one in found.values():
            print(f"{one.name:16} {one.title or one.url}")
        print(f"\n{program()} image fetch NAME brings one into this cloud; docs/guide/images.md: how to add your own.")
        return 0
    if not options.name:
        raise invalid("Which image?", hint=f"Known: {', '.join(found)}.")
    _Fetch(state, named(found, options.name), private=options.private, again=options.again).run()
    return 0


class _Fetch:
    def __init__(self, state: State, source: Source, *, private: bool, again: bool) -> None:
        self.state, self.source = state, source
        self.private, self.again = private, again
        self.web = httpx.Client(follow_redirects=True, timeout=60)
        self.cloud = httpx.Client(base_url=base_url(state.need()), timeout=600, trust_env=False)

    def run(self) -> None:
        """Download, verify, upload; what is there already is left alone."""
        self._log_in()
        known = self._ask("GET", f"/image/v2/images?name={self.source.name}&status=active").json()["images"]
        if known and not self.again:
            print(f"image {self.source.name} is there already: {known[0]['id']} (--again fetches it once more)")
            return
        part = self.state.directory / f"fetch-{self.source.name}.part"
        try:
            digest = self._expected()
            self._download(part, digest)
            image_id = self._register(part)
        finally:
            part.unlink(missing_ok=True)
        print(f"image {self.source.name} is registered: {image_id}")

    def _log_in(self) -> None:
        user = {"name": "admin", "domain": {"id": "default"}, "password": self.state.secrets().admin_password}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        self.cloud.headers["x-auth-token"] = self._ask("POST", "/identity/v3/auth/tokens", json=body).headers[
            "x-subject-token"
        ]

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self.cloud.request(method, path, **more)
        except httpx.HTTPError as error:
            raise unavailable("The cloud does not answer.", hint=f"{program()} status", inside=repr(error)) from error
        if answer.is_error:
            raise _refusal(answer)
        return answer

    def _expected(self) -> str:
        """The digest that the publisher says."""
        if self.source.checksum:
            return self.source.checksum.lower()
        if not self.source.checksums_url:
            raise invalid(f"Source {self.source.name} has no checksum.", hint="Give checksum or checksums_url.")
        try:
            text = self.web.get(self.source.checksums_url).raise_for_status().text
        except httpx.HTTPError as error:
            raise unavailable(f"{self.source.checksums_url} could not be read: {_why(error)}.") from error
        digest = digest_in(text, basename(urlsplit(self.source.url).path))
        if not digest:
            raise unavailable(f"{self.source.checksums_url} names no checksum for the image.")
        return digest

    def _download(self, part: Path, digest: str) -> None:
        if len(digest) not in ALGORITHMS:
            raise invalid(
                f"{digest[:20]}… is no known kind of checksum.",
                hint=f"Give the hexadecimal digits of one of {', '.join(ALGORITHMS.values())}, and nothing else.",
            )
        found = hashlib.new(ALGORITHMS[len(digest)], usedforsecurity=False)
        try:
            with self.web.stream("GET", self.source.url) as answer, part.open("wb") as file:
                answer.raise_for_status()
                bar = Progress(int(answer.headers.get("content-length", 0)))
                for chunk in answer.iter_raw(MIB):
                    file.write(chunk)
                    found.update(chunk)
                    bar.add(len(chunk))
                bar.end()
        except httpx.HTTPError as error:
            raise unavailable(f"{self.source.url} could not be downloaded: {_why(error)}.") from error
        if found.hexdigest() != digest:
            raise unavailable(
                f"{self.source.url} does not have the checksum that its publisher says.",
                hint="Try again later; if it stays so, the mirror is damaged.",
                inside=f"{found.hexdigest()} != {digest}",
            )

    def _register(self, part: Path) -> str:
        body = {
            "name": self.source.name,
            "disk_format": self.source.disk_format,
            "container_format": "bare",
            "min_disk": self.source.min_disk_gb,
            "min_ram": self.source.min_ram_mb,
            "visibility": "private" if self.private else "public",
            **self.source.properties,
        }
        image_id = str(self._ask("POST", "/image/v2/images", json=body).json()["id"])
        headers = {"content-type": "application/octet-stream", "content-length": str(part.stat().st_size)}
        try:
            self._ask("PUT", f"/image/v2/images/{image_id}/file", content=_pieces(part), headers=headers)
        except BaseException:  # edge: an image without data is of no use to anyone
            self.cloud.delete(f"/image/v2/images/{image_id}")
            raise
        return image_id


def _refusal(answer: httpx.Response) -> Fault:
    """What the cloud said, in its own words where it said any."""
    asked = f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}"
    try:
        told = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return unavailable(f"{asked}.", inside=answer.text[:300])
    return Fault(Kind.INVALID, told, inside=asked)


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(MIB):
            yield piece


class Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.began = self.shown = time.monotonic()

    def add(self, size: int) -> None:
        """So much more is there."""
        self.done += size
        if sys.stderr.isatty() and time.monotonic() - self.shown > 0.1:
            self._show()

    def end(self) -> None:
        """All is there."""
        if sys.stderr.isatty():
            self._show()
            print(file=sys.stderr)

    def _show(self) -> None:
        self.shown = time.monotonic()
        speed = self.done / MIB / max(self.shown - self.began, 0.001)
        part = min(self.done / self.total, 1.0) if self.total else 0.0
        bar = "#" * int(part * BAR)
        print(f"\r[{bar:{BAR}}] {self.done // MIB} of {self.total // MIB} MiB, {speed:.1f} MiB/s ", end="",
              file=sys.stderr, flush=True)  # fmt: skip
