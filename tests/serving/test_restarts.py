"""Services in processes of their own that start, are harmed, end, and start again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from s3_client import S3Server, new_bucket
from server_process import HOST, PATIENCE, answers, free_port, program, running, wait_until
from service_process import Service, serving
from serving_models import GOOD
from swap_models import Publisher, is_slow, variant

from vehins.registry.stores import open_store
from vehins.serving import kept, trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vehins.serving.predictor import Predictor
    from vehins.settings import Settings

WORKERS = ["1", "2"] if is_slow() else ["2"]


@pytest.fixture(scope="module")
def template(served: Settings, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with three versions (the first in production) and one that is broken; all but that one tried here."""
    root = tmp_path_factory.mktemp("template")
    settings = served.model_copy(update={"workspace": root / "ws", "registry": str(root / "registry")})
    publisher = Publisher(settings)
    for trees in (5, 6, 7):
        folder = root / f"trees-{trees}"
        version = publisher.publish(folder, variant(predictor.bundle, folder, trees))
        registered = publisher.registry.version(version)
        copy = publisher.registry.fetch(registered, root / "ws" / "cache" / registered.bundle)
        trial.mark_of(copy).write_text(trial._code())
    broken = root / "broken"
    publisher.publish(broken, variant(predictor.bundle, broken, 8, golden_error=1e-6))
    publisher.promote(1)
    return root


@pytest.fixture
def settings(template: Path, served: Settings, tmp_path: Path) -> Settings:
    """A copy of it."""
    for name in ("ws", "registry"):
        shutil.copytree(template / name, tmp_path / name)
    return served.model_copy(update={"workspace": tmp_path / "ws", "registry": str(tmp_path / "registry")})


@contextmanager
def unreachable(settings: Settings) -> Iterator[None]:
    """For the block, the registry is as on a disk that is not mounted."""
    place = Path(settings.registry_url)
    away = place.with_name("away")
    place.rename(away)
    place.symlink_to(place.with_name("nowhere"))
    yield
    place.unlink()
    away.rename(place)


def ready_of(service: Service) -> dict[str, Any]:
    return service.get("/readyz").json()


def why(service: Service) -> str:
    """Why it is not ready."""
    response = service.get("/readyz")
    assert response.status_code == 503
    assert service.get("/healthz").status_code == 200
    assert service.predict(GOOD).status_code == 503
    return str(response.json()["error"]["detail"])


# --- without a registry -----------------------------------------------------------------------------------------------


def test_a_start_without_the_registry(settings: Settings) -> None:
    with serving(settings) as service:
        assert ready_of(service)["source"] == "registry"
    with unreachable(settings), serving(settings) as service:
        found = ready_of(service)
        assert (found["source"], found["model"]["version"]) == ("cache", 1)
        assert found["check"]["fault"] == "The registry does not answer."
        service.wait_for(lambda: "answers from the cache, verified last at" in service.err)
        assert service.predict(GOOD).json()["model"]["version"] == 1


def test_an_s3_registry_that_is_killed_and_comes_back(settings: Settings, tmp_path: Path, aws_login: None) -> None:
    """The server forgets what it held, so that a new one is filled again; a service that waited takes what comes."""
    port = free_port()
    server = S3Server(f"http://{HOST}:{port}")
    variables = {**os.environ, "BIND_HOST": HOST, "GATEWAY_PORT": str(port)}
    command = [program("ministack")]
    patient = ["--set", "remote.attempts=1", "--set", "remote.connect_timeout=2"]

    def filled() -> Settings:
        bucket = new_bucket(server)
        found = settings.model_copy(update={"registry": bucket.url, "s3": server.s3})
        source = Publisher(settings).registry.version(1)
        folder = Path(settings.registry_url, "models", settings.model_name, "versions", "1", "bundle")
        publisher = Publisher(found)
        publisher.promote(publisher.publish(folder, source.bundle))
        return found

    with running(command, tmp_path / "s3-1.log", lambda: answers(port), variables) as process:
        there = filled()
        with serving(there, *patient, env=server.variables) as service:
            service.wait_for_version(1)
            assert ready_of(service)["source"] == "registry"
            process.kill()
            process.wait()
            service.wait_for(lambda: ready_of(service)["check"]["fault"] == "The registry does not answer.")
            assert service.predict(GOOD).status_code == 200
    with serving(there, *patient, env=server.variables) as service:
        assert ready_of(service)["source"] == "cache"
    shutil.rmtree(there.workspace)
    with serving(there, *patient, env=server.variables) as service:
        service.wait_for(lambda: why(service) == "The registry does not answer.")
        with running(command, tmp_path / "s3-2.log", lambda: answers(port), variables):
            client = server.client()
            name = there.registry_url.removeprefix("s3://")
            again = there.model_copy(update={"registry": filled().registry})
            client.create_bucket(Bucket=name)
            assert service.get("/readyz").status_code == 503  # there is a registry, and nothing in it
            source = open_store(again.registry_url, again.s3, again.remote)
            keys = sorted(source.keys(""), key=lambda key: "aliases" in key)  # the alias comes last
            for key in keys:
                client.put_object(Bucket=name, Key=key, Body=source.get(key).data)
            service.wait_for_version(1)
            assert ready_of(service)["source"] == "registry"


