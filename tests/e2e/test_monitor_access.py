"""Who may do what, as whom tunnelctl comes, and where credentials must never go."""

import http.server
import json
import threading

import pytest

from programs.monitoring import set_up
from programs.tunnelctl import BAD_INPUT, CHANGES, CONFIG, DENIED, FAILED, OK, UNAVAILABLE

UNKNOWN_TOKEN = "glsa_nobodynobodynobodynobodynobody00_1a2b3c4d"


@pytest.fixture
def by_token(double, tunnelctl):
    """Runs with a token instead of the admin's password."""

    def with_token(token, **more):
        tunnelctl.secrets.append(token)
        return tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None,
                                          GRAFANA_SERVICE_ACCOUNT_TOKEN=token, **more)

    return with_token


def test_an_editor_s_token_is_enough(double, by_token, pack):
    editor = by_token(double.tokens["editor"])
    set_up(editor, pack)
    double.mode(read_only=True)
    assert "Nothing to do" in editor.monitor("setup", pack.directory, "--skip-verify").expect(OK).out
    double.mode(read_only=False)
    editor.monitor("destroy", pack.directory, "--yes").expect(OK)


@pytest.mark.parametrize("role", ["viewer", "none"])
def test_a_token_that_may_not_write_is_found_before_the_first_write(double, by_token, pack, role):
    double.mode(read_only=True)
    before = double.state()
    ended = by_token(double.tokens[role]).monitor("setup", pack.directory, "--skip-verify").expect(DENIED)
    assert "Editor" in ended.err
    assert double.violations() == [] and double.state() == before


@pytest.mark.parametrize("state", ["expired", "revoked", "disabled", "wrong"])
def test_a_token_that_is_not_accepted(double, by_token, pack, state):
    token = UNKNOWN_TOKEN if state == "wrong" else double.set_token("editor", token="glsa_x" + state * 5, state=state)
    for command in ("plan", "setup"):
        ended = by_token(token).monitor(command, pack.directory).expect(DENIED)
        assert "401" in ended.err and "GRAFANA_SERVICE_ACCOUNT_TOKEN" in ended.err and "--token-file" in ended.err
    assert double.writes() == []


def test_no_credentials_at_all(double, tunnelctl, pack):
    ended = tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None).monitor("plan", pack.directory)
    assert "no credentials were sent" in ended.expect(DENIED).err


def test_another_organisation_than_the_token_s(double, by_token, pack):
    ended = by_token(double.tokens["editor"]).monitor("plan", pack.directory, "--org", "7").expect(DENIED)
    assert "--org" in ended.err
    assert double.writes() == []


def test_a_wrong_password(double, tunnelctl, pack):
    ended = tunnelctl.with_environment(GRAFANA_PASSWORD="not-the-password").monitor("plan", pack.directory)
    ended.expect(DENIED)
    assert "not-the-password" not in ended.err + ended.out


# Datasources --------------------------------------------------------------------------------------


@pytest.fixture
def any_prometheus(pack):
    """The pack takes whatever Prometheus there is."""
    del pack.manifest["datasources"][0]["uid"]
    return pack.write()


def test_no_datasource(double, tunnelctl, any_prometheus):
    double.reset()
    for command in ("plan", "setup"):
        ended = tunnelctl.monitor(command, any_prometheus.directory)
        assert ended.code in (FAILED, BAD_INPUT), ended
        assert "data source" in ended.err and "--datasource datasource=UID" in ended.err and "prometheus" in ended.err
    assert double.writes() == []


def test_a_datasource_the_pack_names_and_the_server_lacks(double, tunnelctl, pack):
    pack.manifest["datasources"][0]["uid"] = "elsewhere"
    pack.write()
    ended = tunnelctl.monitor("setup", pack.directory)
    assert ended.code in (FAILED, BAD_INPUT), ended
    assert "elsewhere" in ended.err and "e2e-prometheus" in ended.err
    assert double.writes() == []


