"""Starts a double by hand: python3 -m incident_doubles github|pagerduty|webhook"""

import sys
import threading

from .github import Github
from .pagerduty import Pagerduty
from .webhook import Webhook

with {"github": Github, "pagerduty": Pagerduty, "webhook": Webhook}[sys.argv[1]]() as double:
    print(double.url, flush=True)
    threading.Event().wait()
