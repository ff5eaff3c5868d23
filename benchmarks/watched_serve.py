"""`outrider serve`, with a thread added that prints its tasks for every line on standard input.

As JSON: how many run each coroutine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter
from threading import Thread

from outrider.cli import main


def _tasks() -> dict[str, int]:
    tasks = [found for found in gc.get_objects() if isinstance(found, asyncio.Task) and not found.done()]
    return Counter(getattr(task.get_coro(), "__qualname__", "?") for task in tasks)


def _answer() -> None:
    for _ in sys.stdin:
        print(json.dumps(_tasks()), flush=True)


if __name__ == "__main__":
    Thread(target=_answer, daemon=True).start()
    sys.exit(main(["serve", *sys.argv[1:]]))
