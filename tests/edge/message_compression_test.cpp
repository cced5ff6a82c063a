#include "edge/message_compression.h"

#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "common/sanitizer.h"
#include "tests/support/deflate.h"

namespace edge {

namespace test = tunneld::test;

namespace {

using test::deflated;
using test::deflated_zeros;
using test::inflated;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(Compression, AnswersTheFirstOfferItCanMeet) {
  const std::string ours =
      "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";
  struct Row {
    const char* offers;
    std::string answer;  // "-" for none
  };
  const Row rows[] = {
      {"permessage-deflate", ours},
      {"Permessage-Deflate", ours},
      {"permessage-deflate; client_max_window_bits", ours + "; client_max_window_bits=12"},
      {"permessage-deflate; client_max_window_bits=15", ours + "; client_max_window_bits=12"},
      {"permessage-deflate; client_max_window_bits=10", ours + "; client_max_window_bits=10"},
      {"permessage-deflate ;client_max_window_bits = \"11\"", ours + "; client_max_window_bits=11"},
      {"permessage-deflate; server_no_context_takeover; client_no_context_takeover", ours},
      {"permessage-deflate; server_max_window_bits=15", ours},
      {"permessage-deflate; server_max_window_bits=12", ours},
      {"x-webkit-deflate-frame, permessage-deflate", ours},
      {"permessage-deflate; server_max_window_bits=9, permessage-deflate", ours},
      {"permessage-deflate; server_max_window_bits=11", "-"},
      {"permessage-deflate; server_max_window_bits", "-"},
      {"permessage-deflate; server_max_window_bits=16", "-"},
      {"permessage-deflate; server_max_window_bits=012", "-"},
      {"permessage-deflate; server_max_window_bits=", "-"},
      {"permessage-deflate; server_max_window_bits=12; server_max_window_bits=12", "-"},
      {"permessage-deflate; client_max_window_bits=7", "-"},
      {"permessage-deflate; client_max_window_bits=+9", "-"},
      {"permessage-deflate; client_max_window_bits; client_max_window_bits", "-"},
      {"permessage-deflate; server_no_context_takeover=1", "-"},
      {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", "-"},
      {"permessage-deflate; client_no_context_takeover; client_no_context_takeover", "-"},
      {"permessage-deflate; unknown", "-"},
      {"permessage-deflate;", ours},
      {"permessage-bzip2", "-"},
      {"", "-"},
      {", ,", "-"},
  };
  for (const auto& row : rows)
    EXPECT_EQ(agree_on_compression(row.offers).value_or("-"), row.answer) << row.offers;
}

TEST(Compression, TakesOnlyAnAnswerThatItCanWorkWith) {
  struct Row {
    const char* answer;
    bool good;
  };
  const Row rows[] = {
      {"permessage-deflate; server_no_context_takeover", true},
      {"Permessage-Deflate;server_no_context_takeover ; client_no_context_takeover", true},
      {"permessage-deflate; server_no_context_takeover; server_max_window_bits=9", true},
      {"permessage-deflate; server_no_context_takeover; server_max_window_bits=\"15\"", true},
      {"permessage-deflate", false},  // it would refer back to messages that we have forgotten
      {"permessage-deflate; client_no_context_takeover", false},
      {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", false},
      {"permessage-deflate; server_no_context_takeover; client_max_window_bits=12", false},
      {"permessage-deflate; server_no_context_takeover; server_max_window_bits", false},
      {"permessage-deflate; server_no_context_takeover; server_max_window_bits=16", false},
      {"permessage-deflate; server_no_context_takeover; server_max_window_bits=9; server_max_window_bits=9",
       false},
      {"permessage-deflate; server_no_context_takeover=1", false},
      {"permessage-deflate; server_no_context_takeover; unknown", false},
      {"permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
       false},
      {"x-deflate; server_no_context_takeover", false},
      {"", false},
  };
  for (const auto& row : rows) EXPECT_EQ(agrees_to_our_offer(row.answer), row.good) << row.answer;
  const auto answer = agree_on_compression(kCompressionOffer);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(agrees_to_our_offer(*answer)) << *answer;
}

TEST(Compression, GivesBackWhatItTook) {
  std::mt19937 random{1};
  std::string text;
  while (text.size() < 200'000) text += "line " + std::to_string(random() % 1000) + "\n";
  for (int level = 1; level <= 6; ++level) {
    const auto packed = deflate_message(bytes_of(text), level);
    ASSERT_TRUE(packed);
    EXPECT_LT(packed->size(), text.size() / 2);
    EXPECT_EQ(inflated(*packed, 12), text) << "a peer with the window we promised cannot read it";
    auto mine = *packed;
    EXPECT_EQ(inflate_message(mine, 1024 * 1024).value_or("-"), text);
    EXPECT_EQ(mine, *packed);
  }
}

TEST(Compression, KeepsNothingFromOneMessageToTheNext) {
  const std::string text(5000, 'a');
  const auto first = deflate_message(bytes_of(text), 6);
  EXPECT_EQ(deflate_message(bytes_of(text), 6), first);
  auto broken = std::string("\xFF\xFF\xFF");
  EXPECT_FALSE(inflate_message(broken, 1000));
  auto good = deflated("good");
  EXPECT_EQ(inflate_message(good, 1000).value_or("-"), "good");
}

TEST(Compression, LeavesAloneWhatDoesNotShrink) {
  std::mt19937 random{2};
  std::string noise;
  for (int i = 0; i < 5000; ++i) noise.push_back(static_cast<char>(random()));
  EXPECT_FALSE(deflate_message(bytes_of(noise), 6));
  EXPECT_FALSE(deflate_message({}, 6));
}

TEST(Compression, ReadsWhatOthersMayWrite) {
  struct Row {
    const char* what;
    std::string packed;
    std::string whole;
  };
  // RFC 7692 7.2.3.
  const Row rows[] = {
      {"one block", std::string("\xf2\x48\xcd\xc9\xc9\x07\x00", 7), "Hello"},
      {"a block without compression", std::string("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11),
       "Hello"},
      {"a last block and an empty one", std::string("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8), "Hello"},
      {"a last block alone", std::string("\xf3\x48\xcd\xc9\xc9\x07\x00", 7), "Hello"},
      {"two blocks", std::string("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13), "Hello"},
      {"nothing", std::string(1, '\0'), ""},
      {"nothing at all", "", ""},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    auto packed = row.packed;
    const auto whole = inflate_message(packed, 1000);
    ASSERT_TRUE(whole);
    EXPECT_EQ(*whole, row.whole);
  }
}

TEST(Compression, FailsOnWhatIsNoDeflateData) {
  const std::string rows[] = {
      "\xFF",
      std::string("\x00\x05\x00\x00\x00hello", 10),                 // lengths that do not match
      std::string("\x62\x60\x60\x60\x60\x60\x60\x60\x40\x02", 10),  // a distance before the start, or cut
      deflated(std::string(3000, 'a') + "b").substr(0, 6),
      std::string("\x00\x50", 2),  // a length and nothing after it
  };
  for (auto packed : rows) {
    const auto whole = inflate_message(packed, 100'000);
    EXPECT_FALSE(whole) << whole->size();
  }
}

TEST(Compression, HoldsTheMessageLimitToTheByte) {
  std::mt19937 random{3};
  std::string text;  // shrinks to a half or so: the ratio does not matter
  while (text.size() < 200'000) text.push_back(static_cast<char>('a' + random() % 16));
  auto packed = deflated(text);
  EXPECT_EQ(inflate_message(packed, text.size()).value_or("-"), text);
  const auto one_too_many = inflate_message(packed, text.size() - 1);
  ASSERT_FALSE(one_too_many);
  EXPECT_EQ(one_too_many.error(), InflateFault::too_large);
}

TEST(Compression, HoldsTheRatioAboveItsFloorToTheByte) {
  // Up to the floor any ratio will do.
  auto floor = deflated_zeros(kInflateRatioFloorBytes);
  EXPECT_TRUE(inflate_message(floor, 1024 * 1024));
  auto above = deflated_zeros(kInflateRatioFloorBytes + 1);
  ASSERT_LT(above.size() * kMaxInflateRatio, kInflateRatioFloorBytes);
  EXPECT_FALSE(inflate_message(above, 1024 * 1024));

  // Stored bytes first, so that the size can be chosen: exactly 100:1 may be, one byte more may not.
  for (const std::size_t more : {0, 1}) {
    auto packed = test::deflated_to_ratio(kMaxInflateRatio, more);
    EXPECT_EQ(inflate_message(packed, 16 * 1024 * 1024).has_value(), more == 0) << more;
  }
}

/// The most memory this process has held since reset_peak(), or 0 where the kernel does not tell.
std::size_t peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6));
  return 0;
}
bool reset_peak() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return clear.good();
}

TEST(Compression, StopsBombsBeforeTheyCost) {
  auto small = test::deflated_to_ratio(101, 0);
  EXPECT_FALSE(inflate_message(small, 1024 * 1024));
  auto denser = deflated_zeros(1'000'000);  // as far as deflate goes
  EXPECT_FALSE(inflate_message(denser, 1024 * 1024));
  // Beyond that a bomb is a large message as such: 100 MB in 100 kB.
  auto bomb = deflated_zeros(100'000'000);
  const bool measured = reset_peak() && !sanitizer::kUsed;
  const auto before = peak_kib();
  for (int i = 0; i < 20; ++i) {
    const auto whole = inflate_message(bomb, 1024 * 1024);
    ASSERT_FALSE(whole);
    EXPECT_EQ(whole.error(), InflateFault::too_large);
  }
  if (measured && before > 0) {
    EXPECT_LT(peak_kib() - before, 4 * 1024U);
  }
}

TEST(Compression, KnowsMessagesThatMayHoldSecrets) {
  for (const auto* text : {"GET / HTTP/1.1\r\nAuthorization: Bearer x", "proxy-authorization: x",
                           "COOKIE: a=b", "Set-Cookie: a=b", R"({"type":"auth.refresh"})", "cookie"})
    EXPECT_TRUE(may_hold_secrets(bytes_of(text))) << text;
  for (const auto* text : {"", "authorizatio", "auth", "author.", "cooki", "a cook in Canada", "AAAAAAAAAAA"})
    EXPECT_FALSE(may_hold_secrets(bytes_of(text))) << text;
}

}  // namespace
}  // namespace edge
