"""A text that is no model is refused before LightGBM reads it, which would end the process."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vehins
from vehins.model import tree_text
from vehins.model.averaging import average
from vehins.model.library import import_lightgbm

COLUMNS = 3


def fitted(trees: int, **more: object) -> str:
    dice = np.random.default_rng(1)
    rows = np.column_stack([dice.integers(0, 60, 3_000), dice.normal(size=3_000), dice.integers(0, 5, 3_000)])
    labels = ((rows[:, 0] % 7 == 3) | (rows[:, 1] > 1)).astype(int)
    how = {"objective": "binary", "num_leaves": 8, "verbose": -1, "num_threads": 1, "max_cat_to_onehot": 1}
    lightgbm = import_lightgbm()
    data = lightgbm.Dataset(rows, labels, categorical_feature=[0, 2])
    found: str = lightgbm.train(how | more, data, trees).model_to_string()
    return found


TEXT = fitted(4)
GOOD = {
    "trees": TEXT,
    "averaged": average([TEXT, fitted(3)]),
    "one leaf": fitted(2, min_data_in_leaf=2_999),
    "one tree": fitted(1),
}


def resized(text: str) -> str:
    """The same with sizes of the trees that fit."""
    start, end = text.index("\nTree=0\n") + 1, text.index("end of trees\n")
    places = [found.start() for found in re.finditer(r"^Tree=", text[start:end], re.MULTILINE)] + [end - start]
    sizes = " ".join(str(after - before) for before, after in itertools.pairwise(places))
    return re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)


@pytest.mark.parametrize("name", GOOD)
def test_a_model_is_one(name: str) -> None:
    tree_text.check(GOOD[name].encode(), COLUMNS)


def swapped(pattern: str, value: str) -> str:
    changed, count = re.subn(pattern, value, TEXT, count=1, flags=re.MULTILINE)
    assert count == 1
    return resized(changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not LightGBM's text form of a model"),
        ("hello", "it is not LightGBM's text form of a model"),
        (TEXT.replace("\n", "\r\n"), "it is not LightGBM's text form of a model"),
        (TEXT + "\0", "it is not LightGBM's text form of a model"),
        (TEXT[: TEXT.index("Tree=0")], "it has no trees"),
        (TEXT[: TEXT.index("Tree=3") + 90], "tree 3 does not begin where it must"),
        (TEXT[: TEXT.index("end of trees") + 4], "its trees do not end where they must"),
        (TEXT.replace("num_class=1", "num_class=2"), "it gives more than one number for a row"),
        (TEXT.replace("max_feature_idx=2", "max_feature_idx=3"), "it takes 4 features, and its encoder gives 3"),
        (TEXT.replace("max_feature_idx=2", "max_feature_idx=-1"), "it takes an unknown number of features"),
        (TEXT.replace("label_index=0", "num_class=1"), "its head has two lines of num_class"),
        (TEXT.replace("tree_sizes=", "tree_sizes=1"), "tree 1 does not begin where it must"),
        (TEXT.replace("tree_sizes=", "tree_sizes=x"), "tree_sizes has other than whole numbers"),
        (swapped(r"^split_gain=\S+", "split_gain=1x"), "tree 0 has a line that is not one of numbers"),
        (swapped(r"^split_gain=.*\n", "\n"), "tree 0 has a line that is not one of numbers"),
        (swapped(r"^num_leaves=\d+", "num_leaves=99"), "tree 0: split_feature has not 98 values"),
        (swapped(r"^num_leaves=\d+", "num_leaves=0"), "tree 0: it has no leaves, or leaves that are no numbers"),
        (swapped(r"^is_linear=0", "is_linear=1"), "tree 0: it has no leaves, or leaves that are no numbers"),
        (swapped(r"^leaf_value=\S+ ", "leaf_value="), "values"),
        (swapped(r"^leaf_value=\S+", "leaf_value=nan"), "tree 0: a leaf is no finite number"),
        (swapped(r"^leaf_value=.*\n", ""), "tree 0: it has no leaf_value"),
        (swapped(r"^split_feature=\d+", "split_feature=3"), "tree 0: it looks at a feature that is not there"),
        (swapped(r"^decision_type=\d+", "decision_type=1"), "tree 0: it looks for a set of categories"),
        (swapped(r"^cat_boundaries=0", "cat_boundaries=1"), "tree 0: its sets of categories do not fit"),
        (swapped(r"^left_child=\S+", "left_child=0"), "tree 0: its nodes do not make a tree"),
        (swapped(r"^left_child=\S+", "left_child=99"), "tree 0: its nodes do not make a tree"),
    ],
)
def test_what_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(tree_text.TreeTextError) as caught:
        tree_text.check(text.encode(), COLUMNS)
    assert said in str(caught.value)


def test_nodes_that_go_round_in_a_circle_are_refused() -> None:
    """Every node hangs once below another, and yet the last two hold each other."""
    tree = TEXT[TEXT.index("Tree=0") : TEXT.index("Tree=1")]
    left, right = (re.search(rf"^{side}_child=(.*)$", tree, re.MULTILINE) for side in ("left", "right"))
    assert left is not None
    assert right is not None
    children = [[int(child) for child in side[1].split()] for side in (left, right)]
    nodes = [(side, place) for side in (0, 1) for place, child in enumerate(children[side]) if child > 0]
    (one, at), (other, there) = max(nodes, key=lambda n: n[1]), min(nodes, key=lambda n: children[n[0]][n[1]])
    children[one][at], children[other][there] = children[other][there], children[one][at]
    for name, side, values in (("left", left, children[0]), ("right", right, children[1])):
        tree = tree.replace(side[0], f"{name}_child={' '.join(map(str, values))}")
    text = resized(TEXT[: TEXT.index("Tree=0")] + tree + TEXT[TEXT.index("Tree=1") :])
    with pytest.raises(tree_text.TreeTextError, match="go round in a circle"):
        tree_text.check(text.encode(), COLUMNS)


FUZZ = """
import json, random, re, sys
import numpy as np
from vehins.model import trees
from test_tree_text import COLUMNS, TEXT, resized

