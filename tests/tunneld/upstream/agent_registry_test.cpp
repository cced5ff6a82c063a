#include "tunneld/upstream/agent_registry.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <future>
#include <optional>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "tests/support/memory_stream.h"
#include "tests/tunneld/upstream/agent_lab.h"

namespace tunneld::upstream {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using tunnel::Code;
using Clock = std::chrono::steady_clock;
using Registration = std::unique_ptr<AgentRegistry::Registration>;
using Far = tunnel::Served<AgentRegistry::Far>;

class Agents : public testing::Test {
 protected:
  Agents()
      : key_(*ssh::Identity::load_or_create(folder_.path() / "host", "host")),
        other_key_(*ssh::Identity::load_or_create(folder_.path() / "other", "host")) {
    options_.enrolments = folder_.path() / "agents.json";
    options_.on_agent = [this](const AgentInfo& info, bool connected, std::string_view why) {
      told_.push_back(info.agent_id + (connected ? " on" : " off ") + std::string(why));
      if (registry_) registry_->agents();  // no lock is held
    };
    options_.on_superseded = [this] { ++superseded_; };
  }

  AgentRegistry& registry() {
    if (!registry_) registry_ = std::move(*AgentRegistry::make(options_));
    return *registry_;
  }
  void restart() {
    registry_.reset();
    registry();
  }
  /// "ssh-ed25519 AAAA…" without the comment.
  static std::string line_of(const ssh::Identity& key) {
    return key.public_line().substr(0, key.public_line().rfind(' '));
  }
  Announcement announcement(std::string agent_id = "home", std::vector<std::string> services = {"web"}) {
    Announcement announcement{std::move(agent_id), boot('1'), "www-data", line_of(key_), {}, 0};
    for (auto& name : services) announcement.services.push_back({std::move(name), "127.0.0.1", 8080});
    return announcement;
  }
  tunnel::Served<Registration> try_announce(Announcement announcement, const std::string& subject = "ann",
                                            std::shared_ptr<AgentRegistry::Control> control = nullptr,
                                            std::size_t max_services = 10) {
    if (!control) control = std::make_shared<KeptControl>();
    return registry().announce(principal_named(subject), "192.0.2.1:5000", std::move(announcement),
                               std::move(control), {max_services, std::make_shared<int>()});
  }
  Registration announce(Announcement announcement, const std::string& subject = "ann",
                        std::shared_ptr<AgentRegistry::Control> control = nullptr) {
    auto registration = try_announce(std::move(announcement), subject, std::move(control));
    if (!registration) throw std::runtime_error(registration.error().message);
    return std::move(*registration);
  }
  std::string file_text() const {
    std::ostringstream text;
    text << std::ifstream(options_.enrolments).rdbuf();
    return text.str();
  }

  struct Opening {
    std::optional<Far> result;
    asio::cancellation_signal cancel;
    bool refused_with(Code code) const { return result && !*result && result->error().code == code; }
  };
  std::shared_ptr<Opening> open(Clock::duration within = 20s, const std::string& subject = "ann") {
    auto opening = std::make_shared<Opening>();
    auto ended = [opening](std::exception_ptr error, Far far) {
      if (error) far = tunnel::refuse(Code::unavailable, "cut short");
      opening->result.emplace(std::move(far));
    };
    asio::co_spawn(
        io_, registry().open_session(io_, principal_named(subject).key(), "home", Clock::now() + within),
        asio::bind_cancellation_slot(opening->cancel.slot(), std::move(ended)));
    io_.restart();
    io_.poll();
    return opening;
  }
  bool settle(const std::function<bool()>& condition, std::chrono::milliseconds within = 10s) {
    const auto deadline = Clock::now() + within;
    while (!condition() && Clock::now() < deadline) {
      io_.restart();
      io_.run_one_for(20ms);
    }
    return condition();
  }

  support::TemporaryFolder folder_;
  ssh::Identity key_;
  ssh::Identity other_key_;
  AgentRegistry::Options options_;
  std::vector<std::string> told_;
  int superseded_ = 0;
  asio::io_context io_{1};
  std::unique_ptr<AgentRegistry> registry_;
};

// ---- announcements ----

TEST_F(Agents, ReadsAnAnnouncement) {
  const auto parsed = parse_announcement(
      R"({"type":"announce","agentId":"home-1","bootId":"00112233445566778899aabbccddeeff","user":"a.b_C-9",)"
      R"("hostKey":")" +
      line_of(key_) +
      R"(","later":[1],"services":[{"name":"web","target":"127.0.0.1:11434"},{"name":"db","target":"[::1]:5432"},)"
      R"({"name":"x","target":"db.example_1.org:65535"}]})");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->agent_id, "home-1");
  EXPECT_EQ(parsed->boot_id, "00112233445566778899aabbccddeeff");
  EXPECT_EQ(parsed->user, "a.b_C-9");
  EXPECT_EQ(parsed->host_key, line_of(key_));
  ASSERT_EQ(parsed->services.size(), 3u);
  EXPECT_EQ(parsed->services[1].host, "::1");
  EXPECT_EQ(parsed->services[1].port, 5432);
  EXPECT_EQ(parsed->services[2].host, "db.example_1.org");
}

