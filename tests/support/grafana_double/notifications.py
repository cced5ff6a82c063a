"""/api/v1/provisioning: notification policies, mute timings, templates."""

import copy
import re
import zoneinfo

from . import durations, export
from .answers import Refused, bad_request, empty, refuse_with_id, reply
from .call import string_list, string_map, typed
from .world import DEFAULT_RECEIVER, fingerprint

def refuse_provenance(source, target):
    target = target or "none"
    raise Refused(reply({
        "statusCode": 403, "messageId": "alerting.notifications.invalidProvenance",
        "message": f"Resource with provenance status '{source}' cannot be managed via API that handles resources "
                   f"with provenance status '{target}'. You must use appropriate API to manage this resource",
        "extra": {"SourceProvenance": source, "TargetProvenance": target}}, 403))


def check_provenance(source, target):
    if source and source != target:
        refuse_provenance(source, target)


def routes_of(world):
    found = [world.policies] if world.policies else []
    for route in found:
        found.extend(route.get("routes", []))
    return found


def rule_settings(world):
    return [rule.stored["notification_settings"] for rule in world.rules.values()
            if rule.stored["notification_settings"]]


# Policies ---------------------------------------------------------------------------------------

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHER = re.compile(r'\s*\{?\s*("[^"]+"|[^\s=!~,{}"\'`]+)\s*(=~|!~|!=|=)\s*(.*?)\s*\}?\s*')


def _regex(text):
    try:
        re.compile(text)
    except re.error:
        bad_request()


def _route(body, *, root):
    if not isinstance(body, dict):
        bad_request()
    route = {}
    if typed(body, "receiver", str):
        route["receiver"] = body["receiver"]
    elif root:
        bad_request()
    group_by = string_list(body, "group_by")
    if len(set(group_by)) != len(group_by) or "..." in group_by and len(group_by) > 1:
        bad_request()
    if group_by:
        route["group_by"] = group_by
    for name in ("match", "match_re"):
        if string_map(body, name):
            route[name] = body[name]
    for pattern in body.get("match_re") or {}:
        _regex(body["match_re"][pattern])
    if string_list(body, "matchers"):
        if not all(_MATCHER.fullmatch(text) for text in body["matchers"]):
            bad_request()
        route["matchers"] = body["matchers"]
    matchers = typed(body, "object_matchers", list, [])
    for matcher in matchers:
        if not (isinstance(matcher, list) and len(matcher) == 3 and all(isinstance(part, str) for part in matcher)
                and matcher[1] in ("=", "!=", "=~", "!~")):
            bad_request()
        if "~" in matcher[1]:
            _regex(matcher[2])
    if matchers:
        route["object_matchers"] = matchers
    if root and any(name in route for name in ("match", "match_re", "matchers", "object_matchers")):
        bad_request()
    for name in ("mute_time_intervals", "active_time_intervals"):
        if string_list(body, name):
            if root:
                bad_request()
            route[name] = body[name]
    if typed(body, "continue", bool):
        if root:
            bad_request()
        route["continue"] = True
    children = [_route(child, root=False) for child in typed(body, "routes", list, [])]
    if children:
        route["routes"] = children
    for name in ("group_wait", "group_interval", "repeat_interval"):
        text = body.get(name)
        if text is None:
            continue
        span = durations.parse(text) if isinstance(text, str) else None
        if span is None or span == 0 and name != "group_wait":
            bad_request()
        route[name] = durations.prometheus(span)
    return route


def _tree(world):
    return world.policies or {"receiver": DEFAULT_RECEIVER, "group_by": ["grafana_folder", "alertname"]}


def get_policies(call):
    body = dict(_tree(call.world))
    if call.world.policies_provenance:
        body["provenance"] = call.world.policies_provenance
    return reply(body)


def _invalid_route(cause):
    refuse_with_id(400, "alerting.notifications.routes.invalidFormat",
                   f"Invalid format of the submitted route: {cause}. Correct the payload and try again.",
                   {"Error": cause})


