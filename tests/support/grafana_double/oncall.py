"""OnCall's public API, below /oncall: where the settings of the IRM app send those who look for it.

Not from recordings but from its reference (https://grafana.com/docs/oncall/latest/oncall-api-reference/): the
token stands in Authorization without a scheme, paths end in a slash, lists come in pages.
"""

import re

from .answers import Answer, JSON, dumps

#: One list of the API each.
KINDS = ("schedules", "users", "teams", "on_call_shifts", "alert_groups")
PAGE = 2  #: Results on a page: small, so that tests turn pages

_DONE = {"acknowledge": "acknowledged", "unacknowledge": "new", "resolve": "resolved", "unresolve": "new"}


def _reply(value, status=200):
    return Answer(status, dumps(value), JSON)


def settings(world):
    """What /api/plugins/grafana-irm-app/settings says of it."""
    return {"onCallApiUrl": world.url + "/oncall/"}


def handle(call):
    token = call.headers.get("Authorization", "")
    if token not in call.world.tokens or call.headers.get("X-Grafana-URL") != call.world.url:
        return _reply({"detail": "Invalid token."}, 403)
    if not call.path.endswith("/"):  # Django's way; a body of a POST would be lost on it
        return Answer(301, b"", None, {"Location": call.path + "/"})
    parts = [part for part in call.parts[1:] if part]
    if parts[:2] != ["api", "v1"] or len(parts) < 3 or parts[2] not in KINDS:
        return _reply({"detail": "Not found."}, 404)
    found = call.world.oncall.get(parts[2], [])
    if len(parts) == 3:
        return _page(call, found)
    one = next((item for item in found if item["id"] == parts[3]), None)
    if one is None:
        return _reply({"detail": "Not found."}, 404)
    if len(parts) == 4:
        return _reply(one)
    if parts[2] != "alert_groups" or parts[4] not in _DONE or call.method != "POST":
        return _reply({"detail": "Not found."}, 404)
    if parts[4] == "acknowledge" and one["state"] in ("acknowledged", "resolved"):
        return _reply({"detail": f"Can't acknowledge {'an' if one['state'][0] == 'a' else 'a'} {one['state']} alert "
                                 "group"}, 400)
    one["state"] = _DONE[parts[4]]
    return Answer(200)


def _page(call, found):
    for name, key in (("state", "state"), ("team_id", "team_id"), ("username", "username"), ("name", "name")):
        if call.one(name):
            found = [item for item in found if item.get(key) == call.one(name)]
    page = max(1, call.number("page", 1))
    rows = found[(page - 1) * PAGE:page * PAGE]
    if page > 1 and not rows:
        return _reply({"detail": "Invalid page."}, 404)
    at = call.world.url + re.sub(r"\?.*", "", call.path_and_query)
    more = page * PAGE < len(found)
    return _reply({"count": len(found), "next": f"{at}?page={page + 1}" if more else None,
                   "previous": f"{at}?page={page - 1}" if page > 1 else None, "results": rows,
                   "current_page_number": page, "page_size": PAGE,
                   "total_pages": max(1, -(-len(found) // PAGE))})


def tell(world, told):
    """{"schedules": [...], "users": [...], ...}: an OnCall that knows these; null: none at all."""
    if told is not None:
        for kind in told:
            if kind not in KINDS:
                raise ValueError(f"no {kind}; there are {', '.join(KINDS)}")
    world.oncall = told

