"""All that the double remembers between calls."""

import datetime
import hashlib
import json
import random
import re
import string
import uuid

from .access import ADMIN, EDITOR, NONE, VIEWER, Token, token_of

VERSION = "12.4.0"
DEFAULT_RECEIVER = "empty"  # the receiver that a fresh 12.4 routes everything to


def now(nanoseconds=False):
    at = datetime.datetime.now(datetime.timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z" if nanoseconds else "%Y-%m-%dT%H:%M:%SZ")


def milliseconds():
    return int(datetime.datetime.now().timestamp() * 1000)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sorted_keys(value):
    """Every mapping in it by name, as Go keeps what it read into maps."""
    if isinstance(value, dict):
        return {name: sorted_keys(value[name]) for name in sorted(value)}
    return [sorted_keys(part) for part in value] if isinstance(value, list) else value


def fingerprint(value):
    """A version such as mute timings and templates have: sixteen hexadecimal digits of the content."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


def slugify(title):
    """Latin letters and digits stay, umlauts are written out, any other letter becomes its UTF-8 in
    hexadecimal; a long result is replaced by its hash."""
    words, word = [], ""
    for letter in title.strip().lower().translate(_UMLAUTS):
        if letter in string.ascii_lowercase + string.digits:
            word += letter
            continue
        words.append(word)
        word = ""
        if ord(letter) > 127:
            words.append(letter.encode().hex())
    words.append(word)
    slug = "-".join(filter(None, words))
    if not slug or len(slug) > 50:
        return hashlib.sha1((slug or title).encode()).hexdigest()[:7]
    return slug


BAD_UID = re.compile(r"[^a-zA-Z0-9\-_]")


class Folder:
    __slots__ = ("uid", "id", "title", "description", "parent", "version", "created", "updated", "created_by",
                 "updated_by")


class Dashboard:
    __slots__ = ("uid", "id", "folder", "content", "version", "created", "updated", "created_by", "updated_by",
                 "history", "provisioned", "text", "bodies", "tags")


class Rule:
    """`stored` holds what a read answers, without `provenance`."""

    __slots__ = ("uid", "stored", "provenance", "version", "position", "_text", "_bare")

    def __init__(self):
        self._text = self._bare = None
        self.version = 1
        self.position = 0


def _group_of(rule):
    return rule.stored["folderUID"], rule.stored["ruleGroup"]


class World:
    def __init__(self, *, url="", admin=("admin", "admin"), apis=True):
        self.url = url
        self.admin = admin
        self.apis = apis
        self.reset()

    def reset(self):
        self.tokens = {token_of(role): Token(role) for role in (ADMIN, EDITOR, VIEWER, NONE)}
        self.folders = {}
        self.dashboards = {}
        self.datasources = {}
        self.rules = {}
        self.groups = {}  # (folder, group): {uid: Rule}
        self.intervals = {}  # (folder, group): seconds
        self.contact_points = []
        self.policies = None  # None: the tree as shipped
        self.policies_provenance = ""
        self.mute_timings = {}
        self.templates = {}
        self.annotations = {}
        self.silences = {}
        self.snapshots = {}
        self.teams = []
        self.changes = []  # what rules have done
        self.oncall = None  # without the IRM app
        self.irm = None     # likewise
        self.short_urls = {}
        self.rule_states = {}
        self.loki_lines = []
        self.folder_generation = 0  # changes with every folder, for cached dashboard bodies
        self._last = {}
        self._snowflake = 2_900_000_000_000_000

    # Names and numbers --------------------------------------------------------------------------

    def next(self, kind):
        self._last[kind] = self._last.get(kind, 0) + 1
        return self._last[kind]

    def seen(self, kind, number):
        self._last[kind] = max(self._last.get(kind, 0), number)

    def snowflake(self):
        self._snowflake += random.randrange(10_000, 50_000_000)
        return self._snowflake

    @staticmethod
    def short_uid():
        return random.choice("abcdefg") + "g4y" + "".join(random.choices(string.ascii_lowercase + string.digits, k=10))

    @staticmethod
    def long_uid():
        return str(uuid.uuid4())

    # Folders and rules --------------------------------------------------------------------------

    def below(self, uid):
        """That folder and every folder under it."""
        found = [uid]
        for at in found:
            found.extend(folder.uid for folder in self.folders.values() if folder.parent == at)
        return found

    def rules_of(self, folder=None, group=None):
        """Rules as listed: by folder, group and place in the group."""
        if folder is not None and group is not None:
            return sorted(self.groups.get((folder, group), {}).values(),
                          key=lambda rule: (rule.position, rule.stored["id"]))
        keys = sorted(key for key in self.groups if folder in (None, key[0]) and group in (None, key[1]))
        return [rule for key in keys for rule in self.rules_of(*key)]

    def keep_rule(self, rule):
        """In place of one with the same uid, wherever that was."""
        if rule.uid in self.rules:
            self.forget_rule(rule.uid)
        self.rules[rule.uid] = rule
        self.groups.setdefault(_group_of(rule), {})[rule.uid] = rule

    def forget_rule(self, uid):
        rule = self.rules.pop(uid)
        key = _group_of(rule)
        del self.groups[key][uid]
        if not self.groups[key]:
            del self.groups[key]
            self.intervals.pop(key, None)

    def receivers(self):
        return {DEFAULT_RECEIVER, *(point["name"] for point in self.contact_points)}

    # What a test compares -----------------------------------------------------------------------

    def state(self, exact=False):
        """Everything a client can have changed. Without `exact`, what no client can set is left out:
        numeric ids, versions, times and who did it."""
        volatile = set() if exact else {"id", "version", "updated", "created"}

        def kept(value):
            return {key: part for key, part in value.items() if key not in volatile}

        state = {
            "folders": {f.uid: {"title": f.title, "description": f.description, "parentUid": f.parent}
                        for f in self.folders.values()},
            "dashboards": {d.uid: {"folderUid": d.folder, "dashboard": d.content, "provisioned": d.provisioned}
                           for d in self.dashboards.values()},
            "datasources": {uid: kept(source) for uid, source in self.datasources.items()},
            "ruleGroups": {f"{folder}/{group}": {
                "interval": seconds, "rules": [rule.uid for rule in self.rules_of(folder, group)]}
                for (folder, group), seconds in self.intervals.items()},
            "rules": {rule.uid: {**kept(rule.stored), "provenance": rule.provenance}
                      for rule in self.rules.values()},
            "contactPoints": sorted(self.contact_points, key=lambda point: (point["name"], point["uid"])),
            "policies": self.policies,
            "policiesProvenance": self.policies_provenance,
            "muteTimings": self.mute_timings,
            "templates": self.templates,
            "annotations": sorted((kept(note) for note in self.annotations.values()), key=canonical),
            "silences": sorted((kept(silence) for silence in self.silences.values()), key=canonical),
            "snapshots": sorted(({name: s[name] for name in ("name", "dashboard")} for s in self.snapshots.values()),
                                key=canonical),
            "shortUrls": sorted(self.short_urls.values()),
        }
        if exact:
            for folder in self.folders.values():
                state["folders"][folder.uid].update(id=folder.id, version=folder.version)
            for dashboard in self.dashboards.values():
                state["dashboards"][dashboard.uid].update(
                    id=dashboard.id, version=dashboard.version, versions=len(dashboard.history))
        return state