def test_two_datasources_and_none_is_the_default(double, tunnelctl, any_prometheus):
    double.reset()
    for uid in ("east", "west"):
        double.add_datasource(uid, "prometheus", "http://127.0.0.1:9")
    ended = tunnelctl.monitor("setup", any_prometheus.directory, "--skip-verify").expect(BAD_INPUT)
    assert "east" in ended.err and "west" in ended.err and "--datasource" in ended.err
    set_up(tunnelctl, any_prometheus, "--datasource", "datasource=west")
    assert '"west"' in double.state()
    assert tunnelctl.monitor("plan", any_prometheus.directory, "--datasource", "datasource=east").expect(CHANGES)


def test_the_default_of_two_datasources_is_taken(double, tunnelctl, any_prometheus):
    double.add_datasource("another", "prometheus", "http://127.0.0.1:9")
    set_up(tunnelctl, any_prometheus)
    assert '"datasourceUid":"e2e-prometheus"' in double.state()


@pytest.mark.parametrize("given, word", [("datasource=loki-1", "loki"), ("datasource=nowhere", "nowhere"),
                                         ("datasource", "must read"), ("=x", "must read")])
def test_a_datasource_that_does_not_fit(double, tunnelctl, pack, given, word):
    double.add_datasource("loki-1", "loki", "http://127.0.0.1:9")
    ended = tunnelctl.monitor("plan", pack.directory, "--datasource", given)
    assert ended.code in (FAILED, BAD_INPUT), ended
    assert word in ended.err


# Contexts and environment -------------------------------------------------------------------------


@pytest.fixture
def configured(double, tunnelctl, tmp_path):
    """Writes a configuration file and gives a tunnelctl that has nothing else."""

    def with_contexts(text, **environment):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return tunnelctl.with_environment(**{
            "GRAFANA_URL": None, "GRAFANA_USERNAME": None, "GRAFANA_PASSWORD": None, "TUNNELCTL_CONFIG": str(file),
            **environment})

    return with_contexts


def _token_file(tmp_path, token):
    file = tmp_path / "token"
    file.write_text(token + "\n")
    return file


def test_a_context_names_the_server_and_the_token(double, configured, tmp_path, pack):
    by_context = configured(f"""
current: staging
contexts:
  - {{name: staging, grafana_url: "{double.url}", token_file: {_token_file(tmp_path, double.tokens['editor'])}}}
  - {{name: other, grafana_url: "http://127.0.0.1:9"}}
""")
    by_context.monitor("plan", pack.directory).expect(CHANGES)
    by_context.monitor("plan", pack.directory, "--context", "other").expect(UNAVAILABLE)
    unknown = by_context.monitor("plan", pack.directory, "--context", "nirvana").expect(CONFIG)
    assert "nirvana" in unknown.err and "staging, other" in unknown.err


def test_a_read_only_context_refuses_to_write(double, configured, tmp_path, pack):
    looking = configured(f"""
contexts:
  - {{name: looking, grafana_url: "{double.url}", token_file: {_token_file(tmp_path, double.tokens['admin'])},
      read_only: true}}
""")
    looking.monitor("plan", pack.directory, "--context", "looking").expect(CHANGES)
    ended = looking.monitor("setup", pack.directory, "--context", "looking", "--skip-verify").expect(DENIED)
    assert "read-only" in ended.err and "NOT put back" not in ended.err
    assert double.writes() == []


def test_a_context_that_is_named_takes_nothing_from_the_environment(double, configured, tmp_path, pack):
    """Else a token for one server would go to another."""
    by_context = configured(f"""
contexts:
  - {{name: bare, grafana_url: "{double.url}"}}
""", GRAFANA_URL="http://127.0.0.1:9", GRAFANA_SERVICE_ACCOUNT_TOKEN=double.tokens["admin"], GRAFANA_USERNAME="admin",
                            GRAFANA_PASSWORD="admin")
    ended = by_context.monitor("plan", pack.directory, "--context", "bare").expect(DENIED)
    assert "no credentials were sent" in ended.err


