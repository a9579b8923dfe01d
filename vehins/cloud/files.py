"""The files of the box as one archive, which its own SHA-256 names: what the box takes is what was put, or nothing."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.artifacts.files import sha256_bytes

if TYPE_CHECKING:
    from vehins.cloud.account import Account
    from vehins.cloud.box import BoxFile

_BOOT = {
    "vehins_box.py": ("/usr/local/sbin/vehins-box", 0o755),
    "job-started.sh": ("/usr/local/lib/vehins/job-started.sh", 0o755),
    "vehins-report.service": ("/etc/systemd/system/vehins-report.service", 0o644),
    "vehins-report.timer": ("/etc/systemd/system/vehins-report.timer", 0o644),
    "vehins-fence.service": ("/etc/systemd/system/vehins-fence.service", 0o644),
}


def archive() -> bytes:
    """All files with their places and modes; the same files make the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for file in sorted(_files(), key=lambda file: file.path):
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode = len(file.content), file.mode
            made.addfile(entry, io.BytesIO(file.content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _files() -> list[BoxFile]:
    from vehins.cloud.box import BoxFile, files

    here = Path(__file__).parent / "boot"
    own = [BoxFile(path, mode, (here / name).read_bytes()) for name, (path, mode) in _BOOT.items()]
    return [*files(), *own]


def put(account: Account, bucket: str, data: bytes) -> str:
    """Put an archive where the box looks for it; return its digest. One that is there already is the same."""
    digest = sha256_bytes(data)
    key = f"box/{digest}.tar.gz"
    with account.asked("S3", f"s3://{bucket}/{key}"):
        account.client("s3").put_object(Bucket=bucket, Key=key, Body=data)
    return digest
