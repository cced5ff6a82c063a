#!/usr/bin/python3
"""Serves the double over HTTP: prints its URL, ends on SIGTERM."""

import argparse
import asyncio
import json
import pathlib
import re
import signal
import sys
import threading

from aiohttp import web

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    __package__ = "loki_double"
    import loki_double  # noqa: F401

from . import api
from .api import Loki
from .logql import Refused

TEXT = "text/plain; charset=utf-8"
_STEP = {"path", "status", "body", "content_type", "headers", "count", "hang", "close", "endless"}
_SETTINGS = {"patterns", "multi_tenant", "max_entries_limit", "max_query_series", "max_query_length", "categorize"}


class Double:
    def __init__(self, **settings):
        self._given = settings
        self.reset()

    def reset(self):
        self.loki = Loki(**self._given)
        self.steps, self.requests = [], []

    # Serving ------------------------------------------------------------------------------------

    async def start(self, port=0):
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._http)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, shutdown_timeout=0.1)
        await site.start()
        return "http://127.0.0.1:%d" % self._runner.addresses[0][1]

    async def stop(self):
        await self._runner.cleanup()

    async def _http(self, request):
        if request.path.startswith("/_double/"):
            return await self._control(request)
        given = [(name, value) for name, value in request.query.items()]
        if request.method == "POST" and request.content_type == "application/x-www-form-urlencoded":
            given += [(name, value) for name, value in (await request.post()).items()]
        entry = {"method": request.method, "path": request.path, "query": dict(given),
                 "headers": {name.lower(): value for name, value in request.headers.items()}, "status": 0}
        self.requests.append(entry)
        if step := self._step_for(request.path):
            return await self._scripted(request, step, entry)
        try:
            status, body, kind = await self._answer(request, given)
        except Refused as refused:
            status, body, kind = refused.status, refused.text.encode(), TEXT
        entry["status"] = status
        return web.Response(status=status, body=body, headers={"Content-Type": kind} if kind else {})

    async def _answer(self, request, given):
        if request.path == "/ready":
            return 200, b"ready\n", TEXT
        if not request.path.startswith("/loki/api/v1/"):
            return 404, b"404 page not found\n", TEXT
        tenant = request.headers.get("X-Scope-OrgID", "")
        if self.loki.multi_tenant and not tenant:
            return 401, b"no org id\n", TEXT
        lines = self.loki.of(tenant if self.loki.multi_tenant else "fake")
        name = request.raw_path.partition("?")[0].removeprefix("/loki/api/v1/")
        if name == "push":
            if request.method != "POST":
                return 405, b"", ""
            api.push(lines, await request.text())
            return 204, b"", ""
        flags = request.headers.get("X-Loki-Response-Encoding-Flags", "")
        answer = self.loki.read(name, lines, given, "categorize-labels" in flags.split(","))
        if answer is None:
            return 404, b"404 page not found\n", TEXT
        return 200, json.dumps(answer, separators=(",", ":")).encode() + b"\n", "application/json; charset=UTF-8"

    # Misbehaving --------------------------------------------------------------------------------

    def _step_for(self, path):
        for step in self.steps:
            if re.search(step.get("path", ""), path):
                if step["count"] == 1:
                    self.steps.remove(step)
                elif step["count"]:
                    step["count"] -= 1
                return step
        return None

    async def _scripted(self, request, step, entry):
        if step.get("hang"):
            await asyncio.Event().wait()
        if step.get("close"):
            request.transport.abort()
            return web.Response()
        if step.get("endless"):
            return await self._endless(request)
        entry["status"] = step.get("status", 200)
        return web.Response(status=entry["status"], body=step.get("body", "").encode(), headers={
            "Content-Type": step.get("content_type", TEXT), **step.get("headers", {})})

    @staticmethod
    async def _endless(request):
        """Lines without end, as a query that nobody limited."""
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=UTF-8"})
        await response.prepare(request)
        await response.write(b'{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[')
        block = b'["1767225600000000000","' + b"x" * 1000 + b'"],'
        try:
            while True:
                await response.write(block * 64)
        except (ConnectionError, asyncio.CancelledError):
            return response

    # Steering -----------------------------------------------------------------------------------

    async def _control(self, request):
        name = request.path.removeprefix("/_double/")
        try:
            return web.json_response(self._controlled(request.method, name, await request.text()))
        except (ValueError, TypeError, KeyError, AttributeError) as wrong:  # a test's own mistake
            return web.json_response({"error": str(wrong)}, status=400)

    def _controlled(self, method, name, body):
        given = json.loads(body) if body else None
        if (method, name) == ("GET", "requests"):
            return self.requests
        if (method, name) == ("DELETE", "requests"):
            self.requests = []
        elif (method, name) == ("POST", "reset"):
            self.reset()
        elif (method, name) == ("POST", "script"):
            for step in given if isinstance(given, list) else [given]:
                if unknown := step.keys() - _STEP:
                    raise ValueError(f"unknown in a step: {', '.join(sorted(unknown))}")
                self.steps.append({"count": 1, **step})
        elif (method, name) == ("DELETE", "script"):
            self.steps = []
        elif (method, name) == ("POST", "settings"):
            if unknown := given.keys() - _SETTINGS:
                raise ValueError(f"unknown setting: {', '.join(sorted(unknown))}")
            for setting, value in given.items():
                setattr(self.loki, setting, value)
        else:
            raise ValueError(f"no {method} {name}")
        return {}


class InThread:
    """The double in a thread of this process."""

    def __init__(self, **settings):
        self.double = Double(**settings)
        self._ready = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the double did not start")
        return self

    async def _serve(self):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.url = await self.double.start()
        self._ready.set()
        await self._end.wait()
        await self.double.stop()

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


async def _serve(options):
    double = Double(patterns=options.patterns, multi_tenant=options.multi_tenant)
    print(await double.start(options.port), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await double.stop()


def main():
    parser = argparse.ArgumentParser(description="A Loki for tests. Prints its URL, serves until SIGTERM.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--patterns", action="store_true", help="serve /patterns, which the real one does not unasked")
    parser.add_argument("--multi-tenant", action="store_true", help="require X-Scope-OrgID, and keep tenants apart")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
