"""Who may come in: tokens that must pass, tokens that must not, and what each principal may reach."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time

import jwt
import pytest
import requests
import websockets
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from callers import tokens
from callers.raw_http import RawHttp, request
from callers.tokens import AUDIENCE, ISSUER, Key, b64url, claims, compose, json_bytes
from callers.websocket import stream
from programs.loopback import wait_until
from programs.services import services_of, upstream_to
from programs.tunneld import Tunneld

RSA = Key("RS256", "rsa-1")
EC = Key("ES256", "ec-1")
ED = Key("EdDSA", "ed-1")
SMALL_RSA = Key("RS256", "small-1", rsa_bits=1024)
STRANGER_RSA, STRANGER_EC, STRANGER_ED = Key("RS256", "rsa-1"), Key("ES256", "ec-1"), Key("EdDSA", "ed-1")


@pytest.fixture(scope="module")
def verifier(new_directory, origin, nginx, sshd):
    """A daemon that believes the three keys above, from a JWKS file."""
    directory = new_directory("tunneld")
    directory.mkdir()
    jwks = directory / "jwks.json"
    jwks.write_text(json.dumps({"keys": [key.jwk() for key in (RSA, EC, ED)]}))
    daemon = Tunneld(directory, {
        "upstreams": [upstream_to(sshd, services_of(origin, nginx))],
        "auth": {"mode": "jwks", "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(jwks)}})
    sshd.authorize(daemon.ssh_key())
    daemon.start()
    yield daemon
    daemon.stop()


def ask(daemon, token, path="/t/web/hello"):
    """(status, code or text) of a GET with that Authorization: Bearer value."""
    with RawHttp(daemon.connect()) as connection:
        connection.send(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
                        + (token if isinstance(token, bytes) else token.encode("utf-8")) + b"\r\n\r\n")
        answer = connection.read_answer()
    return answer


# What must pass -----------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("key", [RSA, EC, ED], ids=lambda key: key.algorithm)
def test_a_genuine_token_of_each_algorithm_is_let_in(verifier, key):
    assert ask(verifier, verifier.secret(tokens.token(key))).body == b"hello\n"


@pytest.mark.parametrize("what,changes", [
    ("audience in an array", {"aud": ["other", AUDIENCE]}),
    ("not before now", lambda now: {"nbf": now}),
    ("issued within the leeway ahead", lambda now: {"iat": now + 10}),
    ("expired within the leeway", lambda now: {"iat": now - 60, "exp": now - 5}),
    ("a subject of 255 bytes", {"sub": "s" * 255}),
    ("an unknown tier counts as free", {"tier": "platinum"}),
    ("extra claims", {"color": {"deep": [1, {"er": None}]}}),
    ("no tier", {"tier": None}),
    ("no token id", {"jti": None}),
])
def test_an_unusual_but_genuine_token_is_let_in(verifier, what, changes):
    if callable(changes):  # relative to the moment of the test, not to that of its collection
        changes = changes(int(time.time()))
    assert ask(verifier, tokens.token(ED, **changes)).status == 200, what


@pytest.mark.short
def test_a_token_from_the_daemons_own_issuer_is_let_in(tunneld):
    assert ask(tunneld, tunneld.token("bob", "free", "5m")).status == 200


def test_the_scheme_name_is_case_insensitive(tunneld, token):
    for scheme in ("bearer", "BEARER", "Bearer"):
        with RawHttp(tunneld.connect()) as connection:
            connection.send(request("GET", "/t/web/hello", f"Authorization: {scheme} {token}"))
            assert connection.read_answer().status == 200


# What must not ------------------------------------------------------------------------------------


def forged():
    """(what, token) for every way of bending a token; built when the tests are collected."""
    now = int(time.time())
    good_header = {"alg": "EdDSA", "typ": "JWT", "kid": ED.kid}

    def header(**changes):
        return tokens.token(ED, header=changes)

    def body(**changes):
        return tokens.token(ED, **changes)

    def raw_header(text):
        return compose(text, json_bytes(claims()), ED.sign)

    def raw_claims(text):
        return compose(json_bytes(good_header), text, ED.sign)

    def claims_text(**changes):
        return json_bytes(claims(**changes)).decode()

    good = tokens.token(ED)
    head, payload, signature = good.split(".")
    hmac_with_public_key = _hs256_with(RSA.public_pem(), RSA.kid)
    cases = [
        # the signature
        ("no signature", f"{head}.{payload}."),
        ("signature of another token", ".".join([head, payload, tokens.token(ED).split(".")[2]])),
        ("signature cut short", good[:-4]),
        ("signature too long", good + "AAAA"),
        ("one bit of the signature flipped", f"{head}.{payload}.{_flip(signature)}"),
        ("one bit of the claims flipped", f"{head}.{_flip(payload)}.{signature}"),
        ("one bit of the header flipped", f"{_flip(head)}.{payload}.{signature}"),
        ("another subject under the same signature", f"{head}.{b64url(claims_text(sub='root'))}.{signature}"),
        ("signed by a stranger with our key id, EdDSA", tokens.token(STRANGER_ED)),
        ("signed by a stranger with our key id, ES256", tokens.token(STRANGER_EC)),
        ("signed by a stranger with our key id, RS256", tokens.token(STRANGER_RSA)),
        ("signed by an RSA key too small to be listed", tokens.token(SMALL_RSA)),
        ("an ECDSA signature of zeros", f"{b64url(json_bytes({'alg': 'ES256', 'kid': EC.kid}))}.{payload}.{b64url(bytes(64))}"),
        ("an ECDSA signature in DER", _der_signed()),
        ("an Ed25519 signature of zeros", f"{head}.{payload}.{b64url(bytes(64))}"),
        ("an Ed25519 signature with a large s", f"{head}.{payload}.{_malleable(signature)}"),
        # the algorithm
        ("alg none", compose(json_bytes({"alg": "none"}), json_bytes(claims()), lambda _: b"")),
        ("alg None", compose(json_bytes({"alg": "None", "kid": ED.kid}), json_bytes(claims()), lambda _: b"")),
        ("alg nOnE with our signature", header(alg="nOnE")),
        ("alg none with a key id", compose(json_bytes({"alg": "none", "kid": ED.kid}), json_bytes(claims()), lambda _: b"")),
        ("alg HS256 keyed with our public key", hmac_with_public_key),
        ("alg HS256 keyed with nothing", _hs256_with(b"", RSA.kid)),
        ("alg HS384", header(alg="HS384")),
        ("alg PS256 with our RSA key", _signed_as("PS256", RSA)),
        ("alg RS512 with our RSA key", header(alg="RS512", kid=RSA.kid)),
        ("alg RS256 with our EC key", header(alg="RS256", kid=EC.kid)),
        ("alg ES256 with our Ed25519 key", header(alg="ES256")),
        ("alg EdDSA with our RSA key's id", header(kid=RSA.kid)),
        ("alg ES256K", header(alg="ES256K", kid=EC.kid)),
        ("alg empty", header(alg="")),
        ("alg missing", header(alg=None)),
        ("alg a number", header(alg=256)),
        ("alg a list", header(alg=["EdDSA"])),
        ("alg in lower case", header(alg="eddsa")),
        ("alg with a NUL", header(alg="EdDSA\0")),
        # the key id and keys brought along
        ("an unknown key id", header(kid="ed-2")),
        ("no key id among several keys", header(kid=None)),
        ("an empty key id", header(kid="")),
        ("a key id that is a path", header(kid="../../etc/passwd")),
        ("a key id that is a device", header(kid="/dev/null")),
        ("a key id that is a URL", header(kid="https://evil.test/key")),
        ("a key id that is SQL", header(kid="x' UNION SELECT 'k")),
        ("a key id that is a command", header(kid="|id")),
        ("a key id with a NUL after ours", header(kid=ED.kid + "\0")),
        ("a key id of 129 characters", header(kid="k" * 129)),
        ("a key id that is a number", header(kid=1)),
        ("a key id that is a list", header(kid=[ED.kid])),
        ("a key brought in jwk", tokens.token(STRANGER_ED, header={"jwk": STRANGER_ED.jwk(), "kid": "mine"})),
        ("a key brought in jwk under our id", tokens.token(STRANGER_ED, header={"jwk": STRANGER_ED.jwk()})),
        ("a key behind jku", tokens.token(STRANGER_ED, header={"jku": "https://evil.test/jwks", "kid": "mine"})),
        ("a key behind jku under our id", tokens.token(STRANGER_ED, header={"jku": "http://127.0.0.1:1/"})),
        ("a certificate in x5c", tokens.token(STRANGER_ED, header={"x5c": ["MIIB"]})),
        ("a certificate behind x5u", tokens.token(STRANGER_ED, header={"x5u": "https://evil.test/"})),
        # other header tricks
        ("crit names exp", header(crit=["exp"])),
        ("crit names b64", header(crit=["b64"], b64=False)),
        ("crit empty", header(crit=[])),
        ("b64 false", header(b64=False)),
        ("cty says nested", header(cty="JWT")),
        ("zip", header(zip="DEF")),
        ("enc", header(enc="A256GCM")),
        ("the header is a list", raw_header(b'["EdDSA"]')),
        ("the header is not JSON", raw_header(b"alg=EdDSA")),
        ("the header is empty", raw_header(b"")),
        ("two alg fields", raw_header(f'{{"alg":"none","alg":"EdDSA","kid":"{ED.kid}"}}'.encode())),
        ("two kid fields", raw_header(f'{{"alg":"EdDSA","kid":"x","kid":"{ED.kid}"}}'.encode())),
        ("bytes after the header's JSON", raw_header(json_bytes(good_header) + b"{}")),
        ("a header with a byte order mark", raw_header(b"\xef\xbb\xbf" + json_bytes(good_header))),
        ("a header that is not UTF-8", raw_header(b'{"alg":"EdDSA","kid":"' + ED.kid.encode() + b'","x":"\xff"}')),
        # the claims
        ("no issuer", body(iss=None)), ("another issuer", body(iss="https://evil.test/")),
        ("our issuer without its slash", body(iss=ISSUER.rstrip("/"))),
        ("our issuer in capitals", body(iss=ISSUER.upper())),
        ("our issuer and more", body(iss=ISSUER + "x")), ("an issuer list", body(iss=[ISSUER])),
        ("our issuer with a NUL", body(iss=ISSUER + "\0")),
        ("no audience", body(aud=None)), ("another audience", body(aud="other")), ("an empty audience list", body(aud=[])),
        ("an audience object", body(aud={AUDIENCE: 1})), ("an audience number", body(aud=5)),
        ("an audience list with a number", body(aud=[AUDIENCE, 5])),
        ("an audience that contains ours", body(aud="x" + AUDIENCE)),
        ("no subject", body(sub=None)), ("an empty subject", body(sub="")), ("a subject of 256 bytes", body(sub="s" * 256)),
        ("a subject with a NUL", body(sub="alice\0root")), ("a subject number", body(sub=7)),
        ("a subject with a line end", body(sub="alice\r\nX-Admin: 1")),
        ("no expiry", body(exp=None)), ("an expiry text", body(exp=str(now + 3600))),
        ("an expiry of 2^64", body(exp=1 << 64)), ("a negative expiry", body(exp=-1)),
        ("an expiry of 1e300", raw_claims(re.sub(r'"exp":\d+', '"exp":1e300', claims_text()).encode())),
        ("an expiry with a fraction", raw_claims(re.sub(r'"exp":(\d+)', r'"exp":\1.5e99', claims_text()).encode())),
        ("an expiry true", body(exp=True)), ("an expiry list", body(exp=[now + 3600])),
        ("not valid for another hour", body(nbf=now + 3600)), ("a not-before text", body(nbf="now")),
        ("issued in an hour", body(iat=now + 3600)), ("an issued-at text", body(iat="now")),
        ("a life of two days", body(exp=now + 172_800)),
        ("a life of a century", body(exp=now + 3_153_600_000)),
        ("two subjects", raw_claims((claims_text()[:-1] + ',"sub":"root"}').encode())),
        ("two expiries", raw_claims((claims_text()[:-1] + f',"exp":{now + 60}}}').encode())),
        ("two subjects, one escaped", raw_claims((claims_text()[:-1] + ',"s\\u0075b":"root"}').encode())),
        ("claims that are a list", raw_claims(b"[" + json_bytes(claims()) + b"]")),
        ("claims that are a text", raw_claims(b'"alice"')), ("claims that are empty", raw_claims(b"")),
        ("claims that are not JSON", raw_claims(b"sub=alice")),
        ("claims nested a thousand deep", raw_claims((claims_text()[:-1] + ',"x":' + "[" * 1000 + "]" * 1000 + "}").encode())),
        ("claims that are not UTF-8", raw_claims(claims_text().replace("alice", "al").encode().replace(b"al", b"a\xffl"))),
        ("bytes after the claims", raw_claims(json_bytes(claims()) + b" x")),
        # the form
        ("one part", head), ("two parts", f"{head}.{payload}"), ("four parts", good + "." + signature),
        ("five parts, as if encrypted", f"{head}..{payload}.{signature}.{signature}"), ("only dots", ".."),
        ("an empty header", f".{payload}.{signature}"), ("empty claims", f"{head}..{signature}"),
        ("padding", f"{head}=.{payload}.{signature}"), ("padding at the end", good + "=="),
        ("ordinary base64", _ordinary_base64()),
        ("a blank inside", good[:40] + " " + good[40:]), ("a second token behind a blank", f"{good} {good}"),
        ("two tokens with a comma", f"{good},{good}"), ("in quotes", f'"{good}"'),
        ("a letter outside ASCII", good[:-1] + "é"), ("a trailing dot", good + "."),
        ("percent-encoded dots", good.replace(".", "%2E")),
        ("stray bits in the last letter", f"{head}.{payload}.{_stray_bits(signature)}"),
        ("nothing", ""), ("just a word", "alice"),
        ("JSON instead of a token", '{"sub":"alice"}'),
    ]
    return cases


def _flip(text):
    return ("B" if text[0] != "B" else "C") + text[1:] if text[0] != "e" else text[:20] + ("A" if text[20] != "A" else "B") + text[21:]


def _ordinary_base64():
    """A genuine token whose signature is written with + and / instead of - and _."""
    while True:
        token = tokens.token(ED)
        head, payload, signature = token.split(".")
        other = signature.replace("-", "+").replace("_", "/")
        if other != signature:
            return f"{head}.{payload}.{other}"


def _stray_bits(signature):
    """The last letter of 64 bytes carries 2 bits that must be zero."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return signature[:-1] + letters[letters.index(signature[-1]) | 1]


