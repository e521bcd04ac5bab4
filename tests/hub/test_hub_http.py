"""What the hub answers to GET and HEAD."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from qubix_tui.hub.access import Access, Identity
from qubix_tui.hub.engine.base import EngineUnavailable
from qubix_tui.hub.exposition import Picture, take_picture
from qubix_tui.hub.http import HttpRoutes, HubStats
from qubix_tui.hub.http_answers import MAX_PER_PAGE, error_response
from qubix_tui.hub.telemetry import Telemetry
from qubix_tui.protocol.events import MetricsUpdate
from qubix_tui.protocol.job_records import Job, JobState, LogPiece, Receipt
from qubix_tui.protocol.records import Metrics, Provider, ProviderState
from qubix_tui.protocol.tokens import Role

NOW = "2026-01-31T12:00:00.000Z"
VIEWER = Identity(Role.VIEWER)
NOBODY = Identity(Role.NOBODY)
OPEN_PATHS = ["/healthz", "/readyz"]
VIEWER_PATHS = [
    "/",
    "/metrics",
    "/api/websocket/stats",
    "/api/providers",
    "/api/providers/rig-0",
    "/api/jobs",
]


class View:
    """A hub with three providers, one of which has sent a sample."""

    def __init__(self) -> None:
        self.ready = True
        self.telemetry = Telemetry()
        self.pictures = 0
        self.all = [provider(f"rig-{number}") for number in range(3)]
        self.broken = False
        states = (JobState.QUEUED, JobState.RUNNING, JobState.QUEUED)
        self.all_jobs = [
            Job(id=f"j{number}", workload="train", state=state, created_at=NOW)
            for number, state in enumerate(states)
        ]
        self.all_receipts = [
            Receipt(
                job_id="j1",
                attempt=1,
                provider_id="rig-0",
                assigned_at=NOW,
                ended_at=NOW,
                status="failed",
                running_ms=5,
                cost_micros=7,
            )
        ]
        self.pieces = [
            LogPiece(attempt=1, stream="stdout", from_=0, text="é1\n", timestamp=NOW),
            LogPiece(attempt=1, stream="stderr", from_=0, text="oh\n", timestamp=NOW),
            LogPiece(attempt=1, stream="stdout", from_=4, text="2\n", timestamp=NOW),
        ]

    def stats(self) -> HubStats:
        return HubStats(15, [("marketplace", 10), ("provider:abc123", 3)])

    def picture(self) -> Picture:
        self.pictures += 1
        return take_picture(
            self.telemetry,
            [],
            0.0,
            ready=True,
            stores=True,
            connections=15,
            subscriptions=13,
            queue_age=None,
            jobs={},
            attempts={},
        )

    def providers(self) -> Sequence[Provider]:
        return self.all

    def provider(self, provider_id: str) -> Provider | None:
        return next((known for known in self.all if known.id == provider_id), None)

    async def last_metrics(self, provider_id: str) -> MetricsUpdate | None:
        if provider_id != "rig-0":
            return None
        return MetricsUpdate(provider_id=provider_id, metrics=Metrics(cpu_percent=45.2), timestamp=NOW)

    async def benchmark(self, provider_id: str) -> Job | None:
        return next((job for job in self.all_jobs if job.provider_id == provider_id), None)

    def job_ids(self, state: JobState | None) -> Sequence[str]:
        return [job.id for job in self.all_jobs if state in {None, job.state}]

    async def jobs(self, job_ids: Sequence[str]) -> Sequence[Job]:
        if self.broken:
            raise EngineUnavailable("the disk is full: free some space there")
        return [job for job in self.all_jobs if job.id in job_ids]

    async def receipts(self, job_id: str) -> Sequence[Receipt]:
        return [receipt for receipt in self.all_receipts if receipt.job_id == job_id]

    async def log(self, job_id: str) -> Sequence[LogPiece]:
        return self.pieces


def provider(provider_id: str) -> Provider:
    """A provider's record."""
    return Provider(
        id=provider_id,
        worker_id=f"worker-{provider_id}",
        state=ProviderState.AVAILABLE,
        is_online=True,
        is_available=True,
        registered_at=NOW,
    )


@pytest.fixture
def view() -> View:
    """The hub that is shown."""
    return View()


