"""Tokens signed with keys of our own, and tokens bent in every way the verifier must notice."""

import base64
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://issuer.test/"
AUDIENCE = "tunnel-test"


def b64url(data):
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64url_number(number):
    return b64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def json_bytes(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Key:
    """A signing key of one algorithm and its public JWK."""

    def __init__(self, algorithm, kid, *, rsa_bits=2048, curve=None):
        self.algorithm, self.kid = algorithm, kid
        if algorithm.startswith(("RS", "PS")):
            self.private = rsa.generate_private_key(65537, rsa_bits)
        elif algorithm.startswith("ES"):
            self.private = ec.generate_private_key(curve or ec.SECP256R1())
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()

    def sign(self, message):
        if self.algorithm == "RS256":
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        if self.algorithm == "PS256":
            return self.private.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        if self.algorithm == "ES256":
            r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return self.private.sign(message)

    def jwk(self):
        public = self.private.public_key()
        common = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if self.algorithm in ("RS256", "PS256"):
            numbers = public.public_numbers()
            return {**common, "kty": "RSA", "n": b64url_number(numbers.n), "e": b64url_number(numbers.e)}
        if self.algorithm == "ES256":
            numbers = public.public_numbers()
            return {**common, "kty": "EC", "crv": "P-256", "x": b64url(numbers.x.to_bytes(32, "big")),
                    "y": b64url(numbers.y.to_bytes(32, "big"))}
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {**common, "kty": "OKP", "crv": "Ed25519", "x": b64url(raw)}

    def public_pem(self):
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes):
    """Claims that pass; a value of None takes the claim away."""
    now = int(time.time())
    result = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600,
              "jti": f"t-{time.monotonic_ns()}", "tier": "premium", **changes}
    return {name: value for name, value in result.items() if value is not None}


def compose(header, payload, sign):
    """A compact token from ready bytes, whatever they are."""
    signed = f"{b64url(header)}.{b64url(payload)}"
    return f"{signed}.{b64url(sign(signed.encode()))}"


def token(key, header=None, **changes):
    """A genuine token by `key`; keyword arguments change claims, `header` adds or removes fields."""
    fields = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid, **(header or {})}
    fields = {name: value for name, value in fields.items() if value is not None}
    return compose(json_bytes(fields), json_bytes(claims(**changes)), key.sign)