def _malleable(signature):
    """s + the group order: the same curve point, which RFC 8032 §5.1.7 says to refuse."""
    raw = base64.urlsafe_b64decode(signature + "==")
    order = (1 << 252) + 27742317777372353535851937790883648493
    s = int.from_bytes(raw[32:], "little") + order
    return b64url(raw[:32] + s.to_bytes(32, "little"))


def _hs256_with(secret, kid):
    return compose(json_bytes({"alg": "HS256", "typ": "JWT", "kid": kid}), json_bytes(claims()),
                   lambda message: hmac.new(secret, message, hashlib.sha256).digest())


def _signed_as(algorithm, key):
    other = object.__new__(Key)
    other.algorithm, other.kid, other.private = algorithm, key.kid, key.private
    return tokens.token(other)


def _der_signed():
    return compose(json_bytes({"alg": "ES256", "kid": EC.kid}), json_bytes(claims()),
                   lambda message: EC.private.sign(message, ec.ECDSA(hashes.SHA256())))


FORGED = forged()


def test_there_are_at_least_sixty_kinds_of_forgery():
    assert len({what for what, _ in FORGED}) == len(FORGED) >= 60


@pytest.fixture(scope="module")
def refusal_of_no_token(verifier):
    """The one answer that every forgery must get, without what differs by nature."""
    with RawHttp(verifier.connect()) as connection:
        connection.send(request("GET", "/t/web/hello"))
        return comparable(connection.read_answer())


