"""The table of routes, with who may use each and what the refusal names."""

from . import (alert_rules, alertmanager, annotations, contact_points, dashboards, datasources, folders, history,
               notifications, others, permissions, queries, rule_states, snapshots, teams)
from .access import ADMINS, EDITORS, EVERYONE, SERVER, VIEWERS

_RULES_READ = ("any of alert.provisioning:read, alert.rules.provisioning:read, alert.provisioning.secrets:read, "
               "all of alert.rules:read, folders:read")
_RULES_WRITE = "any of alert.provisioning:write, alert.rules.provisioning:write, all of "
_RULE_CREATE = _RULES_WRITE + "alert.rules:create, alert.provisioning.provenance:write"
_RULE_WRITE = _RULES_WRITE + "alert.rules:write, alert.provisioning.provenance:write"
_RULE_DELETE = _RULES_WRITE + "alert.rules:delete, alert.provisioning.provenance:write"
_GROUP_WRITE = (_RULES_WRITE + "alert.rules:read, folders:read, alert.provisioning.provenance:write, any of "
                "alert.rules:write, alert.rules:create, alert.rules:delete")
_GROUP_DELETE = (_RULES_WRITE + "alert.rules:delete, alert.rules:read, folders:read, "
                 "alert.provisioning.provenance:write")
_NOTIFY_READ = ("any of alert.provisioning:read, alert.notifications.provisioning:read, "
                "alert.provisioning.secrets:read, alert.notifications:read")
_NOTIFY_WRITE = ("any of alert.provisioning:write, alert.notifications.provisioning:write, all of "
                 "alert.notifications:write, alert.provisioning.provenance:write")
_SILENCE_WRITE = ("all of any of alert.instances:read, alert.silences:read, any of alert.instances:create, "
                  "alert.instances:write, alert.silences:create, alert.silences:write")
_TEST = ("any of any of alert.notifications:write, alert.notifications.receivers:test, all of "
         "alert.notifications.receivers.test:create, any of alert.notifications:read, "
         "alert.notifications.receivers:read, any of alert.notifications.receivers.secrets:read, any of "
         "alert.notifications:write, alert.notifications.receivers:write, any of "
         "alert.notifications.receivers:test, alert.notifications:write, all of "
         "alert.notifications.receivers:create, alert.notifications.receivers.test:create")
_DASHBOARD_SAVE = "any of dashboards:create, dashboards:write"
_ALL, _PROVISIONING = "", "/api/v1/provisioning"
_RULES, _GROUP = f"{_PROVISIONING}/alert-rules", f"{_PROVISIONING}/folder/*/rule-groups/*"
_POINTS, _TIMINGS, _TEMPLATES = (f"{_PROVISIONING}/{kind}" for kind in ("contact-points", "mute-timings", "templates"))
_POLICIES = f"{_PROVISIONING}/policies"
_AM = "/api/alertmanager/grafana"


class Route:
    __slots__ = ("handler", "roles", "permission", "resolve")

    def __init__(self, handler, roles, permission, resolve=None):
        self.handler, self.roles, self.permission, self.resolve = handler, roles, permission, resolve


def _dashboard_exists(call):
    """The access check looks the dashboard up first, so a missing one is 404 even without rights."""
    dashboards.known(call, call.parts[3])