def put_policies(call):
    world, tree = call.world, _route(call.object(), root=True)
    routes = [tree]
    for route in routes:
        routes.extend(route.get("routes", []))
    for route in routes:
        if "receiver" in route and route["receiver"] not in world.receivers():
            _invalid_route(f"receiver '{route['receiver']}' does not exist")
        for name in route.get("mute_time_intervals", []):
            if name not in world.mute_timings:
                _invalid_route(f"mute time interval '{name}' does not exist")
        for name in route.get("active_time_intervals", []):
            if name not in world.mute_timings:
                _invalid_route(f"active time interval '{name}' does not exist")
    check_provenance(world.policies_provenance, call.provenance)
    world.policies, world.policies_provenance = copy.deepcopy(tree), call.provenance
    return reply({"message": "policies updated"}, 202)


def delete_policies(call):
    if call.world.policies_provenance == "file":
        refuse_provenance("file", call.provenance)
    call.world.policies, call.world.policies_provenance = None, ""
    return reply(_tree(call.world), 202)


def export_policies(call):
    return export.answer(call, {"apiVersion": 1, "policies": [{"orgId": 1, **_tree(call.world)}]})


# Mute timings -----------------------------------------------------------------------------------

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")


def _range(text, number):
    """"a:b" or "a" as numbers, in order."""
    parts = [number(part.strip().lower()) for part in text.split(":")]
    if len(parts) > 2 or None in parts or len(parts) == 2 and parts[0] > parts[1] and parts[1] > 0:
        bad_request()
    return parts


def _named(names, first):
    def number(text):
        if text in names:
            return names.index(text) + first
        return int(text) if text.isdigit() and first <= int(text) < first + len(names) else None
    return number


def _day_of_month(text):
    return int(text) if re.fullmatch(r"-?\d+", text) and 1 <= abs(int(text)) <= 31 else None


def _clock(text):
    match = re.fullmatch(r"(\d\d):(\d\d)", text)
    minutes = int(match[1]) * 60 + int(match[2]) if match else 24 * 60 + 1
    if minutes > 24 * 60 or int(match[2]) > 59:
        bad_request()
    return minutes


def _interval(body):
    if not isinstance(body, dict):
        bad_request()
    kept = {}
    times = typed(body, "times", list, [])
    for span in times:
        if not isinstance(span, dict):
            bad_request()
        if _clock(typed(span, "start_time", str)) >= _clock(typed(span, "end_time", str)):
            bad_request()
    if times:
        kept["times"] = [{"start_time": span["start_time"], "end_time": span["end_time"]} for span in times]
    for name, number in (("weekdays", _named(_DAYS, 0)), ("days_of_month", _day_of_month),
                         ("months", _named(_MONTHS, 1)), ("years", lambda t: int(t) if t.isdigit() else None)):
        given = string_list(body, name)
        ranges = [_range(text, number) for text in given]
        if given:
            kept[name] = [":".join(map(str, ends)) for ends in ranges] if name == "months" else \
                [text.lower() for text in given]
    place = typed(body, "location", str)
    if place:
        try:
            zoneinfo.ZoneInfo(place)
        except (KeyError, ValueError, OSError):
            bad_request()
        kept["location"] = place
    return kept


def _read_timing(call):
    body = call.object()
    name = typed(body, "name", str)
    intervals = [_interval(entry) for entry in typed(body, "time_intervals", list, [])]
    if not name:
        bad_request()
    return {"name": name, "time_intervals": intervals}, typed(body, "version", str)


def _timing_shown(timing):
    body = {"name": timing["name"], "time_intervals": timing["time_intervals"],
            "version": fingerprint([timing["name"], timing["time_intervals"]])}
    if timing["provenance"]:
        body["provenance"] = timing["provenance"]
    return body


def _conflict():
    refuse_with_id(409, "alerting.notifications.conflict", "Conflict")


def _known_timing(call):
    timing = call.world.mute_timings.get(call.parts[4])
    if timing is None:
        refuse_with_id(404, "alerting.notifications.time-intervals.notFound", "NotFound")
    return timing


def list_timings(call):
    return reply([_timing_shown(t) for _, t in sorted(call.world.mute_timings.items())])


def get_timing(call):
    return reply(_timing_shown(_known_timing(call)))


def create_timing(call):
    timing, _ = _read_timing(call)
    if timing["name"] in call.world.mute_timings:
        refuse_with_id(400, "alerting.notifications.time-intervals.nameExists",
                       "Time interval with this name already exists. Use a different name or update existing one.")
    timing["provenance"] = call.provenance
    call.world.mute_timings[timing["name"]] = timing
    return reply(_timing_shown(timing), 201)