@pytest.fixture
def routes(view: View) -> HttpRoutes:
    """The routes under test."""
    return HttpRoutes(view, Access(allowed_origins=["https://console.example"]))


def get(
    routes: HttpRoutes,
    path: str,
    *,
    identity: Identity = VIEWER,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    host: str = "localhost:3001",
) -> Response:
    """Ask for a path."""
    answer = ask(routes, path, identity=identity, method=method, headers=headers, host=host)
    return answer if isinstance(answer, Response) else asyncio.run(awaited(answer))


def ask(
    routes: HttpRoutes,
    path: str,
    *,
    identity: Identity = VIEWER,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    host: str = "localhost:3001",
) -> Response | Awaitable[Response]:
    """Ask for a path whose answer may take time."""
    return routes.respond(Request(path, Headers([("Host", host), *headers]), method), identity)


async def awaited(answer: Response | Awaitable[Response]) -> Response:
    """What an answer is in the end."""
    return answer if isinstance(answer, Response) else await answer


def body_of(response: Response) -> Any:
    """Read a JSON answer."""
    assert response.headers["Content-Type"] == "application/json"
    return json.loads(bytes(response.body))


def refused(response: Response, status: int) -> str:
    """Check that an answer is a refusal, and give its sentence."""
    body = body_of(response)
    assert response.status_code == status
    assert body.keys() == {"success", "error"}
    assert body["success"] is False
    assert isinstance(body["error"], str)
    return body["error"]


def test_stats_have_exactly_the_shape_of_the_guide(routes: HttpRoutes) -> None:
    """The members, their nesting and their meaning; totalSubscriptions is the number of distinct keys."""
    response = get(routes, "/api/websocket/stats")
    assert response.status_code == 200
    assert body_of(response) == {
        "success": True,
        "stats": {
            "totalClients": 15,
            "totalSubscriptions": 2,
            "subscriptionDetails": [
                {"subscriptionId": "marketplace", "subscriberCount": 10},
                {"subscriptionId": "provider:abc123", "subscriberCount": 3},
            ],
        },
    }


def test_providers_come_in_one_page_where_they_fit(routes: HttpRoutes) -> None:
    """Records in camelCase, in the hub's order, with where one is among the pages."""
    body = body_of(get(routes, "/api/providers"))
    assert [record["id"] for record in body.pop("providers")] == ["rig-0", "rig-1", "rig-2"]
    assert body == {"success": True, "page": 1, "pages": 1, "total": 3}


def test_providers_can_be_paged(routes: HttpRoutes) -> None:
    """Every provider is on exactly one page; a page after the last is empty."""
    pages = [body_of(get(routes, f"/api/providers?page={page}&perPage=2")) for page in (1, 2, 3)]
    assert [[record["id"] for record in page["providers"]] for page in pages] == [
        ["rig-0", "rig-1"],
        ["rig-2"],
        [],
    ]
    assert [(page["page"], page["pages"], page["total"]) for page in pages] == [
        (1, 2, 3),
        (2, 2, 3),
        (3, 2, 3),
    ]


def test_an_empty_fleet_is_one_empty_page(routes: HttpRoutes, view: View) -> None:
    """No providers is an answer, not an error."""
    view.all = []
    assert body_of(get(routes, "/api/providers")) == {
        "success": True,
        "providers": [],
        "page": 1,
        "pages": 1,
        "total": 0,
    }


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=",
        "page=one",
        "page=1.5",
        "page=²",
        "page=%C2%B2",
        "page=" + "9" * 5_000,
        f"perPage={MAX_PER_PAGE + 1}",
        "perPage=0",
        "page=1&page=2",
        "page=%FF",
        "&".join(f"f{number}=1" for number in range(30)),
    ],
)
@pytest.mark.parametrize("path", ["/api/providers", "/api/jobs"])
def test_a_bad_query_is_refused_in_words(routes: HttpRoutes, path: str, query: str) -> None:
    """400 and what was expected; nothing is guessed."""
    assert refused(get(routes, f"{path}?{query}"), 400)


def test_unknown_query_fields_are_ignored(routes: HttpRoutes) -> None:
    """As unknown members are on the wire."""
    assert get(routes, "/api/providers?later=1").status_code == 200


