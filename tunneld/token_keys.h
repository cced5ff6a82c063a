#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/result.h"
#include "tunnel/observer.h"
#include "tunneld/access/jwks_refresh_policy.h"
#include "tunneld/access/options.h"
#include "tunneld/access/token_verifier.h"
#include "tunneld/admission.h"

namespace tunneld {

/// Keeps the keys that tokens are checked with: reads them at start, fetches them anew when they are
/// old or a token names one we do not hold, and hands the verifier to the doors.
/// Threads: lives on the control loop; unknown_key() may be called from any thread.
class TokenKeys {
 public:
  /// Gets a document over https without following redirects.
  using Fetch = std::function<boost::asio::awaitable<Result<std::string>>(std::string url)>;

  /// `options` as validated. Local mode makes its key in `state_dir` when it is missing. A key set
  /// behind a URL is fetched once the loop runs: an identity provider that is down must not keep the
  /// daemon from starting, and until its keys come tokens are refused as unavailable.
  static Result<std::unique_ptr<TokenKeys>> open(const access::Options& options,
                                                 const std::filesystem::path& state_dir,
                                                 boost::asio::io_context& control,
                                                 Authenticator& authenticator, tunnel::Observer& observer,
                                                 Fetch fetch);
  ~TokenKeys();

  void unknown_key();
  /// Reads files again (SIGHUP). On failure the old keys stay.
  Result<void> reload();
  /// The provider could not be reached for long; old keys still serve.
  bool stale() const;
  /// Ends timers and fetches, so that the control loop can end.
  void stop();

 private:
  TokenKeys(access::Options options, std::filesystem::path state_dir, boost::asio::io_context& control,
            Authenticator& authenticator, tunnel::Observer& observer, Fetch fetch);
  Result<access::JwkSet> read() const;
  Result<void> use(access::JwkSet keys);
  void arm();
  void start_fetch();
  boost::asio::awaitable<void> run_fetch();

  const access::Options options_;
  const std::filesystem::path state_dir_;
  boost::asio::io_context& control_;
  Authenticator& authenticator_;
  tunnel::Observer& observer_;
  const Fetch fetch_;
  std::unique_ptr<access::TokenVerifier> verifier_;
  access::JwksRefreshPolicy policy_;
  boost::asio::steady_timer timer_;
  bool stopped_ = false;
};

/// File name of the local issuer's key in the state directory.
inline constexpr const char* kIssuerKeyFile = "token_issuer.pem";

}  // namespace tunneld
