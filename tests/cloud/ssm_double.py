"""Systems Manager as far as a document is sent to one machine: it checks the parameters as the document wants them,
puts them into the line, and runs that line here, where `vehins-box` is a script of the test's.

No server at hand runs documents: ministack and moto say Success and run nothing. What this one does is in AWS's
documentation of schemaVersion 2.2: values that do not match are refused when the document is sent, a command is
Pending, then InProgress, and in the end Success or Failed by the exit code of its line, which the agent adds to stderr;
output is cut at 24,000 and 8,000 characters.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@dataclass
class Machine:
    """One machine with one document."""

    instance: str
    name: str
    content: dict[str, Any]
    sandbox: str
    """What stands for /usr/local/sbin."""
    connected: bool = True
    hangs: bool = False
    deployed: str = "none"
    """Value of the parameter in which the machine tells what runs."""
    sent: list[dict[str, str]] = field(default_factory=list)
    _ended: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, operation: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if operation == "SendCommand":
            return self._send(given)
        if operation == "GetCommandInvocation":
            return self._invocation(given["CommandId"])
        if operation == "GetParameter":
            return 200, {"Parameter": {"Name": given["Name"], "Value": self.deployed}}
        return 400, {"__type": "InvalidAction", "message": operation}

    def _send(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if given["DocumentName"] != self.name:
            return 400, {"__type": "InvalidDocument", "message": given["DocumentName"]}
        if given["InstanceIds"] != [self.instance] or not self.connected:
            return 400, {"__type": "InvalidInstanceId", "message": "Instances not in a valid state for account"}
        values = {name: words[0] for name, words in given["Parameters"].items()}
        for name, rule in self.content["parameters"].items():
            value = values.setdefault(name, rule.get("default"))
            is_right = value in rule.get("allowedValues", [value])
            if not is_right or not re.fullmatch(rule.get("allowedPattern", "(?s).*"), value):
                return 400, {"__type": "InvalidParameters", "message": f"{name} does not match"}
        self.sent.append(values)
        command = str(uuid4())
        if not self.hangs:
            threading.Thread(target=self._run, args=(command, values)).start()
        return 200, {"Command": {"CommandId": command, "Status": "Pending"}}

    def _run(self, command: str, values: dict[str, str]) -> None:
        (line,) = self.content["mainSteps"][0]["inputs"]["runCommand"]
        line = re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], line)
        line = line.replace("/usr/local/sbin", self.sandbox)
        done = subprocess.run(["sh", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=False)
        said = f"failed to run commands: exit status {done.returncode}" if done.returncode else ""
        self._ended[command] = {
            "Status": "Failed" if done.returncode else "Success",
            "ResponseCode": done.returncode,
            "StandardOutputContent": done.stdout[:24_000],
            "StandardErrorContent": (done.stderr + said)[:8_000],
        }

    def _invocation(self, command: str) -> tuple[int, dict[str, Any]]:
        running = {"Status": "InProgress", "ResponseCode": -1, "StandardOutputContent": "", "StandardErrorContent": ""}
        return 200, {"CommandId": command, "InstanceId": self.instance, **self._ended.get(command, running)}


def serve(machine: Machine) -> ThreadingHTTPServer:
    """A server that speaks for it, on a free port; `shutdown` ends it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, found = machine.answer(self.headers["X-Amz-Target"].partition(".")[2], given)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
