"""Who calls, and which role may do what."""

import base64
import binascii

from .answers import Refused, unauthorized, unauthorized_briefly

#: Role of a token, or "server" for the server's own admin (basic authentication).
SERVER, ADMIN, EDITOR, VIEWER, NONE = "server", "admin", "editor", "viewer", "none"
ADMINS = frozenset((SERVER, ADMIN))
EDITORS = ADMINS | {EDITOR}
VIEWERS = EDITORS | {VIEWER}
EVERYONE = VIEWERS | {NONE}

#: Service accounts by role: (number, name).
_ACCOUNTS = {VIEWER: (2, "viewer"), EDITOR: (3, "editor"), ADMIN: (4, "admin"), NONE: (5, "none")}


def token_of(role):
    """The token that every double knows for that role."""
    return f"glsa_{(role * 32)[:32]}_{binascii.crc32(role.encode()):08x}"


class Token:
    __slots__ = ("role", "state")

    def __init__(self, role, state="valid"):
        self.role = role
        self.state = state  # valid, expired, revoked or disabled


class Identity:
    __slots__ = ("role", "login", "org")

    def __init__(self, role, login, org=1):
        self.role = role
        self.login = login
        self.org = org

    @property
    def is_admin(self):
        return self.role in ADMINS

    @property
    def is_token(self):
        return self.role != SERVER

    @property
    def name(self):
        """As it stands beside what it changed."""
        return self.account[1] if self.is_token else self.login

    @property
    def account(self):
        return _ACCOUNTS[self.role]


def _by_token(world, secret):
    token = world.tokens.get(secret)
    if token is None:
        if secret.startswith("eyJ"):  # a key of before service accounts
            raise Refused(unauthorized_briefly())
        raise Refused(unauthorized("Invalid API key", "api-key.invalid"))
    if token.state == "expired":
        raise Refused(unauthorized("Expired API key", "api-key.expired"))
    if token.state == "disabled":
        raise Refused(unauthorized(message_id="identity.disabled"))
    if token.state == "revoked":
        raise Refused(unauthorized_briefly())
    return Identity(token.role, "sa-1-" + _ACCOUNTS[token.role][1])


def identify(world, headers):
    """The caller of an /api route; refuses with 401 when there is none."""
    scheme, _, rest = headers.get("Authorization", "").partition(" ")
    rest = rest.strip()
    if scheme == "Bearer" and rest:  # `bearer` is nobody
        who = _by_token(world, rest)
    elif scheme == "Basic":
        try:
            user, colon, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            raise Refused(unauthorized()) from None
        if not colon:
            raise Refused(unauthorized())
        if user == "api_key":
            who = _by_token(world, password)
        elif (user, password) == world.admin:
            who = Identity(SERVER, user)
        else:
            raise Refused(unauthorized("Invalid username or password", "password-auth.failed"))
    else:
        raise Refused(unauthorized())
    org = headers.get("X-Grafana-Org-Id", "").strip()
    if org.isdigit() and int(org) not in (0, 1):
        if who.is_token:
            raise Refused(unauthorized("API key does not belong to the requested organization",
                                       "api-key.organization-mismatch"))
        who.org = int(org)  # signed in, and without any permission there
    return who