TEST_F(Agents, RefusesAnAnnouncementThatIsNotAsDocumented) {
  using nlohmann::json;
  const json good{
      {"type", "announce"},       {"agentId", "home"},
      {"bootId", boot('a')},      {"user", "www-data"},
      {"hostKey", line_of(key_)}, {"services", json::array({{{"name", "web"}, {"target", "127.0.0.1:80"}}})}};
  ASSERT_TRUE(parse_announcement(good.dump()));
  struct Row {
    const char* at;  // JSON pointer
    json value;      // null: taken away
    const char* named;
  };
  std::string rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7";
  std::string cut = line_of(key_);
  cut.resize(cut.size() - 4);
  const Row rows[] = {
      {"/agentId", nullptr, "agentId"},
      {"/agentId", "", "agentId"},
      {"/agentId", "Home", "agentId"},
      {"/agentId", "a.b", "agentId"},
      {"/agentId", std::string(64, 'a'), "agentId"},
      {"/agentId", 7, "agentId"},
      {"/bootId", nullptr, "bootId"},
      {"/bootId", std::string(31, 'a'), "bootId"},
      {"/bootId", std::string(33, 'a'), "bootId"},
      {"/bootId", std::string(32, 'g'), "bootId"},
      {"/user", nullptr, "user"},
      {"/user", "", "user"},
      {"/user", "a b", "user"},
      {"/user", std::string(65, 'a'), "user"},
      {"/hostKey", nullptr, "hostKey"},
      {"/hostKey", "ssh-ed25519", "hostKey"},
      {"/hostKey", "ssh-ed25519 ", "hostKey"},
      {"/hostKey", "ssh-ed25519 AAAA", "hostKey"},
      {"/hostKey", cut, "hostKey"},
      {"/hostKey", rsa, "hostKey"},
      {"/slot", -1, "slot"},
      {"/slot", 4, "slot"},
      {"/slot", "0", "slot"},
      {"/slot", 1.5, "slot"},
      {"/services", nullptr, "services"},
      {"/services", json::array(), "services"},
      {"/services", json::object(), "services"},
      {"/services/0", 1, "services[0]"},
      {"/services/0/name", nullptr, "services[0].name"},
      {"/services/0/name", "-web", "services[0].name"},
      {"/services/0/name", std::string(64, 'a'), "services[0].name"},
      {"/services/1", {{"name", "web"}, {"target", "x:1"}}, "services[1].name"},
      {"/services/0/target", nullptr, "services[0].target"},
      {"/services/0/target", "127.0.0.1", "services[0].target"},
      {"/services/0/target", ":80", "services[0].target"},
      {"/services/0/target", "x:0", "services[0].target"},
      {"/services/0/target", "x:080", "services[0].target"},
      {"/services/0/target", "x:65536", "services[0].target"},
      {"/services/0/target", "x:+80", "services[0].target"},
      {"/services/0/target", "x:80 ", "services[0].target"},
      {"/services/0/target", "::1:80", "services[0].target"},
      {"/services/0/target", "[x]:80", "services[0].target"},
      {"/services/0/target", "[::zz]:80", "services[0].target"},
      {"/services/0/target", "a b:80", "services[0].target"},
      {"/services/0/target", std::string(254, 'a') + ":80", "services[0].target"},
  };
  for (const Row& row : rows) {
    json document = good;
    const json::json_pointer at(row.at);
    if (row.value.is_null())
      document.at(at.parent_pointer()).erase(at.back());
    else
      document[at] = row.value;
    const auto parsed = parse_announcement(document.dump());
    ASSERT_FALSE(parsed) << document.dump();
    EXPECT_EQ(parsed.error().code, Code::bad_request);
    EXPECT_THAT(parsed.error().message, HasSubstr(row.named)) << document.dump();
  }
  for (const std::string text : {"", "[]", "null", R"({"agentId":"a","agentId":"a"})"})
    EXPECT_FALSE(parse_announcement(text)) << text;
  EXPECT_FALSE(parse_announcement(good.dump() + std::string(16 * 1024, ' ')));
}

TEST_F(Agents, AreFoundByTheirPrincipalOnly) {
  const auto registration = announce(announcement());
  const auto service = registry().find(principal_named("ann"), "web");
  ASSERT_TRUE(service);
  EXPECT_EQ(service->upstream, "agent:home");
  EXPECT_EQ(service->target_host, "127.0.0.1");
  EXPECT_EQ(service->target_port, 8080);
  EXPECT_FALSE(registry().find(principal_named("bob"), "web"));
  EXPECT_FALSE(registry().find(principal_named("ann"), "other"));
  auto elsewhere = principal_named("ann");
  elsewhere.issuer = "test2";
  EXPECT_FALSE(registry().find(elsewhere, "web"));
  EXPECT_EQ(registry().agents().size(), 1u);
  EXPECT_THAT(registry().agents(principal_named("bob").key()), IsEmpty());
  const auto agents = registry().agents(principal_named("ann").key());
  ASSERT_EQ(agents.size(), 1u);
  EXPECT_EQ(agents[0].agent_id, "home");
  EXPECT_EQ(agents[0].peer, "192.0.2.1:5000");
  EXPECT_EQ(agents[0].user, "www-data");
  EXPECT_EQ(agents[0].host_key_fingerprint, key_.fingerprint());
  EXPECT_EQ(agents[0].principal_hash, tunnel::principal_hash(agents[0].principal_key));
  EXPECT_THAT(agents[0].services, ElementsAre("web"));
}

