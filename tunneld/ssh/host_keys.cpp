#include "tunneld/ssh/host_keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <system_error>

#include <libssh2.h>

#include "tunneld/ssh/identity.h"

namespace tunneld::ssh {
namespace {

struct FreeSession {
  void operator()(LIBSSH2_SESSION* session) const { libssh2_session_free(session); }
};
struct FreeHosts {
  void operator()(LIBSSH2_KNOWNHOSTS* hosts) const { libssh2_knownhost_free(hosts); }
};

/// Type of a host key blob as libssh2's known-host functions number them; 0 if we do not take it.
int known_host_type(const std::string& blob) {
  auto is = [&](std::string_view name) {
    return blob.size() > name.size() + 4 && std::string_view(blob).substr(4, name.size()) == name;
  };
  if (is("ssh-ed25519")) return LIBSSH2_KNOWNHOST_KEY_ED25519;
  if (is("ssh-rsa")) return LIBSSH2_KNOWNHOST_KEY_SSHRSA;
  return 0;
}

std::string name_of(const std::string& host, std::uint16_t port) {
  return port == 22 ? host : "[" + host + "]:" + std::to_string(port);
}

Result<void> record(const HostKeyPolicy& policy, LIBSSH2_KNOWNHOSTS* hosts, const std::string& name,
                    const std::string& blob, int type) {
  if (libssh2_knownhost_addc(hosts, name.c_str(), nullptr, blob.data(), blob.size(), nullptr, 0,
                             LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | type,
                             nullptr) != 0)
    return fail(Error::Kind::bug, "cannot record the host key of " + name);
  std::string temporary = policy.known_hosts.string() + ".tmp." + std::to_string(::getpid());
  // libssh2 writes with fopen: make the file ours alone before it does.
  int fd = ::open(temporary.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  bool ok = fd >= 0;
  if (ok) ::close(fd);
  ok = ok && libssh2_knownhost_writefile(hosts, temporary.c_str(), LIBSSH2_KNOWNHOST_FILE_OPENSSH) == 0;
  if (ok) {
    fd = ::open(temporary.c_str(), O_WRONLY | O_CLOEXEC);
    ok = fd >= 0 && ::fsync(fd) == 0;
    if (fd >= 0) ::close(fd);
  }
  if (ok && ::rename(temporary.c_str(), policy.known_hosts.c_str()) == 0) return {};
  int error = errno;
  ::unlink(temporary.c_str());
  return fail(Error::Kind::unavailable, policy.known_hosts.string() + ": cannot record the host key of " +
                                            name + ": " + std::generic_category().message(error));
}

}  // namespace

Result<void> check_fingerprint(const std::string& text) {
  constexpr std::string_view kPrefix = "SHA256:";
  constexpr std::size_t kDigits = 43;  // 32 bytes in unpadded base64
  bool ok = text.starts_with(kPrefix) && text.size() == kPrefix.size() + kDigits &&
            text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                                   kPrefix.size()) == std::string::npos;
  if (ok) return {};
  return fail(Error::Kind::bad_input,
              "must be SHA256: and 43 base64 characters, as ssh-keygen -lf prints it");
}

Result<void> verify_host_key(const HostKeyPolicy& policy, const std::string& host, std::uint16_t port,
                             const std::string& key_blob) {
  const std::string shown = fingerprint_of(key_blob);
  const std::string name = name_of(host, port);
  const int type = known_host_type(key_blob);
  if (type == 0)
    return fail(Error::Kind::denied, name + " showed a host key that is neither Ed25519 nor RSA");

  if (!policy.fingerprints.empty()) {
    for (const auto& right : policy.fingerprints)
      if (right == shown) return {};
    return fail(Error::Kind::denied, name + " showed host key " + shown +
                                         ", which is not the pinned one: find out why before you change "
                                         "host_key_fingerprint");
  }

  // Two threads may meet here for a host that is not known yet; the file is read and written whole.
  static std::mutex one_at_a_time;
  std::lock_guard lock(one_at_a_time);
  std::unique_ptr<LIBSSH2_SESSION, FreeSession> session(
      libssh2_session_init_ex(nullptr, nullptr, nullptr, nullptr));
  std::unique_ptr<LIBSSH2_KNOWNHOSTS, FreeHosts> hosts(session ? libssh2_knownhost_init(session.get())
                                                               : nullptr);
  if (!hosts) return fail(Error::Kind::unavailable, "out of memory while reading known hosts");
  const std::string path = policy.known_hosts.string();
  const bool exists = ::access(path.c_str(), F_OK) == 0;
  if (exists || !policy.trust_on_first_use) {
    if (libssh2_knownhost_readfile(hosts.get(), path.c_str(), LIBSSH2_KNOWNHOST_FILE_OPENSSH) < 0) {
      char* message = nullptr;
      libssh2_session_last_error(session.get(), &message, nullptr, 0);
      return fail(Error::Kind::bad_input,
                  path + ": cannot read known hosts: " + (message ? message : "damaged"));
    }
  }
  int check =
      libssh2_knownhost_checkp(hosts.get(), host.c_str(), port, key_blob.data(), key_blob.size(),
                               LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | type, nullptr);
  if (check == LIBSSH2_KNOWNHOST_CHECK_MATCH) return {};
  if (check == LIBSSH2_KNOWNHOST_CHECK_NOTFOUND && policy.trust_on_first_use)
    return record(policy, hosts.get(), name, key_blob, type);
  if (check == LIBSSH2_KNOWNHOST_CHECK_NOTFOUND)
    return fail(Error::Kind::denied, name + " is not in " + path + "; it showed " + shown +
                                         ": verify that fingerprint and add the line of ssh-keyscan");
  return fail(Error::Kind::denied, name + " showed host key " + shown + ", which differs from the one in " +
                                       path + ": find out why before you change the file");
}

}  // namespace tunneld::ssh
