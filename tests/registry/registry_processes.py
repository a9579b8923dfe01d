"""What the tests of the registry run in processes of their own. Nothing here imports pytest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from typing import TYPE_CHECKING, Any

from registry_stores import opened

from vehins.artifacts.files import record_file, sha256_bytes
from vehins.errors import ConflictError
from vehins.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vehins.artifacts.files import FileRecord
    from vehins.registry.objects import ObjectStore
    from vehins.registry.registry import ModelVersion

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(["botocore.session", "vehins.registry.registry", "vehins.registry.stores"])


def write_bundle(folder: Path, text: str, size: int = 1) -> tuple[list[FileRecord], str]:
    """Write a small bundle below ``folder``; give its files and its digest."""
    (folder / "more").mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_bytes(text.encode() * size)
    (folder / "features.json").write_text("{}")
    (folder / "more" / "golden.jsonl").write_text(f"{text}\n")
    files = [record_file(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return files, sha256_bytes("".join(file.sha256 for file in files).encode())


def publish(registry: Registry, folder: Path, text: str, size: int = 1) -> tuple[ModelVersion, bool]:
    """Write a bundle and register it."""
    files, bundle = write_bundle(folder, text, size)
    return registry.publish(
        folder,
        files,
        bundle=bundle,
        champion=None,
        evaluation={"auc": 0.85, "rows": 10, "calibrated": True},
        approved=None,
        lineage={"TrainedModel": "t1"},
    )


def with_two_versions(store: ObjectStore, folder: Path) -> Registry:
    """A model with two versions, of which the alias names the first."""
    registry = Registry(store, "car")
    for number in (1, 2):
        publish(registry, folder / f"b{number}", f"text {number}")
    registry.point("champion", 1, reason="first")
    return registry


def run_together(task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call ``task`` once per tuple, each in its own process, started at one moment; what they return, in that order."""
    barrier = CONTEXT.Barrier(len(arguments))
    results = CONTEXT.SimpleQueue()
    processes = [
        CONTEXT.Process(target=_take_part, args=(barrier, results, number, task, given))
        for number, given in enumerate(arguments)
    ]
    for process in processes:
        process.start()
    answers = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    return [answers[number] for number in range(len(arguments))]


def _take_part(barrier: Any, results: Any, number: int, task: Callable[..., Any], given: tuple[Any, ...]) -> None:
    try:
        barrier.wait(60)
        results.put((number, task(*given)))
    except BaseException:
        results.put((number, traceback.format_exc()))


def start(scratch: Path, task: Callable[..., None], *given: Any) -> Any:
    """Start ``task`` in a process of its own, which is the caller's to kill, and wait until it has begun.

    What it leaves behind as temporary files goes to ``scratch``.
    """
    begun = CONTEXT.Event()
    process = CONTEXT.Process(target=_begin, args=(begun, str(scratch), task, given))
    process.start()
    assert begun.wait(60)
    return process


def _begin(begun: Any, scratch: str, task: Callable[..., None], given: tuple[Any, ...]) -> None:
    tempfile.tempdir = scratch
    begun.set()
    task(*given)


def kill(process: Any) -> None:
    """End a process without giving it a chance to tidy up (SIGKILL)."""
    os.kill(process.pid, signal.SIGKILL) if sys.platform != "win32" else process.kill()
    process.join()


# --- tasks ------------------------------------------------------------------------------------------------------------


def create(url: str, key: str, data: bytes) -> bool:
    try:
        opened(url).put(key, data, if_absent=True)
    except ConflictError:
        return False
    return True


def create_from_file(url: str, key: str, path: Path) -> bool:
    try:
        opened(url).put_file(key, path, if_absent=True)
    except ConflictError:
        return False
    return True


def increment(url: str, key: str, times: int) -> int:
    """Add one to a counter, ``times`` times, by compare-and-swap; give the number of conflicts."""
    store = opened(url)
    conflicts = 0
    while times:
        stored = store.get(key)
        try:
            store.put(key, str(int(stored.data) + 1).encode(), if_match=stored.etag)
            times -= 1
        except ConflictError:
            conflicts += 1
    return conflicts


def put_many(url: str, key: str, letter: str, size: int) -> None:
    store = opened(url)
    while True:
        store.put(key, letter.encode() * size)


def publish_one(url: str, folder: Path, text: str) -> tuple[int, bool]:
    version, new = publish(Registry(opened(url), "car"), folder, text)
    return version.version, new


def publish_many(url: str, folder: Path, label: str) -> None:
    registry = Registry(opened(url), "car")
    number = 0
    while True:
        number += 1
        publish(registry, folder, f"{label}-{number}", 2000)


def point_at_each(url: str, versions: list[int]) -> int:
    """Point the alias at each version in turn; give the number of moves."""
    registry = Registry(opened(url), "car")
    return sum(registry.point("champion", version, reason="race")[1] for version in versions)


def point_many(url: str, versions: list[int]) -> None:
    while True:
        point_at_each(url, versions)


def fetch_one(url: str, version: int, folder: Path) -> bytes:
    """Fetch and read at once: what is fetched stays."""
    return (Registry(opened(url), "car").fetch(version, folder) / "model.txt").read_bytes()


def push_and_promote(url: str, folder: Path, label: int, seconds: float) -> dict[str, Any]:
    """Register bundles, some of which others register too, and promote each, for a while; give what was told."""
    registry = Registry(opened(url), "car")
    told: dict[str, Any] = {"versions": [], "moves": [], "conflicts": 0}
    until = time.monotonic() + seconds
    number = 0
    while not told["versions"] or time.monotonic() < until:
        number += 1
        text = f"shared {number}" if number % 3 == 0 else f"{label} {number}"
        version, new = publish(registry, folder / str(number), text)
        told["versions"].append((version.version, version.bundle, new))
        try:
            move, moved = registry.point("champion", version.version, reason=f"{label} {number}")
        except ConflictError:
            told["conflicts"] += 1
        else:
            told["moves"] += [move.model_dump(mode="json")] if moved else []
    return told