def update_timing(call):
    timing, version = _read_timing(call)
    old = _known_timing(call)
    if timing["name"] != old["name"]:  # it is looked up by the name in the body
        refuse_with_id(404, "alerting.notifications.time-intervals.notFound", "NotFound")
    check_provenance(old["provenance"], call.provenance)
    if version and version != _timing_shown(old)["version"]:
        _conflict()
    timing.update(name=old["name"], provenance=call.provenance)
    call.world.mute_timings[old["name"]] = timing
    return reply(_timing_shown(timing), 202)


def delete_timing(call):
    world, name = call.world, call.parts[4]
    timing = world.mute_timings.get(name)
    if timing is None:
        return empty(204)
    if timing["provenance"] == "file":
        refuse_provenance("file", call.provenance)
    kinds = ("mute_time_intervals", "active_time_intervals")
    by_routes = any(name in route.get(kind, []) for route in routes_of(world) for kind in kinds)
    by_rules = any(name in settings.get(kind, []) for settings in rule_settings(world) for kind in kinds)
    if by_routes or by_rules:
        extra = {**({"UsedByRules": [rule.uid for rule in world.rules.values()
                                     if name in str(rule.stored["notification_settings"])]} if by_rules else {}),
                 **({"UsedByRoutes": True} if by_routes else {})}
        refuse_with_id(409, "alerting.notifications.time-intervals.used", "Conflict", extra)
    version = call.one("version")
    if version and version != _timing_shown(timing)["version"]:
        _conflict()
    del world.mute_timings[name]
    return empty(204)


def export_timings(call):
    body = {"apiVersion": 1}
    if call.world.mute_timings:
        body["muteTimes"] = [{"orgId": 1, "name": name, "time_intervals": timing["time_intervals"]}
                             for name, timing in sorted(call.world.mute_timings.items())]
    return export.answer(call, body)


# Templates --------------------------------------------------------------------------------------

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.S)


def _template_error(text):
    """What Go's parser would say of the commonest mistakes."""
    if not text.strip():
        return "template must have content"
    if text.count("{{") != text.count("}}"):
        return "invalid template: template: :1: unclosed action"
    depth = 0
    for action in _ACTION.findall(text):
        word, _, value = action.partition(" ")
        if word in ("if", "range", "with"):
            if not value.strip():
                return f"invalid template: template: :1: missing value for {word}"
            depth += 1
        elif word in ("define", "block"):
            depth += 1
        elif word == "end":
            depth -= 1
            if depth < 0:
                return "invalid template: template: :1: unexpected {{end}}"
    return "invalid template: template: :1: unexpected EOF" if depth else None


def _template_shown(template):
    body = {"name": template["name"], "template": template["template"]}
    if template["provenance"]:
        body["provenance"] = template["provenance"]
    return {**body, "version": fingerprint([template["name"], template["template"]])}


def list_templates(call):
    listed = [_template_shown(template) for _, template in sorted(call.world.templates.items())]
    return reply(listed or None)


def get_template(call):
    template = call.world.templates.get(call.parts[4])
    if template is None:
        refuse_with_id(404, "alerting.notifications.templates.notFound", "NotFound")
    return reply(_template_shown(template))


def put_template(call):
    body, name = call.object(), call.parts[4]
    text, version = typed(body, "template", str), typed(body, "version", str)
    wrong = _template_error(text)
    if wrong:
        refuse_with_id(400, "alerting.notifications.templates.invalidFormat",
                       "Template is in invalid format. Correct the payload and try again.", {"Error": wrong})
    if not re.search(r"\{\{-?\s*define", text):
        inner = "\n".join("  " + line for line in text.split("\n"))
        text = f'{{{{ define "{name}" }}}}\n{inner}\n{{{{ end }}}}'
    old = call.world.templates.get(name)
    if old is not None:
        check_provenance(old["provenance"], call.provenance)
        if version and version != _template_shown(old)["version"]:
            _conflict()
    elif version:
        refuse_with_id(404, "alerting.notifications.templates.notFound", "NotFound")
    template = {"name": name, "template": text, "provenance": call.provenance}
    call.world.templates[name] = template
    return reply(_template_shown(template), 202)


def delete_template(call):
    template = call.world.templates.get(call.parts[4])
    if template is not None:
        if template["provenance"] == "file":
            refuse_provenance("file", call.provenance)
        if call.one("version") not in ("", _template_shown(template)["version"]):
            _conflict()
        del call.world.templates[call.parts[4]]
    return empty(204)
