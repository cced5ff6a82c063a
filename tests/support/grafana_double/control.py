"""/_double/: how a test steers the double. No authentication, never part of the log."""

import json

from . import history, irm, oncall
from .access import Token, token_of
from .answers import Answer, Refused, dumps, reply
from .call import Call
from .faults import FORBIDDEN_WRITE, Rule
from .world import canonical


def _state(double, call):
    exact = call.one("exact") not in ("", "0", "false")
    return Answer(200, canonical(double.world.state(exact)).encode(), "application/json")


def _log(double, _):
    return reply(double.faults.log)


def _clear_log(double, _):
    double.faults.log.clear()
    return reply({})


def _violations(double, _):
    return reply([entry for entry in double.faults.log if entry["status"] == FORBIDDEN_WRITE])


def _reset(double, _):
    double.world.reset()
    double.faults.clear()
    return reply({})


def _faults(double, call):
    given = call.json()
    double.faults.rules += [Rule(fault) for fault in (given if isinstance(given, list) else [given])]
    return reply({})


def _shown_faults(double, _):
    return reply([rule.described() for rule in double.faults.rules])


def _clear_faults(double, _):
    double.faults.rules = []
    return reply({})


def _mode(double, call):
    """read_only, racy, delay (seconds before each answer), keep_bodies (in the log), apis."""
    for name, value in call.object().items():
        if name == "apis":
            double.world.apis = bool(value)
        elif name in ("read_only", "racy", "delay", "keep_bodies"):
            setattr(double.faults, name, value)
        else:
            raise ValueError(f"no mode {name}")
    return reply({})


def _tokens(double, _):
    return reply({token.role: secret for secret, token in double.world.tokens.items()
                  if secret == token_of(token.role)})


def _set_token(double, call):
    """{"token"?, "role"?, "state"?}: a new token, or another role or state for a known one."""
    given = call.object()
    role = given.get("role")
    secret = given.get("token") or token_of(role)
    known = double.world.tokens.get(secret)
    double.world.tokens[secret] = Token(role or known.role, given.get("state", "valid"))
    return reply({"token": secret})


def _set_provenance(double, call):
    """{"kind", "id", "provenance"}: kind is rule, contact-point, mute-timing, template, policies or
    dashboard (for which provenance is the name of the provisioning file, or "" to end it)."""
    given, world = call.object(), double.world
    kind, id_, provenance = given["kind"], given.get("id"), given["provenance"]
    if kind == "rule":
        world.rules[id_].provenance = provenance
        world.rules[id_]._text = None
    elif kind == "contact-point":
        next(point for point in world.contact_points if point["uid"] == id_)["provenance"] = provenance
    elif kind == "mute-timing":
        world.mute_timings[id_]["provenance"] = provenance
    elif kind == "template":
        world.templates[id_]["provenance"] = provenance
    elif kind == "policies":
        world.policies_provenance = provenance
    elif kind == "dashboard":
        world.dashboards[id_].provisioned = provenance or None
        world.dashboards[id_].bodies.clear()
    elif kind == "datasource":
        world.datasources[id_]["readOnly"] = bool(provenance)
    else:
        raise ValueError(f"no kind {kind}")
    return reply({})


def _rule_state(double, call):
    """{rule uid: {"state", "health", "lastError", "activeAt", "alerts"}}; what is not named stays."""
    double.world.rule_states.update(call.object())
    return reply({})


def _loki(double, call):
    """[{"time": nanoseconds, "labels", "line"}]: what datasources at http://….fake answer with."""
    double.world.loki_lines = call.json()
    return reply({})


def _oncall(double, call):
    """{"schedules", "users", "teams", "on_call_shifts", "alert_groups"}: lists; null: no OnCall."""
    oncall.tell(double.world, call.json())
    return reply({})


def _oncall_state(double, _):
    return reply(double.world.oncall)


def _irm(double, call):
    """{"plugin"?, "enabled"?}: Grafana keeps incidents from now on, none yet; null: it does not."""
    irm.tell(double.world, call.json())
    return reply({})


def _irm_state(double, _):
    return reply(double.world.irm)


def _changes(double, call):
    """[{"rule", "previous", "current", "time"?, "labels"?, "values"?}]: what rules have done."""
    history.tell(double.world, call.json())
    return reply({})


