"""Who is there: users of the organisation, teams, service accounts. Nobody can be added."""

from .answers import reply

_USER = {"orgId": 1, "userId": 1, "uid": "fg4yqpx1nx4hsa", "email": "admin@localhost", "name": "",
         "avatarUrl": "/public/img/user_profile.png", "login": "admin", "role": "Admin",
         "lastSeenAt": "2026-01-01T00:00:00Z", "created": "2026-01-01T00:00:00Z", "lastSeenAtAge": "< 1 minute",
         "isDisabled": False, "authLabels": None, "isExternallySynced": False, "isProvisioned": False}


def org_users(_):
    return reply([_USER])


def teams(call):
    wanted = call.one("query").lower()
    found = [team for team in call.world.teams if wanted in team["name"].lower()]
    return reply({"totalCount": len(found), "teams": found, "page": 1, "perPage": call.number("perpage", 1000)})


def service_accounts(call):
    accounts = [{"id": number, "uid": f"{letter}g4yqq0mynwu8a", "name": name, "login": f"sa-1-{name}", "orgId": 1,
                 "isDisabled": False, "role": name.capitalize(), "tokens": 1,
                 "avatarUrl": "/public/img/user_profile.png"}
                for number, letter, name in ((2, "b", "viewer"), (3, "c", "editor"), (4, "d", "admin"))]
    wanted = call.one("query")
    found = [account for account in accounts if wanted in account["name"]]
    size, page = call.number("perpage", 1000), call.number("page", 1)
    return reply({"totalCount": len(found), "serviceAccounts": found[(page - 1) * size:page * size], "page": page,
                  "perPage": size})
