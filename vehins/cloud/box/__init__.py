"""What runs on the EC2 box beside the container: the command that deploys, and the files that set it up."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_PACKAGES = ("vehins", "vehins/cloud", "vehins/cloud/box")  # above the command; empty in its archive
_MAIN = "import sys\n\nfrom vehins.cloud.box.deploy.command import main\n\nsys.exit(main())\n"
_FIRST = (1980, 1, 1, 0, 0, 0)  # an archive of the same code has the same bytes


@dataclass(frozen=True)
class BoxFile:
    """A file of the box."""

    path: str
    mode: int
    content: bytes


def files() -> list[BoxFile]:
    """Every file of the box but those with settings, /etc/vehins/box.env and serve.env, which the caller writes."""
    plain = {
        "haproxy.cfg": ("/etc/haproxy/haproxy.cfg", 0o644),
        "haproxy.service.conf": ("/etc/systemd/system/haproxy.service.d/vehins.conf", 0o644),
        "daemon.json": ("/etc/docker/daemon.json", 0o644),
        "sudoers": ("/etc/sudoers.d/vehins", 0o440),
    }
    found = [BoxFile(path, mode, (_HERE / name).read_bytes()) for name, (path, mode) in plain.items()]
    return [BoxFile("/usr/local/bin/vehins-deploy", 0o755, command()), *found]


def command() -> bytes:
    """``vehins-deploy`` as one executable file: a zip archive of its modules that Python runs (PEP 441).

    They are stored as they are: `less` shows them on the box, and gzip makes the whole of it small on its way there.
    """
    buffer = io.BytesIO(b"#!/usr/bin/python3 -I\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in sorted(_members().items()):
            archive.writestr(zipfile.ZipInfo(name, _FIRST), text)
    return buffer.getvalue()


def _members() -> dict[str, str]:
    modules = {
        f"vehins/cloud/box/deploy/{path.name}": path.read_text("utf-8") for path in (_HERE / "deploy").glob("*.py")
    }
    return {"__main__.py": _MAIN, **{f"{name}/__init__.py": "" for name in _PACKAGES}, **modules}