class _Eavesdropper(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.heard.append(dict(self.headers))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def eavesdropper():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Eavesdropper)
    server.heard = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_context_s_token_does_not_go_to_a_url_from_elsewhere(double, configured, tmp_path, pack, eavesdropper):
    url = f"http://127.0.0.1:{eavesdropper.server_address[1]}"
    config = f"""
current: prod
contexts:
  - {{name: prod, grafana_url: "{double.url}", token_file: {_token_file(tmp_path, double.tokens['admin'])},
      headers: ["X-Proxy-Key: proxy-secret-1"]}}
"""
    configured(config).monitor("plan", pack.directory, "--grafana-url", url)
    configured(config, GRAFANA_URL=url).monitor("plan", pack.directory)
    assert eavesdropper.heard, "it was asked"
    for headers in eavesdropper.heard:
        assert "Authorization" not in headers and "X-Proxy-Key" not in headers


def test_a_redirect_does_not_take_the_token_along(double, by_token, pack, eavesdropper):
    url = f"http://127.0.0.1:{eavesdropper.server_address[1]}"
    double.fault(path="/api/", status=302, headers={"Location": url + "/login"})
    by_token(double.tokens["editor"]).monitor("plan", pack.directory)
    assert eavesdropper.heard == []


@pytest.mark.parametrize("variable", ["GRAFANA_SERVICE_ACCOUNT_TOKEN", "GRAFANA_SERVICE_ACCOUNT_TOKEN_FILE",
                                      "GRAFANA_API_KEY", "GRAFANA_USERNAME"])
def test_the_names_of_the_mcp_server_s_environment(double, tunnelctl, tmp_path, pack, variable):
    double.set_token("editor", token="glsa_the_one_of_this_test")
    value = {"GRAFANA_SERVICE_ACCOUNT_TOKEN_FILE": str(_token_file(tmp_path, "glsa_the_one_of_this_test")),
             "GRAFANA_USERNAME": "admin"}.get(variable, "glsa_the_one_of_this_test")
    nobody = tunnelctl.with_environment(GRAFANA_USERNAME=None, GRAFANA_PASSWORD=None)
    nobody.secrets.append("glsa_the_one_of_this_test")
    more = {"GRAFANA_PASSWORD": "admin"} if variable == "GRAFANA_USERNAME" else {}
    nobody.with_environment(**{variable: value}, **more).monitor("plan", pack.directory).expect(CHANGES)


def test_headers_and_organisation_of_the_environment_are_sent(tunnelctl, pack, eavesdropper):
    url = f"127.0.0.1:{eavesdropper.server_address[1]}"  # without scheme, this machine is http
    tunnelctl.with_environment(
        GRAFANA_URL=url, GRAFANA_ORG_ID="5", GRAFANA_EXTRA_HEADERS=json.dumps({"X-Tenant": "blue"})).monitor(
            "plan", pack.directory)
    assert all(headers.get("X-Tenant") == "blue" and headers.get("X-Grafana-Org-Id") == "5"
               for headers in eavesdropper.heard) and eavesdropper.heard


@pytest.mark.parametrize("name, value", [("GRAFANA_ORG_ID", "seven"), ("GRAFANA_EXTRA_HEADERS", "X: y"),
                                         ("GRAFANA_EXTRA_HEADERS", '{"X": 1}'),
                                         ("GRAFANA_SERVICE_ACCOUNT_TOKEN_FILE", "/nowhere/token")])
def test_a_setting_that_makes_no_sense_is_named(double, tunnelctl, pack, name, value):
    changed = {name: value, **({"GRAFANA_USERNAME": None} if "TOKEN" in name else {})}
    ended = tunnelctl.with_environment(**changed).monitor("plan", pack.directory).expect(CONFIG)
    assert name in ended.err


def test_plain_http_to_another_machine_is_refused(tunnelctl, pack):
    ended = tunnelctl.with_environment(GRAFANA_URL="http://192.0.2.7").monitor("plan", pack.directory)  # RFC 5737
    assert ended.code in (BAD_INPUT, CONFIG), ended
    assert "use https" in ended.err and "--allow-plain-http" in ended.err


def test_no_server_is_named(tunnelctl, pack):
    ended = tunnelctl.with_environment(GRAFANA_URL=None).monitor("plan", pack.directory).expect(CONFIG)
    assert "GRAFANA_URL" in ended.err and "--grafana-url" in ended.err
