"""GitHub's issues of one repository (https://docs.github.com/en/rest/issues, version 2022-11-28)."""

import json

from .server import Answer, Double, header, now

PAGE = 100
_DOCS = "https://docs.github.com/rest"


def _refuse(status, message, headers=None, **more):
    raise Answer(status, {"message": message, **more, "documentation_url": _DOCS, "status": str(status)}, headers)


class Github(Double):
    def __init__(self, repository="example/oncall", token="github-token-for-tests"):
        super().__init__()
        self.repository, self.token = repository, token
        self.may_label, self.enabled, self.remaining = True, True, 5000
        self.issues, self.comments = [], []

    def rate_limited(self):
        _refuse(403, "API rate limit exceeded for user ID 1.", {"x-ratelimit-remaining": "0", "x-ratelimit-reset":
                                                                "1900000000", "x-ratelimit-limit": "5000"})

    def answer(self, method, path, query, headers, body):
        if header(headers, "Authorization") != "Bearer " + self.token:
            _refuse(401, "Bad credentials")
        if self.remaining <= 0:
            self.rate_limited()
        if method == "GET" and path == f"/repos/{self.repository}":
            return Answer(200, {"full_name": self.repository, "has_issues": self.enabled})
        prefix = f"/repos/{self.repository}/issues"
        if not path.startswith(prefix):
            _refuse(404, "Not Found")
        if not self.enabled:
            _refuse(410, "Issues has been disabled in this repository.")
        parts = [part for part in path[len(prefix):].split("/") if part]
        given = json.loads(body) if body else {}
        if not parts:
            return self._list(query) if method == "GET" else self._create(given)
        issue = next((one for one in self.issues if str(one["number"]) == parts[0]), None)
        if issue is None:
            _refuse(404, "Not Found")
        if parts[1:] == ["comments"]:
            return self._comments(method, issue, query, given)
        if parts[1:] or method not in ("GET", "PATCH"):
            _refuse(404, "Not Found")
        if method == "PATCH":
            self._change(issue, given)
        return Answer(200, issue)

    @staticmethod
    def _page(found, query):
        size = min(int(query.get("per_page", ["30"])[0]), PAGE)
        begin = (int(query.get("page", ["1"])[0]) - 1) * size
        return Answer(200, found[begin:begin + size])

    def _list(self, query):
        state = query.get("state", ["open"])[0]
        labels = set(filter(None, query.get("labels", [""])[0].split(",")))
        found = [one for one in self.issues if state in ("all", one["state"])
                 and labels <= {label["name"] for label in one["labels"]}]
        if query.get("direction", ["desc"])[0] == "desc":
            found = found[::-1]
        return self._page(found, query)

    def _labels(self, names):
        return [{"id": index, "name": name, "color": "ededed"} for index, name in enumerate(names)]

    def _check(self, given):
        if "title" in given and not given["title"]:
            _refuse(422, "Validation Failed", errors=[{"resource": "Issue", "code": "missing_field",
                                                       "field": "title"}])
        for name, most in (("title", 256), ("body", 65536)):
            if len(given.get(name) or "") > most:
                _refuse(422, "Validation Failed", errors=[{
                    "resource": "Issue", "code": "custom", "field": name,
                    "message": f"{name} is too long (maximum is {most} characters)"}])

    def add(self, **given):
        """An issue, as somebody else would make it."""
        number = len(self.issues) + 1
        issue = {"number": number, "title": "", "body": None, "state": "open", "state_reason": None, "labels": [],
                 "user": {"login": "ann"}, "created_at": now(), "updated_at": now(), "closed_at": None,
                 "html_url": f"https://github.example/{self.repository}/issues/{number}", **given}
        self.issues.append(issue)
        return issue

    def _create(self, given):
        self._check({"title": "", **given})
        labels = given.get("labels", []) if self.may_label else []  # dropped without a word
        return Answer(201, self.add(title=given["title"], body=given.get("body"), labels=self._labels(labels)))

    def _change(self, issue, given):
        self._check(given)
        for name in ("title", "body", "state", "state_reason"):
            if name in given:
                issue[name] = given[name]
        if "labels" in given and self.may_label:
            issue["labels"] = self._labels(given["labels"])
        if "state" in given:
            issue["closed_at"] = now() if given["state"] == "closed" else None

    def _comments(self, method, issue, query, given):
        mine = [one for one in self.comments if one["issue"] == issue["number"]]
        if method == "GET":
            return self._page(mine, query)
        if not given.get("body"):
            _refuse(422, "Validation Failed", errors=[{"resource": "IssueComment", "code": "missing_field",
                                                       "field": "body"}])
        self._check({"body": given["body"]})
        comment = {"id": len(self.comments) + 1, "issue": issue["number"], "body": given["body"],
                   "user": {"login": "bot"}, "created_at": now()}
        self.comments.append(comment)
        return Answer(201, comment)
