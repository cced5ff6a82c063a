#include "tunneld/token_keys.h"

#include <fstream>
#include <iterator>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "common/log.h"
#include "tunneld/access/local_issuer.h"
#include "tunneld/access/secret_file.h"

namespace tunneld {

using access::AuthMode;
using access::JwkSet;
using Clock = std::chrono::steady_clock;

namespace {

constexpr const char* kComponent = "access";

Result<std::string> read_document(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(Error::Kind::not_found, "auth.jwks_file: " + path + " cannot be read");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.size() > JwkSet::kMaxBytes)
    return fail(Error::Kind::bad_input, "auth.jwks_file: " + path + " is larger than 256 KiB");
  return text;
}

Error in_file(const std::string& path, Error error) {
  error.message = path + ": " + error.message;
  return error;
}

}  // namespace

TokenKeys::TokenKeys(access::Options options, std::filesystem::path state_dir,
                     boost::asio::io_context& control, Authenticator& authenticator,
                     tunnel::Observer& observer, Fetch fetch)
    : options_(std::move(options)),
      state_dir_(std::move(state_dir)),
      control_(control),
      authenticator_(authenticator),
      observer_(observer),
      fetch_(std::move(fetch)),
      timer_(control) {}

TokenKeys::~TokenKeys() {
  authenticator_.set_verifier(nullptr);
}

Result<std::unique_ptr<TokenKeys>> TokenKeys::open(const access::Options& options,
                                                   const std::filesystem::path& state_dir,
                                                   boost::asio::io_context& control,
                                                   Authenticator& authenticator, tunnel::Observer& observer,
                                                   Fetch fetch) {
  std::unique_ptr<TokenKeys> keys(
      new TokenKeys(options, state_dir, control, authenticator, observer, std::move(fetch)));
  if (!options.jwks_url.empty()) {
    keys->arm();
    return keys;
  }
  if (auto read = keys->reload(); !read) return tl::unexpected(read.error());
  return keys;
}

Result<JwkSet> TokenKeys::read() const {
  if (options_.mode == AuthMode::shared_secret) {
    auto secret = access::read_shared_secret(options_.shared_secret_file);
    if (!secret) return tl::unexpected(secret.error());
    return JwkSet::shared_secret(secret->reveal());
  }
  if (options_.mode == AuthMode::jwks) {
    auto text = read_document(options_.jwks_file);
    if (!text) return tl::unexpected(text.error());
    auto keys = JwkSet::parse(*text);
    if (!keys) return tl::unexpected(in_file(options_.jwks_file, keys.error()));
    return keys;
  }
  auto issuer = access::LocalIssuer::load_or_create((state_dir_ / kIssuerKeyFile).string());
  if (!issuer) return tl::unexpected(issuer.error());
  return JwkSet::parse(issuer->jwks());
}

Result<void> TokenKeys::reload() {
  if (!options_.jwks_url.empty()) return {};
  auto keys = read();
  if (!keys) return tl::unexpected(keys.error());
  return use(std::move(*keys));
}

Result<void> TokenKeys::use(JwkSet keys) {
  for (const auto& line : keys.skipped())
    logging::warn(kComponent, "a token key is not used", {{"why", line}});
  auto shared = std::make_shared<const JwkSet>(std::move(keys));
  if (verifier_) {
    if (auto replaced = verifier_->replace_keys(std::move(shared)); !replaced) return replaced;
  } else {
    auto made = access::TokenVerifier::create(options_, std::move(shared));
    if (!made) return tl::unexpected(made.error());
    verifier_ = std::move(*made);
  }
  authenticator_.set_verifier(verifier_.get());
  return {};
}

void TokenKeys::unknown_key() {
  if (options_.jwks_url.empty()) return;
  boost::asio::post(control_, [this] {
    if (!stopped_ && policy_.on_unknown_kid(Clock::now()) == access::JwksRefreshPolicy::Decision::fetch)
      start_fetch();
  });
}

bool TokenKeys::stale() const {
  return !options_.jwks_url.empty() && policy_.stale(Clock::now());
}

void TokenKeys::arm() {
  const auto due = policy_.next_due();
  if (!due || stopped_) return;
  timer_.expires_at(*due);
  timer_.async_wait([this](boost::system::error_code error) {
    if (error || stopped_) return;
    if (policy_.due(Clock::now()) == access::JwksRefreshPolicy::Decision::fetch)
      start_fetch();
    else
      arm();
  });
}

void TokenKeys::start_fetch() {
  boost::asio::co_spawn(control_, run_fetch(), [this](std::exception_ptr failure) {
    if (failure) policy_.failed(Clock::now());
    if (!stopped_) arm();
  });
}

boost::asio::awaitable<void> TokenKeys::run_fetch() {
  const std::string url = options_.jwks_url;
  auto document = co_await fetch_(url);
  Result<void> used;
  if (document) {
    auto keys = JwkSet::parse(*document);
    if (keys)
      used = use(std::move(*keys));
    else
      used = tl::unexpected(in_file(url, keys.error()));
  } else {
    used = tl::unexpected(document.error());
  }
  const auto now = Clock::now();
  observer_.jwks_refreshed(used.has_value());
  if (used) {
    policy_.succeeded(now);
    logging::info(kComponent, "token keys fetched", {{"url", url}, {"keys", verifier_->keys()->size()}});
    co_return;
  }
  policy_.failed(now);
  logging::warn(kComponent, "token keys could not be fetched",
                {{"url", url}, {"error", used.error().message}});
  // A provider that is away for a day may have withdrawn any of them.
  if (verifier_ && !policy_.usable(now)) authenticator_.set_verifier(nullptr);
}

void TokenKeys::stop() {
  stopped_ = true;
  timer_.cancel();
}

}  // namespace tunneld
