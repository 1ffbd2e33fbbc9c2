"""Image bytes as objects of an S3-compatible store: multipart upload, ranged reads, requests signed by SigV4."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

import httpx

from kilonova.base.faults import not_found, unavailable
from kilonova.base.units import MIB
from kilonova.base.world import World

PART_BYTES = 64 * MIB  # 10 000 parts of an object at most: 640 GB
_EMPTY = hashlib.sha256(b"").hexdigest()


class S3Store:
    """Implements `image.contract.ImageStore` on one bucket, which must be there."""

    def __init__(
        self, world: World, url: str, bucket: str, keys: tuple[str, str], region: str = "", part_bytes: int = PART_BYTES
    ) -> None:
        self._world = world
        self._url = url.rstrip("/")
        self._bucket = bucket
        self._access, self._secret = keys
        self._region = region or "us-east-1"
        self._part_bytes = part_bytes
        self._http = httpx.AsyncClient(timeout=300, trust_env=False)

    async def save(self, image_id: str, chunks: AsyncIterator[bytes]) -> None:
        gathered, upload = bytearray(), ""
        etags: list[str] = []
        try:
            async for chunk in chunks:
                gathered += chunk
                if len(gathered) >= self._part_bytes:
                    upload = upload or await self._begin(image_id)
                    etags.append(await self._part(image_id, upload, len(etags) + 1, bytes(gathered)))
                    gathered.clear()
            if not upload:
                await self._ask("PUT", image_id, body=bytes(gathered))
                return
            if gathered:
                etags.append(await self._part(image_id, upload, len(etags) + 1, bytes(gathered)))
            await self._complete(image_id, upload, etags)
            upload = ""
        finally:
            if upload:
                await self._ask("DELETE", image_id, {"uploadId": upload}, fine=(404,))

    async def read(self, image_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        if start >= end:
            return
        url, headers = self._signed("GET", image_id, {}, _EMPTY, {"range": f"bytes={start}-{end - 1}"})
        try:
            async with self._http.stream("GET", url, headers=headers) as answer:
                if answer.status_code == 404:
                    raise not_found("The data of image", image_id)
                if answer.status_code not in (200, 206):
                    raise _refused(answer.status_code, await answer.aread())
                async for chunk in answer.aiter_raw(MIB):
                    yield chunk
        except httpx.HTTPError as error:
            raise unavailable("The image store does not answer.", inside=repr(error)) from error

    async def drop(self, image_id: str) -> None:
        await self._ask("DELETE", image_id, fine=(404,))
        begun = (await self._ask("GET", "", {"uploads": "", "prefix": image_id}, fine=(404, 501))).text
        for key, upload in re.findall(r"<Upload>.*?<Key>([^<]+)</Key>.*?<UploadId>([^<]+)</UploadId>", begun, re.S):
            if key == image_id:
                await self._ask("DELETE", image_id, {"uploadId": upload}, fine=(404,))

    async def free_bytes(self) -> int:
        return 1 << 62  # an object store does not say; it refuses when it is full

    def location(self, image_id: str) -> str:
        return f"s3://{urlsplit(self._url).netloc}/{self._bucket}/{image_id}"

    async def _begin(self, image_id: str) -> str:
        text = (await self._ask("POST", image_id, {"uploads": ""})).text
        found = re.search(r"<UploadId>([^<]+)</UploadId>", text)
        if found is None:
            raise unavailable("The image store did not begin an upload.", inside=text[:300])
        return found[1]

    async def _part(self, image_id: str, upload: str, number: int, data: bytes) -> str:
        answer = await self._ask("PUT", image_id, {"partNumber": str(number), "uploadId": upload}, data)
        return answer.headers["etag"]

    async def _complete(self, image_id: str, upload: str, etags: list[str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = await self._ask("POST", image_id, {"uploadId": upload}, body)
        if "<Error>" in answer.text:  # S3 may say 200 and then fail
            raise unavailable("The image store did not complete an upload.", inside=answer.text[:300])

    async def _ask(
        self, method: str, key: str, query: Mapping[str, str] | None = None, body: bytes = b"",
        fine: tuple[int, ...] = (),
    ) -> httpx.Response:  # fmt: skip
        digest = await self._world.blocking(_sha256, body)
        url, headers = self._signed(method, key, query or {}, digest, {})
        try:
            answer = await self._http.request(method, url, headers=headers, content=body)
        except httpx.HTTPError as error:
            raise unavailable("The image store does not answer.", inside=repr(error)) from error
        if answer.is_error and answer.status_code not in fine:
            raise _refused(answer.status_code, answer.content)
        return answer

    def _signed(
        self, method: str, key: str, query: Mapping[str, str], digest: str, headers: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """(URL, headers) of a request, signed: AWS Signature Version 4, path-style."""
        now: datetime = self._world.clock.now()
        moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        path = f"{urlsplit(self._url).path}/{quote(self._bucket)}/{quote(key)}"
        asked = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in sorted(query.items()))
        signed = {"host": urlsplit(self._url).netloc, "x-amz-content-sha256": digest, "x-amz-date": moment}
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join((method, path, asked, lines, names, digest))
        scope = f"{day}/{self._region}/s3/aws4_request"
        to_sign = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()))
        key_bytes = f"AWS4{self._secret}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key_bytes = hmac.digest(key_bytes, part.encode(), "sha256")
        signature = hmac.digest(key_bytes, to_sign.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self._access}/{scope}, SignedHeaders={names}"
        sent = {**signed, **headers, "authorization": f"{credential}, Signature={signature}"}
        origin = self._url.removesuffix(urlsplit(self._url).path)
        return f"{origin}{path}" + (f"?{asked}" if asked else ""), sent


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refused(status: int, body: bytes) -> Exception:
    return unavailable("The image store refused.", inside=f"{status}: {body[:300]!r}")
