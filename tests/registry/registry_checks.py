"""What must hold of a registry at any moment. Nothing here imports pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from vehins.registry.registry import Registry


def check_versions(registry: Registry, folder: Path) -> int:
    """Every version that is listed can be fetched and verified; give their number."""
    versions = registry.versions()
    numbers = [version.version for version in versions]
    assert numbers == sorted(set(numbers))
    assert len({version.bundle for version in versions}) == len(versions)
    for version in versions:
        registry.fetch(version, folder / str(version.version))
    return len(versions)


def check_alias(registry: Registry) -> int:
    """The alias points to a whole version, and its history tells every move in order; give the number of moves."""
    before = registry.alias("champion")
    moves = registry.history("champion")
    assert [move.sequence for move in moves] == list(range(1, len(moves) + 1))
    assert [move.previous for move in moves] == [None, *(move.version for move in moves)][: len(moves)]
    assert len({move.token for move in moves}) == len(moves)
    if before is not None:
        assert moves[before.sequence - 1] == before
        assert registry.resolve("champion") is not None
    return len(moves)
