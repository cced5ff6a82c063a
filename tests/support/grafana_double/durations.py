"""Durations as Prometheus and Go write them."""

import re

_PROMETHEUS = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_MILLISECONDS = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1000, 1)


def parse(text):
    """Milliseconds, or None: "1h30m" is a duration, "1.5m", "" and "-1m" are not."""
    if text == "0":
        return 0
    match = _PROMETHEUS.fullmatch(text)
    if not text or not match:
        return None
    return sum(int(part) * size for part, size in zip(match.groups(), _MILLISECONDS) if part)


def prometheus(milliseconds):
    """As model.Duration prints it: years and weeks only where nothing is left over."""
    if milliseconds == 0:
        return "0s"
    text = ""
    for name, size, exact in zip(("y", "w", "d", "h", "m", "s", "ms"), _MILLISECONDS, (1, 1, 0, 0, 0, 0, 0)):
        if exact and milliseconds % size:
            continue
        count, milliseconds = divmod(milliseconds, size)
        if count:
            text += f"{count}{name}"
    return text


def go(seconds):
    """As Go's time.Duration prints it: "5m0s"."""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if 0 < seconds < 1:
        return f"{sign}{round(seconds * 1000)}ms"
    whole = int(seconds)
    fraction = f"{seconds - whole:.3f}".rstrip("0").rstrip(".")[1:] if seconds != whole else ""
    hours, minutes = whole // 3600, whole % 3600 // 60
    text = f"{whole % 60}{fraction}s"
    if hours or minutes:
        text = f"{minutes}m" + text
    if hours:
        text = f"{hours}h" + text
    return sign + text
