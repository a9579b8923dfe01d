"""Versions of a model, the aliases that point to them, and every move that an alias has made.

Below the root of an object store::

    models/<name>/versions/<n>/claim.json          who has reserved the number n
    models/<name>/versions/<n>/bundle/<files...>   the model bundle
    models/<name>/versions/<n>/manifest.json       written last: without it, there is no version n
    models/<name>/aliases/<alias>.json             where the alias points, changed by compare-and-swap
    models/<name>/history/<alias>/<sequence>.json  every move of the alias, never changed

Nothing here locks: each step is one conditional write, after which any process may be killed.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vehins.artifacts.files import damage
from vehins.errors import ArtifactDamagedError, NotFoundError
from vehins.registry.aliases import Aliases, Look
from vehins.registry.copies import place_copy
from vehins.registry.objects import check_key, conflict, put_file_once, put_once, translated
from vehins.registry.records import AliasMove, Claim, ModelVersion, actor, check_name, damaged, dump, new_token, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vehins.artifacts.files import FileRecord
    from vehins.registry.objects import ObjectStore
    from vehins.registry.records import Scalar

__all__ = ["AliasMove", "Look", "ModelVersion", "Registry", "model_names", "standing"]

_CLAIMS = 100  # publishers at the same moment
_READERS = 8  # below the connections that botocore keeps
_NUMBER = re.compile(r"([1-9][0-9]*)/(.+)")
_MANIFEST = re.compile(r"models/([^/]+)/versions/[1-9][0-9]*/manifest\.json")


class Registry:
    """The versions and aliases of one model in an object store.

    Every method raises `UnreachableError` when the store does not answer and `ArtifactDamagedError` when it answers
    with something that the registry has not written. "There is none" is said only when there is none.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.name = check_name("a model", name)
        self._store = store
        self._aliases = Aliases(store, self.name)

    def versions(self) -> list[ModelVersion]:
        """All whole versions, oldest first."""
        names = self._version_names()
        return self._read([number for number in sorted(names) if "manifest.json" in names[number]])

    def version(self, number: int) -> ModelVersion:
        """One version; `NotFoundError` when there is none of that number, or none whose manifest was written."""
        key = self._manifest_key(number)
        try:
            data = self._store.get(key).data
        except NotFoundError:
            raise NotFoundError(
                f"There is no version {number} of the model {self.name}",
                detail=f"In the registry at {self._store.url}.",
                hint="`vehins models list` shows the versions that there are.",
            ) from None
        version = parse(ModelVersion, data, key, self._store.url)
        if (version.name, version.version) != (self.name, number):
            raise damaged(
                ModelVersion, key, self._store.url, f"It describes version {version.version} of {version.name}"
            )
        return version

    def find(self, bundle: str) -> ModelVersion | None:
        """The newest version that was made from a bundle of this digest."""
        return self._find(bundle, set())

    def aliases(self) -> dict[str, int]:
        """Every alias, and the version that it points to."""
        moves = {alias: self.alias(alias) for alias in self._aliases.names()}
        return {alias: move.version for alias, move in moves.items() if move is not None}

    def alias(self, alias: str) -> AliasMove | None:
        """The last move of an alias, which tells where it points; None when it points nowhere."""
        return self._aliases.current(alias)

    def look(self, alias: str, etag: str | None) -> Look | None:
        """Where an alias points, for who looks often: None while it is as at the look that gave ``etag``."""
        return self._aliases.look(alias, etag)

    def resolve(self, alias: str) -> ModelVersion | None:
        """The version that an alias points to; None when it points nowhere.

        Raises `ArtifactDamagedError` when it points to a version that is not there.
        """
        move = self.alias(alias)
        return None if move is None else self.target(move)

    def target(self, move: AliasMove) -> ModelVersion:
        """The version that a move of an alias leads to; `ArtifactDamagedError` when it is not there."""
        alias = move.alias
        try:
            return self.version(move.version)
        except NotFoundError as error:
            raise ArtifactDamagedError(
                f"The alias {alias} points to version {move.version} of {self.name}, which is not there",
                detail=f"{self._manifest_key(move.version)} is missing in {self._store.url}.",
                hint=f"Restore it from a backup, or point {alias} to another version (`vehins models list`).",
            ) from error

    def history(self, alias: str) -> list[AliasMove]:
        """Every move of an alias, oldest first, without a gap up to the moment of the call."""
        return self._aliases.history(alias)

    def publish(
        self,
        folder: Path,
        files: Sequence[FileRecord],
        *,
        bundle: str,
        champion: int | None,
        evaluation: Mapping[str, Scalar],
        approved: str | None,
        lineage: Mapping[str, str],
    ) -> tuple[ModelVersion, bool]:
        """Register the bundle whose ``files`` lie in ``folder``, and tell whether that made a new version.

        A bundle of the same digest that is registered already is returned as it is, and nothing is written. Raises
        `ArtifactDamagedError` when a file is not what its record says, here or as stored, and ValueError for a metric
        that is not a finite number; no version is made then.
        """
        draft = ModelVersion(
            manifest_version=1,
            name=self.name,
            version=1,
            created_at=datetime.now(UTC),
            actor=actor(),
            bundle=bundle,
            files=list(files),
            champion=champion,
            evaluation=dict(evaluation),
            approved=approved,
            lineage=dict(lineage),
            token=new_token(),
        )
        others: set[int] = set()
        found = self._find(bundle, others)
        if found is not None:
            return found, False
        self._check_source(folder, draft.files)
        return self._register(draft, folder, others)

    def point(
        self,
        alias: str,
        version: int,
        *,
        reason: str,
        instead_of: frozenset[int | None] | None = None,
        after: int | None = None,
    ) -> tuple[AliasMove, bool]:
        """Let an alias point to a version, and tell whether that moved it.

        With ``instead_of``, the alias is moved only from one of those versions (None: from nowhere); with ``after``,
        only when its last move has that number (0: there is none). Raises `NotFoundError` when there is no such
        version, `ArtifactDamagedError` when its stored files are not those of its manifest, and `ConflictError` when
        the alias points elsewhere or other writers keep moving it.
        """
        check_name("an alias", alias)
        self._check_stored(self.version(version))
        return self._aliases.move(alias, version, reason=reason, instead_of=instead_of, after=after)

    def rollback(self, alias: str, *, reason: str) -> tuple[AliasMove, bool]:
        """Take back the last move of an alias that still stands, and tell whether that moved it.

        A rollback is no move that a second one would take back: twice goes back by two moves. Of several at once, one
        moves the alias. Raises `NotFoundError` when there is nothing to go back to, else errors as `point`.
        """
        current = self.alias(alias)
        moves = [move for move in self.history(alias) if current is not None and move.sequence <= current.sequence]
        undone = standing(moves)
        if current is None or undone is None or undone.previous is None:
            raise self._no_way_back(alias, current)
        self._check_stored(self.version(undone.previous))
        after, undoes = current.sequence, undone.sequence
        return self._aliases.move(alias, undone.previous, reason=reason, after=after, undoes=undoes)

    def _no_way_back(self, alias: str, current: AliasMove | None) -> NotFoundError:
        points = "nowhere" if current is None else f"to version {current.version}, with no version before it"
        return NotFoundError(
            f"There is no version to roll {alias} of {self.name} back to",
            detail=f"It points {points}.",
            hint="See the moves (`vehins models history`), or choose a version: `vehins models promote VERSION`.",
        )

    def fetch(self, version: ModelVersion | int, folder: Path) -> Path:
        """Copy a version's bundle into ``folder``, verified, and return that folder; a copy that is intact is kept.

        Raises `ArtifactDamagedError` when what is stored is not what the manifest says, `ConfigurationError` when other
        files stand in the folder, and `LockedError` when another process fills it for too long; none changes it.
        """
        wanted = version if isinstance(version, ModelVersion) else self.version(version)

        def fill(fresh: Path) -> None:
            for record in wanted.files:
                self._download(wanted.version, record, fresh)

        with translated(f"The folder {folder} cannot be used", str(folder)):
            place_copy(folder, wanted.files, fill)
        return folder

    # --- versions -----------------------------------------------------------------------------------------------------

    def _version_key(self, number: int) -> str:
        return f"models/{self.name}/versions/{number}"

    def _manifest_key(self, number: int) -> str:
        return f"{self._version_key(number)}/manifest.json"

    def _version_names(self) -> dict[int, set[str]]:
        """What is stored below each number."""
        prefix = f"models/{self.name}/versions/"
        names: dict[int, set[str]] = {}
        for key in self._store.keys(prefix):
            if found := _NUMBER.fullmatch(key.removeprefix(prefix)):
                names.setdefault(int(found[1]), set()).add(found[2])
        return names

    def _find(self, bundle: str, others: set[int]) -> ModelVersion | None:
        """The newest version of a bundle, unless it is among ``others``; the ones that were looked at join them."""
        names = self._version_names()
        whole = [number for number in sorted(names) if "manifest.json" in names[number]]
        fresh = self._read([number for number in whole if number not in others])
        others |= {version.version for version in fresh if version.bundle != bundle}
        return next((version for version in reversed(fresh) if version.bundle == bundle), None)

    def _read(self, numbers: list[int]) -> list[ModelVersion]:
        """These versions, in that order; several at once, since each may be a journey to a far store."""
        if len(numbers) < 2:
            return [self.version(number) for number in numbers]
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(self.version, numbers))

    def _register(self, draft: ModelVersion, folder: Path, others: set[int]) -> tuple[ModelVersion, bool]:
        """Reserve a number and fill it.

        Publishers of one bundle at the same time, and the next one after a publisher that was killed, meet at the
        lowest number that any of them has claimed, so that they make one version. Numbers are claimed one after the
        other: once a claim is seen, a new listing has all those below it. Other bundles pass such a number by.
        ``others`` are versions that are known to be of other bundles.
        """
        own = None if self._unfinished(draft.bundle) else self._claim(draft.bundle)
        candidates = self._unfinished(draft.bundle)
        found = self._find(draft.bundle, others)
        if found is not None:
            return found, False
        for number in candidates:
            try:
                return self._complete(draft.model_copy(update={"version": number}), folder)
            except ArtifactDamagedError:  # what a publisher has left under its number is not this bundle: pass it by
                if number == own:
                    raise
        return self._complete(draft.model_copy(update={"version": self._claim(draft.bundle)}), folder)

    def _unfinished(self, bundle: str) -> list[int]:
        """The numbers that are claimed for a bundle and have no manifest, lowest first."""
        names = self._version_names()
        claimed = [
            number for number in sorted(names) if "claim.json" in names[number] and "manifest.json" not in names[number]
        ]
        return [number for number in claimed if self._is_claimed_for(number, bundle)]

    def _is_claimed_for(self, number: int, bundle: str) -> bool:
        key = f"{self._version_key(number)}/claim.json"
        try:
            return parse(Claim, self._store.get(key).data, key, self._store.url).bundle == bundle
        except ArtifactDamagedError:  # whatever it says, the number is taken, and not by us
            return False

    def _claim(self, bundle: str) -> int:
        """Reserve the next number, for good."""
        data = dump(Claim(bundle=bundle, at=datetime.now(UTC), actor=actor(), token=new_token()))
        start = max(self._version_names(), default=0) + 1
        for number in range(start, start + _CLAIMS):
            if put_once(self._store, f"{self._version_key(number)}/claim.json", data) == data:
                return number
        raise conflict(self._store, f"models/{self.name}/versions/")

    def _complete(self, version: ModelVersion, folder: Path) -> tuple[ModelVersion, bool]:
        """Store the files under a claimed number, check them there, and write the manifest."""
        for record in version.files:
            put_file_once(self._store, self._file_key(version.version, record), folder / record.path)
        self._check_stored(version)
        key = self._manifest_key(version.version)
        data = dump(version)
        standing = put_once(self._store, key, data)
        return parse(ModelVersion, standing, key, self._store.url), standing == data

    # --- files --------------------------------------------------------------------------------------------------------

    def _file_key(self, number: int, record: FileRecord) -> str:
        return f"{self._version_key(number)}/bundle/{record.path}"

    def _check_source(self, folder: Path, files: Sequence[FileRecord]) -> None:
        """Raise, before anything is written, for a name that cannot be stored and for a file unlike its record."""
        for record in files:
            check_key(self._file_key(1, record))
        with translated(f"The bundle in {folder} cannot be read", str(folder)):
            faults = [fault for record in files if (fault := damage(folder, record)) is not None]
        if faults:
            raise ArtifactDamagedError(
                f"The bundle in {folder} is damaged",
                detail=f"{faults[0]}.",
                hint="Make it anew: `vehins train --force`.",
            )

    def _check_stored(self, version: ModelVersion) -> None:
        """Raise `ArtifactDamagedError` unless every file of a version is stored as its record says."""
        with (
            translated("The folder for temporary files cannot be used", tempfile.gettempdir()),
            tempfile.TemporaryDirectory(prefix="vehins-") as folder,
        ):
            for record in version.files:
                self._download(version.version, record, Path(folder))
                (Path(folder) / record.path).unlink()  # one at a time, for the sake of small disks

    def _download(self, number: int, record: FileRecord, folder: Path) -> None:
        key = self._file_key(number, record)
        try:
            self._store.get_file(key, folder / record.path)
            fault = damage(folder, record)
        except NotFoundError:
            fault = f"{record.path} is missing"
        if fault is not None:
            raise ArtifactDamagedError(
                f"Version {number} of {self.name} is damaged in the registry",
                detail=f"{fault}: {key} in {self._store.url}.",
                hint="Restore that object from a backup, or point to another version (`vehins models list`).",
            )


def standing(moves: Sequence[AliasMove]) -> AliasMove | None:
    """The move that a rollback takes back, of an alias's moves, oldest first.

    That is the last one that led where the alias points now, and that neither is a rollback nor was taken back by one.
    """
    taken_back = {move.undoes for move in moves}
    stands = (move for move in reversed(moves) if move.undoes is None and move.sequence not in taken_back)
    return next((move for move in stands if move.version == moves[-1].version), None)


def model_names(store: ObjectStore) -> list[str]:
    """The models that have a whole version, in alphabetical order."""
    manifests = (_MANIFEST.fullmatch(key) for key in store.keys("models/"))
    return sorted({manifest[1] for manifest in manifests if manifest})
