"""LogQL: enough of it to answer tests, and Loki's own words for what it refuses.

Loki's parser is made by yacc, so its errors name the unexpected token, at most four expected ones, and a position.
Tokens that its scanner puts together itself (two signs, ranges, durations) have lost their line: it is 0.
"""

import dataclasses
import json
import re

ONE_MATCHER_NEEDED = (
    "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For "
    'instance, app=~".*" does not meet this requirement, but app=~".+" will')
MOST_INPUT = 131072

RANGE_FUNCTIONS = {"rate", "count_over_time", "bytes_rate", "bytes_over_time"}
VECTOR_FUNCTIONS = {"sum", "min", "max", "avg", "count", "topk", "bottomk"}
#: Known to Loki, not to the double.
_OTHER_FUNCTIONS = {
    "rate_counter", "avg_over_time", "sum_over_time", "min_over_time", "max_over_time", "stdvar_over_time",
    "stddev_over_time", "quantile_over_time", "first_over_time", "last_over_time", "absent_over_time", "stddev",
    "stdvar", "sort", "sort_desc", "approx_topk", "label_replace"}
_FUNCTIONS = RANGE_FUNCTIONS | VECTOR_FUNCTIONS | _OTHER_FUNCTIONS | {"vector"}
_SIGNS = ("|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", ",", ".", "{", "}", "=", "|", "(", ")", "]",
          "+", "-", "*", "/", "%", "^", ">", "<")
_WORDS = {"by", "without", "bool", "offset", "on", "ignoring", "group_left", "group_right", "or", "and", "unless",
          "json", "regexp", "logfmt", "unpack", "pattern", "line_format", "label_format", "decolorize", "drop", "keep",
          "unwrap", "ip"}
_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9, "w": 7 * 86400 * 10**9,
          "y": 365 * 86400 * 10**9}


class Refused(Exception):
    """Answered with that status and text, as Loki writes it."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


class NotHere(Refused):
    """LogQL that Loki knows and the double does not: a mistake of the test."""

    def __init__(self, what):
        super().__init__(501, f"the double does not know {what}")


def refuse(message, line=0, column=0):
    where = f" at line {line}, col {column}" if line or column else " "
    raise Refused(400, f"parse error{where}: {message}")


# Words ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Token:
    kind: str  # as errors call it
    value: object
    line: int
    column: int


def duration(text):
    """Of "5m" or "1h30m", in nanoseconds; Prometheus' error for anything else."""
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    total, rest = 0, text
    while rest:
        found = re.match(r"(\d+)([^\d]*)", rest)
        if not found:
            raise ValueError(f'not a valid duration string: "{text}"')
        if found[2] not in _UNITS:
            raise ValueError(f'unknown unit "{found[2]}" in duration "{text}"')
        total += int(found[1]) * _UNITS[found[2]]
        rest = rest[found.end():]
    return total


