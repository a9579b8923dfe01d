"""A systemd unit for the service: as few rights as it can work with, and the settings in force without the secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vehins.masking import masked_address
from vehins.settings.specs import SECRETS, flatten, variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vehins.settings import Loaded, Settings

STATE, LOGS = "/var/lib/vehins", "/var/log/vehins"
SECRETS_FILE = "/etc/vehins/secrets.env"
# What `serve` reads, beside what has its place under systemd.
_READ = ("registry", "model_name", "alias", "threads", "serve.", "s3.", "remote.")
_MEMORY_MIB, _WORKER_MIB = 256, 384  # a worker needs 150 at most, and twice that while it takes in a new model
_HOMES = (Path("/home"), Path("/root"))
_PRIVILEGED_PORTS = range(1, 1024)

_UNIT = """\
# Made by `vehins serve --print-unit`. As root:
#   vehins serve --print-unit > /etc/systemd/system/vehins.service
#   systemctl daemon-reload && systemctl enable --now vehins
{notes}
[Unit]
Description=vehins: predictions of a registered model over HTTP
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{environment}
EnvironmentFile=-{secrets_file}
WorkingDirectory={state}
SyslogIdentifier=vehins
KillSignal=SIGTERM
KillMode=mixed
TimeoutStartSec=120
TimeoutStopSec={stop_seconds}
# After a failure again, with growing patience (from systemd 254); not when the settings or the command are at fault.
Restart=on-failure
RestartPreventExitStatus=2 3
RestartSec=1
RestartSteps=6
RestartMaxDelaySec=60
LimitNOFILE=65536
TasksMax=1024
MemoryMax={memory}M

# It may listen, connect, read, and write to two folders of its own.
DynamicUser=yes
StateDirectory=vehins
LogsDirectory=vehins
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
PrivateUsers={private_users}
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RemoveIPC=yes
LockPersonality=yes
# polars looks up the processor by code that it writes and runs, unless it is told not to.
Environment=POLARS_SKIP_CPU_CHECK=1
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def unit(loaded: Loaded, command: Sequence[str]) -> str:
    """The text of the unit; ``command`` is what starts vehins, an absolute path first."""
    settings = loaded.settings
    needs_port = settings.serve.port in _PRIVILEGED_PORTS
    environment = [f"Environment={_quoted(f'{name}={value}')}" for name, value in _environment(loaded)]
    return _UNIT.format(
        notes="\n".join(f"# {note}" for note in _notes(loaded)),
        command=" ".join(_quoted(word).replace("$", "$$") for word in [*command, "serve", "--quiet"]),
        environment="\n".join(environment),
        secrets_file=SECRETS_FILE,
        state=STATE,
        # To be taken out of service, for the requests under way, for the prediction log, and to end.
        stop_seconds=round(settings.serve.leave_seconds + 2 * settings.serve.drain_seconds + 10),
        memory=_MEMORY_MIB + _WORKER_MIB * settings.serve.workers,
        capabilities="CAP_NET_BIND_SERVICE" if needs_port else "",
        private_users="no" if needs_port else "yes",  # a capability within a namespace opens no port outside
        protect_home="read-only" if _is_at_home(command[0]) or _is_at_home(settings.registry_url) else "yes",
    )


def _notes(loaded: Loaded) -> Iterator[str]:
    yield f"Secrets belong into {SECRETS_FILE} (owned by root, mode 0600), a NAME=VALUE on each line:"
    yield from (f"  {variable(name)}=..." for name in ["api_keys", *_hidden(loaded)])
    if "://" not in loaded.settings.registry_url:
        yield f"Everybody must be able to read the registry, {_registry(loaded.settings)}: the service has no user."


def _environment(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """The settings in force that are not as they are by default, by the names of their variables."""
    yield variable("workspace"), STATE
    yield variable("registry"), _registry(loaded.settings)
    if loaded.settings.prediction_log is not None:
        yield variable("prediction_log"), f"{LOGS}/predictions"
    hidden = _hidden(loaded)
    for name, value in _given(loaded):
        if name != "registry" and name not in hidden:
            yield variable(name), str(value).lower() if isinstance(value, bool) else str(value)


def _given(loaded: Loaded) -> Iterator[tuple[str, object]]:
    flat = flatten(loaded.settings.model_dump(mode="json", by_alias=True))
    for name in loaded.origins:
        if name.startswith(_READ) and flat[name] is not None:
            yield name, flat[name]


def _hidden(loaded: Loaded) -> list[str]:
    """Settings that `serve` reads, and that nobody may read in a unit."""
    return [name for name, value in _given(loaded) if name in SECRETS or masked_address(str(value)) != str(value)]


def _registry(settings: Settings) -> str:
    url = settings.registry_url.removeprefix("file://")
    return url if "://" in url else str(Path(url).absolute())


def _is_at_home(place: str) -> bool:
    return "://" not in place and any(home in Path(place).absolute().parents for home in _HOMES)


def _quoted(word: str) -> str:
    """A word as systemd reads it back (systemd.syntax(7), systemd.unit(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    plain = escaped == word and word and not any(sign.isspace() or sign in "';" for sign in word)
    return word if plain else f'"{escaped}"'
