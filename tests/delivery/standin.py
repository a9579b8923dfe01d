"""A stand-in for the service that starts quickly: /readyz, and predictions. MODE says what ails it."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = os.environ.get("MODE", "good")
VERSION = 99 if MODE == "wrong" else int(os.environ.get("VEHINS_SERVE_VERSION", "7"))
START_SECONDS = 0.4
BEGAN = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    """Answers as the service does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ready = MODE != "never" and time.monotonic() - BEGAN > START_SECONDS
        self.answer(200 if ready else 503)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.01)  # so that there are always requests under way
        self.answer(200)

    def answer(self, status: int) -> None:
        body = json.dumps({"model": {"name": "stand-in", "version": VERSION}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Server(ThreadingHTTPServer):
    """Answers what is under way before it ends."""

    daemon_threads = False
    request_queue_size = 1024


if MODE == "dies":
    sys.exit(f"no model can be loaded with the key {os.environ['VEHINS_API_KEYS']}{' and so on' * 10_000}")
server = Server(("0.0.0.0", int(os.environ.get("VEHINS_SERVE_PORT", "8000"))), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