TEST_F(Agents, AreGoneWithTheirRegistration) {
  auto registration = announce(announcement());
  registration.reset();
  EXPECT_FALSE(registry().find(principal_named("ann"), "web"));
  EXPECT_THAT(registry().agents(), IsEmpty());
  EXPECT_THAT(told_, ElementsAre("home on", "home off disconnected"));
}

TEST_F(Agents, TheRegistrationMayOutliveTheRegistry) {
  auto registration = announce(announcement());
  registry_.reset();
  registration.reset();
  EXPECT_THAT(told_, ElementsAre("home on"));
}

TEST_F(Agents, MayAnnounceOtherServicesLater) {
  const auto registration = announce(announcement("home", {"web", "db"}));
  ASSERT_TRUE(registration->update(announcement("home", {"db", "mail"})));
  EXPECT_FALSE(registry().find(principal_named("ann"), "web"));
  EXPECT_TRUE(registry().find(principal_named("ann"), "mail"));
  EXPECT_THAT(registry().agents()[0].services, ElementsAre("db", "mail"));

  auto other = announcement("cabin");
  EXPECT_EQ(registration->update(other).error().code, Code::bad_request);
  other = announcement();
  other.boot_id = boot('2');
  EXPECT_EQ(registration->update(other).error().code, Code::bad_request);
  other = announcement();
  other.host_key = line_of(other_key_);
  EXPECT_EQ(registration->update(other).error().code, Code::host_key_mismatch);
  other = announcement("home", {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"});
  EXPECT_EQ(registration->update(other).error().code, Code::bad_request);
  EXPECT_TRUE(registry().find(principal_named("ann"), "mail")) << "what is refused changes nothing";
}

TEST_F(Agents, AnnounceNoMoreThanTheirTokenAllows) {
  const auto refused = try_announce(announcement("home", {"a", "b", "c"}), "ann", nullptr, 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::bad_request);
  EXPECT_EQ(file_text(), "") << "and who is refused is not enrolled";
  EXPECT_TRUE(try_announce(announcement("home", {"a", "b"}), "ann", nullptr, 2));
}

TEST_F(Agents, OfTwoWithTheSameServiceTheFirstServesIt) {
  auto home = announce(announcement("home", {"web"}));
  const auto cabin = announce(announcement("cabin", {"web", "db"}));
  EXPECT_EQ(registry().find(principal_named("ann"), "web")->upstream, "agent:home");
  EXPECT_THAT(home->warnings(), IsEmpty());
  EXPECT_THAT(cabin->warnings(), ElementsAre(HasSubstr("service web is announced by agent:home")));
  auto anew = announcement("home", {"web"});
  anew.boot_id = boot('2');
  const auto home_again = announce(anew);
  EXPECT_EQ(registry().find(principal_named("ann"), "web")->upstream, "agent:home")
      << "a new connection is no newer agent";
  ASSERT_TRUE(home_again->update([&] {
    auto less = anew;
    less.services[0].name = "other";
    return less;
  }()));
  EXPECT_EQ(registry().find(principal_named("ann"), "web")->upstream, "agent:cabin");
  EXPECT_THAT(cabin->warnings(), IsEmpty());
  const auto bob = announce(announcement("home", {"web"}), "bob");
  EXPECT_THAT(bob->warnings(), IsEmpty()) << "what others have is none of bob's business";
}

TEST_F(Agents, AreLimitedInNumber) {
  options_.max_agents = 3;
  options_.max_agents_per_principal = 2;
  auto one = announce(announcement("one"));
  const auto two = announce(announcement("two"));
  auto refused = try_announce(announcement("three"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::rate_limited);
  EXPECT_TRUE(refused.error().retry_after);
  const auto again = announce(announcement("two"));  // takes no further place
  const auto bob = announce(announcement("one"), "bob");
  refused = try_announce(announcement("one"), "cyd");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::rate_limited);
  one.reset();
  EXPECT_TRUE(try_announce(announcement("one"), "cyd"));
}

TEST_F(Agents, EnrolledInTheCourseOfTimeAreLimitedToo) {
  options_.max_agents_per_principal = 1;
  for (int count = 0; count < 10; ++count) announce(announcement("agent-" + std::to_string(count)));
  const auto refused = try_announce(announcement("one-more"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::rate_limited);
  EXPECT_TRUE(try_announce(announcement("agent-3"))) << "one that is enrolled";
  EXPECT_TRUE(try_announce(announcement("one-more"), "bob"));
}

// ---- superseding ----

TEST_F(Agents, ANewConnectionReplacesTheOld) {
  const auto old_control = std::make_shared<KeptControl>();
  auto before = announce(announcement("home", {"web"}), "ann", old_control);
  auto next = announcement("home", {"db"});
  next.boot_id = boot('2');
  const auto after = announce(next);
  EXPECT_THAT(old_control->closed(), ElementsAre(testing::Pair(4409, HasSubstr("TUNNEL_004"))));
  EXPECT_EQ(superseded_, 1);
  EXPECT_THAT(told_, ElementsAre("home on", "home off superseded", "home on"));
  EXPECT_FALSE(registry().find(principal_named("ann"), "web"));
  EXPECT_TRUE(registry().find(principal_named("ann"), "db"));
  EXPECT_EQ(before->update(announcement()).error().code, Code::unavailable);
  before.reset();
  EXPECT_TRUE(registry().find(principal_named("ann"), "db")) << "the old one's end is not the new one's";
  EXPECT_EQ(told_.size(), 3u);
}

TEST_F(Agents, OneThatWasStartedAnewIsNotReplacedByItsPast) {
  const auto first = announce(announcement());
  auto anew = announcement();
  anew.boot_id = boot('2');
  auto second = announce(anew);
  const auto refused = try_announce(announcement());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unavailable);
  const auto same_boot = announce(anew);  // which lost its connection
  second.reset();
  EXPECT_EQ(registry().agents().size(), 1u);
  EXPECT_EQ(superseded_, 2);
}

TEST_F(Agents, APastThatIsAloneMayComeBack) {
  const auto first = announce(announcement());
  auto anew = announcement();
  anew.boot_id = boot('2');
  announce(anew);
  EXPECT_TRUE(try_announce(announcement()));
}

TEST_F(Agents, TheSameIdOfAnotherPrincipalIsAnotherAgent) {
  const auto control = std::make_shared<KeptControl>();
  const auto ann = announce(announcement(), "ann", control);
  auto theirs = announcement();
  theirs.host_key = line_of(other_key_);
  const auto bob = announce(theirs, "bob");
  EXPECT_THAT(control->closed(), IsEmpty());
  EXPECT_EQ(registry().agents().size(), 2u);
}

// ---- several connections ----

class AgentLines : public Agents {
 protected:
  Announcement in_slot(unsigned slot, char of_boot = '1') {
    auto made = announcement();
    made.slot = slot;
    made.boot_id = boot(of_boot);
    return made;
  }
  AgentInfo only() {
    const auto agents = registry().agents();
    EXPECT_EQ(agents.size(), 1u);
    return agents.empty() ? AgentInfo() : agents[0];
  }
  std::shared_ptr<KeptControl> first_ = std::make_shared<KeptControl>();
  std::shared_ptr<KeptControl> second_ = std::make_shared<KeptControl>();
};

TEST_F(AgentLines, AreOneAgent) {
  auto first = announce(in_slot(0), "ann", first_);
  auto second = announce(in_slot(1), "ann", second_);
  EXPECT_EQ(only().connections, 2u);
  EXPECT_EQ(registry().count(), 1u);
  EXPECT_THAT(first_->closed(), IsEmpty());
  first.reset();
  EXPECT_EQ(only().connections, 1u);
  EXPECT_TRUE(registry().find(principal_named("ann"), "web")) << "the other is there";
  EXPECT_THAT(told_, ElementsAre("home on"));
  second.reset();
  EXPECT_FALSE(registry().find(principal_named("ann"), "web"));
  EXPECT_THAT(told_, ElementsAre("home on", "home off disconnected"));
}

TEST_F(AgentLines, TheSameSlotReplacesThatSlotAlone) {
  auto first = announce(in_slot(0), "ann", first_);
  const auto second = announce(in_slot(1), "ann", second_);
  const auto again = announce(in_slot(0));
  EXPECT_THAT(first_->closed(), ElementsAre(testing::Pair(4409, testing::_)));
  EXPECT_THAT(second_->closed(), IsEmpty());
  EXPECT_EQ(superseded_, 1);
  EXPECT_EQ(only().connections, 2u);
  first.reset();
  EXPECT_EQ(only().connections, 2u) << "the end of what was replaced changes nothing";
  EXPECT_THAT(told_, ElementsAre("home on")) << "the agent was there all the time";
}

TEST_F(AgentLines, ANewerBootReplacesAll) {
  const auto first = announce(in_slot(0), "ann", first_);
  const auto second = announce(in_slot(1), "ann", second_);
  const auto anew = announce(in_slot(1, '2'));
  EXPECT_THAT(first_->closed(), ElementsAre(testing::Pair(4409, testing::_)));
  EXPECT_THAT(second_->closed(), ElementsAre(testing::Pair(4409, testing::_)));
  EXPECT_EQ(only().connections, 1u);
  EXPECT_EQ(superseded_, 1) << "one agent";
  EXPECT_FALSE(try_announce(in_slot(0))) << "and none of the past comes back";
}

TEST_F(AgentLines, ASessionIsAskedForOverAllOfThem) {
  const auto first = announce(in_slot(0), "ann", first_);
  const auto second = announce(in_slot(1), "ann", second_);
  const auto opening = open();
  ASSERT_EQ(first_->sent().size(), 1u);
  ASSERT_EQ(second_->sent().size(), 1u);
  EXPECT_EQ(first_->ticket(), second_->ticket()) << "one ticket, which holds once";
  const auto key = principal_named("ann").key();
  EXPECT_TRUE(registry().redeem(key, second_->ticket()));
  EXPECT_FALSE(registry().redeem(key, first_->ticket()));
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
}

TEST_F(AgentLines, ASessionOutlivesOneOfThem) {
  auto first = announce(in_slot(0), "ann", first_);
  auto second = announce(in_slot(1), "ann", second_);
  const auto opening = open();
  first.reset();
  io_.restart();
  io_.poll();
  EXPECT_FALSE(opening->result) << "the other knows the ticket";
  second.reset();
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::no_agent));
}