def comparable(answer):
    """Everything an attacker could compare: status, fields and body but for times and ids."""
    error = json.loads(answer.body)["error"]
    for varying in ("timestamp", "requestId", "correlationId"):
        error.pop(varying)
    fields = sorted((name, value) for name, value in answer.fields
                    if name.lower() not in ("x-correlation-id", "date", "content-length"))
    return answer.status, fields, error


@pytest.mark.short
@pytest.mark.parametrize("what,token", FORGED, ids=[what for what, _ in FORGED])
def test_no_forgery_is_accepted_and_all_get_the_same_answer(verifier, refusal_of_no_token, what, token):
    answer = ask(verifier, token)
    assert answer.status == 401, f"{what}: {answer}"
    assert json.loads(answer.body)["error"]["code"] == "TUNNEL_002"
    assert comparable(answer) == refusal_of_no_token


@pytest.mark.short
def test_no_forgery_ever_reached_the_service(verifier, origin, unique):
    before = len([line for line in origin.requests() if unique in line])
    for _, token in FORGED:
        ask(verifier, token, f"/t/web/hello?{unique}")
    assert len([line for line in origin.requests() if unique in line]) == before == 0


def test_a_token_too_long_for_a_header_line_is_refused_as_such(verifier):
    assert ask(verifier, tokens.token(ED, filler="x" * 9000)).status == 431


