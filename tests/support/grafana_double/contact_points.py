"""/api/v1/provisioning/contact-points."""

from . import export
from .answers import Answer, Refused, refuse, refuse_with_id, reply
from .call import typed
from .notifications import check_provenance, routes_of, rule_settings
from .world import BAD_UID

REDACTED = "[REDACTED]"
#: Known types, the settings that never come back, and what must be there: (fields, complaint).
TYPES = {
    "prometheus-alertmanager": (("basicAuthPassword",), (("url",), "could not find url property in settings")),
    "dingding": (("url",), (("url",), "could not find url property in settings")),
    "email": ((), (("addresses",), "could not find addresses in settings")),
    "discord": (("url",), (("url",), "could not find webhook url property in settings")),
    "googlechat": (("url",), (("url",), "could not find url property in settings")),
    "jira": (("password", "api_token"), (("api_url",), "could not find api_url property in settings")),
    "kafka": (("password",), (("kafkaRestProxy",), "could not find kafka rest proxy endpoint property in settings")),
    "line": (("token",), (("token",), "could not find token in settings")),
    "mqtt": (("password",), (("brokerUrl",), "MQTT broker URL must be specified")),
    "oncall": (("password",), (("url",), "required field 'url' is not specified")),
    "opsgenie": (("apiKey",), (("apiKey",), "could not find api key property in settings")),
    "pagerduty": (("integrationKey",), (("integrationKey",), "could not find integration key property in settings")),
    "pushover": (("apiToken", "userKey"), (("userKey",), "user key not found")),
    "sensugo": (("apikey",), (("url",), "could not find URL property in settings")),
    "slack": (("url", "token"), (("url", "token"), "token must be specified when using the Slack chat API")),
    "sns": ((), (("topic_arn", "target_arn", "phone_number"), "must specify topicArn, targetArn, or phone number")),
    "teams": ((), (("url",), "could not find url property in settings")),
    "telegram": (("bottoken",), (("bottoken",), "could not find Bot Token in settings")),
    "threema": (("api_secret",), (("gateway_id",), "could not find Threema Gateway ID in settings")),
    "victorops": (("url",), (("url",), "could not find victorops url property in settings")),
    "webex": (("bot_token",), None),
    "webhook": (("password", "authorization_credentials"), (("url",), "required field 'url' is not specified")),
    "wecom": (("url", "secret"), (("url", "secret"), "either url or secret is required")),
}
_STRINGS = ("url", "addresses", "token", "integrationKey", "recipient")


def complaint(type_, settings):
    """Why these settings will not do, or None."""
    for name in _STRINGS:
        if isinstance(settings.get(name), (int, float)) and not isinstance(settings[name], bool):
            return ("failed to unmarshal settings: json: cannot unmarshal number into Go struct field "
                    f"Config.{name} of type string")
    needed = TYPES[type_][1]
    if needed and not any(settings.get(name) for name in needed[0]):
        return needed[1]
    return None


def _read_point(call):
    """Name, type and settings were checked in this order by the real one."""
    body = call.object()
    name, type_, uid = (typed(body, key, str) for key in ("name", "type", "uid"))
    type_ = type_.lower()
    silent = typed(body, "disableResolveMessage", bool)
    settings = typed(body, "settings", dict)
    if settings is None and call.method == "PUT":
        refuse(400, "invalid object specification: settings should not be empty")
    if settings is None:
        raise Refused(Answer(500, b'{"error":"Server Error","message":"Internal Server Error - please inspect '
                                  b'Grafana server log for details"}', "application/json; charset=UTF-8"))
    return {"uid": uid, "name": name, "type": type_, "settings": dict(sorted(settings.items())),
            "disableResolveMessage": silent}


def _check_point(point):
    if not point["name"]:
        refuse(400, "invalid object specification: name is required")
    if point["type"] not in TYPES:
        refuse(400, f"invalid object specification: unknown integration type: {point['type']}")
    wrong = complaint(point["type"], point["settings"])
    if wrong:
        refuse(400, f'invalid object specification: failed to validate integration "{point["name"]}" '
                    f'(UID {point["uid"]}) of type "{point["type"]}": {wrong}')


def _hidden(point, *, reveal=False):
    secrets = () if reveal else TYPES[point["type"]][0]
    return {name: REDACTED if name in secrets and value else value for name, value in point["settings"].items()}


def _shown(point, *, with_provenance=True):
    body = {**point, "settings": _hidden(point)}
    provenance = body.pop("provenance", "")
    if provenance and with_provenance:
        body["provenance"] = provenance
    return body


