"""What queries give, from the lines of one tenant."""

import collections
import operator

from .logql import Aggregation, Binary, Metric, Number, Vector

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul,
         "/": lambda a, b: a / b if b else float("nan")}
COMPARISONS = {"==": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt,
               "<=": operator.le}


def entries(lines, query, start, end):
    """(time, line, labels, metadata, parsed) of what `query` finds at start <= time < end, oldest first."""
    for stream in lines.streams(query):
        for at, line, metadata in stream.between(start, end):
            parsed = {}
            known = {**stream.labels, **metadata}
            if all(stage(line, known, parsed) for stage in query.stages):
                yield at, line, stream.labels, metadata, parsed


def streams(lines, query, start, end, limit, backward, categorize):
    """The first `limit` lines in that direction, as Loki groups them: by stream labels, or by all labels."""
    found = sorted(entries(lines, query, start, end), key=lambda entry: entry[0], reverse=backward)[:limit]
    grouped = collections.OrderedDict()
    for at, line, labels, metadata, parsed in found:
        if categorize:
            extra = {}
            if metadata:
                extra["structuredMetadata"] = metadata
            if parsed:
                extra["parsed"] = parsed
            shown, value = labels, [str(at), line, extra]
        else:
            shown, value = {**labels, **metadata, **parsed}, [str(at), line]
        grouped.setdefault(tuple(sorted(shown.items())), []).append(value)
    return [{"stream": dict(labels), "values": values} for labels, values in sorted(grouped.items())]


def value_at(lines, expression, at):
    """{labels: value}, or a number for a scalar."""
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Vector):
        return {(): expression.value}
    if isinstance(expression, Metric):
        return _counted(lines, expression, at)
    if isinstance(expression, Aggregation):
        return _aggregated(expression, value_at(lines, expression.inner, at))
    assert isinstance(expression, Binary)
    return _computed(expression.sign, value_at(lines, expression.left, at), value_at(lines, expression.right, at))


def _counted(lines, metric, at):
    result = collections.Counter()
    weigh = (lambda line: len(line.encode())) if metric.function.startswith("bytes") else (lambda line: 1)
    for _, line, labels, metadata, parsed in entries(lines, metric.log, at - metric.window + 1, at + 1):
        result[tuple(sorted({**labels, **metadata, **parsed}.items()))] += weigh(line)
    if metric.function.endswith("rate"):
        return {labels: count / (metric.window / 1e9) for labels, count in result.items()}
    return dict(result)


def _aggregated(aggregation, given):
    if aggregation.function in ("topk", "bottomk"):
        ordered = sorted(given.items(), key=lambda one: (one[1], one[0]), reverse=aggregation.function == "topk")
        return dict(ordered[:int(aggregation.parameter)])
    groups = collections.defaultdict(list)
    for labels, value in given.items():
        kept = [(name, text) for name, text in labels
                if aggregation.by is not None and (name in aggregation.by) != aggregation.without]
        groups[tuple(kept)].append(value)
    reduce = {"sum": sum, "min": min, "max": max, "count": len, "avg": lambda all_: sum(all_) / len(all_)}
    return {labels: reduce[aggregation.function](values) for labels, values in groups.items()}


def _computed(sign, left, right):
    scalar_left, scalar_right = not isinstance(left, dict), not isinstance(right, dict)
    if sign in COMPARISONS:
        compare = COMPARISONS[sign]
        if scalar_left and scalar_right:
            return float(compare(left, right))
        if scalar_right:
            return {labels: value for labels, value in left.items() if compare(value, right)}
        if scalar_left:
            return {labels: value for labels, value in right.items() if compare(left, value)}
        return {labels: value for labels, value in left.items() if labels in right and compare(value, right[labels])}
    compute = SIGNS[sign]
    if scalar_left and scalar_right:
        return compute(left, right)
    if scalar_right:
        return {labels: compute(value, right) for labels, value in left.items()}
    if scalar_left:
        return {labels: compute(left, value) for labels, value in right.items()}
    return {labels: compute(value, right[labels]) for labels, value in left.items() if labels in right}


def text_of(number):
    """A sample's value, as Go prints it."""
    if number != number:
        return "NaN"
    return str(int(number)) if number == int(number) and abs(number) < 1e21 else repr(float(number))
