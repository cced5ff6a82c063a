#include "link/link_frames.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace links {
namespace {

using Event = FrameDecoder::Event;

template <class Bytes>
std::string text(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class Array>
Array filled(unsigned first) {
  Array array;
  for (auto& byte : array) byte = static_cast<std::byte>(first++);
  return array;
}

std::string header(unsigned type, std::size_t length) {
  return {static_cast<char>(type), static_cast<char>(length >> 16), static_cast<char>(length >> 8),
          static_cast<char>(length)};
}

/// One frame read in pieces of that size.
Event read_one(FrameDecoder& decoder, std::string frame, std::size_t piece) {
  auto input = std::as_writable_bytes(std::span(frame));
  while (!input.empty()) {
    const auto part = input.first(std::min(piece, input.size()));
    const auto step = decoder.decode(part, part.data());
    if (step.event != Event::none) return step.event;
    input = input.subspan(step.consumed);
  }
  return Event::none;
}

TEST(LinkFrames, AreEncodedAsDocumented) {
  EXPECT_EQ(text(encode(Challenge{1, filled<Nonce>(0x10)})),
            header(0, 17) + "\x01" + text(filled<Nonce>(0x10)));
  EXPECT_EQ(text(encode(Hello{1, filled<SessionId>(0x20), 0x0102030405060708, filled<Proof>(0x40)})),
            header(1, 57) + "\x01" + text(filled<SessionId>(0x20)) + "\x01\x02\x03\x04\x05\x06\x07\x08" +
                text(filled<Proof>(0x40)));
  EXPECT_EQ(text(encode(Welcome{filled<SessionId>(0x20), 5, Secret(std::string(32, 's')), 60'000})),
            header(2, 60) + text(filled<SessionId>(0x20)) + std::string(7, '\0') + "\x05" +
                std::string(32, 's') + std::string("\0\0\xEA\x60", 4));
  EXPECT_EQ(text(encode(Data{256, 65'536})), header(3, 65'544) + std::string("\0\0\0\0\0\0\1\0", 8));
  EXPECT_EQ(text(encode(Ack{256})), header(4, 8) + std::string("\0\0\0\0\0\0\1\0", 8));
  EXPECT_EQ(encode_gone("bye"), header(5, 3) + "bye");
  EXPECT_EQ(encode_gone(""), header(5, 0));
}

TEST(LinkFrames, AreReadBackHoweverTheyAreCut) {
  for (std::size_t piece = 1; piece < 70; ++piece) {
    SCOPED_TRACE(piece);
    FrameDecoder decoder;
    ASSERT_EQ(read_one(decoder, text(encode(Challenge{1, filled<Nonce>(3)})), piece), Event::control);
    EXPECT_EQ(decoder.type(), FrameType::challenge);
    EXPECT_EQ(decoder.challenge().nonce, filled<Nonce>(3));
    ASSERT_EQ(read_one(decoder, text(encode(Hello{1, filled<SessionId>(9), 77, filled<Proof>(1)})), piece),
              Event::control);
    EXPECT_EQ(decoder.hello().version, 1);
    EXPECT_EQ(decoder.hello().session, filled<SessionId>(9));
    EXPECT_EQ(decoder.hello().wanted, 77U);
    EXPECT_EQ(decoder.hello().proof, filled<Proof>(1));
    ASSERT_EQ(
        read_one(decoder, text(encode(Welcome{filled<SessionId>(9), 78, Secret(std::string(32, '\xFE')), 9})),
                 piece),
        Event::control);
    const auto welcome = decoder.welcome();
    EXPECT_EQ(welcome.session, filled<SessionId>(9));
    EXPECT_EQ(welcome.wanted, 78U);
    EXPECT_EQ(welcome.secret.reveal(), std::string(32, '\xFE'));
    EXPECT_EQ(welcome.window_ms, 9U);
    ASSERT_EQ(read_one(decoder, text(encode(Ack{1ULL << 63})), piece), Event::control);
    EXPECT_EQ(decoder.ack().wanted, 1ULL << 63);
    ASSERT_EQ(read_one(decoder, encode_gone("over"), piece), Event::control);
    EXPECT_EQ(decoder.gone(), "over");
    ASSERT_EQ(read_one(decoder, encode_gone(""), piece), Event::control);
    EXPECT_EQ(decoder.gone(), "");
  }
}

TEST(LinkFrames, PayloadIsMovedToTheFrontOfTheBufferItCameIn) {
  std::string buffer =
      text(encode(Data{0, 3})) + "abc" + text(encode(Ack{1})) + text(encode(Data{3, 4})) + "defg";
  for (std::size_t piece = 1; piece <= buffer.size(); ++piece) {
    SCOPED_TRACE(piece);
    FrameDecoder decoder;
    std::string seen;
    std::vector<std::uint64_t> offsets;
    for (std::size_t at = 0; at < buffer.size(); at += piece) {
      auto part = buffer.substr(at, piece);
      auto input = std::as_writable_bytes(std::span(part));
      auto* to = input.data();
      while (!input.empty()) {
        const auto step = decoder.decode(input, to);
        to += step.payload;
        input = input.subspan(step.consumed);
        if (step.event == Event::data) offsets.push_back(decoder.data().offset);
        ASSERT_NE(step.event, Event::failed);
      }
      seen.append(part, 0, static_cast<std::size_t>(to - std::as_writable_bytes(std::span(part)).data()));
    }
    EXPECT_EQ(seen, "abcdefg");
    EXPECT_EQ(offsets, (std::vector<std::uint64_t>{0, 3}));
  }
}

TEST(LinkFrames, MissingNeverReachesBehindTheFrame) {
  const auto stream = text(encode(Challenge{})) + text(encode(Data{0, 2})) + "xy" + encode_gone("");
  FrameDecoder decoder;
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < stream.size();) {
    auto part = stream.substr(at, decoder.missing());
    const auto bytes = std::as_writable_bytes(std::span(part));
    const auto step = decoder.decode(bytes, bytes.data());
    ASSERT_EQ(step.consumed, part.size());
    at += part.size();
    if (step.event != Event::none || step.payload > 0) ends.push_back(at);
  }
  EXPECT_EQ(ends, (std::vector<std::size_t>{21, 33, 35, 39}));
}

TEST(LinkFrames, WrongOnesAreRefusedByTheirHeader) {
  struct Wrong {
    const char* what;
    unsigned type;
    std::size_t length;
  };
  const Wrong wrongs[] = {
      {"unknown type", 6, 0},
      {"unknown type", 255, 8},
      {"short CHALLENGE", 0, 16},
      {"long CHALLENGE", 0, 18},
      {"short HELLO", 1, 56},
      {"long WELCOME", 2, 61},
      {"DATA without an offset", 3, 7},
      {"too much DATA", 3, 8 + 64 * 1024 + 1},
      {"the longest that can be said", 3, 0xFFFFFF},
      {"long ACK", 4, 9},
      {"long GONE", 5, 101},
  };
  for (const auto& wrong : wrongs) {
    SCOPED_TRACE(testing::Message() << wrong.what << ", " << wrong.length);
    FrameDecoder decoder;
    EXPECT_EQ(read_one(decoder, header(wrong.type, wrong.length), 1), Event::failed);
    EXPECT_FALSE(decoder.error().empty());
  }
}

TEST(LinkFrames, GoneIsCutBetweenCharactersAndMadeHarmless) {
  std::string why(99, 'a');
  EXPECT_EQ(encode_gone(why + "\xC3\xA4").size(), 4U + 99U);
  EXPECT_EQ(encode_gone(why + "bc").size(), 4U + 100U);
  FrameDecoder decoder;
  ASSERT_EQ(read_one(decoder, header(5, 9) + "a\x1B[\n\xC3\xA4\xC2\x85\xFF", 64), Event::control);
  EXPECT_EQ(decoder.gone(), "a?[?\xC3\xA4??");
}

TEST(LinkFrames, ProofDependsOnAllThatIsSaid) {
  const Secret secret(std::string(32, 'k'));
  const auto nonce = filled<Nonce>(1);
  const auto session = filled<SessionId>(2);
  const auto proof = prove(secret, nonce, session, 3);
  EXPECT_TRUE(same(proof, prove(secret, nonce, session, 3)));
  EXPECT_FALSE(same(proof, prove(Secret(std::string(32, 'K')), nonce, session, 3)));
  EXPECT_FALSE(same(proof, prove(secret, filled<Nonce>(2), session, 3)));
  EXPECT_FALSE(same(proof, prove(secret, nonce, filled<SessionId>(3), 3)));
  EXPECT_FALSE(same(proof, prove(secret, nonce, session, 4)));
}

/// As Python's hmac computes it.
TEST(LinkFrames, ProofIsHmacSha256OfNonceSessionAndOffset) {
  const Secret secret(std::string(32, 'k'));
  const auto proof = prove(secret, Nonce{}, SessionId{}, 1);
  std::string hex;
  for (const auto byte : proof) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", std::to_integer<unsigned>(byte));
    hex += digits;
  }
  EXPECT_EQ(hex, "02c9fc48a773ac63bcf7283c5b469f51ea2925a3ea25b956dfe930e1a9f4e946");
}

TEST(LinkFrames, SessionIdsAreWrittenInLowerCaseHexadecimal) {
  const auto id = filled<SessionId>(0xA5);
  const auto hex = to_hex(id);
  EXPECT_EQ(hex, "a5a6a7a8a9aaabacadaeafb0b1b2b3b4");
  EXPECT_EQ(session_id_from_hex(hex), id);
  EXPECT_EQ(session_id_from_hex("A5A6A7A8A9AAABACADAEAFB0B1B2B3B4"), std::nullopt);
  EXPECT_EQ(session_id_from_hex(hex + "0"), std::nullopt);
  EXPECT_EQ(session_id_from_hex(hex.substr(1)), std::nullopt);
  EXPECT_EQ(session_id_from_hex("g" + hex.substr(1)), std::nullopt);
}

}  // namespace
}  // namespace links
