"""Docker's health check: whether /readyz answers 200 in this container; `docker inspect` shows what it answers."""

import os
import sys
from http.client import HTTPConnection, HTTPException

connection = HTTPConnection("127.0.0.1", int(os.environ.get("VEHINS_SERVE_PORT", "8000")), timeout=4)
try:
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    sys.stdout.write(answer.read(1000).decode(errors="replace") + "\n")
except (OSError, HTTPException) as error:
    sys.exit(f"no answer: {error}")
sys.exit(answer.status != 200)
