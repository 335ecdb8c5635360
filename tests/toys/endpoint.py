"""A toy OpenAI-compatible server on loopback that fails now and then, as real ones do."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from typing import Any

DROP = -1  # in place of a status: the connection is closed without an answer


class Said:
    """What the server answers to one request."""

    def __init__(
        self, text: Any = "", *, status: int = 200, ended: bool = True, tokens: int = 7, **headers: str
    ) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): text for name, text in headers.items()}
        finish = "stop" if ended else "length"
        message = {"role": "assistant", "content": text}
        self.body: Any = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "toy", "system_fingerprint": "",
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1},
        }  # fmt: skip
        if status != 200:
            self.body = {"error": {"message": text}}


class ToyEndpoint:
    """Serves `answer(user, times)`: what the user said, and how often it was asked before."""

    def __init__(self, answer: Callable[[str, int], Said], pause_s: float = 0.0) -> None:
        self.answer, self.pause_s = answer, pause_s
        self.requests: list[dict[str, Any]] = []  # bodies
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.asked: dict[str, int] = {}
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ToyEndpoint":
        toy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                said = toy.say(self.path, body, self.headers.get("authorization"))
                if said.status == DROP:
                    self.close_connection = True
                    self.connection.close()
                    return
                sent = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
                self.send_response(said.status)
                for name, value in {**said.headers, "content-length": str(len(sent))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def say(self, path: str, body: dict[str, Any], key: str | None) -> Said:
        assert path == "/v1/chat/completions", path
        user = body["messages"][1]["content"]
        with self._lock:
            self.times.append(time.monotonic())
            self.requests.append(body)
            self.keys.append(key)
            self.asked[user] = self.asked.get(user, 0) + 1
            times = self.asked[user] - 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.pause_s)
        said = self.answer(user, times)
        with self._lock:
            self.at_once -= 1
        return said