def _tokens(text):
    if len(text) >= MOST_INPUT:
        refuse(f"input size too long ({len(text)} > {MOST_INPUT})")
    at, line, begin = 0, 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            if text[at] == "\n":
                line, begin = line + 1, at + 1
            at += 1
        column = at - begin + 1
        if at == len(text):
            yield Token("$end", "", line if text else 0, column if text else 0)
            return
        rest = text[at:]
        if rest[0] == "#":
            at += len(rest.partition("\n")[0])
            continue
        if rest[0] in "\"`":
            found = re.match(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`', rest)
            if not found:
                refuse("literal not terminated", line, column)
            try:
                value = rest[1:found.end() - 1] if rest[0] == "`" else json.loads(found[0])
            except ValueError:
                refuse("invalid syntax", line, column)
            token = Token("STRING", value, line, column)
        elif rest[0] == "[":
            inside, closed, _ = rest[1:].partition("]")
            if not closed:
                refuse("missing closing ']' in duration", 0, column)
            try:
                value = duration(inside)
            except ValueError as wrong:
                refuse(str(wrong), 0, column)
            token, found = Token("RANGE", value, 0, column), re.match(r"\[[^]]*\]", rest)
        elif found := re.match(r"\d+(ms|[smhdwy])(\d+(ms|[smhdwy]))*(?![\w.])", rest):
            token = Token("DURATION", duration(found[0]), 0, column)
        elif found := re.match(r"\d+(\.\d+)?|\.\d+", rest):
            token = Token("NUMBER", float(found[0]), line, column)
        elif found := re.match(r"[^\W\d]\w*", rest):
            word = found[0].lower()
            call = re.match(r"\s*(\(|(by|without)\s*\()", rest[found.end():])
            if word in _FUNCTIONS and call:
                token = Token(word.upper(), word, line, column)
            elif word in _WORDS and (word != "ip" or call):
                token = Token(word, word, line, column)
            else:
                token = Token("IDENTIFIER", found[0], line, column)
        else:
            sign = next((sign for sign in _SIGNS if rest.startswith(sign)), None)
            if sign is None:
                token, found = Token("IDENTIFIER", rest[0], line, column), re.match(r".", rest, re.S)
            else:
                token = Token(sign, sign, line if len(sign) == 1 else 0, column)
                found = re.match(re.escape(sign), rest)
        yield token
        at += found.end()


# Expressions ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Matcher:
    name: str
    sign: str
    value: str

    def __post_init__(self):
        self._pattern = compiled(f"^(?:{self.value})$") if "~" in self.sign else None

    def matches(self, labels):
        value = labels.get(self.name, "")
        equal = bool(self._pattern.match(value)) if self._pattern else value == self.value
        return equal != self.sign.startswith("!")

    def selects(self):
        """Whether it picks some streams at all: not one that also takes an empty value."""
        return not self.matches({})


@dataclasses.dataclass
class LogQuery:
    matchers: list
    stages: list

    def selects(self, labels):
        return all(matcher.matches(labels) for matcher in self.matchers)


@dataclasses.dataclass
class Metric:
    function: str
    log: LogQuery
    window: int


@dataclasses.dataclass
class Aggregation:
    function: str
    inner: object
    by: list = None
    without: bool = False
    parameter: float = 0


@dataclasses.dataclass
class Number:
    value: float


@dataclasses.dataclass
class Vector:
    value: float


@dataclasses.dataclass
class Binary:
    sign: str
    left: object
    right: object


def compiled(pattern):
    try:
        return re.compile(pattern, re.S)
    except re.error as wrong:
        raise Refused(400, f"parse error : error parsing regexp: {wrong.msg}: `{pattern}`") from None


class _Parser:
    def __init__(self, text):
        self.text = text
        self._source = _tokens(text)
        self.token = next(self._source)

    def take(self):
        token = self.token
        if token.kind != "$end":
            self.token = next(self._source)
        return token

    def unexpected(self, *expected):
        listed = ", expecting " + " or ".join(expected) if expected else ""
        refuse(f"syntax error: unexpected {self.token.kind}{listed}", self.token.line, self.token.column)

    def expect(self, kind, *others):
        if self.token.kind != kind:
            self.unexpected(kind, *others)
        return self.take()

    def whole(self):
        found = self.binary()
        if self.token.kind != "$end":
            self.unexpected()
        return found

    def binary(self, level=0):
        levels = [("==", "!=", ">", ">=", "<", "<="), ("+", "-"), ("*", "/")]
        if level == len(levels):
            return self.one()
        left = self.binary(level + 1)
        while self.token.kind in levels[level] and not isinstance(left, LogQuery):
            sign = self.take().kind
            left = self.compute(sign, left, self.binary(level + 1))
        if isinstance(left, LogQuery) and self.token.kind in ("+", "-", "*", "/"):
            sign = self.take().kind
            self.binary(level + 1)
            kind = "*syntax.PipelineExpr" if left.stages else "*syntax.MatchersExpr"
            refuse(f"unexpected type for left leg of binary operation ({sign}): {kind}")
        return left

    @staticmethod
    def compute(sign, left, right):
        if isinstance(right, LogQuery):
            kind = "*syntax.PipelineExpr" if right.stages else "*syntax.MatchersExpr"
            refuse(f"unexpected type for right leg of binary operation ({sign}): {kind}")
        return Binary(sign, left, right)

    def one(self):
        kind = self.token.kind
        if kind == "{":
            return self.log()
        if kind == "(":
            self.take()
            inner = self.binary()
            self.expect(")")
            return inner
        if kind == "NUMBER":
            return Number(self.take().value)
        name = self.token.value if kind.isupper() else None
        if name in RANGE_FUNCTIONS:
            return self.range(self.take().value)
        if name in VECTOR_FUNCTIONS:
            return self.aggregation(self.take().value)
        if kind == "VECTOR":
            self.take()
            self.expect("(")
            value = self.expect("NUMBER").value
            self.expect(")")
            return Vector(value)
        if name in _OTHER_FUNCTIONS:
            raise NotHere(name)
        return self.unexpected()

    def range(self, name):
        self.expect("(")
        if self.token.kind not in ("{", "("):
            self.unexpected("NUMBER", "{", "(")
        nested = self.token.kind == "("
        if nested:
            self.take()
        log = self.log()
        if nested:
            self.expect(")")
        if self.token.kind != "RANGE":
            self.unexpected()
        window = self.take().value
        if self.token.kind == "offset":
            raise NotHere("offset")
        if self.token.kind != ")":
            self.unexpected()
        self.take()
        return Metric(name, log, window)

    def grouping(self):
        without = self.take().kind == "without"
        self.expect("(")
        names = []
        if self.token.kind not in ("IDENTIFIER", ")"):
            self.unexpected("IDENTIFIER", ")")
        while self.token.kind == "IDENTIFIER":
            names.append(self.take().value)
            if self.token.kind != ",":
                break
            self.take()
        self.expect(")", ",")
        return names, without

    def aggregation(self, name):
        by, without, parameter = None, False, 0
        if self.token.kind in ("by", "without"):
            by, without = self.grouping()
        self.expect("(")
        inner = self.binary()
        if isinstance(inner, Number) and self.token.kind == ",":
            self.take()
            parameter, inner = inner.value, self.binary()
            if name not in ("topk", "bottomk"):
                refuse(f"unsupported parameter for operation {name}({parameter:g},")
        elif name in ("topk", "bottomk"):
            refuse(f"parameter required for operation {name}")
        if isinstance(inner, LogQuery):
            self.unexpected()
        self.expect(")")
        if by is None and self.token.kind in ("by", "without"):
            by, without = self.grouping()
        return Aggregation(name, inner, by, without, parameter)

    # Log queries ----------------------------------------------------------------------------------

    def log(self):
        matchers, stages = self.matchers(), []
        while self.token.kind in ("|=", "|~", "!=", "!~", "|", "|>", "!>"):
            stages.append(self.stage())
        return LogQuery(matchers, stages)

    def matchers(self):
        self.expect("{")
        found = []
        if self.token.kind not in ("IDENTIFIER", "}"):
            self.unexpected("IDENTIFIER", "}")
        while self.token.kind != "}":
            if self.token.kind != "IDENTIFIER":
                self.unexpected("IDENTIFIER")
            found.append(self.matcher())
            if self.token.kind not in (",", "}"):
                self.unexpected("}", ",")
            if self.token.kind == ",":
                self.take()
                if self.token.kind != "IDENTIFIER":
                    self.unexpected("IDENTIFIER")
        self.take()
        return found

    def matcher(self):
        name = self.take().value
        if self.token.kind not in ("=", "!=", "=~", "!~"):
            self.unexpected("=", "=~", "!~", "!=")
        sign = self.take().kind
        return Matcher(name, sign, self.expect("STRING").value)

    def stage(self):
        sign = self.take().kind
        if sign in ("|>", "!>"):
            raise NotHere("pattern filters")
        if sign != "|":
            if self.token.kind == "ip":
                raise NotHere("ip()")
            wanted = [self.expect("STRING", "ip").value]
            while self.token.kind == "or":
                self.take()
                wanted.append(self.expect("STRING", "ip").value)
            return _line_filter(sign, wanted)
        if self.token.kind in ("json", "logfmt"):
            return {"json": parse_json, "logfmt": parse_logfmt}[self.take().kind]
        if self.token.kind in _WORDS:
            raise NotHere(self.token.kind)
        if self.token.kind != "IDENTIFIER":
            self.unexpected()
        return _label_filter(self.matcher())


def _line_filter(sign, wanted):
    if "~" in sign:
        patterns = [compiled(one) for one in wanted]
        found = lambda line: any(pattern.search(line) for pattern in patterns)  # noqa: E731
    else:
        found = lambda line: any(one in line for one in wanted)  # noqa: E731
    return lambda line, labels, parsed: found(line) != sign.startswith("!")


def _label_filter(matcher):
    return lambda line, labels, parsed: matcher.matches({**labels, **parsed})


def _store(labels, parsed, name, value):
    name = re.sub(r"\W", "_", name)
    parsed[name + "_extracted" if name in labels else name] = value


def parse_json(line, labels, parsed):
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        parsed["__error__"] = "JSONParserErr"
        return True

    def walk(prefix, of):
        for name, inside in of.items():
            if isinstance(inside, dict):
                walk(prefix + name + "_", inside)
            elif not isinstance(inside, list):
                text = inside if isinstance(inside, str) else "" if inside is None else json.dumps(inside)
                _store(labels, parsed, prefix + name, text)

    walk("", value)
    return True


def parse_logfmt(line, labels, parsed):
    for name, quoted, plain in re.findall(r'([^\s="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))', line):
        _store(labels, parsed, name, quoted.replace('\\"', '"') if quoted else plain)
    return True


def _log_queries(expression):
    if isinstance(expression, LogQuery):
        yield expression
    elif isinstance(expression, Metric):
        yield expression.log
    elif isinstance(expression, Aggregation):
        yield from _log_queries(expression.inner)
    elif isinstance(expression, Binary):
        yield from _log_queries(expression.left)
        yield from _log_queries(expression.right)


def parse(text):
    expression = _Parser(text).whole()
    for log in _log_queries(expression):
        if not any(matcher.selects() for matcher in log.matchers):
            refuse(ONE_MATCHER_NEEDED)
    return expression


def selector(text):
    """The matchers of a query that is nothing but a stream selector."""
    expression = parse(text)
    if not isinstance(expression, LogQuery) or expression.stages:
        raise Refused(400, "only label matchers are supported")
    return expression
