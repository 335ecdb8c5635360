"""A real S3 server on loopback, all in memory, that can be at its limit."""

import time
from collections.abc import Callable
from collections.abc import Iterable
from functools import cache
from threading import Event
from threading import Thread
from typing import Any
from typing import Self

import boto3
import pytest
from botocore.loaders import JSONFileLoader
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.moto_server.werkzeug_app import create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler
from werkzeug.serving import make_server

# What describes S3 to a client is 2 MB, which each session of clients would parse anew.
JSONFileLoader.load_file = staticmethod(cache(JSONFileLoader().load_file))

BUCKET = "speech-rows"
_BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>'


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class S3Server:
    """The server; the next `busy` requests that write get 503 SlowDown. `requests` are those so far.

    While `holds` is set, it answers no request that writes a path of which that is true, but says in `held`
    that there is one.
    """

    def __init__(self) -> None:
        self.busy = 0
        self.holds: Callable[[str], bool] | None = None
        self.held = Event()
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        # It looks so often whether it has to end.
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        while method == "PUT" and (holds := self.holds) is not None and holds(path):
            self.held.set()
            time.sleep(0.01)
        if self.busy and method in ("PUT", "POST"):
            self.busy -= 1
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [_BUSY]
        return self._app(environ, start_response)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have every client of this process, and of those that it starts, speak to this server."""
        for name, value in {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": "toy",
            "AWS_SECRET_ACCESS_KEY": "toy",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",  # its clients' own patience is minutes
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(S3FileSystem, "retries", 1)
        S3FileSystem.clear_instance_cache()

    def empty(self) -> None:
        """An empty bucket, and no request so far."""
        self.busy, self.holds = 0, None
        self.held.clear()
        client = boto3.client("s3", endpoint_url=self.endpoint)
        client.create_bucket(Bucket=BUCKET)
        keys = [{"Key": item["Key"]} for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys, "Quiet": True})
        self.requests.clear()

    def put(self, key: str, data: bytes) -> None:
        """Put an object there."""
        boto3.client("s3", endpoint_url=self.endpoint).put_object(Bucket=BUCKET, Key=key, Body=data)

    def files(self, prefix: str) -> dict[str, bytes]:
        """The bytes of every object below a prefix, by the rest of its key."""
        client = boto3.client("s3", endpoint_url=self.endpoint)
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
        keys = [item["Key"] for item in listed]
        return {
            key.removeprefix(f"{prefix}/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }
