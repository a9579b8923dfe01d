"""Several boosters as one: every tree of each, its leaves divided by their number.

LightGBM adds up the leaves that a row falls into, so the one's raw score is the mean of theirs. The average that a fit
starts from is in the leaves of its first tree and is divided with them. What is edited is LightGBM's text form: a head,
with the size of each tree in bytes; the trees, a `key=values` line for each property; the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TREES = re.compile(r"^Tree=\d+\n(?:.*\n)*?(?=Tree=|end of trees$)", flags=re.MULTILINE)
_SIZES = re.compile(r"^tree_sizes=.*$", flags=re.MULTILINE)
_OUTPUTS = re.compile(r"^(leaf_value|internal_value)=(.*)$", flags=re.MULTILINE)


def average(texts: Sequence[str]) -> str:
    """The mean of some models, each as LightGBM's text, all on the same features."""
    trees = [_divided(tree, len(texts)) for text in texts for tree in _TREES.findall(text)]
    numbered = [re.sub(r"^Tree=\d+", f"Tree={number}", tree) for number, tree in enumerate(trees)]
    sizes = " ".join(str(len(tree.encode())) for tree in numbered)
    first = texts[0]
    head, end = first[: first.index("\nTree=") + 1], first[first.index("\nend of trees") + 1 :]
    return _SIZES.sub(f"tree_sizes={sizes}", head) + "".join(numbered) + end


def _divided(tree: str, by: int) -> str:
    """A tree whose outputs are divided by a number."""

    def divide(line: re.Match[str]) -> str:
        values = (repr(float(value) / by) for value in line[2].split())
        return f"{line[1]}={' '.join(values)}"

    return _OUTPUTS.sub(divide, tree)