TEST_F(AgentLines, WhoComesBackIsAskedForWhatIsStillWanted) {
  const auto first = announce(in_slot(0), "ann", first_);
  const auto opening = open();
  const auto again = announce(in_slot(0), "ann", second_);
  ASSERT_EQ(second_->sent().size(), 1u);
  EXPECT_EQ(second_->ticket(), first_->ticket());
  auto claim = registry().redeem(principal_named("ann").key(), second_->ticket());
  ASSERT_TRUE(claim);
  auto [near, far] = support::memory_streams(io_.get_executor());
  claim->deliver(std::move(near));
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(*opening->result);
}

TEST_F(AgentLines, TakeOnePlaceAmongTheConnectionsOfTheirPrincipal) {
  auto place = std::make_shared<int>();
  const std::weak_ptr<int> held = place;
  auto with = [&](unsigned slot, std::shared_ptr<void> its, const char* whose = "ann") {
    return registry().announce(principal_named(whose), "peer", in_slot(slot), std::make_shared<KeptControl>(),
                               {10, std::move(its)});
  };
  const auto refused = with(0, nullptr);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::too_many_connections);
  EXPECT_EQ(file_text(), "") << "who is refused is not enrolled";
  auto first = with(0, std::move(place));
  ASSERT_TRUE(first);
  auto second = with(1, nullptr);
  ASSERT_TRUE(second) << "a further one needs none";
  auto given_back = std::make_shared<int>();
  const std::weak_ptr<int> spare = given_back;
  auto third = with(2, std::move(given_back));
  EXPECT_TRUE(spare.expired()) << "nor does it keep one";
  first->reset();
  EXPECT_FALSE(held.expired()) << "the agent is there";
  second->reset();
  third->reset();
  EXPECT_TRUE(held.expired());
  EXPECT_FALSE(with(0, nullptr, "bob"));
}