def _teams(double, call):
    """[{"id", "uid", "name", "email", "memberCount"}]"""
    double.world.teams = call.json()
    return reply({})


async def _preset(double, call):
    """[{"method"?, "path", "body"?, "headers"?}], done as the server's admin and not logged."""
    answers = []
    for step in call.json():
        headers = {"Content-Type": "application/json", **step.get("headers", {})}
        body = dumps(step["body"]) if "body" in step else b""
        inner = Call(double.world, step.get("method", "POST"), step["path"], headers, body)
        answer = await double.as_admin(inner)
        if answer.status >= 400:
            raise ValueError(f"{inner.method} {inner.path}: {answer.status} {answer.body.decode()}")
        answers.append(json.loads(answer.body) if answer.body[:1] in (b"{", b"[") else None)
    return reply(answers)


async def _fill(double, call):
    """{"dashboards", "rules", "panels", "folder"}: that many, in one folder, rules 50 to a group."""
    given, world = call.object(), double.world
    folder = given.get("folder", "filled")

    async def do(method, path, body):
        inner = Call(world, method, path, {"Content-Type": "application/json"}, dumps(body))
        answer = await double.as_admin(inner)
        if answer.status >= 400:
            raise ValueError(f"{path}: {answer.body.decode()}")

    if folder not in world.folders:
        await do("POST", "/api/folders", {"uid": folder, "title": folder.capitalize()})
    for index in range(given.get("dashboards", 0)):
        panels = [{"id": number + 1, "type": "timeseries", "title": f"Panel {number}",
                   "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
                   "datasource": {"type": "prometheus", "uid": "${datasource}"},
                   "targets": [{"refId": "A", "expr": f"sum(rate(metric_{number}[$__rate_interval]))"}]}
                  for number in range(given.get("panels", 10))]
        await do("POST", "/api/dashboards/db", {"folderUid": folder, "dashboard": {
            "uid": f"filled-{index}", "title": f"Filled {index}", "tags": ["filled"], "schemaVersion": 39,
            "panels": panels}})
    rules = given.get("rules", 0)
    for first in range(0, rules, 50):
        group = f"group-{first // 50}"
        listed = [{"uid": f"filled-rule-{index}", "title": f"Filled rule {index}", "condition": "A",
                   "noDataState": "OK", "execErrState": "Error", "for": "5m", "labels": {"severity": "warning"},
                   "data": [{"refId": "A", "datasourceUid": "prom", "relativeTimeRange": {"from": 600, "to": 0},
                             "model": {"refId": "A", "expr": f"metric_{index}", "instant": True}}]}
                  for index in range(first, min(first + 50, rules))]
        await do("PUT", f"/api/v1/provisioning/folder/{folder}/rule-groups/{group}",
                 {"interval": 60, "rules": listed})
    return reply({})


_TABLE = {
    ("GET", "state"): _state, ("GET", "log"): _log, ("DELETE", "log"): _clear_log,
    ("GET", "violations"): _violations, ("POST", "reset"): _reset, ("POST", "faults"): _faults,
    ("GET", "faults"): _shown_faults, ("DELETE", "faults"): _clear_faults, ("POST", "mode"): _mode,
    ("GET", "tokens"): _tokens, ("POST", "token"): _set_token, ("POST", "provenance"): _set_provenance,
    ("POST", "rule-state"): _rule_state, ("POST", "loki"): _loki, ("POST", "preset"): _preset,
    ("POST", "fill"): _fill, ("POST", "oncall"): _oncall, ("GET", "oncall"): _oncall_state,
    ("POST", "irm"): _irm, ("GET", "irm"): _irm_state,
    ("POST", "changes"): _changes, ("POST", "teams"): _teams,
}


async def handle(double, call):
    found = _TABLE.get((call.method, call.parts[1] if len(call.parts) > 1 else ""))
    if found is None:
        return reply({"error": f"no {call.method} {call.path}; there are "
                      + ", ".join(f"{m} /_double/{name}" for m, name in _TABLE)}, 404)
    try:
        answer = found(double, call)
        return answer if isinstance(answer, Answer) else await answer
    except Refused as refused:
        return refused.answer
    except Exception as wrong:  # a test's own mistake: say it, do not look like Grafana
        return reply({"error": f"{type(wrong).__name__}: {wrong}"}, 400)
