"""The shop as a web site: the same engine behind real pages, for people and for agents that drive a browser.

A WSGI application on the standard library's server, bound to loopback by default. Pages are jinja2 templates with
escaping on, work without scripts and load nothing from elsewhere. A session is known by a random name; the oldest are
forgotten when there are too many, so nothing grows. Every action is the engine's own `search[…]` or `click[…]`.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import jinja2

from stepagent_envs.core import MAX_ACTION_LENGTH
from stepagent_envs.errors import TaskError
from stepagent_envs.webshop.engine import Shop, Turn
from stepagent_envs.webshop.reward import Goal
from stepagent_envs.webshop.state import State
from stepagent_envs.webshop.tasksets import ShopTasks

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["MAX_BODY", "MAX_SESSIONS", "Server", "Site", "Visit", "serve"]

MAX_SESSIONS = 10_000
MAX_BODY = 64 * 1024
"""Bytes of a form that are read; larger ones are refused."""

_SECURITY = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]


@dataclass(slots=True)
class Visit:
    """One customer's session: what to buy, where they are, what the last action led to, how many there were."""

    goal: Goal
    state: State
    turn: Turn | None = None
    count: int = 0


class _Reply(Exception):
    """Ends the handling of a request with a status other than 200."""

    def __init__(self, status: str, message: str = "", headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(status)
        self.status, self.message, self.headers = status, message, list(headers)


class Site:
    """The WSGI application.

    Args:
        shop: the rules and products. tasks: what can be asked for.
        split: tasks that a visitor without a wish gets one of.
    """

    def __init__(self, shop: Shop, tasks: ShopTasks, split: str = "test") -> None:
        self.shop = shop
        self._tasks = tasks
        self._split = split
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()
        loader = jinja2.FunctionLoader(_template)
        self._pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    # --- sessions --------------------------------------------------------------------------------------------------

    def open(self, goal: Goal) -> str:
        """Start a session; returns its name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._visits[name] = Visit(goal, self.shop.start())
            while len(self._visits) > MAX_SESSIONS:
                self._visits.popitem(last=False)
        return name

    def visit(self, name: str) -> Visit:
        """A session by name; raises KeyError for one that does not exist (any more)."""
        with self._lock:
            self._visits.move_to_end(name)
            return self._visits[name]

    def forget(self, name: str) -> None:
        """End a session."""
        with self._lock:
            self._visits.pop(name, None)

    def __len__(self) -> int:
        return len(self._visits)

    def act(self, visit: Visit, action: str) -> Turn:
        """Do an action in a session."""
        if len(action) > MAX_ACTION_LENGTH:
            turn = Turn(visit.state, f"an action has at most {MAX_ACTION_LENGTH} characters, this one {len(action)}")
        elif visit.state.view.kind == "done":
            turn = Turn(visit.state, "the purchase is made: start another task")
        else:
            turn = self.shop.act(visit.state, action, visit.goal)
        visit.state, visit.turn, visit.count = turn.state, turn, visit.count + 1
        return turn

    # --- requests --------------------------------------------------------------------------------------------------

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        try:
            kind, content = self._route(environ)
            status, headers = "200 OK", [("Content-Type", f"{kind}; charset=utf-8")]
        except _Reply as reply:
            content = self._render("error.html.j2", status=reply.status, message=reply.message)
            status, headers = reply.status, [("Content-Type", "text/html; charset=utf-8"), *reply.headers]
        body = content.encode("utf-8", "replace")
        start_response(status, [*headers, *_SECURITY, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _render(self, template: str, **values: Any) -> str:
        return self._pages.get_template(template).render(**values)

    def _route(self, environ: WSGIEnvironment) -> tuple[str, str]:
        method = environ["REQUEST_METHOD"]
        path = environ.get("PATH_INFO", "")
        routes: dict[str, tuple[str, Callable[[WSGIEnvironment], tuple[str, str]]]] = {
            "/": ("GET", self._start_page),
            "/start": ("POST", self._start),
            "/static/style.css": ("GET", lambda _: ("text/css", _template("style.css"))),
        }
        route = ("GET, POST", self._session) if path.startswith("/session/") else routes.get(path)
        if route is None:
            raise _Reply("404 Not Found", "There is no such page in this shop.")
        allowed, handler = route
        if method.replace("HEAD", "GET") not in allowed.split(", "):
            raise _Reply("405 Method Not Allowed", "This page is not used that way.", [("Allow", allowed)])
        return handler(environ)

    def _form(self, environ: WSGIEnvironment) -> dict[str, str]:
        try:
            size = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            raise _Reply("400 Bad Request", "The length of the form is no number.") from None
        if not 0 <= size <= MAX_BODY:
            raise _Reply("413 Content Too Large", f"A form has at most {MAX_BODY} bytes.")
        body = environ["wsgi.input"].read(size).decode("utf-8", "replace")
        try:
            fields = parse_qs(body, keep_blank_values=True, max_num_fields=20)
        except ValueError:
            raise _Reply("400 Bad Request", "The form has too many fields.") from None
        return {name: values[0] for name, values in fields.items()}

    def _start_page(self, environ: WSGIEnvironment, error: str = "") -> tuple[str, str]:
        example = self._tasks.split(self._split)[0].id
        return "text/html", self._render("start.html.j2", error=error, example=example, split=self._split)

    def _start(self, environ: WSGIEnvironment) -> tuple[str, str]:
        wanted = self._form(environ).get("task", "").strip()
        if not wanted:
            tasks = self._tasks.split(self._split)
            wanted = tasks[secrets.randbelow(len(tasks))].id
        try:
            goal = self._tasks.goal(wanted)
        except TaskError as error:
            return self._start_page(environ, str(error))
        raise _Reply("303 See Other", "The shop is open.", [("Location", f"/session/{self.open(goal)}")])

    def _session(self, environ: WSGIEnvironment) -> tuple[str, str]:
        path = environ["PATH_INFO"]
        try:
            visit = self.visit(path.removeprefix("/session/"))
        except KeyError:
            raise _Reply("404 Not Found", "There is no such session, or it was forgotten. Start again.") from None
        if environ["REQUEST_METHOD"] == "POST":
            form = self._form(environ)
            if "click" in form:
                self.act(visit, f"click[{form['click']}]")
            elif "search" in form:
                self.act(visit, f"search[{form['search']}]")
            raise _Reply("303 See Other", "Done.", [("Location", path)])
        return "text/html", self.page(visit, path)

    def page(self, visit: Visit, action: str) -> str:
        """The HTML of a session's page; its forms go to `action`."""
        view = visit.state.view
        nodes = self.shop.nodes(view, visit.goal.instruction)
        chosen = set(view.session.options)
        parts = []
        name = ""
        names = set(self.shop.item(view.session).options) if view.kind == "item" else set()
        for (kind, text), clicked in zip(nodes, self.shop.clicked(visit.state, nodes), strict=True):
            name = text if kind == "text" and text in names else name
            parts.append({"kind": kind, "text": text, "clicked": clicked, "chosen": (name, text) in chosen})
        error = visit.turn.error if visit.turn else None
        return self._render("page.html.j2", kind=view.kind, nodes=parts, action=action, error=error, count=visit.count)


def _template(name: str) -> str:
    return (resources.files("stepagent_envs.webshop") / "templates" / name).read_text(encoding="utf-8")


class _Quiet(WSGIRequestHandler):
    """No line on standard error for each request, and no waiting for ever on half a request."""

    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 256


class Server:
    """A running site, in a thread of its own.

    Args:
        site: the application. host, port: where to listen; port 0 takes a free one.
    """

    def __init__(self, site: Site, host: str = "127.0.0.1", port: int = 0) -> None:
        self.site = site
        self._http = make_server(host, port, site, server_class=_Threads, handler_class=_Quiet)
        self.url = f"http://{host}:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, name="webshop-site", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def serve(data: str = "builtin", split: str = "test", host: str = "127.0.0.1", port: int = 0) -> Server:
    """Open the shop of a data set as a web site; `close` ends it.

    Args:
        data, split: as for the environment.
        host, port: where to listen. Other than loopback addresses show the shop to the network.
    """
    from stepagent_envs.webshop.stores import open_catalogue

    catalogue = open_catalogue(data)
    return Server(Site(Shop(catalogue), ShopTasks(catalogue), split), host, port)