TEST_F(AgentLines, ANewerBootKeepsThePlaceOfTheOlder) {
  const auto old = announce(in_slot(0));
  const auto anew = registry().announce(principal_named("ann"), "peer", in_slot(0, '2'),
                                        std::make_shared<KeptControl>(), {10, nullptr});
  EXPECT_TRUE(anew) << "it takes the other's";
}

TEST_F(Agents, TheServicesOfOneThatWentAreItsPrincipalsForAMoment) {
  options_.remembered = 1h;
  auto first = announce(announcement("home", {"web", "mail"}));
  first.reset();
  const auto away = registry().find(principal_named("ann"), "web");
  ASSERT_TRUE(away);
  EXPECT_EQ(away->upstream, "agent:home");
  EXPECT_FALSE(registry().find(principal_named("bob"), "web")) << "and nobody else's";
  EXPECT_FALSE(registry().find(principal_named("ann"), "other"));
  EXPECT_THAT(registry().agents(), IsEmpty());
  const auto elsewhere = announce(announcement("cabin", {"web"}));
  EXPECT_EQ(registry().find(principal_named("ann"), "web")->upstream, "agent:cabin")
      << "one that is there wins";
  EXPECT_EQ(registry().find(principal_named("ann"), "mail")->upstream, "agent:home");
}

TEST_F(Agents, TheServicesOfOneThatStayedAwayAreForgotten) {
  options_.remembered = 1ms;
  announce(announcement()).reset();
  const auto limit = Clock::now() + 10s;
  while (registry().find(principal_named("ann"), "web") && Clock::now() < limit) std::this_thread::yield();
  EXPECT_FALSE(registry().find(principal_named("ann"), "web"));
}

// ---- enrolments ----

unsigned status_of(const tunnel::Served<void>& done) {
  return done ? 0 : done.error().http_status.value_or(tunnel::facts(done.error().code).http_status);
}

TEST_F(Agents, MayShowAnotherHostKeyOnceForgotten) {
  std::vector<std::string> forgotten;
  options_.on_forgotten = [&](const std::string& id, const std::string& whose, const std::string& key,
                              std::string_view by) {
    forgotten.push_back(id + " " + whose + " " + key + " " + std::string(by));
  };
  const auto ann = principal_named("ann");
  auto registration = announce(announcement());
  announce(announcement(), "bob");
  auto changed = announcement();
  changed.host_key = line_of(other_key_);
  EXPECT_EQ(status_of(registry().forget(ann, "home", "me")), 409u) << "it is connected";
  EXPECT_FALSE(try_announce(changed));
  registration.reset();
  EXPECT_EQ(status_of(registry().forget(ann, "cabin", "me")), 404u);
  EXPECT_EQ(status_of(registry().forget(principal_named("cyd"), "home", "me")), 404u);
  EXPECT_THAT(forgotten, IsEmpty());
  EXPECT_TRUE(registry().forget(ann, "home", "me"));
  const auto hash = tunnel::principal_hash(ann.key());
  EXPECT_THAT(forgotten, ElementsAre("home " + hash + " " + key_.fingerprint() + " me"));
  restart();
  EXPECT_TRUE(try_announce(changed)) << "also after a restart";
  EXPECT_FALSE(try_announce(changed, "bob")) << "bob's of that name is another one";
}