@pytest.mark.short
def test_an_expired_but_genuine_token_is_told_apart(verifier):
    now = int(time.time())
    answer = ask(verifier, verifier.secret(tokens.token(ED, iat=now - 7200, exp=now - 3600)))
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (401, "TUNNEL_003")
    assert answer.value("WWW-Authenticate").startswith("Bearer")


@pytest.mark.parametrize("what,changes", [("signature", {}), ("audience", {"aud": "other"}), ("issuer", {"iss": "x"})])
def test_an_expired_token_with_another_fault_is_just_invalid(verifier, what, changes):
    now = int(time.time())
    key = STRANGER_ED if what == "signature" else ED
    answer = ask(verifier, tokens.token(key, iat=now - 7200, exp=now - 3600, **changes))
    assert json.loads(answer.body)["error"]["code"] == "TUNNEL_002"


@pytest.mark.parametrize("fields", [
    (), ("Authorization: Basic YWxpY2U6eA==",), ("Authorization: Bearer",), ("Authorization:",),
    ("Authorization: {token}",), ("Authorization: Bearer Bearer {token}",), ("Authorization: Token {token}",),
    ("Authorization: Bearer {token}", "Authorization: Bearer {token}"),
    ("Authorization: Bearer {token}", "Authorization: Bearer x"), ("Cookie: token={token}",),
    ("X-Authorization: Bearer {token}",), ("Proxy-Authorization: Bearer {token}",)])
