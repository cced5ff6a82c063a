"""scripts/libssh2 against a small mirror of our own, signed by a key of our own: what must not be built is not.

The source package in it has a version and checksums like the real one, but nothing in it would compile. So a
run that gets as far as "building" has accepted the download.
"""
import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GOOD = "1.11.1-1+deb13u2"


def gpg(home, *arguments):
    subprocess.run(["gpg", "--homedir", home, "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "",
                    *arguments], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def key():
    """A GnuPG home with one signing key, and its keyring. The path is short: gpg-agent's socket lives in it."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="gpg"))
    gpg(home, "--quick-gen-key", "mirror@example.invalid", "ed25519", "sign", "never")
    gpg(home, "--output", home / "keyring.gpg", "--export")
    yield home
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], timeout=60)
    shutil.rmtree(home)


def tar(path, compression, files):
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


class Mirror:
    def __init__(self, folder, key):
        self.folder, self.key = folder, key
        self.pool, self.dists = folder / "pool", folder / "dists" / "trixie"

    def publish(self, version=GOOD, sign=True):
        self.pool.mkdir(parents=True)
        (self.dists / "main" / "source").mkdir(parents=True)
        upstream = version.rsplit("-", 1)[0]
        orig, debian = f"libssh2_{upstream}.orig.tar.gz", f"libssh2_{version}.debian.tar.xz"
        tar(self.pool / orig, "gz", {f"libssh2-{upstream}/README": "not the real one\n"})
        tar(self.pool / debian, "xz", {
            "debian/source/format": "3.0 (quilt)\n", "debian/changelog": f"libssh2 ({version}) trixie; urgency=low\n"})
        head = (f"Format: 3.0 (quilt)\nSource: libssh2\nBinary: libssh2-1\nArchitecture: any\nVersion: {version}\n"
                "Maintainer: A <a@example.invalid>\n")

        def sums(names):
            data = {name: (self.pool / name).read_bytes() for name in names}
            return "".join(
                f"{field}:\n" + "".join(f" {hash(text).hexdigest()} {len(text)} {name}\n" for name, text in data.items())
                for field, hash in [("Files", hashlib.md5), ("Checksums-Sha256", hashlib.sha256)])

        dsc = f"libssh2_{version}.dsc"
        (self.pool / dsc).write_text(head + sums([orig, debian]))
        index = head.replace("Source:", "Package:") + "Directory: pool\n" + sums([dsc, orig, debian])
        (self.dists / "main" / "source" / "Sources").write_text(index)
        digest = hashlib.sha256(index.encode()).hexdigest()
        release = self.dists / "Release"
        release.write_text("Origin: Debian\nSuite: stable\nCodename: trixie\nComponents: main\nArchitectures: amd64\n"
                           "Date: Sat, 01 Aug 2026 00:00:00 UTC\n"
                           f"SHA256:\n {digest} {len(index)} main/source/Sources\n")
        if sign:
            gpg(self.key, "--output", self.dists / "InRelease", "--clearsign", release)
            release.unlink()
        self.dsc, self.orig = self.pool / dsc, self.pool / orig

    def build(self, root, **env):
        return subprocess.run([REPOSITORY / "scripts" / "libssh2"], text=True, capture_output=True, timeout=120, env={
            **os.environ, "TUNNEL_DEBIAN_MIRROR": f"copy:{self.folder}", "TUNNEL_LIBSSH2_ROOT": str(root),
            "TUNNEL_DEBIAN_KEYRING": str(self.key / "keyring.gpg"), **env})


@pytest.fixture
def mirror(tmp_path, key):
    return Mirror(tmp_path / "mirror", key)


def refused(done, root, *words):
    assert done.returncode == 1, done.stderr
    assert "building" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert "remedy:" in done.stderr
    assert not root.exists()


def test_an_honest_mirror_is_accepted(mirror, tmp_path):
    mirror.publish()
    done = mirror.build(tmp_path / "out")
    assert f"libssh2: building {GOOD}" in done.stderr
    assert done.returncode == 1, "there is nothing to compile in the test's package"
    assert not (tmp_path / "out").exists()


def test_a_changed_tarball_is_refused(mirror, tmp_path):
    mirror.publish()
    data = bytearray(mirror.orig.read_bytes())
    data[-5] ^= 1
    mirror.orig.write_bytes(data)
    refused(mirror.build(tmp_path / "out"), tmp_path / "out", "does not match")


def test_a_changed_dsc_is_refused(mirror, tmp_path):
    mirror.publish()
    mirror.dsc.write_text(mirror.dsc.read_text().replace("a@example", "b@example"))
    refused(mirror.build(tmp_path / "out"), tmp_path / "out", "does not match")


def test_a_changed_index_is_refused(mirror, tmp_path):
    mirror.publish()
    index = mirror.dists / "main" / "source" / "Sources"
    index.write_text(index.read_text().replace("Binary", "binary"))
    refused(mirror.build(tmp_path / "out"), tmp_path / "out", "source index")


def test_an_unsigned_release_is_refused(mirror, tmp_path):
    mirror.publish(sign=False)
    refused(mirror.build(tmp_path / "out"), tmp_path / "out", "signature does not hold")


def test_an_unsigned_release_is_refused_even_where_the_machine_allows_them(mirror, tmp_path):
    mirror.publish(sign=False)
    lax = tmp_path / "lax.conf"
    lax.write_text('Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "true";\n')
    refused(mirror.build(tmp_path / "out", APT_CONFIG=str(lax)), tmp_path / "out", "signature does not hold")


def test_a_release_signed_by_somebody_else_is_refused(mirror, tmp_path):
    mirror.publish()
    done = mirror.build(tmp_path / "out", TUNNEL_DEBIAN_KEYRING="/usr/share/keyrings/debian-archive-keyring.gpg")
    refused(done, tmp_path / "out", "signature does not hold")


@pytest.mark.parametrize("version, word", [
    ("1.11.1-1+deb13u1", "lacks security fixes"), ("1.11.1-1", "lacks security fixes"),
    ("1.10.0-3", "lacks security fixes"), ("1.12.0-1", "are written for 1.11.1")])
def test_a_version_that_does_not_fit_is_refused(mirror, tmp_path, version, word):
    mirror.publish(version)
    refused(mirror.build(tmp_path / "out"), tmp_path / "out", version, word)


def test_a_later_security_update_is_accepted(mirror, tmp_path):
    mirror.publish("1.11.1-1+deb13u10")
    assert "building 1.11.1-1+deb13u10" in mirror.build(tmp_path / "out").stderr


def test_a_mirror_that_is_not_there_is_one_clear_error(mirror, tmp_path):
    refused(mirror.build(tmp_path / "out"), tmp_path / "out", "could not be fetched")


def test_a_build_that_is_there_needs_no_mirror_and_says_nothing(mirror, tmp_path):
    built = REPOSITORY / "build" / "libssh2"
    if not (built / "stamp").exists():
        pytest.fail("build/libssh2 is missing: run scripts/libssh2")
    shutil.copytree(built, tmp_path / "out")
    done = mirror.build(tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("style", ["deb822", "list"])
def test_the_mirror_comes_from_the_machines_sources(mirror, tmp_path, style):
    mirror.publish()
    parts = tmp_path / "parts"
    parts.mkdir()
    # The name must look like Debian's, as every mirror of it does.
    (tmp_path / "debian").symlink_to(mirror.folder)
    uri = f"copy:{tmp_path}/debian"
    if style == "deb822":
        (parts / "a.sources").write_text(
            f"Types: deb\nURIs: copy:/off/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\n"
            f"Types: deb\nURIs: {uri}/\nSuites: bookworm bookworm-updates\nComponents: main\n")
    else:
        (parts / "a.list").write_text(f"# deb copy:/off/debian bookworm main\ndeb {uri} bookworm main\n")
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::Etc::SourceParts "{parts}";\nDir::Etc::SourceList "/dev/null";\n')
    done = mirror.build(tmp_path / "out", TUNNEL_DEBIAN_MIRROR="", APT_CONFIG=str(config))
    assert f"building {GOOD}" in done.stderr, done.stderr
