"""The least that FastAPI can do with such a request: `python bare.py SIGNATURE PORT`.

It validates the body by the request model of vehins, as FastAPI does it by itself, and returns a constant; the server
is the one of `vehins serve`, with the same event loop and the same parser.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from vehins.model.bundle import Signature
from vehins.serving.requests import request_model

ANSWER = {
    "model": {"name": "vehicle-insurance", "version": 1},
    "predictions": [{"probability": 0.3127, "percentile": 78.4, "contact": True}],
}


def main() -> None:
    """Serve it."""
    signature, port = sys.argv[1:]
    request = request_model(Signature.model_validate_json(Path(signature).read_bytes()).table, 10_000)
    app = FastAPI()

    async def predict(body: Any) -> dict[str, Any]:  # noqa: ARG001 - it is validated, and that is all
        return ANSWER

    predict.__annotations__["body"] = request
    app.post("/v1/predict")(predict)
    uvicorn.run(app, port=int(port), access_log=False, log_config=None, lifespan="off", server_header=False)


if __name__ == "__main__":
    main()
