#pragma once

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>

#include "tests/support/memory_websocket.h"
#include "tests/support/quiet_observer.h"
#include "tests/support/run_async.h"
#include "tunneld/access/local_issuer.h"
#include "tunneld/admission.h"
#include "tunneld/live_streams.h"

namespace tunneld::tests {

/// What sessions behind a door need: an issuer of tokens, admission, live streams, a loop.
struct SessionLab : testing::Test {
  SessionLab() {
    directory = std::filesystem::path(testing::TempDir()) /
                (std::string("session-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
                 "-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory);
    revocations =
        *access::Revocations::open(directory / "revocations.json", std::chrono::system_clock::now());
    streams = std::make_unique<LiveStreams>(*revocations);
    authenticator = std::make_unique<Authenticator>(observer, *revocations, [] {});
    authenticator->set_verifier(verifier.get());
    admission = std::make_unique<Admission>(
        Admission::Parts{*authenticator, rates, penalty, proxies, observer, nullptr, {}});
  }
  ~SessionLab() override { std::filesystem::remove_all(directory); }

  static access::LocalIssuer& issuer() {
    static auto made = *access::LocalIssuer::generate();
    return made;
  }
  static std::string token_text(const std::string& subject, std::chrono::seconds lifetime) {
    access::TokenRequest request;
    request.subject = subject;
    request.lifetime = lifetime;
    return std::string(issuer().sign(request, {}, std::chrono::system_clock::now())->reveal());
  }
  Authenticator::Caller caller(const std::string& subject,
                               std::chrono::seconds lifetime = std::chrono::hours(1)) const {
    return *authenticator->authenticate(token_text(subject, lifetime));
  }
  /// Runs what is ready, and what that makes ready, until `condition` holds; false after ten seconds.
  template <class Condition>
  bool run_until(const Condition& condition) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    io.restart();
    while (!condition() && std::chrono::steady_clock::now() < give_up) io.run_one_until(give_up);
    return condition();
  }

  boost::asio::io_context io{1};
  support::QuietObserver observer;
  std::filesystem::path directory;
  std::unique_ptr<access::TokenVerifier> verifier = *access::TokenVerifier::create(
      *access::validated({}),
      std::make_shared<const access::JwkSet>(*access::JwkSet::parse(issuer().jwks())));
  access::RateLimits rates{{}};
  access::PenaltyBox penalty{{}};
  tunnel::TrustedProxies proxies;
  std::unique_ptr<access::Revocations> revocations;
  tunnel::DeadlineWatch watch{io.get_executor()};
  std::unique_ptr<LiveStreams> streams;
  std::unique_ptr<Authenticator> authenticator;
  std::unique_ptr<Admission> admission;
};

}  // namespace tunneld::tests