TEST_F(Agents, AnEnrolmentStaysThatCannotBeTakenOut) {
  options_.enrolments = folder_.path() / "sub" / "agents.json";
  std::filesystem::create_directories(folder_.path() / "sub");
  announce(announcement());
  std::filesystem::rename(folder_.path() / "sub", folder_.path() / "away");
  EXPECT_EQ(registry().forget(principal_named("ann"), "home", "").error().code, Code::unavailable);
  std::filesystem::rename(folder_.path() / "away", folder_.path() / "sub");
  auto changed = announcement();
  changed.host_key = line_of(other_key_);
  EXPECT_FALSE(try_announce(changed));
}

TEST_F(Agents, TheirOwnersAreFoundByHash) {
  announce(announcement());
  announce(announcement(), "bob");
  const auto hash = tunnel::principal_hash(principal_named("bob").key());
  const auto owner = registry().enrolled_by(hash, "home");
  ASSERT_TRUE(owner);
  EXPECT_EQ(owner->subject, "bob");
  EXPECT_FALSE(registry().enrolled_by(hash, "cabin"));
  EXPECT_FALSE(registry().enrolled_by("", "home"));
}

TEST_F(Agents, AreBoundToTheHostKeyTheyShowedFirst) {
  announce(announcement());
  const auto before = file_text();
  auto changed = announcement();
  changed.host_key = line_of(other_key_);
  for (int again = 0; again < 2; ++again) {
    const auto refused = try_announce(changed);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::host_key_mismatch);
    EXPECT_THAT(refused.error().message, HasSubstr(key_.fingerprint()));
    EXPECT_EQ(file_text(), before);
    restart();
  }
  EXPECT_TRUE(try_announce(announcement()));
  EXPECT_EQ(file_text(), before);
}

TEST_F(Agents, AnImpostorDoesNotSupersede) {
  const auto control = std::make_shared<KeptControl>();
  const auto registration = announce(announcement(), "ann", control);
  auto changed = announcement();
  changed.host_key = line_of(other_key_);
  changed.boot_id = boot('2');
  EXPECT_FALSE(try_announce(changed));
  EXPECT_THAT(control->closed(), IsEmpty());
  EXPECT_TRUE(registry().find(principal_named("ann"), "web"));
}

TEST_F(Agents, EnrolmentsAreForTheirOwnerAlone) {
  announce(announcement());
  struct stat status {};
  ASSERT_EQ(::stat(options_.enrolments.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const auto json = nlohmann::json::parse(file_text());
  EXPECT_EQ(json.at("version"), 1);
  EXPECT_EQ(json.at("/enrolments/0/issuer"_json_pointer), "test");
  EXPECT_EQ(json.at("/enrolments/0/subject"_json_pointer), "ann");
  EXPECT_EQ(json.at("/enrolments/0/agentId"_json_pointer), "home");
  EXPECT_EQ(json.at("/enrolments/0/fingerprint"_json_pointer), key_.fingerprint());
}

TEST_F(Agents, AnEnrolmentThatCannotBeWrittenIsNone) {
  options_.enrolments = folder_.path() / "missing" / "agents.json";
  for (int again = 0; again < 2; ++again) {
    const auto refused = try_announce(announcement());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::unavailable);
    EXPECT_THAT(registry().agents(), IsEmpty());
    EXPECT_THAT(told_, IsEmpty());
  }
  std::filesystem::create_directories(folder_.path() / "missing");
  EXPECT_TRUE(try_announce(announcement()));
}

TEST_F(Agents, AFileThatIsNotUnderstoodIsAnError) {
  const std::string entry = R"({"issuer":"i","subject":"s","agentId":"a","fingerprint":"SHA256:)" +
                            std::string(43, 'A') + R"(","since":1})";
  const auto listing = [](const std::string& entries) {
    return R"({"version":1,"enrolments":[)" + entries + "]}";
  };
  const std::string texts[] = {"",
                               "[]",
                               R"({"version":2,"enrolments":[]})",
                               R"({"version":1})",
                               listing("1"),
                               listing(R"({"issuer":"i"})"),
                               listing(entry + "," + entry),
                               listing(std::string(entry).replace(entry.find("SHA256"), 6, "MD5")),
                               listing(std::string(entry).replace(entry.find("\"a\""), 3, "\"A\"")),
                               listing(std::string(entry).replace(entry.find(":1}"), 3, ":\"1\"}"))};
  for (const auto& text : texts) {
    std::ofstream(options_.enrolments) << text;
    const auto made = AgentRegistry::make(options_);
    ASSERT_FALSE(made) << text;
    EXPECT_EQ(made.error().kind, Error::Kind::bad_input);
    EXPECT_THAT(made.error().message, HasSubstr(options_.enrolments.string()));
  }
  std::ofstream(options_.enrolments) << listing(entry);
  EXPECT_TRUE(AgentRegistry::make(options_));
}

// ---- SSH transports ----

class AgentSessions : public Agents {
 protected:
  void SetUp() override { registration_ = announce(announcement(), "ann", control_); }
  std::string key() const { return principal_named("ann").key(); }
  std::unique_ptr<tunnel::ByteStream> stream() {
    auto [near, far] = support::memory_streams(io_.get_executor());
    far_ = std::move(far);
    return std::move(near);
  }