def test_a_registry_that_is_not_there_yet(settings: Settings, tmp_path: Path) -> None:
    """A box may be started before the first training."""
    empty = settings.model_copy(update={"registry": str(tmp_path / "new"), "workspace": tmp_path / "other"})
    with serving(empty) as service:
        service.wait_for(lambda: why(service) == "No version of vehicle-insurance is in production yet.")
        service.wait_for(lambda: "is in production yet. Nothing is predicted until one is" in service.err)
        shutil.copytree(settings.registry_url, tmp_path / "copied")
        (tmp_path / "copied").rename(tmp_path / "new")
        service.wait_for_version(1)
        assert ready_of(service)["source"] == "registry"


def test_a_broken_version_in_production(settings: Settings) -> None:
    """With nothing to fall back on, the start ends; with a copy of the version before, that one answers."""
    publisher = Publisher(settings)
    publisher.promote(4)
    with serving(settings, wait=False) as service:
        assert service.process.wait(PATIENCE) == 4
        assert "Golden row 1" in service.err
    kept.keep(kept.Place.of(settings, publisher.store.url), publisher.registry.version(1))
    with serving(settings) as service:
        service.wait_for_failure(4)
        found = service.model()
        assert (found["version"], found["service"]["source"]) == (1, "cache")
        publisher.promote(2)
        service.wait_for_version(2)
        assert ready_of(service)["source"] == "registry"


def test_what_waiting_does_not_mend_ends_the_start(settings: Settings) -> None:
    with serving(settings, "--version", "9", wait=False) as service:
        assert service.process.wait(PATIENCE) == 6
        assert "There is no version 9" in service.err
    with serving(settings, "--registry", "ftp://models", wait=False) as service:
        assert service.process.wait(PATIENCE) == 3


def test_a_pinned_version(settings: Settings) -> None:
    with serving(settings, "--version", "2") as service:
        assert (service.version(), service.model()["service"]["pinned"]) == (2, True)


# --- harm -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_process_that_is_killed_while_it_fetches(settings: Settings) -> None:
    shutil.rmtree(settings.workspace / "cache")
    path = Path(settings.registry_url, "models", settings.model_name, "versions", "1", "bundle", "model.txt")
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)  # who reads it waits for ever
    with serving(settings, wait=False) as service:
        service.wait_for(lambda: list((settings.workspace / "cache").glob(".tmp-*")))
        service.process.kill()
        service.process.wait()
    path.unlink()
    path.write_bytes(whole)
    with serving(settings) as service:
        assert service.version() == 1
        assert ready_of(service)["source"] == "registry"


def test_two_services_on_one_workspace(settings: Settings) -> None:
    shutil.rmtree(settings.workspace)
    with serving(settings, wait=False) as one, serving(settings, wait=False) as two:
        for service in (one, two):
            service.wait_for_url()
            service.wait_for_version(1)
        Publisher(settings).promote(2)
        for service in (one, two):
            service.wait_for_version(2)
            assert service.model()["service"]["failed_swaps"] == 0


# --- several processes ------------------------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    """Whether a process runs; of one that has ended something may stay for whoever has to bury it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_follow_die_and_come_back(settings: Settings) -> None:
    with serving(settings, "--workers", "2") as service:
        assert "with 2 workers" in service.err
        first = service.children()
        assert len(first) == 2
        Publisher(settings).promote(2)
        service.wait_for(lambda: service.err.count("Version 2 answers now") == 2)
        os.kill(first[0], signal.SIGKILL)
        for _ in range(20):
            assert service.predict(GOOD).json()["model"]["version"] == 2
        service.wait_for(lambda: "Worker 1" in service.err or "Worker 2" in service.err)
        service.wait_for(lambda: service.err.count("Version 2 answers now") == 3)
        now = service.children()
        assert (len(now), first[0] in now, first[1] in now) == (2, False, True)
        assert service.err.count("has ended") == 1
        service.process.kill()  # without a supervisor they end by themselves
        service.process.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in now))


def test_workers_that_cannot_start_end_the_service_with_their_error(settings: Settings) -> None:
    Publisher(settings).promote(4)
    with serving(settings, "--workers", "2", wait=False) as service:
        assert service.process.wait(PATIENCE) == 4
        assert "Error: The model bundle" in service.err
        assert "Golden row 1" in service.err


