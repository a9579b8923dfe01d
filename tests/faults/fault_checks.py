"""What must hold in a workspace and its registry at any moment, checked without the help of the code under test."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def check_whole(workspace: Path) -> None:
    """Every artifact and every version is whole, and every alias points to one."""
    artifacts = workspace / "artifacts"
    for kind in artifacts.iterdir() if artifacts.exists() else ():
        for folder in kind.iterdir():
            body = json.loads((folder / "manifest.json").read_bytes())
            assert (body["kind"], body["id"]) == (kind.name, folder.name)
            checksum = body.pop("checksum")
            assert checksum == _digest(body)
            _check_files(folder, body["files"], {"manifest.json"})
    models = workspace / "registry" / "models"
    for model in models.iterdir() if models.exists() else ():
        _check_model(model)


def _check_model(model: Path) -> None:
    numbers = model / "versions"
    for version in numbers.iterdir() if numbers.exists() else ():
        if (version / "manifest.json").exists():  # else it was never finished, and does not count
            body = json.loads((version / "manifest.json").read_bytes())
            assert body["version"] == int(version.name)
            _check_files(version / "bundle", body["files"], set())
    aliases = model / "aliases"
    for alias in aliases.glob("[!.]*.json") if aliases.exists() else ():
        move = json.loads(alias.read_bytes())
        assert (model / "versions" / str(move["version"]) / "manifest.json").exists()
        history = sorted((model / "history" / alias.stem).glob("[!.]*.json"))
        # The entry of the last move may be written by the next one.
        assert [int(path.stem) for path in history] in (
            list(range(1, move["sequence"] + 1)),
            list(range(1, move["sequence"])),
        )


def _check_files(folder: Path, records: list[dict[str, Any]], more: set[str]) -> None:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {record["path"] for record in records} == {name for name in found if "/." not in f"/{name}"} - more
    for record in records:
        data = (folder / record["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (record["bytes"], record["sha256"])


def _digest(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