  std::shared_ptr<KeptControl> control_ = std::make_shared<KeptControl>();
  Registration registration_;
  std::unique_ptr<support::MemoryStream> far_;
};

TEST_F(AgentSessions, AreOpenedByTheAgentAndHandedOver) {
  const auto opening = open();
  ASSERT_EQ(control_->sent().size(), 1u);
  const auto ticket = control_->ticket();
  EXPECT_EQ(control_->sent()[0], R"({"type":"session.open","ticket":")" + ticket + "\"}");
  EXPECT_THAT(ticket, testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(ticket.size(), 32u);
  auto claim = registry().redeem(key(), ticket);
  ASSERT_TRUE(claim);
  EXPECT_EQ(claim->home, &io_);
  EXPECT_EQ(claim->agent_id, "home");
  claim->deliver(stream());
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  ASSERT_TRUE(*opening->result);
  EXPECT_EQ((*opening->result)->user, "www-data");
  EXPECT_EQ((*opening->result)->host_key_fingerprint, key_.fingerprint());
  ASSERT_TRUE((*opening->result)->stream);
  EXPECT_EQ(registry().agents()[0].sessions, 1u);
  opening->result.reset();
  EXPECT_EQ(registry().agents()[0].sessions, 0u);
  EXPECT_TRUE(far_->readable()) << "and the stream is gone";
}

TEST_F(AgentSessions, ATicketHoldsOnce) {
  const auto opening = open();
  auto claim = registry().redeem(key(), control_->ticket());
  ASSERT_TRUE(claim);
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
  registry().session_failed(key(), control_->ticket(), "too late");
  claim->deliver(stream());
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(*opening->result);
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
}

TEST_F(AgentSessions, ATicketIsItsPrincipalsAlone) {
  const auto opening = open();
  EXPECT_FALSE(registry().redeem(principal_named("bob").key(), control_->ticket()));
  registry().session_failed(principal_named("bob").key(), control_->ticket(), "I say so");
  io_.restart();
  io_.poll();
  EXPECT_FALSE(opening->result);
  EXPECT_FALSE(registry().redeem(key(), std::string(32, '0')));
  EXPECT_FALSE(registry().redeem(key(), ""));
  EXPECT_TRUE(registry().redeem(key(), control_->ticket())) << "it was not used up";
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
}

TEST_F(AgentSessions, EachHasATicketOfItsOwn) {
  const auto one = open();
  const auto first = control_->ticket();
  const auto two = open();
  EXPECT_NE(control_->ticket(), first);
  auto claim = registry().redeem(key(), first);
  ASSERT_TRUE(claim);
  claim->deliver(stream());
  ASSERT_TRUE(settle([&] { return one->result.has_value(); }));
  EXPECT_FALSE(two->result);
  registration_.reset();
  ASSERT_TRUE(settle([&] { return two->result.has_value(); }));
}

TEST_F(AgentSessions, DoNotWaitLongerThanATicketLives) {
  registration_.reset();
  options_.ticket_lifetime = 30ms;
  registry_.reset();
  registration_ = announce(announcement(), "ann", control_);
  const auto opening = open(1h);
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::timed_out));
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
}

TEST_F(AgentSessions, ATicketThatExpiredIsRefusedThoughNobodyHasNoticed) {
  registration_.reset();
  options_.ticket_lifetime = 1ms;
  registry_.reset();
  registration_ = announce(announcement(), "ann", control_);
  const auto opening = open();
  const auto over = Clock::now() + 2ms;
  while (Clock::now() < over) std::this_thread::yield();
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::timed_out));
}

TEST_F(AgentSessions, DoNotWaitBeyondTheDeadline) {
  const auto opening = open(30ms);
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::timed_out));
  const auto late = open(0s);
  ASSERT_TRUE(late->refused_with(Code::timed_out));
  EXPECT_EQ(control_->sent().size(), 1u) << "and the agent is not troubled with it";
}

TEST_F(AgentSessions, AreRefusedWhereThereIsNoAgent) {
  EXPECT_TRUE(open(20s, "bob")->refused_with(Code::no_agent));
  registration_.reset();
  EXPECT_TRUE(open()->refused_with(Code::no_agent));
}

TEST_F(AgentSessions, FailAtOnceWhenTheAgentGoes) {
  const auto opening = open();
  registration_.reset();
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::no_agent));
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
}

TEST_F(AgentSessions, FailAtOnceWhenTheAgentIsSuperseded) {
  const auto opening = open();
  auto anew = announcement();
  anew.boot_id = boot('2');
  const auto after = announce(anew);
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::no_agent));
}

TEST_F(AgentSessions, FailForTheAgentsReason) {
  const auto opening = open();
  registry().session_failed(key(), control_->ticket(), "no sshd here" + std::string(1000, '!'));
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  ASSERT_TRUE(opening->refused_with(Code::unavailable));
  EXPECT_THAT(opening->result->error().message, HasSubstr("no sshd here"));
  EXPECT_LT(opening->result->error().message.size(), 300u);
}