def test_one_provider_comes_with_its_last_sample(routes: HttpRoutes) -> None:
    """The record, the metrics and when the hub received them; null where there are none."""
    body = body_of(get(routes, "/api/providers/rig-0"))
    assert body["provider"]["workerId"] == "worker-rig-0"
    assert body["metrics"]["cpuPercent"] == 45.2
    assert body["metrics"]["gpuPercent"] is None
    assert body["metricsTimestamp"] == NOW
    silent = body_of(get(routes, "/api/providers/rig-1"))
    assert (silent["success"], silent["metrics"], silent["metricsTimestamp"]) == (True, None, None)
    assert (body["benchmark"], silent["benchmark"]) == (None, None)


def test_an_id_may_be_percent_encoded(routes: HttpRoutes) -> None:
    """What needs no encoding may have it."""
    assert body_of(get(routes, "/api/providers/%72ig%2D0"))["provider"]["id"] == "rig-0"


@pytest.mark.parametrize(
    "path",
    ["/api/providers/rig-9", "/api/jobs/job-1", "/api/jobs/job-1/logs"],
)
def test_what_is_not_there_is_not_found(routes: HttpRoutes, path: str) -> None:
    """404, naming what was asked for."""
    assert path.split("/")[3] in refused(get(routes, path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/api/providers/",
        "/api/providers/..%2F..%2Fetc%2Fpasswd",
        "/api/providers/a%00b",
        "/api/providers/a%0d%0aSet-Cookie:x",
        "/api/providers/%E2%80%AE",
        "/api/providers/%FF",
        "/api/providers/%zz",
        "/api/providers/" + "a" * 65,
        "/api/jobs/%3Cscript%3E",
        "/api/jobs/a b/logs",
    ],
)
def test_what_is_no_id_is_refused(routes: HttpRoutes, path: str) -> None:
    """400; the text is not repeated."""
    assert refused(get(routes, path), 400).isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/API/providers",
        "/api/providers/rig-0/x",
        "//",
        "/..",
        "/favicon.ico",
        "http://localhost/",
        "*",
        "/metrics/",
    ],
)
def test_unknown_paths_are_not_found(routes: HttpRoutes, path: str) -> None:
    """404 as JSON, and where to look."""
    assert "/" in refused(get(routes, path), 404)


def test_jobs_come_in_pages(routes: HttpRoutes) -> None:
    """As providers do; all of them, or those in one state."""
    body = body_of(get(routes, "/api/jobs?perPage=2&page=2"))
    assert [job["id"] for job in body["jobs"]] == ["j2"]
    assert (body["page"], body["pages"], body["total"]) == (2, 2, 3)
    queued = body_of(get(routes, "/api/jobs?state=queued"))
    assert ([job["id"] for job in queued["jobs"]], queued["total"]) == (["j0", "j2"], 2)
    assert "unknown, completed" in refused(get(routes, "/api/jobs?state=done"), 400)


def test_one_job_comes_with_its_receipts(routes: HttpRoutes) -> None:
    """What each attempt came to, beside the record."""
    body = body_of(get(routes, "/api/jobs/j1"))
    assert (body["job"]["state"], body["receipts"][0]["costMicros"]) == ("running", 7)
    assert body_of(get(routes, "/api/jobs/j2"))["receipts"] == []


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("", ["é1\n", "oh\n", "2\n"]),
        ("?stream=stdout", ["é1\n", "2\n"]),
        ("?stream=stdout&from=3", ["é1\n", "2\n"]),
        ("?stream=stdout&from=4", ["2\n"]),
        ("?from=99", []),
        ("?perPage=1&page=2", ["oh\n"]),
    ],
)
def test_a_log_is_read_from_an_offset(routes: HttpRoutes, query: str, texts: list[str]) -> None:
    """In bytes of the stream; a piece that holds the offset is given whole."""
    body = body_of(get(routes, f"/api/jobs/j1/logs{query}"))
    assert [piece["text"] for piece in body["log"]] == texts


@pytest.mark.parametrize("query", ["stream=both", "from=-1", "from=x", "from=", "from=99999999999999999"])
def test_a_bad_query_of_a_log_is_refused(routes: HttpRoutes, query: str) -> None:
    """400 and what was expected."""
    assert refused(get(routes, f"/api/jobs/j1/logs?{query}"), 400)