# --- the end ----------------------------------------------------------------------------------------------------------


def half_a_request(service: Service) -> tuple[socket.socket, bytes]:
    """A connection with a request that is under way, and of which the end is missing; and that end."""
    body = json.dumps({"rows": [GOOD]}).encode()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    found = socket.create_connection((HOST, service.port), PATIENCE)
    found.sendall(head.encode())
    assert found.recv(100).startswith(b"HTTP/1.1 100")  # from here on the service knows of it
    found.sendall(body[:-5])
    return found, body[-5:]


def refuses(service: Service) -> bool:
    try:
        socket.create_connection((HOST, service.port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", WORKERS)
def test_what_is_under_way_is_answered_and_probes_are_told_first(settings: Settings, workers: str) -> None:
    more = ["--workers", workers, "--set", "serve.leave_seconds=12", "--set", "serve.drain_seconds=90"]
    more += ["--set", "serve.request_timeout=200"]
    with serving(settings, *more) as service:
        slow, rest = half_a_request(service)
        with slow:
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: service.get("/readyz").status_code == 503)
            told = service.get("/readyz")
            assert told.json()["error"]["headline"] == "The service is about to end"
            assert told.headers["connection"] == "close"
            assert service.predict(GOOD).status_code == 200  # whoever has not heard of it is answered
            wait_until(lambda: refuses(service))
            assert service.process.poll() is None
            slow.sendall(rest)
            answer = b""
            while chunk := slow.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert service.process.wait(PATIENCE) == 0


def test_draining_has_an_end_and_a_second_signal_ends_at_once(settings: Settings) -> None:
    with serving(settings, "--set", "serve.drain_seconds=1") as service:
        slow, _ = half_a_request(service)
        with slow:
            assert service.stop() == 0  # and the request is lost, as there has been time enough for it
    for workers in WORKERS:
        with serving(settings, "--workers", workers, "--set", "serve.drain_seconds=600") as service:
            slow, _ = half_a_request(service)
            with slow:
                service.process.send_signal(signal.SIGINT)
                wait_until(lambda service=service: refuses(service))
                assert service.process.poll() is None
                assert service.stop(signal.SIGINT) == 0


@contextmanager
def at_hang_up(handler: signal.Handlers) -> Iterator[None]:
    """What a child does when its terminal closes; else it inherits that from whatever started the tests."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals that close do not tell here")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_under_way_is_answered_when_the_terminal_closes(settings: Settings, workers: str) -> None:
    more = ["--workers", workers, "--set", "serve.leave_seconds=600", "--set", "serve.drain_seconds=600"]
    more += ["--set", "serve.request_timeout=600"]
    with at_hang_up(signal.SIG_DFL), serving(settings, *more) as service:
        slow, rest = half_a_request(service)
        with slow:
            process = psutil.Process(service.process.pid)
            group = [process, *process.children(recursive=True)]
            for _ in range(2):  # the system says so to the whole group, and the shell to its jobs
                for one in group:
                    with suppress(psutil.NoSuchProcess):  # what only keeps count of shared memory ends by it
                        one.send_signal(signal.SIGHUP)
            wait_until(lambda: refuses(service))
            slow.sendall(rest)
            assert slow.recv(65536).startswith(b"HTTP/1.1 200")
        assert service.process.wait(60) == 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals that close do not tell here")
def test_a_service_that_is_to_outlive_its_terminal_does(settings: Settings) -> None:
    with at_hang_up(signal.SIG_IGN), serving(settings) as service:  # as nohup has it
        service.process.send_signal(signal.SIGHUP)
        assert service.predict(GOOD).status_code == 200
        assert service.stop() == 0


def test_a_signal_while_the_registry_hangs_ends_the_start(settings: Settings, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as silent:  # takes connections and says nothing
        there = settings.model_copy(update={"registry": "s3://models", "workspace": tmp_path / "empty"})
        there = there.model_copy(update={"s3": S3Server(f"http://{HOST}:{silent.getsockname()[1]}").s3})
        login = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        with serving(there, env=login) as service:
            assert why(service) == "The model is being loaded."
            assert service.stop() == 0


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_swaps(settings: Settings) -> None:
    swaps = 50 if is_slow() else 12
    publisher = Publisher(settings)
    with serving(settings, "--set", "serve.poll_seconds=0.1") as service:
        sizes = []
        for number in range(swaps):
            version = 2 + number % 2
            publisher.promote(version)
            service.wait_for_version(version)
            assert service.predict(GOOD).status_code == 200
            sizes.append(service.rss / 1e6)
        print(f"\nRSS in MB over {swaps} swaps: {[round(size, 1) for size in sizes[:: max(1, swaps // 10)]]}")
        assert sizes[-1] - sizes[swaps // 4] < 10
