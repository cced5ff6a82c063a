#!/usr/bin/python3
"""Serves the double over HTTP: finds the route, checks who calls, injects faults, keeps the log."""

import argparse
import asyncio
import os
import pathlib
import signal
import sys
import threading

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    __package__ = "grafana_double"
    import grafana_double  # noqa: F401

from . import control, oncall, others, routes
from .access import SERVER, Identity, identify, token_of
from .answers import Answer, Refused, denied, no_route, refuse, reply
from .call import Call
from .faults import FORBIDDEN_WRITE, Faults, is_write
from .world import World

MOST_BODY = 64 * 1024 * 1024
MOST_HEADER = 1024 * 1024  # net/http's own limit, beyond which it says 431
#: Paths whose writes share one configuration blob in the real server.
_BLOB = ("/api/v1/provisioning/contact-points", "/api/v1/provisioning/policies",
         "/api/v1/provisioning/mute-timings", "/api/v1/provisioning/templates")
_PAGES = {"d", "d-solo", "explore", "dashboards", "alerting"}


class _Closed(Exception):
    """The connection is to be cut instead of answered."""


class Double:
    def __init__(self, *, admin=("admin", "admin"), apis=True):
        self.world = World(admin=admin, apis=apis)
        self.world.session = None
        self.faults = Faults()
        self._revisions = {}

    # Serving ------------------------------------------------------------------------------------

    async def start(self, port=0, host="127.0.0.1"):
        self.world.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        loop = asyncio.get_running_loop()
        self._server = _Server(self._http, request_factory=self._request, access_log=None, auto_decompress=False,
                               max_line_size=MOST_HEADER, max_field_size=MOST_HEADER)
        self._listener = await loop.create_server(self._server, host, port, backlog=512)
        self.world.url = "http://%s:%d" % self._listener.sockets[0].getsockname()[:2]
        return self.world.url

    async def stop(self):
        self._listener.close()
        await self._server.shutdown(0.1)
        await self.world.session.close()

    @staticmethod
    def _request(message, payload, protocol, writer, task):
        return web.BaseRequest(message, payload, protocol, writer, task, protocol._loop, client_max_size=MOST_BODY)

    async def _http(self, request):
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=413)
        call = Call(self.world, request.method, request.raw_path, request.headers, body)
        if call.path.startswith("/_double/"):
            answer = await control.handle(self, call)
        else:
            try:
                answer = await self._watched(call)
            except _Closed:
                request.transport.abort()
                return web.Response()
        headers = {"Cache-Control": "no-store", **(answer.headers or {})}
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        body = b"" if request.method == "HEAD" else answer.body
        response = web.Response(status=answer.status, body=body, headers=headers)
        if not answer.content_type:
            response.headers.pop("Content-Type", None)
        return response

    # Around every request -----------------------------------------------------------------------

    async def _watched(self, call):
        """Faults before and after, and one line in the log."""
        faults = self.faults
        write = is_write(call.method, call.path)
        entry = {"n": len(faults.log) + 1, "method": call.method, "path": call.path, "query":
                 call.path_and_query.partition("?")[2], "role": "", "status": 0, "write": write, "applied": False}
        if faults.keep_bodies and call.body:
            entry["body"] = call.body.decode("utf-8", "replace")
        faults.log.append(entry)
        if faults.delay:
            await asyncio.sleep(faults.delay)
        if faults.read_only and write:
            entry["status"] = FORBIDDEN_WRITE
            return reply({"message": f"a write in read-only mode: {call.method} {call.path}"}, FORBIDDEN_WRITE)
        given = faults.pick(call.method, call.path, call.body, write) if faults.rules else ()
        spoiled = None
        for fault in given:
            if "delay" in fault:
                await asyncio.sleep(fault["delay"])
            if any(name in fault for name in ("status", "close", "exit")):
                spoiled = spoiled or fault
        if spoiled is None or spoiled.get("applied"):
            answer = await self.answer(call)
            entry["applied"] = write and answer.status < 400
            entry["status"] = answer.status
            if faults.log and call.who is not None:
                entry["role"] = call.who.role
        if spoiled is not None:
            answer = self._spoil(spoiled, entry)
        return answer

    @staticmethod
    def _spoil(fault, entry):
        if "exit" in fault:
            os._exit(fault["exit"])
        if fault.get("close"):
            entry["status"] = 0
            raise _Closed
        entry["status"] = fault["status"]
        body = fault.get("answer", {"message": "injected"})
        if isinstance(body, str):
            return Answer(fault["status"], body.encode(), "text/plain; charset=utf-8", fault.get("headers"))
        answer = reply(body, fault["status"])
        answer.headers = fault.get("headers")
        return answer

    # Answering ----------------------------------------------------------------------------------

    async def answer(self, call):
        try:
            return await self._routed(call)
        except Refused as refused:
            return refused.answer

    async def as_admin(self, call):
        call.who = Identity(SERVER, self.world.admin[0])
        try:
            return await self._handled(call)
        except Refused as refused:
            return refused.answer

    async def _routed(self, call):
        first = call.parts[0]
        if first == "api":
            if call.path == "/api/health" and call.method in ("GET", "HEAD"):
                return others.health(call)
            call.who = identify(self.world, call.headers)
            return await self._handled(call)
        if first == "oncall" and self.world.oncall is not None:
            return oncall.handle(call)
        if first == "apis":
            call.who = identify(self.world, call.headers)
            return others.apis(call)
        return self._page(call)

    def _page(self, call):
        """What lies outside /api: HTML, and the login page for who is nobody."""
        first = call.parts[0]
        if call.path == "/healthz":
            return Answer(200, b"Ok", "text/plain; charset=utf-8")
        if call.path == "/metrics":
            return Answer(200, b"# TYPE grafana_double_up gauge\ngrafana_double_up 1\n", "text/plain; version=0.0.4")
        try:
            call.who = identify(self.world, call.headers)
        except Refused:
            return others.to_login(call)
        if first == "goto" and len(call.parts) == 2:
            return others.goto(call)
        return others.page(200 if first in _PAGES or call.path == "/" else 404)

    async def _handled(self, call):
        if len(call.parts) > 2 and call.parts[-1] == "":  # /api/folders/
            call.parts.pop()
        found = routes.find(call.method, call.parts)
        if found is None:
            return no_route()
        route, call.rest = found
        if call.who.org != 1:
            return denied(route.permission)
        if route.resolve and not call.who.is_admin:
            route.resolve(call)
        if call.who.role not in route.roles:
            return denied(route.permission)
        if self.faults.racy and is_write(call.method, call.path):
            await self._race(call)
        answer = route.handler(call)
        return answer if isinstance(answer, Answer) else await answer

    async def _race(self, call):
        """Writes that meet another of their kind on its way are refused, as parallel ones were: one
        configuration blob for all notifications, optimistic locking for each rule group."""
        key = None
        if call.path.startswith(_BLOB):
            key = "blob"
        elif call.method == "PUT" and "/rule-groups/" in call.path:
            key = call.path
        if key is None:
            return
        seen = self._revisions.get(key, 0)
        await asyncio.sleep(0.01)
        if self._revisions.get(key, 0) != seen:
            if key != "blob":
                refuse(409, "failed to update alert rules: version conflict while updating a record in the database "
                            "with optimistic locking: alert rule UID - version 1")
            if call.path == _BLOB[1]:
                refuse(500, "failed to update notification policy tree")
            refuse(500, "Internal Server Error")
        self._revisions[key] = seen + 1