_TABLE = [
    ("GET", "/api/frontend/settings", others.frontend_settings, EVERYONE, _ALL),
    ("GET", "/api/org", others.org, EVERYONE, "orgs:read"),
    ("GET", "/api/orgs", others.orgs, {SERVER}, "orgs:read"),
    ("GET", "/api/orgs/*", others.org_by_id, {SERVER}, "orgs:read"),
    ("GET", "/api/user", others.user, EVERYONE, _ALL),
    ("GET", "/api/user/orgs", others.user_orgs, EVERYONE, _ALL),
    ("GET", "/api/access-control/user/permissions", permissions.of_user, EVERYONE, _ALL),

    ("GET", "/api/folders", folders.list_folders, EVERYONE, "folders:read"),
    ("POST", "/api/folders", folders.create_folder, EDITORS, "folders:create"),
    ("GET", "/api/folders/*", folders.get_folder, VIEWERS, "folders:read"),
    ("PUT", "/api/folders/*", folders.update_folder, EDITORS, "folders:write"),
    ("DELETE", "/api/folders/*", folders.delete_folder, EDITORS, "folders:delete"),
    ("GET", "/api/folders/id/*", folders.get_by_id, VIEWERS, "folders:read"),
    ("GET", "/api/folders/*/counts", folders.counts, VIEWERS, "folders:read"),
    ("POST", "/api/folders/*/move", folders.move_folder, EDITORS, "folders:write"),
    ("GET", "/api/folders/*/permissions", folders.permissions, ADMINS, "folders.permissions:read"),

    ("POST", "/api/dashboards/db", dashboards.save_dashboard, EDITORS, _DASHBOARD_SAVE),
    ("POST", "/api/dashboards/import", dashboards.import_dashboard, EDITORS, "dashboards:create"),
    ("GET", "/api/dashboards/home", dashboards.home, EVERYONE, _ALL),
    ("GET", "/api/dashboards/tags", dashboards.tags, EVERYONE, _ALL),
    ("GET", "/api/dashboards/uid/*", dashboards.get_dashboard, VIEWERS, "dashboards:read", _dashboard_exists),
    ("DELETE", "/api/dashboards/uid/*", dashboards.delete_dashboard, EDITORS, "dashboards:delete", _dashboard_exists),
    ("GET", "/api/dashboards/uid/*/versions", dashboards.list_versions, EDITORS, "dashboards:write",
     _dashboard_exists),
    ("GET", "/api/dashboards/uid/*/versions/*", dashboards.get_version, EDITORS, "dashboards:write",
     _dashboard_exists),
    ("POST", "/api/dashboards/uid/*/restore", dashboards.restore, EDITORS, "dashboards:write", _dashboard_exists),
    ("GET", "/api/dashboards/uid/*/permissions", dashboards.permissions, ADMINS, "dashboards.permissions:read",
     _dashboard_exists),
    ("GET", "/api/search", dashboards.search, EVERYONE, _ALL),

    ("GET", "/api/datasources", datasources.list_datasources, VIEWERS, "datasources:read"),
    ("POST", "/api/datasources", datasources.create, ADMINS, "datasources:create"),
    ("GET", "/api/datasources/*", datasources.get_by_number, VIEWERS, "datasources:read"),
    ("GET", "/api/datasources/uid/*", datasources.get_by_uid, VIEWERS, "datasources:read"),
    ("PUT", "/api/datasources/uid/*", datasources.update, ADMINS, "datasources:write"),
    ("DELETE", "/api/datasources/uid/*", datasources.delete_by_uid, ADMINS, "datasources:delete"),
    ("GET", "/api/datasources/name/*", datasources.get_by_name, VIEWERS, "datasources:read"),
    ("DELETE", "/api/datasources/name/*", datasources.delete_by_name, ADMINS, "datasources:delete"),
    ("GET", "/api/datasources/id/*", datasources.get_id, VIEWERS, "datasources.id:read"),
    ("GET", "/api/datasources/uid/*/health", queries.health, VIEWERS, "datasources:query"),
    ("*", "/api/datasources/uid/*/resources/**", queries.resource, VIEWERS, "datasources:query"),
    ("*", "/api/datasources/proxy/uid/*/**", queries.proxy, VIEWERS, "datasources:query"),
    ("*", "/api/datasources/proxy/*/**", queries.proxy, VIEWERS, "datasources:query"),
    ("POST", "/api/ds/query", queries.ds_query, VIEWERS, "datasources:query"),
    ("POST", "/api/v1/eval", queries.evaluate, VIEWERS, "alert.rules:read"),

    ("GET", _RULES, alert_rules.list_rules, VIEWERS, _RULES_READ),
    ("POST", _RULES, alert_rules.create_rule, EDITORS, _RULE_CREATE),
    ("GET", f"{_RULES}/export", alert_rules.export_rules, VIEWERS, _RULES_READ),
    ("GET", f"{_RULES}/*", alert_rules.get_rule, VIEWERS, _RULES_READ),
    ("PUT", f"{_RULES}/*", alert_rules.update_rule, EDITORS, _RULE_WRITE),
    ("DELETE", f"{_RULES}/*", alert_rules.delete_rule, EDITORS, _RULE_DELETE),
    ("GET", f"{_RULES}/*/export", alert_rules.export_rule, VIEWERS, _RULES_READ),
    ("GET", _GROUP, alert_rules.get_group, VIEWERS, _RULES_READ),
    ("PUT", _GROUP, alert_rules.put_group, EDITORS, _GROUP_WRITE),
    ("DELETE", _GROUP, alert_rules.delete_group, EDITORS, _GROUP_DELETE),
    ("GET", f"{_GROUP}/export", alert_rules.export_group, VIEWERS, _RULES_READ),

    ("GET", _POINTS, contact_points.list_points, VIEWERS, _NOTIFY_READ),
    ("POST", _POINTS, contact_points.create_point, EDITORS, _NOTIFY_WRITE),
    ("GET", f"{_POINTS}/export", contact_points.export_points, VIEWERS, _NOTIFY_READ),
    ("PUT", f"{_POINTS}/*", contact_points.update_point, EDITORS, _NOTIFY_WRITE),
    ("DELETE", f"{_POINTS}/*", contact_points.delete_point, EDITORS, _NOTIFY_WRITE),
    ("GET", _POLICIES, notifications.get_policies, VIEWERS, _NOTIFY_READ),
    ("PUT", _POLICIES, notifications.put_policies, EDITORS, _NOTIFY_WRITE),
    ("DELETE", _POLICIES, notifications.delete_policies, EDITORS, _NOTIFY_WRITE),
    ("GET", f"{_POLICIES}/export", notifications.export_policies, VIEWERS, _NOTIFY_READ),
    ("GET", _TIMINGS, notifications.list_timings, VIEWERS, _NOTIFY_READ),
    ("POST", _TIMINGS, notifications.create_timing, EDITORS, _NOTIFY_WRITE),
    ("GET", f"{_TIMINGS}/export", notifications.export_timings, VIEWERS, _NOTIFY_READ),
    ("GET", f"{_TIMINGS}/*", notifications.get_timing, VIEWERS, _NOTIFY_READ),
    ("PUT", f"{_TIMINGS}/*", notifications.update_timing, EDITORS, _NOTIFY_WRITE),
    ("DELETE", f"{_TIMINGS}/*", notifications.delete_timing, EDITORS, _NOTIFY_WRITE),
    ("GET", _TEMPLATES, notifications.list_templates, VIEWERS, _NOTIFY_READ),
    ("GET", f"{_TEMPLATES}/*", notifications.get_template, VIEWERS, _NOTIFY_READ),
    ("PUT", f"{_TEMPLATES}/*", notifications.put_template, EDITORS, _NOTIFY_WRITE),
    ("DELETE", f"{_TEMPLATES}/*", notifications.delete_template, EDITORS, _NOTIFY_WRITE),

    ("GET", "/api/prometheus/grafana/api/v1/rules", rule_states.rules, VIEWERS, "alert.rules:read"),
    ("GET", "/api/prometheus/grafana/api/v1/alerts", rule_states.alerts, VIEWERS, "alert.instances:read"),
    ("GET", f"{_AM}/api/v2/alerts", alertmanager.alerts, VIEWERS, "alert.instances:read"),
    ("GET", f"{_AM}/api/v2/silences", alertmanager.silences, VIEWERS, "alert.instances:read"),
    ("POST", f"{_AM}/api/v2/silences", alertmanager.silence_create, EDITORS, _SILENCE_WRITE),
    ("GET", f"{_AM}/api/v2/silence/*", alertmanager.silence_get, VIEWERS, "alert.instances:read"),
    ("DELETE", f"{_AM}/api/v2/silence/*", alertmanager.silence_delete, EDITORS, _SILENCE_WRITE),
    ("GET", f"{_AM}/config/api/v1/receivers", alertmanager.receivers, VIEWERS, "alert.notifications:read"),
    ("POST", f"{_AM}/config/api/v1/receivers/test", alertmanager.test, EDITORS, _TEST),

    ("GET", "/api/v1/rules/history", history.states, VIEWERS, "alert.rules:read"),

    ("GET", "/api/annotations", annotations.list_notes, VIEWERS, "annotations:read"),
    ("POST", "/api/annotations", annotations.create, EDITORS, "annotations:create"),
    ("GET", "/api/annotations/tags", annotations.tags, VIEWERS, "annotations:read"),
    ("GET", "/api/annotations/*", annotations.get, VIEWERS, "annotations:read"),
    ("PUT", "/api/annotations/*", annotations.put, EDITORS, "annotations:write"),
    ("PATCH", "/api/annotations/*", annotations.patch, EDITORS, "annotations:write"),
    ("DELETE", "/api/annotations/*", annotations.delete, EDITORS, "annotations:delete"),

    ("POST", "/api/snapshots", snapshots.create, EDITORS, "snapshots:create"),
    ("GET", "/api/snapshots/*", snapshots.get, VIEWERS, "snapshots:read"),
    ("DELETE", "/api/snapshots/*", snapshots.delete, EDITORS, "snapshots:delete"),
    ("GET", "/api/snapshots-delete/*", snapshots.delete_by_key, EVERYONE, _ALL),
    ("GET", "/api/dashboard/snapshots", snapshots.list_snapshots, VIEWERS, "snapshots:read"),
    ("GET", "/api/org/users", teams.org_users, ADMINS, "org.users:read"),
    ("GET", "/api/teams/search", teams.teams, EDITORS, "teams:read"),
    ("GET", "/api/serviceaccounts/search", teams.service_accounts, ADMINS, "serviceaccounts:read"),

    ("POST", "/api/short-urls", others.short_url, EVERYONE, _ALL),
    ("GET", "/api/plugins", others.plugins, EVERYONE, _ALL),
    ("GET", "/api/plugins/*/settings", others.plugin_settings, EVERYONE, _ALL),
    ("GET", "/api/plugins/*/health", others.plugin_missing, EVERYONE, _ALL),
    ("*", "/api/plugins/*/resources/**", others.plugin_resource, EVERYONE, _ALL),
    ("*", "/api/plugin-proxy/*/**", others.plugin_missing, EVERYONE, _ALL),
]


def _tree():
    root = {}
    for method, pattern, *rest in _TABLE:
        at = root
        for part in pattern.split("/")[1:]:
            at = at.setdefault(part, {})
        at.setdefault("", {})[method] = Route(*rest)
    return root


_ROOT = _tree()


def find(method, parts):
    """The route, and what `**` stands for; None when there is none. Literal parts win over `*`."""

    def walk(at, index):
        if index == len(parts):
            methods = at.get("")
            route = methods and (methods.get(method) or methods.get("*"))
            return (route, "") if route else None
        for name in (parts[index], "*"):
            if name and name in at:
                found = walk(at[name], index + 1)
                if found:
                    return found
        if "**" in at:
            methods = at["**"][""]
            route = methods.get(method) or methods.get("*")
            return (route, "/".join(parts[index:])) if route else None
        return None

    return walk(_ROOT, 0)
