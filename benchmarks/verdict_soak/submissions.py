"""What is verified: right solutions in many manners, and code that burns, bloats, dies and litters beside them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.problem import Problem

_MANNERS = {
    "at once": "",
    "computes": "_t = 0\nfor _i in range({loops}):\n    _t += _i\n",
    "sleeps": "import time\ntime.sleep({sleep})\n",
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as _pool:\n"
        "    assert sum(_pool.map(lambda i: sum(range(50_000)), range(8))) > 0\n"
    ),
    "memory": "_block = bytearray(64 << 20)\n_block[::4096] = b'x' * len(_block[::4096])\ndel _block\n",
    "files": "with open('own', 'w') as _f:\n    _f.write('x' * 100_000)\nassert len(open('own').read()) == 100_000\n",
    "imports": "import asyncio, csv, decimal, email, sqlite3, xml.etree.ElementTree, zoneinfo\n",
    "prints": "for _i in range(2000):\n    print('line', _i)\n",
}
_HOSTILE = {
    "burns every core": (
        "import hashlib, threading\nthreading.stack_size(65536)\n"
        "def burn():\n    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1 << 28)\n"
        "def NAME(x):\n    try:\n        for _ in range(60):\n"
        "            threading.Thread(target=burn, daemon=True).start()\n    except RuntimeError:\n        pass\n"
        "    burn()\n"
    ),
    "loops": "def NAME(x):\n    while True:\n        pass\n",
    "sleeps for ever": "import time\ndef NAME(x):\n    time.sleep(1e6)\n",
    "takes memory": "def NAME(x):\n    held = []\n    while True:\n        held.append(bytearray(1 << 26))\n",
    "holds memory": (
        "import time\ndef NAME(x):\n    block = bytearray(300 << 20)\n    block[::4096] = b'x' * len(block[::4096])\n"
        "    time.sleep(0.3)\n    return object()\n"
    ),
    "dies": "import os, signal\ndef NAME(x):\n    os.kill(os.getpid(), signal.SIGSEGV)\n",
    "terminates itself": "import os, signal\ndef NAME(x):\n    os.kill(os.getpid(), signal.SIGTERM)\n",
    "thread storm": (
        "import threading\ndef NAME(x):\n    go = threading.Event()\n    try:\n        for _ in range(600):\n"
        "            threading.Thread(target=go.wait, daemon=True).start()\n    except RuntimeError:\n"
        "        go.set()\n    return object()\n"
    ),
    "deep folders": (
        "import os\ndef NAME(x):\n    for _ in range(900):\n        os.mkdir('d' * 10)\n        os.chdir('d' * 10)\n"
        "    return object()\n"
    ),
    "giant reply": "def NAME(x):\n    return 'x' * (40 << 20)\n",
    "broken reply": (
        "import os, struct, json\ndef NAME(x):\n"
        "    data = json.dumps({'results': [[0, '']]}).encode()\n"
        "    os.write(3, struct.pack('>Q', len(data)) + data)\n    return object()\n"
    ),
    "wrong": "def NAME(x):\n    return object()\n",
    "wrong after a while": "import time\ntime.sleep(0.4)\ndef NAME(x):\n    return object()\n",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One submission; `honest`: right, so both verifiers pass. Otherwise neither may."""

    kind: str
    honest: bool
    problem: Problem
    code: str


def draw_cases(n_honest: int, n_hostile: int, seed: int) -> list[Case]:
    """Honest and hostile submissions in random order; problems of every built-in exploit type."""
    rng = random.Random(seed)
    problems = builtin_problems("eval", per_family=2)
    plain = [problem for problem in problems if problem.exploit_type == "type_confusion"]
    cases = []
    for number in range(n_honest):
        kind = list(_MANNERS)[number % len(_MANNERS)]
        problem = rng.choice(problems)
        before = _MANNERS[kind].format(loops=rng.randrange(200_000, 3_000_000), sleep=f"{rng.uniform(0.1, 0.6):.2f}")
        cases.append(Case(kind, True, problem, before + problem.ground_truth))
    for number in range(n_hostile):
        kind = list(_HOSTILE)[number % len(_HOSTILE)]
        problem = rng.choice(plain)
        cases.append(Case(kind, False, problem, _HOSTILE[kind].replace("NAME", problem.function_name)))
    rng.shuffle(cases)
    return cases