def test_jobs_without_a_store_are_not_available(routes: HttpRoutes, view: View) -> None:
    """503 with the reason, and when to try again; pages of other origins may read it, too."""
    view.broken = True
    for path in ("/api/jobs", "/api/jobs/j1", "/api/jobs/j1/logs"):
        answer = get(routes, path, headers=[("Origin", "https://console.example")])
        assert "the disk is full" in refused(answer, 503)
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["Access-Control-Allow-Origin"] == "https://console.example"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version="),
        (None, "text/plain; version="),
        ("application/openmetrics-text; version=x", ""),
    ],
)
async def test_metrics_are_what_prometheus_asks_for(
    routes: HttpRoutes, view: View, accept: str | None, content_type: str
) -> None:
    """OpenMetrics for who asks for it, else Prometheus's own text; a header without sense is no error."""
    view.telemetry.auth_failures += 7
    response = await awaited(ask(routes, "/metrics", headers=[("Accept", accept)] if accept else ()))
    text = bytes(response.body).decode()
    assert response.headers["Content-Type"].startswith(content_type)
    assert "\nqubix_connections 15.0\n" in text
    assert "\nqubix_subscriptions 13.0\n" in text
    assert "\nqubix_auth_failures_total 7.0\n" in text


async def test_scrapes_at_the_same_time_share_one_picture(routes: HttpRoutes, view: View) -> None:
    """A second scraper costs nothing; the next scrape has a new picture."""
    for pictures in (1, 2):
        answers = [ask(routes, "/metrics") for _ in range(5)]
        responses = await asyncio.gather(*map(awaited, answers))
        assert len({bytes(response.body) for response in responses}) == 1
        assert len(responses) == 5
        assert view.pictures == pictures


def test_health_says_that_it_lives(routes: HttpRoutes, view: View) -> None:
    """Also while it does not serve: it is not to be restarted for that."""
    view.ready = False
    response = get(routes, "/healthz")
    assert (response.status_code, body_of(response)) == (200, {"status": "ok"})


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_readiness_says_whether_it_serves(routes: HttpRoutes, view: View, ready: bool, status: int) -> None:
    """503 while starting, draining or without a store."""
    view.ready = ready
    response = get(routes, "/readyz")
    assert response.status_code == status
    assert body_of(response).keys() == {"status"}


@pytest.mark.parametrize("path", OPEN_PATHS)
@pytest.mark.parametrize("role", Role)
def test_health_answers_anyone(routes: HttpRoutes, path: str, role: Role) -> None:
    """A probe has no token."""
    assert get(routes, path, identity=Identity(role)).status_code == 200


@pytest.mark.parametrize("path", [*VIEWER_PATHS, "/nothing", "/api/providers/!"])
def test_all_else_needs_a_viewer(routes: HttpRoutes, path: str) -> None:
    """Nobody gets 401 and how to authenticate, whether the path exists or not; a provider gets 403."""
    response = get(routes, path, identity=NOBODY)
    assert "Bearer" in refused(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "viewer" in refused(get(routes, path, identity=Identity(Role.PROVIDER, "rig-0", "t")), 403)
    allowed = get(routes, path, identity=Identity(Role.OPERATOR, "lab", "t"))
    assert allowed.status_code == get(routes, path).status_code


@pytest.mark.parametrize("path", [*OPEN_PATHS, *VIEWER_PATHS, "/nothing", "/api/jobs/x"])
def test_head_is_get_without_the_body(routes: HttpRoutes, path: str) -> None:
    """The same status and headers, the length that the body would have had, and no body."""
    # Between the two what this process has used may have become a digit longer.
    pairs = ((get(routes, path), get(routes, path, method="HEAD")) for _ in range(20))
    whole, head = next(pair for pair in pairs if int(pair[1].headers["Content-Length"]) == len(pair[0].body))
    assert head.body == b""
    assert head.status_code == whole.status_code
    assert len(whole.body) > 0
    for response in (whole, head):
        del response.headers["Date"]
    assert list(head.headers.raw_items()) == list(whole.headers.raw_items())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "X" * 1_000])