dice, count = random.Random(int(sys.argv[1])), {"refused": 0, "answered": 0}
matrix = np.array([[0, 0.5, 3], [1e9, -1, np.nan], [-1, 1e300, 2], [59, np.nan, 1]])
numbers = [found.span() for found in re.finditer("[-+0-9.e]+", TEXT)]
lines = [found.span() for found in re.finditer("[^\\n]*\\n", TEXT)]
values = ["-1", "0", "1", "9", "", "-9", "999999", "99999999999", "nan", "inf", "1e300", "x"]
for number in range(int(sys.argv[2])):
    kind = dice.randrange(5)
    start, end = dice.choice(numbers if kind == 2 else lines)
    place = dice.randrange(len(TEXT))
    text = [
        TEXT[:place],
        TEXT[:place] + chr(dice.randrange(128)) + TEXT[place + 1 :],
        TEXT[:start] + dice.choice(values) + TEXT[end:],
        TEXT[:start] + TEXT[end:],
        TEXT[:start] + TEXT[slice(*dice.choice(lines))] + TEXT[end:],
    ][kind]
    if dice.random() < 0.7 and "\\nTree=0\\n" in text and "end of trees\\n" in text:
        text = resized(text)
    try:
        found = trees.load(text.encode(), COLUMNS)
        found.matrix(matrix, 1), found.row(matrix[0].tolist()), found.contributions(matrix, 1)
        count["answered"] += 1
    except trees.TreesError:
        count["refused"] += 1
print(json.dumps(count))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_no_change_to_a_text_ends_the_process(seed: int) -> None:
    """In a process of its own, as an end would be the end of this one."""
    paths = [str(Path(__file__).parent), str(Path(vehins.__file__).parents[1])]
    program = f"import sys; sys.path[:0] = {paths}\n{FUZZ}"
    command = [sys.executable, "-c", program, str(seed), "1500"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    count = json.loads(done.stdout)
    assert min(count.values()) > 300, count
