#include "tunnel/http_pool.h"

#include <gtest/gtest.h>
#include <boost/asio/io_context.hpp>

#include "tests/support/memory_stream.h"
#include "tests/support/run_async.h"

namespace {

using namespace std::chrono_literals;
using namespace tunnel;
using support::MemoryStream;
using Source = HttpPool::Source;

/// Opens channels at once, and remembers what it was asked and offered.
class ScriptedDialer : public Dialer {
 public:
  explicit ScriptedDialer(asio::io_context& context) : context_(context) {}

  asio::awaitable<Served<std::unique_ptr<ByteStream>>> open(const OpenRequest& request) override {
    reuse_keys.emplace_back(request.reuse_key);
    priorities.push_back(request.priority);
    if (request.report != nullptr) request.report->reused = gives_reused;
    auto [near, far] = support::memory_streams(context_.get_executor());
    far_ends.push_back(std::move(far));
    co_return std::unique_ptr<ByteStream>(std::move(near));
  }
  Offer offer(std::string_view group, std::string_view reuse_key,
              std::unique_ptr<ByteStream>& stream) override {
    offered_groups.emplace_back(group);
    offered_keys.emplace_back(reuse_key);
    if (answer == Offer::taken) handed_on = std::move(stream);
    return answer;
  }
  void on_place_wanted(std::function<bool(std::string_view)> listener) override {
    close_one = std::move(listener);
  }
  bool ended(std::size_t channel) const { return far_ends.at(channel)->readable(); }

  Offer answer = Offer::unwanted;
  bool gives_reused = false;
  std::unique_ptr<ByteStream> handed_on;
  std::vector<std::string> reuse_keys;
  std::vector<Priority> priorities;
  std::vector<std::string> offered_groups;
  std::vector<std::string> offered_keys;
  std::vector<std::unique_ptr<MemoryStream>> far_ends;  // of each channel opened
  std::function<bool(std::string_view)> close_one;

 private:
  asio::io_context& context_;
};

class Pool : public testing::Test {
 protected:
  Pool() {
    ann.issuer = bob.issuer = "test";
    ann.subject = "ann";
    bob.subject = "bob";
  }
  HttpPool::Lease take(const tunnel::Principal& who, const Service& service,
                       Source source = Source::idle_or_new) {
    const OpenRequest request{.principal = who,
                              .service = service,
                              .deadline = std::chrono::steady_clock::now() + 5s,
                              .priority = Priority::high};
    auto lease = support::run_async(context, pool->take(request, source));
    if (!lease) throw std::runtime_error(lease.error().message);
    return std::move(*lease);
  }

  asio::io_context context{1};
  tunnel::Principal ann;
  tunnel::Principal bob;
  Service web{"web", "lab", "127.0.0.1", 80, {"*"}};
  Service api{"api", "lab", "127.0.0.1", 81, {"*"}};
  Service far{"web", "lab2", "127.0.0.1", 80, {"*"}};
  ScriptedDialer dialer{context};
  DeadlineWatch watch{context.get_executor()};
  std::optional<HttpPool> pool{std::in_place, dialer, watch, HttpPool::Options{}};
};

TEST_F(Pool, KeepsWhatNobodyWaitsForAndUsesItAgain) {
  auto lease = take(ann, web);
  EXPECT_FALSE(lease.reused);
  pool->put(std::move(lease));
  EXPECT_EQ(pool->idle(), 1u);
  EXPECT_TRUE(take(ann, web).reused);
  EXPECT_EQ(dialer.reuse_keys.size(), 1u) << "an idle one asks nobody";
}

TEST_F(Pool, OffersWhatComesBackToThoseWhoWait) {
  auto lease = take(ann, web);
  const auto key = lease.key;
  dialer.answer = Dialer::Offer::taken;
  pool->put(std::move(lease));
  EXPECT_EQ(pool->idle(), 0u);
  ASSERT_TRUE(dialer.handed_on);
  EXPECT_FALSE(dialer.ended(0));
  EXPECT_EQ(dialer.offered_keys.at(0), key);
  EXPECT_EQ(dialer.offered_groups.at(0), channel_group(ann, "lab"));
}

TEST_F(Pool, ClosesWhatComesBackWhenTheNextInTurnNeedsItsPlace) {
  dialer.answer = Dialer::Offer::place_wanted;
  pool->put(take(ann, web));
  EXPECT_EQ(pool->idle(), 0u);
  EXPECT_TRUE(dialer.ended(0));
}

TEST_F(Pool, OffersNobodyAChannelThatHasEnded) {
  auto lease = take(ann, web);
  dialer.far_ends[0]->close();
  dialer.answer = Dialer::Offer::taken;
  pool->put(std::move(lease));
  EXPECT_FALSE(dialer.handed_on);
  EXPECT_EQ(pool->idle(), 0u);
}

TEST_F(Pool, AWaitingRequestMayGetAChannelOfItsOwnKindUnlessItNeedsANewOne) {
  const auto lease = take(ann, web);
  EXPECT_EQ(dialer.reuse_keys.at(0), lease.key);
  EXPECT_EQ(dialer.priorities.at(0), Priority::high);
  dialer.gives_reused = true;
  EXPECT_TRUE(take(ann, web).reused) << "its peer may be closing it: the request may have to be repeated";
  dialer.gives_reused = false;
  EXPECT_FALSE(take(ann, web, Source::new_only).reused);
  EXPECT_EQ(dialer.reuse_keys.at(2), "");
}

TEST_F(Pool, KeysTellPrincipalsServicesAndUpstreamsApart) {
  const std::string keys[] = {take(ann, web).key, take(bob, web).key, take(ann, api).key, take(ann, far).key};
  for (const auto& one : keys) EXPECT_EQ(std::count(std::begin(keys), std::end(keys), one), 1);
}

TEST_F(Pool, GivesUpTheChannelIdleLongestOfThoseWhoNeedAPlace) {
  auto first = take(ann, web);
  auto second = take(ann, api);
  auto other_upstream = take(ann, far);
  auto other_principal = take(bob, web);
  pool->put(std::move(other_principal));
  pool->put(std::move(other_upstream));
  pool->put(std::move(second));
  pool->put(std::move(first));
  ASSERT_TRUE(dialer.close_one);
  EXPECT_TRUE(dialer.close_one(channel_group(ann, "lab")));
  EXPECT_TRUE(dialer.ended(1)) << "it came back before the other";
  EXPECT_FALSE(dialer.ended(0));
  EXPECT_TRUE(dialer.close_one(channel_group(ann, "lab")));
  EXPECT_TRUE(dialer.ended(0));
  EXPECT_FALSE(dialer.close_one(channel_group(ann, "lab")));
  EXPECT_EQ(pool->idle(), 2u) << "those of others stay, and of an upstream whose name begins alike";
}

TEST_F(Pool, IsNotAskedAnyMoreOnceItIsGone) {
  pool->put(take(ann, web));
  pool.reset();
  EXPECT_FALSE(dialer.close_one);
  EXPECT_TRUE(dialer.ended(0));
}

}  // namespace
