"""/api/datasources, without the queries."""

import re
import urllib.parse

from .answers import refuse, refuse_with_id, reply
from .call import typed
from .world import BAD_UID

_NAMES = {"prometheus": ("Prometheus", "prometheus_logo.svg"), "loki": ("Loki", "loki_icon.svg")}


def _logo(type_):
    known = _NAMES.get(type_)
    return f"public/plugins/{type_}/img/{known[1]}" if known else "public/img/icn-datasource.svg"


def _shown(source):
    return {
        "id": source["id"], "uid": source["uid"], "orgId": 1, "name": source["name"], "type": source["type"],
        "typeLogoUrl": _logo(source["type"]), "access": source["access"], "url": source["url"],
        "user": source["user"], "database": source["database"], "basicAuth": source["basicAuth"],
        "basicAuthUser": source["basicAuthUser"], "withCredentials": source["withCredentials"],
        "isDefault": source["isDefault"], "jsonData": source["jsonData"],
        "secureJsonFields": {name: True for name in source["secureJsonData"]}, "version": source["version"],
        "readOnly": source["readOnly"], "apiVersion": ""}


def _listed(source):
    body = _shown(source)
    for name in ("basicAuthUser", "withCredentials", "secureJsonFields", "version", "apiVersion"):
        del body[name]
    read_only = body.pop("readOnly")
    named = {}
    for name, value in body.items():
        if name == "typeLogoUrl":
            named["typeName"] = _NAMES.get(source["type"], (source["type"],))[0]
        named[name] = value
    return {**named, "readOnly": read_only}


def _not_found():
    refuse(404, "Data source not found")


def by_uid(call, uid):
    return call.world.datasources.get(uid) or _not_found()


def by_name(call, name):
    return next((s for s in call.world.datasources.values() if s["name"] == name), None) or _not_found()


def list_datasources(call):
    found = sorted(call.world.datasources.values(), key=lambda source: source["name"].lower())
    return reply([_listed(source) for source in found])


def get_by_uid(call):
    return reply(_shown(by_uid(call, call.parts[3])))


def get_by_name(call):
    return reply(_shown(by_name(call, call.parts[3])))


def get_id(call):
    return reply({"id": by_name(call, call.parts[3])["id"]})


def get_by_number(call):
    if not re.fullmatch(r"-?\d+", call.parts[2]):
        refuse(400, "id is invalid")
    found = [s for s in call.world.datasources.values() if str(s["id"]) == call.parts[2]]
    return reply(_shown(found[0])) if found else _not_found()


def _read(call):
    body = call.object()
    source = {name: typed(body, name, str) for name in (
        "uid", "name", "type", "access", "url", "user", "database", "basicAuthUser")}
    source.update({name: typed(body, name, bool) for name in ("basicAuth", "withCredentials", "isDefault")})
    source["version"] = typed(body, "version", int)
    source.update(jsonData=typed(body, "jsonData", dict, {}), secureJsonData=typed(body, "secureJsonData", dict, {}))
    if not source["type"] or not source["access"]:
        refuse(400, "bad request data")
    return source


def _valid(url):
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else "http://" + url)
        return bool(parts.hostname) and re.fullmatch(r"[\w.:\[\]-]+", parts.netloc.rpartition("@")[2]) is not None \
            and re.fullmatch(r"[a-z][a-z0-9+.-]*", parts.scheme) is not None
    except ValueError:
        return False


def create(call):
    world, source = call.world, _read(call)
    if source["url"] and not _valid(source["url"]):
        refuse(400, "Validation error, invalid URL")
    if not source["name"]:
        number = 1
        while any(s["name"] == f"{source['type']}-{number}" for s in world.datasources.values()):
            number += 1
        source["name"] = f"{source['type']}-{number}"
    if any(s["name"] == source["name"] for s in world.datasources.values()):
        refuse(409, "data source with the same name already exists")
    if source["uid"] in world.datasources:
        refuse(409, "data source with the same uid already exists")
    if BAD_UID.search(source["uid"]) or len(source["uid"]) > 40:
        refuse_with_id(400, "datasource.uidInvalid", "Invalid datasource UID.")
    source.update(uid=source["uid"] or world.short_uid(), id=world.next("datasource"), version=1, readOnly=False)
    _only_default(world, source)
    world.datasources[source["uid"]] = source
    return reply({"datasource": _shown(source), "id": source["id"], "message": "Datasource added",
                  "name": source["name"]})


def _only_default(world, source):
    if source["isDefault"]:
        for other in world.datasources.values():
            other["isDefault"] = False


def update(call):
    world, new = call.world, _read(call)
    if not _valid(new["url"]):
        refuse(400, "Validation error, invalid URL")
    old = by_uid(call, call.parts[3])
    if old["readOnly"]:
        refuse(403, "Cannot update read-only data source")
    if any(s["name"] == new["name"] and s is not old for s in world.datasources.values()):
        refuse(409, "Data source with the same name already exists")
    # The version counts on from what the client names, so a stale one is accepted.
    new.update(id=old["id"], uid=old["uid"], version=new["version"] + 1, readOnly=False,
               basicAuthUser=new["basicAuthUser"] or old["basicAuthUser"],
               secureJsonData={**old["secureJsonData"], **new["secureJsonData"]})
    _only_default(world, new)
    world.datasources[old["uid"]] = new
    return reply({"datasource": _shown(new), "id": new["id"], "message": "Datasource updated", "name": new["name"]})


def _deleted(call, source):
    if source["readOnly"]:
        refuse(403, "Cannot delete read-only data source")
    del call.world.datasources[source["uid"]]
    return reply({"id": source["id"], "message": "Data source deleted"})


def delete_by_uid(call):
    return _deleted(call, by_uid(call, call.parts[3]))


def delete_by_name(call):
    return _deleted(call, by_name(call, call.parts[3]))
