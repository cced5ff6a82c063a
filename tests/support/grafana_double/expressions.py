"""Server-side expressions over numbers and series: reduce, threshold, math, resample not."""

import ast
import math
import re
import statistics


class Failed(Exception):
    """The expression cannot be evaluated; `parsing` when not even read, which ends the whole request."""

    def __init__(self, message, *, parsing=False):
        super().__init__(message)
        self.parsing = parsing


class Series:
    """`points` is a list of (milliseconds, number); a number has one point without a time."""

    __slots__ = ("labels", "points", "is_number", "config", "of_time")

    def __init__(self, labels, points, is_number, config=None, of_time=None):
        self.labels, self.points, self.is_number, self.config = labels, points, is_number, config
        self.of_time = of_time


def _finite(values):
    return [value for value in values if value is not None and math.isfinite(value)]


_REDUCERS = {
    "sum": sum, "mean": lambda v: sum(v) / len(v), "min": min, "max": max, "last": lambda v: v[-1],
    "count": len, "median": statistics.median,
}


def reduced(series, reducer, settings):
    if reducer not in _REDUCERS:
        raise Failed(f"reduction {reducer} not implemented")
    mode = (settings or {}).get("mode", "")
    values = [value for _, value in series.points]
    if mode == "dropNN":
        values = _finite(values)
    elif mode == "replaceNN":
        values = [value if value is not None and math.isfinite(value) else settings["replaceWithValue"]
                  for value in values]
    if not values:
        return 0 if reducer in ("sum", "count") else math.nan
    if mode != "dropNN" and reducer not in ("count", "last") and any(v is None or math.isnan(v) for v in values):
        return math.nan
    return float(_REDUCERS[reducer](values))


_TESTS = {
    "gt": lambda x, a, *_: x > a, "lt": lambda x, a, *_: x < a, "eq": lambda x, a, *_: x == a,
    "ne": lambda x, a, *_: x != a, "gte": lambda x, a, *_: x >= a, "lte": lambda x, a, *_: x <= a,
    "within_range": lambda x, a, b: a < x < b, "outside_range": lambda x, a, b: x < a or x > b,
    "within_range_included": lambda x, a, b: a <= x <= b,
    "outside_range_included": lambda x, a, b: x <= a or x >= b,
}


def threshold(value, evaluator):
    test = _TESTS.get(evaluator.get("type"))
    if test is None:
        raise Failed(f"expected threshold function to be one of [gt lt within_range outside_range], got "
                     f"{evaluator.get('type')}")
    return math.nan if value is None or math.isnan(value) else float(test(value, *evaluator.get("params", [])))


# Math -------------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"\$\{([^}]+)\}|\$(\w+)")
_FUNCTIONS = {"abs": abs, "log": lambda x: math.log(x) if x > 0 else math.nan, "round": round, "ceil": math.ceil,
              "floor": math.floor, "is_nan": math.isnan, "is_inf": math.isinf,
              "is_null": lambda x: x is None, "is_number": lambda x: x is not None and math.isfinite(x)}
_CONSTANTS = {"nan": math.nan, "inf": math.inf, "null": None, "infn": -math.inf}
_BINARY = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
           ast.Div: lambda a, b: a / b if b else math.copysign(math.inf, a) if a else math.nan,
           ast.Mod: math.fmod, ast.Pow: lambda a, b: a ** b}
_COMPARED = {ast.Gt: lambda a, b: a > b, ast.Lt: lambda a, b: a < b, ast.GtE: lambda a, b: a >= b,
             ast.LtE: lambda a, b: a <= b, ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b}


def variables(text):
    return [first or second for first, second in _VARIABLE.findall(text)]


def compiled(text):
    """The expression as a function of {variable: number}."""
    source = _VARIABLE.sub(lambda match: f"v_{match[1] or match[2]}", text)
    source = re.sub(r"!(?!=)", " not ", source.replace("&&", " and ").replace("||", " or "))
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except SyntaxError as wrong:
        raise Failed(f"invalid math command: expr: {wrong.msg}", parsing=True) from None

    def run(node, env):
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.Name) and node.id.startswith("v_"):
            return env[node.id[2:]]
        if isinstance(node, ast.BinOp):
            return _BINARY[type(node.op)](run(node.left, env), run(node.right, env))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return float(_COMPARED[type(node.ops[0])](run(node.left, env), run(node.comparators[0], env)))
        if isinstance(node, ast.BoolOp):
            parts = [run(value, env) for value in node.values]
            return float((all if isinstance(node.op, ast.And) else any)(part != 0 for part in parts))
        if isinstance(node, ast.UnaryOp):
            inner = run(node.operand, env)
            return -inner if isinstance(node.op, ast.USub) else float(inner == 0)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in _CONSTANTS and not node.args:
                return _CONSTANTS[name]
            if name in _FUNCTIONS and len(node.args) == 1:
                return float(_FUNCTIONS[name](run(node.args[0], env)))
        raise Failed("invalid math command: expr: unexpected " + type(node).__name__, parsing=True)

    return lambda env: run(tree, env)


def replaced(row, settings):
    """A number through reduce: gone or another one where it is no number, by the mode; None when gone."""
    value = row.points[0][1]
    mode = (settings or {}).get("mode", "")
    if mode and not math.isfinite(value):
        if mode == "dropNN":
            return None
        value = settings["replaceWithValue"]
    return Series(row.labels, [(None, value)], True)


def _joined(rows, labels):
    """Rows whose labels do not contradict: equal, or one within the other."""
    for row in rows:
        shared = row.labels.items() & labels.items()
        if len(shared) == min(len(row.labels), len(labels)):
            yield row


def calculated(text, inputs):
    """`inputs` is {variable: [Series]}; the result has the labels of the richest part."""
    run, names = compiled(text), sorted(set(variables(text)))
    if not names:
        return [Series({}, [(None, run({}))], True)]
    combined = [({}, {})]
    for name in names:
        combined = [({**labels, **row.labels}, {**env, name: row})
                    for labels, env in combined for row in _joined(inputs[name], labels)]
    results = []
    for labels, env in combined:
        rows = list(env.values())
        if all(row.is_number for row in rows):
            results.append(Series(labels, [(None, run({n: r.points[0][1] for n, r in env.items()}))], True))
            continue
        times = sorted(set.intersection(*({at for at, _ in row.points} for row in rows if not row.is_number)))
        tables = {name: None if row.is_number else dict(row.points) for name, row in env.items()}
        points = [(at, run({name: row.points[0][1] if row.is_number else tables[name][at]
                            for name, row in env.items()})) for at in times]
        results.append(Series(labels, points, False))
    return results