def test_a_token_anywhere_but_in_one_bearer_field_is_no_token(tunneld, token, fields):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/t/web/hello", *[field.format(token=token) for field in fields]))
        assert connection.read_answer().status in (400, 401)


@pytest.mark.short
@pytest.mark.parametrize("path", ["/t/web/hello?token={token}", "/t/web/hello?access_token={token}",
                                  "/t/web/hello?a=1&token={token}"])
def test_a_token_in_the_query_is_refused(tunneld, path):
    token = tunneld.token("quentin")
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", path.format(token=token)))
        assert connection.read_answer().status in (400, 401)


def test_a_browser_may_bring_its_token_as_a_subprotocol(tunneld, token):
    async def scenario():
        async with stream(tunneld, "echo", None, subprotocols=["tunnel.raw.v1", f"bearer.{token}"]) as ws:
            assert ws.subprotocol == "tunnel.raw.v1", "the token is never echoed"

    asyncio.run(scenario())


# What each principal may reach --------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("subject,tier,scope,reaches", [
    ("alice", "free", None, {"web"}),
    ("carol", "free", None, {"web", "carols"}),
    ("alice", "premium", None, {"web", "paying"}),
    ("alice", "enterprise", None, {"web", "paying"}),
    ("alice", "free", "reports:read", {"web", "reports"}),
    ("alice", "free", "reports:readwrite", {"web"}),
    ("Carol", "free", None, {"web"}),
])
def test_allow_lists_decide_by_subject_tier_and_scope(tunneld, subject, tier, scope, reaches):
    token = tunneld.token(subject, tier, scope=scope)
    for service in ("web", "carols", "paying", "reports"):
        answer = ask(tunneld, token, f"/t/{service}/hello")
        if service in reaches:
            assert answer.status == 200, service
        else:
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (403, "TUNNEL_017"), service


@pytest.mark.short
def test_a_forbidden_service_looks_like_one_that_does_not_exist(tunneld):
    token = tunneld.token("mallory", "free")
    denied, unknown = (comparable(ask(tunneld, token, f"/t/{name}/hello")) for name in ("carols", "nosuch"))
    assert json.dumps(denied).replace("carols", "") == json.dumps(unknown).replace("nosuch", "")


