"""LightGBM's text form of a model, read before LightGBM reads it.

LightGBM trusts its input: it ends the process, without an exception, on most texts that are cut short, and walks out of
its memory where a tree points to a feature or a node that is not there. A hash does not help against a model that was
wrong when it was registered. So what LightGBM relies on is checked here: the sizes of the trees, the number of values
in each line, and that every tree is one, over features that there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_NUMBER = re.compile(rb"(?:0|[1-9][0-9]{0,8})")
_VALUE = rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]{1,3})?|inf|nan)"
_TREE = re.compile(rb"(?:[a-z_]+=(?:%b(?: %b)*+)?\n)++\n*+" % (_VALUE, _VALUE))
_WHOLE = {digits: re.compile(rb"[0-9]{1,%d}(?: [0-9]{1,%d})*+" % (digits, digits)) for digits in (9, 10)}
_CATEGORY = 1  # the bit of a decision type that says so
_START, _END = b"\nTree=0\n", b"end of trees\n"
# Lines of a tree with a value for each split, and for each leaf.
_PER_SPLIT = (b"split_feature", b"threshold", b"decision_type", b"left_child", b"right_child")
_MORE_PER_SPLIT = (b"split_gain", b"internal_value", b"internal_weight", b"internal_count")
_PER_LEAF = (b"leaf_value",)
_MORE_PER_LEAF = (b"leaf_weight", b"leaf_count")


class TreeTextError(ValueError):
    """A text is no model of trees."""


def check(text: bytes, columns: int) -> None:
    """Check a model of so many features with one output.

    Raises:
        TreeTextError: it is none, with what is wrong.
    """
    if not text.startswith(b"tree\n") or b"\0" in text or b"\r" in text:
        raise TreeTextError("it is not LightGBM's text form of a model")
    place = text.find(_START)
    if place < 0:
        raise TreeTextError("it has no trees")
    head = _lines(text[:place].partition(b"\n")[2], "its head")
    _check_head(head, columns)
    for number, tree in enumerate(_trees(text, place + 1, head.get(b"tree_sizes", b""))):
        if not _TREE.fullmatch(tree):
            raise TreeTextError(f"tree {number} has a line that is not one of numbers")
        _check_tree(_lines(tree, f"tree {number}"), number, columns)


def _check_head(head: dict[bytes, bytes], columns: int) -> None:
    if head.get(b"num_class") != b"1" or head.get(b"num_tree_per_iteration") != b"1":
        raise TreeTextError("it gives more than one number for a row")
    found = head.get(b"max_feature_idx", b"")
    if not _NUMBER.fullmatch(found) or int(found) + 1 != columns:
        shown = int(found) + 1 if _NUMBER.fullmatch(found) else "an unknown number of"
        raise TreeTextError(f"it takes {shown} features, and its encoder gives {columns}")


def _trees(text: bytes, start: int, sizes: bytes) -> Sequence[bytes]:
    """The trees, each as its text; their sizes must come out at the end of the last one."""
    found = []
    for number, size in enumerate(_whole(sizes, "tree_sizes")):
        tree = text[start : start + size]
        name, line_end, rest = tree.partition(b"\n")
        if len(tree) != size or name != b"Tree=%d" % number or not line_end:
            raise TreeTextError(f"tree {number} does not begin where it must")
        found.append(rest)
        start += size
    if not found or not text.startswith(_END, start):
        raise TreeTextError("its trees do not end where they must")
    return found


def _lines(text: bytes, where: str) -> dict[bytes, bytes]:
    """The lines ``key=values`` of a part."""
    lines: dict[bytes, bytes] = {}
    for line in filter(None, text.split(b"\n")):
        key, _, values = line.partition(b"=")
        if key in lines:
            raise TreeTextError(f"{where} has two lines of {key.decode(errors='replace')[:40]}")
        lines[key] = values
    return lines


def _check_tree(tree: dict[bytes, bytes], number: int, columns: int) -> None:
    try:
        [leaves], [categories] = _whole(tree[b"num_leaves"], "num_leaves"), _whole(tree[b"num_cat"], "num_cat")
        if leaves < 1 or tree.get(b"is_linear", b"0") != b"0":
            raise TreeTextError("it has no leaves, or leaves that are no numbers")
        _check_counts(tree, leaves)
        if not all(map(math.isfinite, map(float, tree[b"leaf_value"].split(b" ")))):
            raise TreeTextError("a leaf is no finite number")
        if leaves > 1:
            _check_splits(tree, columns, categories)
            _check_children(tree, leaves)
    except (KeyError, ValueError) as error:
        detail = f"it has no {error.args[0].decode()}" if isinstance(error, KeyError) else str(error)
        raise TreeTextError(f"tree {number}: {detail}") from None


def _check_counts(tree: dict[bytes, bytes], leaves: int) -> None:
    for names, count, needed in (
        (_PER_SPLIT, leaves - 1, leaves > 1),
        (_MORE_PER_SPLIT, leaves - 1, False),
        (_PER_LEAF, leaves, True),
        (_MORE_PER_LEAF, leaves, False),
    ):
        for name in names:
            values = tree[name] if needed else tree.get(name, b"")
            if (needed or values) and values.count(b" ") + 1 != count:
                raise TreeTextError(f"{name.decode()} has not {count} values")


def _check_splits(tree: dict[bytes, bytes], columns: int, categories: int) -> None:
    if max(_whole(tree[b"split_feature"], "split_feature")) >= columns:
        raise TreeTextError("it looks at a feature that is not there")
    thresholds = tree[b"threshold"].split(b" ")
    for kind, threshold in zip(_whole(tree[b"decision_type"], "decision_type"), thresholds, strict=True):
        if kind & _CATEGORY and not (_NUMBER.fullmatch(threshold) and int(threshold) < categories):
            raise TreeTextError("it looks for a set of categories that is not there")
        float(threshold)
    if categories:
        edges = _whole(tree[b"cat_boundaries"], "cat_boundaries")
        words = len(_whole(tree[b"cat_threshold"], "cat_threshold", digits=10))
        if len(edges) != categories + 1 or edges[0] or edges[-1] != words or sorted(edges) != edges:
            raise TreeTextError("its sets of categories do not fit")


def _check_children(tree: dict[bytes, bytes], leaves: int) -> None:
    """Every node but the root, and every leaf, hangs once below a node of a smaller number."""
    left, right = (list(map(int, tree[name].split(b" "))) for name in (b"left_child", b"right_child"))
    if sorted(left + right) != [*range(-leaves, 0), *range(1, leaves - 1)]:
        raise TreeTextError("its nodes do not make a tree")
    if any(0 <= child <= parent for side in (left, right) for parent, child in enumerate(side)):
        raise TreeTextError("its nodes go round in a circle")


def _whole(values: bytes, name: str, digits: int = 9) -> list[int]:
    """Whole numbers that are not negative."""
    if not _WHOLE[digits].fullmatch(values):
        raise TreeTextError(f"{name} has other than whole numbers")
    return list(map(int, values.split(b" ")))
