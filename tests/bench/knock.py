"""A client that asks identity about one token again and again: `python -m tests.bench.knock URL TOKEN TIMES`.

It asks once, says so, waits for a line on its input, asks TIMES times, and says that it is done.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main(url: str, token: str, times: int) -> None:
    """Ask as services do: for the token itself, without its catalog."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)

    def ask() -> None:
        connection.request("GET", f"{parts.path}/v3/auth/tokens?nocatalog=1", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {answer.read()[:300]!r}")
        answer.read()

    headers = {"X-Auth-Token": token, "X-Subject-Token": token, "Accept": "application/json"}
    ask()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(times):
        ask()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