def test_without_a_token_a_service_that_exists_looks_like_one_that_does_not(tunneld):
    assert comparable(ask(tunneld, "", "/t/web/hello")) == comparable(ask(tunneld, "", "/t/nosuch/hello"))


@pytest.mark.parametrize("path", ["/t/../t/carols/hello", "/t/web/../carols/hello", "/t/%63arols/hello", "/t/carols%2Fhello",
                                  "/t/web/%2e%2e/carols/hello", "/t//carols/hello", "/t/./carols/hello",
                                  "/T/carols/hello", "/t/carols;x/hello", "/t/carols%00/hello", "/t/web%2F..%2Fcarols/hello"])
def test_no_spelling_of_the_path_reaches_a_forbidden_service(tunneld, path):
    assert ask(tunneld, tunneld.token("mallory", "free"), path).status in (400, 403, 404)


def test_principals_never_share_an_ssh_session(new_tunneld, new_sshd):
    far = new_sshd()
    daemon = new_tunneld(via=far)
    for subject in ("ann", "ben", "cat"):
        assert ask(daemon, daemon.token(subject)).status == 200
    accepted = [line for line in far.program.output().splitlines() if "Accepted publickey" in line]
    assert len(accepted) >= 3


# Expiry while connected ---------------------------------------------------------------------------


@pytest.mark.short
def test_a_stream_ends_with_4401_when_its_token_expires(new_tunneld):
    daemon = new_tunneld(auth={"leeway": "1s"})

    async def scenario():
        async with stream(daemon, "echo", daemon.token(expires="3s")) as ws:
            await ws.send(b"x")
            assert await ws.recv() == b"x"
            started = time.monotonic()
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await asyncio.wait_for(ws.recv(), 20)
            return ws.close_code, time.monotonic() - started

    code, took = asyncio.run(scenario())
    assert code == 4401 and took < 8


def test_a_keep_alive_connection_is_refused_once_its_token_expired(new_tunneld):
    daemon = new_tunneld(auth={"leeway": "0s"})
    token = daemon.token(expires="2s")
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(daemon.certificate)
        session.headers["Authorization"] = f"Bearer {token}"

        def status():
            return session.get(daemon.url("/t/web/hello"), timeout=10)

        assert status().status_code == 200
        wait_until(lambda: status().status_code == 401, 10, "the token is refused")
        assert status().json()["error"]["code"] == "TUNNEL_003"


# Keys from a file or shared -----------------------------------------------------------------------


def test_a_shared_secret_accepts_hs256_and_nothing_else(new_tunneld, new_directory):
    secret = b"0123456789abcdef0123456789abcdef"
    directory = new_directory("secret")
    directory.mkdir()
    file = directory / "secret"
    file.write_bytes(secret)
    file.chmod(0o600)
    daemon = new_tunneld(auth={"mode": "shared_secret", "issuer": ISSUER, "audience": AUDIENCE,
                               "shared_secret_file": str(file)})
    genuine = jwt.encode(claims(), secret, algorithm="HS256")
    assert ask(daemon, daemon.secret(genuine)).status == 200
    for wrong in (jwt.encode(claims(), b"another secret of 32 bytes......", algorithm="HS256"),
                  jwt.encode(claims(), secret + b"0" * 32, algorithm="HS512"), tokens.token(RSA), tokens.token(ED)):
        assert ask(daemon, wrong).status == 401
    assert secret.decode() not in daemon.program.output()


@pytest.mark.parametrize("what,content", [
    ("not JSON", "nonsense"), ("no keys", '{"keys": []}'), ("a private key", "private"), ("an RSA key of 1024 bits", "small")])
def test_a_bad_key_file_stops_the_start(new_tunneld, new_directory, what, content):
    directory = new_directory("jwks")
    directory.mkdir()
    file = directory / "jwks.json"
    if content == "small":
        content = json.dumps({"keys": [SMALL_RSA.jwk()]})
    elif content == "private":
        content = json.dumps({"keys": [{"kty": "oct", "kid": "a", "k": b64url(b"x" * 32)}]})
    file.write_text(content)
    daemon = new_tunneld(start=False, auth={"mode": "jwks", "issuer": ISSUER, "audience": AUDIENCE,
                                            "jwks_file": str(file)})
    program = daemon.launch()
    assert program.wait(20) == 78
    assert str(file) in program.output()
    program.kill()