def test_other_methods_are_not_allowed(routes: HttpRoutes, method: str) -> None:
    """The library hands them on: 405, with those that are."""
    response = get(routes, "/api/providers", method=method)
    refused(response, 405)
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [*OPEN_PATHS, *VIEWER_PATHS, "/nothing"])
def test_nothing_is_cached_or_guessed(routes: HttpRoutes, path: str) -> None:
    """No answer is kept by a browser, or taken for another type than it says."""
    headers = get(routes, path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Connection"] == "close"
    assert headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://console.example"])
@pytest.mark.parametrize("path", ["/api/providers", "/healthz", "/nothing"])
def test_pages_that_may_read_are_told_so(routes: HttpRoutes, path: str, origin: str) -> None:
    """The origin itself, never ``*``, on errors too: the page is to see them."""
    response = get(routes, path, headers=[("Origin", origin)])
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "origins", [["null"], ["https://evil.example"], ["http://localhost", "http://localhost"]]
)
@pytest.mark.parametrize("path", ["/api/providers", "/healthz"])
def test_other_pages_are_refused(routes: HttpRoutes, path: str, origins: list[str]) -> None:
    """403 without the header that would let them read even that."""
    response = get(routes, path, headers=[("Origin", origin) for origin in origins])
    refused(response, 403)
    assert "Access-Control-Allow-Origin" not in response.headers


def test_programs_get_no_cors_header(routes: HttpRoutes) -> None:
    """Without an origin there is none to name."""
    assert "Access-Control-Allow-Origin" not in get(routes, "/api/providers").headers


@pytest.mark.parametrize("path", ["/api/providers", "/healthz"])
def test_a_foreign_host_is_misdirected(routes: HttpRoutes, path: str) -> None:
    """421: a name that was re-pointed here reads nothing."""
    assert "--public-name" in refused(get(routes, path, host="evil.example:3001"), 421)


def test_the_page_runs_its_own_script_only(routes: HttpRoutes) -> None:
    """Its policy names the inline script and style by hash, and allows nothing from elsewhere."""
    response = get(routes, "/")
    html = bytes(response.body).decode()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(
        directive.split(" ", 1) for directive in response.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    for tag in ("script", "style"):
        content = html.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        assert policy[f"{tag}-src"] == _hash_source(content)
    assert "://" not in html.replace("ws://localhost:3001", "").replace("wss://", "").replace("ws://", "")
    assert "innerHTML" not in html


def _hash_source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_the_page_shows_the_snippet_of_the_guide(routes: HttpRoutes) -> None:
    """As it is to be pasted."""
    html = bytes(get(routes, "/").body).decode().replace("&gt;", ">")
    assert "const ws = new WebSocket('ws://localhost:3001');" in html
    assert "ws.send(JSON.stringify({ type: 'subscribe:marketplace' }));" in html


def test_a_refusal_says_when_to_come_back() -> None:
    """Whole seconds, rounded up."""
    request = Request("/", Headers())
    response = error_response(request, 429, "too many", retry_after=1.2)
    assert refused(response, 429) == "too many"
    assert response.headers["Retry-After"] == "2"
    assert "Retry-After" not in error_response(request, 429, "too many").headers


@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_no_path_breaks_the_routes(path: str) -> None:
    """Whatever printable ASCII the library lets through gets an answer that can be written."""
    routes = HttpRoutes(View(), Access())
    for start in ("", "/api/providers/", "/api/providers?", "/api/jobs/"):
        response = get(routes, start + path)
        assert response.status_code in {200, 400, 404}
        assert response.serialize().startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(("method", "status"), [("GET", b"200"), ("HEAD", b"200"), ("POST", b"405")])
async def test_answers_reach_a_plain_client(method: str, status: bytes, view: View) -> None:
    """Through the library and a real socket: status, headers, and a body except to HEAD."""
    routes = HttpRoutes(view, Access())

    def answer(_: ServerConnection, request: Request) -> Response | Awaitable[Response]:
        return routes.respond(request, VIEWER)

    async def never_reached(connection: ServerConnection) -> None:
        raise AssertionError("a plain request became a WebSocket")

    async with serve(never_reached, "127.0.0.1", 0, process_request=answer, server_header=None) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{method} /api/websocket/stats HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 " + status)
    assert bool(body) == (method != "HEAD")
    if body:
        assert json.loads(body)["success"] is (method == "GET")
