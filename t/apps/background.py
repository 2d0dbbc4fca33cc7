"""Threads and loops that the standard library makes for an application."""

import asyncio
import atexit
from concurrent.futures import ThreadPoolExecutor

executor = ThreadPoolExecutor(4)
# Functions run in the reverse order; the last line has no end.
atexit.register(print, "and no more", end="")
atexit.register(print, "last words")


def pooled():
    return sum(executor.map(abs, range(-10, 0)))


async def add(a, b):
    await asyncio.sleep(0)
    return a + b


def looped():
    return asyncio.run(add(1, 2))


async def spawn():
    child = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
    return await child.wait()


def spawned():
    return asyncio.run(spawn())


def application(environ, start_response):
    result = globals()[environ["PATH_INFO"].rsplit("/", 1)[1]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(result).encode()]