def list_points(call):
    name = call.one("name")
    points = [p for p in call.world.contact_points if not name or p["name"] == name]
    return reply([_shown(point) for point in sorted(points, key=lambda point: point["name"])])


def create_point(call):
    world, point = call.world, _read_point(call)
    uid = point["uid"]
    if len(uid) > 40:
        refuse(400, f"invalid object specification\ncannot create contact point with UID '{uid}': "
                    "UID is longer than 40 symbols")
    if BAD_UID.search(uid):
        refuse(400, f"invalid object specification\ncannot create contact point with UID '{uid}': invalid format of "
                    "UID. Only letters, numbers, '-' and '_' are allowed")
    _check_point(point)
    for other in world.contact_points:
        if uid and other["uid"] == uid:
            refuse_with_id(409, "alerting.notifications.contact-points.uidInUse",
                           f"Receiver configuration with UID '{uid}' already exists in contact point "
                           f"'{other['name']}'. Please use unique identifiers for receivers across all contact "
                           "points.", {"Name": other["name"], "UID": uid})
    point["uid"] = uid or world.short_uid()
    point["provenance"] = call.provenance
    world.contact_points.append(point)
    return reply(_shown(point, with_provenance=False), 202)


def update_point(call):
    world, uid = call.world, call.parts[4]
    point = _read_point(call)
    point["uid"] = uid
    old = next((p for p in world.contact_points if p["uid"] == uid), None)
    if old is not None:
        for name in TYPES.get(point["type"], ((), None))[0]:
            if point["settings"].get(name) == REDACTED and name in old["settings"]:
                point["settings"][name] = old["settings"][name]
    _check_point(point)
    if old is None:
        refuse(404, f"object not found: contact point with uid '{uid}' not found")
    if old["provenance"] not in ("", call.provenance):
        refuse(500, f"cannot change provenance from '{old['provenance']}' to '{call.provenance}'")
    renamed = old["name"]
    point["provenance"] = call.provenance
    world.contact_points[world.contact_points.index(old)] = point
    if renamed != point["name"] and renamed not in world.receivers():
        _rename_receiver(world, renamed, point["name"])
    return reply({"message": "contactpoint updated"}, 202)


def _rename_receiver(world, old, new):
    def walk(route):
        if route.get("receiver") == old:
            route["receiver"] = new
        for child in route.get("routes", []):
            walk(child)

    if world.policies:
        walk(world.policies)
    for rule in world.rules.values():
        settings = rule.stored["notification_settings"]
        if settings and settings["receiver"] == old:
            settings["receiver"] = new
            rule._text = None


def delete_point(call):
    world, uid = call.world, call.parts[4]
    point = next((p for p in world.contact_points if p["uid"] == uid), None)
    if point is None:
        return reply({"message": "contactpoint deleted"}, 202)
    check_provenance(point["provenance"], point["provenance"] if call.keeps_editable else "api")
    last = sum(other["name"] == point["name"] for other in world.contact_points) == 1
    if last and any(route.get("receiver") == point["name"] for route in routes_of(world)):
        refuse_with_id(409, "alerting.notifications.contact-points.referenced",
                       "Contact point is currently referenced by a notification policy.")
    if last and any(settings["receiver"] == point["name"] for settings in rule_settings(world)):
        refuse_with_id(409, "alerting.notifications.contact-points.used-by-rule",
                       "Contact point is currently used in the notification settings of one or many alert rules.")
    world.contact_points.remove(point)
    return reply({"message": "contactpoint deleted"}, 202)


def export_points(call):
    name, grouped = call.one("name"), {}
    reveal = call.one("decrypt") == "true"
    if reveal and not call.who.is_admin:
        raise Refused(reply({
            "statusCode": 403, "messageId": "alerting.unauthorized",
            "message": "user is not authorized to read any decrypted receiver",
            "extra": {"permissions": "any(any of alert.provisioning.secrets:read any of "
                                     "alert.notifications.receivers.secrets:read)"}}, 403))
    for point in sorted(call.world.contact_points, key=lambda point: point["name"]):
        if not name or point["name"] == name:
            grouped.setdefault(point["name"], []).append({
                "uid": point["uid"], "type": point["type"], "settings": _hidden(point, reveal=reveal),
                "disableResolveMessage": point["disableResolveMessage"]})
    body = {"apiVersion": 1}
    if grouped:
        body["contactPoints"] = [{"orgId": 1, "name": key, "receivers": list_} for key, list_ in grouped.items()]
    return export.answer(call, body)