class _Handler(RequestHandler):
    def handle_error(self, request, status=500, exc=None, message=None):
        if isinstance(exc, LineTooLong):
            response = web.Response(status=431, text="431 Request Header Fields Too Large")
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)


class _Server(web.Server):
    def __call__(self):
        return _Handler(self, loop=self._loop, **self._kwargs)


class InThread:
    """The double in a thread of this process, for tests that look at its state directly."""

    def __init__(self, port=0, **options):
        self.double = Double(**options)
        self._port = port
        self._ready = threading.Event()
        self.url = None

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the double did not start")
        return self

    async def _serve(self):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.url = await self.double.start(self._port)
        self._ready.set()
        await self._end.wait()
        await self.double.stop()

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @staticmethod
    def token(role):
        return token_of(role)


async def _serve(options):
    user, _, password = options.admin.partition(":")
    double = Double(admin=(user, password), apis=not options.no_apis)
    double.faults.racy = options.racy
    print(await double.start(options.port), flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await double.stop()


def main():
    parser = argparse.ArgumentParser(description="A Grafana for tests. Prints its URL, serves until SIGTERM.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--admin", default="admin:admin", help="user:password of the server's admin")
    parser.add_argument("--no-apis", action="store_true", help="answer 404 under /apis, as older servers do")
    parser.add_argument("--racy", action="store_true", help="refuse parallel writes as the real one does")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
