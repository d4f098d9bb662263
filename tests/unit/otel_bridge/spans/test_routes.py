from __future__ import annotations

import pytest

from otel_bridge.spans.routes import MAX_PATH_LENGTH, MAX_SEGMENTS, infer_route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/health", "/health"),
        ("/api/v1/users/17", "/api/v1/users/{id}"),
        ("/api/v1/users/17/", "/api/v1/users/{id}/"),
        ("/orders/550e8400-e29b-41d4-a716-446655440000/lines/3", "/orders/{uuid}/lines/{id}"),
        ("/orders/550E8400-E29B-41D4-A716-446655440000", "/orders/{uuid}"),
        ("/blobs/d41d8cd98f00b204e9800998ecf8427e", "/blobs/{hash}"),
        ("/docs/507f1f77bcf86cd799439011", "/docs/{hash}"),
        ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/t/{token}"),
        ("/order-items/facade", "/order-items/facade"),
        ("/oauth2/token", "/oauth2/token"),
        ("/index.html", "/index.html"),
    ],
)
def test_identifiers_become_placeholders_and_words_stay(path: str, route: str) -> None:
    assert infer_route(path, 200) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "no-slash",
        "//x",
        "/a//b",
        "/files/report 2026.pdf",
        "/static/app.3f9a2b77.js",
        "/users/alice@example.com",
        "/caf%C3%A9",
        "/x/a1b2",
        "/" + "w" * MAX_PATH_LENGTH,
        "/a" * (MAX_SEGMENTS + 1),
    ],
)
def test_what_is_not_certain_has_no_route(path: str) -> None:
    assert infer_route(path, 200) is None


@pytest.mark.parametrize("status", [None, 400, 404, 405, 410, 414])
def test_an_answer_that_no_handler_gave_confirms_no_route(status: int | None) -> None:
    assert infer_route("/wp-admin", status) is None


@pytest.mark.parametrize("status", [200, 204, 301, 401, 403, 409, 422, 500, 503])
def test_any_other_answer_does(status: int) -> None:
    assert infer_route("/users/1", status) == "/users/{id}"
