"""/api/access-control/user/permissions: what the basic roles may do in 12.4, without the scopes' detail."""

from .access import ADMINS, EDITOR, NONE
from .answers import reply

_VIEWER = """alert.instances.external:read alert.instances:read alert.notifications.external:read
alert.notifications.receivers:list alert.notifications.receivers:read alert.notifications.routes:read
alert.notifications.templates:read alert.notifications.time-intervals:read alert.notifications:read
alert.rules.external:read alert.rules:read alert.silences:read annotations:read dashboards:read datasources.id:read
datasources:query datasources:read folders:read library.panels:read orgs.quotas:read orgs:read plugins.app:access
provisioning.repositories:read provisioning.settings:read snapshots:read""".split()
_EDITOR = """alert.instances.external:write alert.instances:create alert.instances:write
alert.notifications.external:write alert.notifications.receivers.test:create alert.notifications.receivers:create
alert.notifications.receivers:delete alert.notifications.receivers:test alert.notifications.receivers:write
alert.notifications.routes:write alert.notifications.templates.test:write alert.notifications.templates:delete
alert.notifications.templates:write alert.notifications.time-intervals:delete
alert.notifications.time-intervals:write alert.notifications:write alert.provisioning.provenance:write
alert.rules.external:write alert.rules:create alert.rules:delete alert.rules:write alert.silences:create
alert.silences:write annotations:create annotations:delete annotations:write dashboards:create dashboards:delete
dashboards:write datasources:explore folders:create folders:delete folders:write library.panels:create
library.panels:delete library.panels:write snapshots:create snapshots:delete""".split()
_ADMIN = """alert.notifications.provisioning:read alert.notifications.provisioning:write alert.provisioning.secrets:read
alert.provisioning:read alert.provisioning:write alert.rules.provisioning:read alert.rules.provisioning:write
datasources:create datasources:delete datasources:write orgs:write""".split()


def of_user(call):
    role = call.who.role
    held = [] if role == NONE else _VIEWER + (_EDITOR if role == EDITOR or role in ADMINS else []) \
        + (_ADMIN if role in ADMINS else [])
    return reply({name: [""] if name.startswith("alert.notifications") else ["*"] for name in sorted(held)})
