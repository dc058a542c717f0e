"""HEAD, OPTIONS and `Allow` on every route; no redirects."""

import pytest

from tests.service.conftest import ApiClient, ApiFactory

GET_PATHS = ("/livez", "/readyz", "/v1/models", "/metrics", "/openapi.json", "/", "/docs", "/redoc", "/static/icon.svg")
VARYING = {"x-request-id", "server-timing", "content-length", "date"}  # /metrics counts the requests for itself


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_get_without_a_body(api: ApiClient, path: str) -> None:
    got, head = api.client.get(path), api.client.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b"" and int(head.headers["content-length"]) > 0
    assert {k: v for k, v in head.headers.items() if k not in VARYING} == {
        k: v for k, v in got.headers.items() if k not in VARYING
    }


def test_head_of_what_cannot_be_got(api: ApiClient) -> None:
    assert api.client.head("/nothing").status_code == 404
    refused = api.client.head("/v1/describe")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "OPTIONS, POST", b"")


def test_head_needs_the_same_key_and_is_counted_under_its_route(make_api: ApiFactory) -> None:
    api = make_api(api_keys="sesame")
    assert api.client.head("/livez").status_code == 200
    assert api.client.head("/v1/models").status_code == 401
    key = {"authorization": "Bearer sesame"}
    assert api.client.head("/v1/models", headers=key).status_code == 200
    metrics = api.client.get("/metrics", headers=key).text
    assert 'dynrefer_requests_total{outcome="ok",route="/v1/models",surface="api"} 1.0' in metrics.splitlines()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/static/icon.svg", "GET, HEAD, OPTIONS"),
        ("/v1/describe", "OPTIONS, POST"),
        ("/v1/models/reload", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_options_and_refused_methods_name_what_a_path_takes(make_api: ApiFactory, path: str, allowed: str) -> None:
    api = make_api(admin_keys="boss")
    api.client.headers["authorization"] = "Bearer boss"
    options = api.client.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
    for method in ("PUT", "DELETE", "TRACE", "FOO"):
        refused = api.client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed), method
        assert refused.json()["status"] == 405
    assert api.client.options("/nothing").status_code == 404


@pytest.mark.parametrize(
    "path", ["/livez/", "/v1/models/", "/v1/describe/", "/docs/", "/static", "/static/", "//livez"]
)
def test_no_path_is_redirected(api: ApiClient, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        headers = {"host": "evil.example"}
        response = api.client.request(method, "http://testserver" + path, headers=headers, follow_redirects=False)
        assert response.status_code in (404, 405)
        assert "location" not in response.headers and "evil" not in response.text