TEST_F(AgentSessions, FailWhenTheClaimIsDropped) {
  const auto opening = open();
  registry().redeem(key(), control_->ticket());
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_TRUE(opening->refused_with(Code::no_agent));
}

TEST_F(AgentSessions, AStreamThatNobodyWaitsForAnyMoreIsClosed) {
  const auto opening = open();
  auto claim = registry().redeem(key(), control_->ticket());
  ASSERT_TRUE(claim);
  opening->cancel.emit(asio::cancellation_type::terminal);
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  claim->deliver(stream());
  EXPECT_TRUE(far_->readable());
  EXPECT_EQ(registry().agents()[0].sessions, 0u);
}

TEST_F(AgentSessions, AStreamThatComesAsTheWaitIsCancelledIsClosed) {
  const auto opening = open();
  auto claim = registry().redeem(key(), control_->ticket());
  ASSERT_TRUE(claim);
  claim->deliver(stream());
  opening->cancel.emit(asio::cancellation_type::terminal);
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  opening->result.reset();
  EXPECT_TRUE(far_->readable());
  EXPECT_EQ(registry().agents()[0].sessions, 0u);
}

TEST_F(AgentSessions, ACancelledWaitTakesItsTicketAlong) {
  const auto opening = open();
  opening->cancel.emit(asio::cancellation_type::terminal);
  ASSERT_TRUE(settle([&] { return opening->result.has_value(); }));
  EXPECT_FALSE(registry().redeem(key(), control_->ticket()));
}

/// An agent whose door is on another thread: answers each session.open there.
class AnsweringControl final : public KeptControl {
 public:
  AnsweringControl(asio::io_context& door, AgentRegistry& registry, std::string key)
      : door_(door), registry_(registry), key_(std::move(key)) {}
  void send(std::string text) override {
    const std::string ticket = nlohmann::json::parse(text).at("ticket");
    asio::post(door_, [this, ticket] { answer(ticket); });
  }

 private:
  void answer(const std::string& ticket) {
    if (++asked_ % 3 == 0) return registry_.session_failed(key_, ticket, "every third");
    auto claim = registry_.redeem(key_, ticket);
    if (!claim || asked_ % 3 == 1) return;  // dropped here, on the wrong thread
    auto* const home = claim->home;
    asio::post(*home, [home, claim = std::move(*claim)] {
      auto [near, far] = support::memory_streams(home->get_executor());
      claim.deliver(std::move(near));
    });
  }

  asio::io_context& door_;
  AgentRegistry& registry_;
  const std::string key_;
  unsigned asked_ = 0;
};

TEST_F(Agents, ServeManyThreadsAtOnce) {
  constexpr int kSessions = 300;
  asio::io_context door(1);
  auto working = asio::make_work_guard(door);
  std::thread door_thread([&] { door.run(); });
  const auto key = principal_named("ann").key();
  auto registration =
      announce(announcement(), "ann", std::make_shared<AnsweringControl>(door, registry(), key));
  options_.on_agent = nullptr;
  std::promise<void> stop;
  std::thread other([&, stopped = stop.get_future()] {
    while (stopped.wait_for(0s) != std::future_status::ready) {
      registry().find(principal_named("ann"), "web");
      registry().agents();
      registration->update(announcement("home", {"web", "db"}));
      registration->warnings();
    }
  });
  int good = 0, failed = 0, dropped = 0;
  auto many = [](AgentRegistry& registry, asio::io_context& io, std::string whose, int& ok, int& bad,
                 int& lost) -> asio::awaitable<void> {
    for (int count = 0; count < kSessions; ++count) {
      const auto far = co_await registry.open_session(io, whose, "home", Clock::now() + 10s);
      if (far) ++ok;
      if (!far && far.error().code == Code::unavailable) ++bad;
      if (!far && far.error().code == Code::no_agent) ++lost;
    }
  };
  bool over = false;
  asio::co_spawn(io_, many(registry(), io_, key, good, failed, dropped),
                 [&](std::exception_ptr) { over = true; });
  EXPECT_TRUE(settle([&] { return over; }, 60s));
  EXPECT_EQ(good, kSessions / 3);
  EXPECT_EQ(failed, kSessions / 3);
  EXPECT_EQ(dropped, kSessions / 3);
  stop.set_value();
  other.join();
  working.reset();
  door_thread.join();
}

TEST_F(Agents, AnnouncingFromManyThreadsLeavesOneOfEach) {
  options_.on_agent = nullptr;
  options_.on_superseded = nullptr;
  registry();
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::vector<Registration> registrations;
  for (char which = '0'; which < '4'; ++which)
    threads.emplace_back([&, which] {
      for (int count = 0; count < 5; ++count) {
        auto mine = announcement("agent-" + std::to_string(count));
        mine.boot_id = boot(which);
        auto registration =
            registry().announce(principal_named("ann"), "peer", mine, std::make_shared<KeptControl>(),
                                {10, std::make_shared<int>()});
        const std::lock_guard lock(mutex);
        if (registration) registrations.push_back(std::move(*registration));
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(registry().agents().size(), 5u);
  EXPECT_EQ(nlohmann::json::parse(file_text()).at("enrolments").size(), 5u);
  registrations.clear();
  EXPECT_THAT(registry().agents(), IsEmpty());
}

}  // namespace
}  // namespace tunneld::upstream
