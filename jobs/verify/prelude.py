"""Names that djinn's secure verifier gives every submission; foreshock gives them to both verifiers alike.

A missing `from typing import List` must not split the verdicts, so these names are in builtins for the secure and the
insecure run, below anything that the submission defines itself.
"""

from __future__ import annotations

import bisect
import collections
import copy
import datetime
import functools
import heapq
import io
import itertools
import math
import operator
import os
import random
import re
import string
import typing
from collections.abc import Iterable
from typing import Any


class ListNode:
    """Node of a singly linked list, as exercise texts assume it."""

    def __init__(self, val: Any = 0, next: Any = None) -> None:
        self.val = val
        self.next = next


class TreeNode:
    """Node of a binary tree, as exercise texts assume it."""

    def __init__(self, val: Any = 0, left: Any = None, right: Any = None) -> None:
        self.val = val
        self.left = left
        self.right = right


def list_node(values: Iterable[Any]) -> ListNode | None:
    """Linked list of the values."""
    head: ListNode | None = None
    for value in reversed(list(values)):
        head = ListNode(value, head)
    return head


def tree_node(values: list[Any]) -> TreeNode | None:
    """Binary tree from its values level by level; None marks a missing child."""
    if not values:
        return None
    root = TreeNode(values[0])
    waiting = collections.deque([root])
    rest = iter(values[1:])
    while waiting:
        node = waiting.popleft()
        for side in ("left", "right"):
            value = next(rest, None)
            if value is not None:
                child = TreeNode(value)
                setattr(node, side, child)
                waiting.append(child)
    return root


def _pick(module: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names}


NAMES: dict[str, Any] = {
    **_pick(itertools, "accumulate", "chain", "combinations", "count", "permutations", "product", "groupby"),
    **_pick(itertools, "islice", "repeat"),
    **_pick(string, "ascii_lowercase", "ascii_uppercase"),
    **_pick(math, "floor", "log2", "log10", "sqrt", "comb", "gcd", "ceil", "inf", "isqrt", "factorial", "atan2"),
    **_pick(math, "pi", "log", "prod"),
    **_pick(collections, "defaultdict", "deque", "Counter", "OrderedDict"),
    **_pick(bisect, "bisect", "bisect_left", "bisect_right", "insort"),
    **_pick(heapq, "heappush", "heappop", "heapify", "merge", "nlargest", "nsmallest", "heapreplace"),
    **_pick(functools, "reduce", "cache", "lru_cache", "cmp_to_key", "partial"),
    **_pick(random, "randrange", "shuffle"),
    **_pick(operator, "itemgetter", "sub", "xor", "or_", "iand"),
    **_pick(typing, "List", "Tuple", "Dict", "Set", "Optional", "Union", "Any", "Callable", "Iterable"),
    **_pick(typing, "Iterator", "Generator", "Deque"),
    **{module.__name__: module for module in (copy, string, math, collections, heapq, functools, random)},
    **{module.__name__: module for module in (itertools, operator, re, datetime, io)},
    "os": os,
    "deepcopy": copy.deepcopy,
    "re_search": re.search,
    "commonprefix": os.path.commonprefix,
    "ListNode": ListNode,
    "TreeNode": TreeNode,
    "list_node": list_node,
    "tree_node": tree_node,
}

PRELOAD: tuple[str, ...] = (
    *("array", "ast", "bisect", "cmath", "collections.abc", "contextlib", "copy", "ctypes", "dataclasses", "datetime"),
    *("decimal", "enum", "fractions", "functools", "hashlib", "heapq", "inspect", "io", "itertools", "json", "math"),
    *("numbers", "operator", "random", "re", "signal", "statistics", "string", "struct", "textwrap", "threading"),
    *("time", "traceback", "types", "typing", "unicodedata", "warnings", "weakref"),
)
"""Standard modules that submissions commonly import. Few: every module makes each fork dearer."""
