#include "edge/websocket_frames.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

namespace edge {
namespace {

using Event = FrameDecoder::Event;

/// A masked frame, as a client sends it. `length_form` forces 126 or 127 instead of the shortest.
std::string frame(unsigned first_byte, std::string_view payload, unsigned length_form = 0) {
  std::string made(1, static_cast<char>(first_byte));
  auto put = [&](std::uint64_t value, int bytes) {
    while (bytes-- > 0) made.push_back(static_cast<char>(value >> (8 * bytes)));
  };
  const auto size = payload.size();
  const unsigned form = length_form != 0 ? length_form : size < 126 ? 0 : size <= 0xFFFF ? 126 : 127;
  made.push_back(static_cast<char>(0x80U | (form == 0 ? size : form)));
  if (form == 126) put(size, 2);
  if (form == 127) put(size, 8);
  const char key[] = {'\x12', '\x34', '\x56', '\x78'};
  made.append(key, 4);
  for (std::size_t i = 0; i < size; ++i) made.push_back(static_cast<char>(payload[i] ^ key[i % 4]));
  return made;
}

struct Seen {
  std::string payload;
  std::vector<Event> events;
  std::vector<std::string> controls;
  FrameError error{0, ""};
};

/// Decodes `bytes` handed over in pieces of that size.
Seen decode(const std::string& bytes, std::size_t piece, const FrameLimits& limits = {}) {
  FrameDecoder decoder(limits);
  Seen seen;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    auto part = bytes.substr(at, piece);
    auto input = std::as_writable_bytes(std::span(part));
    while (!input.empty()) {
      const auto step = decoder.decode(input, input.data());
      seen.payload.append(reinterpret_cast<const char*>(input.data()), step.payload);
      input = input.subspan(step.consumed);
      if (step.event == Event::none) continue;
      seen.events.push_back(step.event);
      if (step.event == Event::ping || step.event == Event::pong || step.event == Event::close)
        seen.controls.emplace_back(decoder.control());
      if (step.event == Event::failed) {
        seen.error = decoder.error();
        return seen;
      }
    }
  }
  return seen;
}

TEST(FrameDecoder, UnmasksMessagesHoweverTheBytesAreCut) {
  std::string message;
  for (int i = 0; i < 70'000; ++i) message.push_back(static_cast<char>(i * 31 + i / 7));
  const auto bytes = frame(0x02, message.substr(0, 100)) + frame(0x89, "hi") +
                     frame(0x00, message.substr(100, 900)) + frame(0x80, message.substr(1000)) +
                     frame(0x82, "");
  for (const std::size_t piece :
       {std::size_t{1}, std::size_t{3}, std::size_t{7}, std::size_t{64}, std::size_t{1001}, bytes.size()}) {
    SCOPED_TRACE(piece);
    const auto seen = decode(bytes, piece);
    EXPECT_TRUE(seen.payload == message);
    EXPECT_EQ(seen.events, (std::vector{Event::ping, Event::message_end, Event::message_end}));
    EXPECT_EQ(seen.controls, std::vector<std::string>{"hi"});
  }
}

TEST(FrameDecoder, LetsMessagesBeCompressedOnlyWhereThatWasAgreedOn) {
  FrameLimits agreed;
  agreed.compression = true;
  struct Row {
    const char* what;
    std::string bytes;
    bool good;
  };
  const Row rows[] = {
      {"binary", frame(0xC2, "x"), true},
      {"text that is not checked here", frame(0xC1, "\xFF"), true},
      {"first fragment", frame(0x42, "x") + frame(0x00, "y") + frame(0x80, "z"), true},
      {"ping between fragments", frame(0x42, "x") + frame(0x89, "") + frame(0x80, "z"), true},
      {"later fragment", frame(0x02, "x") + frame(0xC0, "y"), false},
      {"later fragment of a compressed message", frame(0x42, "x") + frame(0xC0, "y"), false},
      {"ping", frame(0xC9, ""), false},
      {"pong", frame(0xCA, ""), false},
      {"close", frame(0xC8, ""), false},
      {"second reserved bit", frame(0xA2, "x"), false},
      {"third reserved bit", frame(0x92, "x"), false},
      {"first and second", frame(0xE2, "x"), false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const auto seen = decode(row.bytes, row.bytes.size(), agreed);
    EXPECT_EQ(seen.events.back() != Event::failed, row.good);
    if (!row.good) {
      EXPECT_EQ(seen.error.close_code, 1002);
    }
  }
  for (const unsigned first_byte : {0xC2U, 0xC1U, 0x42U})
    EXPECT_EQ(decode(frame(first_byte, "x"), 100).error.close_code, 1002);
}

TEST(FrameDecoder, ForgetsThatAMessageWasCompressedWithTheNext) {
  FrameLimits agreed;
  agreed.compression = true;
  FrameDecoder decoder(agreed);
  auto bytes = frame(0xC1, "\xFF") + frame(0x81, "\xFF");
  auto input = std::as_writable_bytes(std::span(bytes));
  const auto first = decoder.decode(input, input.data());
  EXPECT_EQ(first.event, Event::message_end);
  EXPECT_TRUE(decoder.is_compressed());
  input = input.subspan(first.consumed);
  EXPECT_EQ(decoder.decode(input, input.data()).event, Event::failed);
  EXPECT_FALSE(decoder.is_compressed());
}

TEST(FrameDecoder, BoundsTextForItself) {
  FrameLimits limits{100, 10};
  limits.max_text_bytes = 10;
  EXPECT_EQ(decode(frame(0x81, std::string(10, 'x')), 100, limits).events, std::vector{Event::message_end});
  EXPECT_EQ(decode(frame(0x81, std::string(11, 'x')).substr(0, 2), 100, limits).error.close_code, 1009);
  EXPECT_EQ(decode(frame(0x01, std::string(9, 'x')) + frame(0x80, "xx"), 100, limits).error.close_code, 1009);
  EXPECT_EQ(decode(frame(0x82, std::string(100, 'x')), 200, limits).events, std::vector{Event::message_end});
}

TEST(FrameDecoder, FailsWhatTheProtocolForbids) {
  const std::string euro_cut = "\xE2\x82";
  struct Row {
    const char* what;
    std::string bytes;
    std::uint16_t code;
    const char* reason;
  };
  auto unmasked = frame(0x82, "x");
  unmasked[1] = static_cast<char>(unmasked[1] & 0x7F);
  const Row rows[] = {
      {"not masked", unmasked, 1002, "protocol"},
      {"reserved bit", frame(0xC2, "x"), 1002, "protocol"},
      {"unknown data opcode", frame(0x83, "x"), 1002, "protocol"},
      {"unknown control opcode", frame(0x8B, ""), 1002, "protocol"},
      {"fragmented ping", frame(0x09, "x"), 1002, "protocol"},
      {"long ping", frame(0x89, std::string(126, 'x')), 1002, "protocol"},
      {"continuation of nothing", frame(0x80, "x"), 1002, "protocol"},
      {"new message inside of one", frame(0x02, "x") + frame(0x82, "y"), 1002, "protocol"},
      {"length longer than needed, 16 bit", frame(0x82, "x", 126), 1002, "protocol"},
      {"length longer than needed, 64 bit", frame(0x82, std::string(300, 'x'), 127), 1002, "protocol"},
      {"close with one byte", frame(0x88, "\x03"), 1002, "protocol"},
      {"close 1005", frame(0x88, "\x03\xED"), 1002, "protocol"},
      {"close 1006", frame(0x88, "\x03\xEE"), 1002, "protocol"},
      {"close 999", frame(0x88, "\x03\xE7"), 1002, "protocol"},
      {"close 5000", frame(0x88, "\x13\x88"), 1002, "protocol"},
      {"close reason not UTF-8", frame(0x88, "\x03\xE8\xFF"), 1007, "utf8"},
      {"text not UTF-8", frame(0x81, "a\xFF"), 1007, "utf8"},
      {"text cut in a character", frame(0x81, euro_cut), 1007, "utf8"},
      {"overlong text", frame(0x81, "\xC0\xAF"), 1007, "utf8"},
      {"surrogate in text", frame(0x81, "\xED\xA0\x80"), 1007, "utf8"},
      {"above U+10FFFF", frame(0x81, "\xF4\x90\x80\x80"), 1007, "utf8"},
  };
  for (const auto& row : rows) {
    for (const std::size_t piece : {std::size_t{1}, row.bytes.size()}) {
      SCOPED_TRACE(std::string(row.what) + " by " + std::to_string(piece));
      const auto seen = decode(row.bytes, piece);
      EXPECT_EQ(seen.error.close_code, row.code);
      EXPECT_EQ(seen.error.reason, row.reason);
    }
  }
}

TEST(FrameDecoder, JudgesSizeByTheHeaderAlone) {
  const FrameLimits limits{1000, 4};
  EXPECT_EQ(decode(frame(0x82, std::string(1000, 'x')), 9, limits).payload.size(), 1000U);
  const auto too_long = frame(0x82, std::string(1001, 'x'));
  const auto seen = decode(too_long.substr(0, 4), 1, limits);  // no payload, not even the mask
  EXPECT_EQ(seen.error.close_code, 1009);
  EXPECT_EQ(seen.error.reason, "oversize");
  const auto in_sum = frame(0x02, std::string(600, 'x')) + frame(0x80, std::string(401, 'x'));
  EXPECT_EQ(decode(in_sum, in_sum.size(), limits).error.close_code, 1009);
}

TEST(FrameDecoder, CountsFragmentsEvenEmptyOnes) {
  const FrameLimits limits{1000, 4};
  auto bytes = frame(0x02, "");
  for (int i = 0; i < 3; ++i) bytes += frame(0x00, "");
  EXPECT_TRUE(decode(bytes, 5, limits).events.empty());
  const auto seen = decode(bytes + frame(0x80, ""), 5, limits);
  EXPECT_EQ(seen.error.close_code, 1009);
  EXPECT_EQ(seen.error.reason, "fragments");
}

TEST(FrameDecoder, AcceptsTextCutAnywhere) {
  const std::string text = "\x61\xC2\xA2\xE2\x82\xAC\xF0\x9F\x98\x80 plain tail of some length";
  const auto bytes = frame(0x01, text.substr(0, 5)) + frame(0x80, text.substr(5));
  for (const std::size_t piece : {std::size_t{1}, std::size_t{4}, bytes.size()}) {
    const auto seen = decode(bytes, piece);
    EXPECT_EQ(seen.payload, text);
    EXPECT_EQ(seen.events, std::vector{Event::message_end});
  }
}

TEST(FrameWriting, UsesTheShortestLength) {
  struct Row {
    std::uint64_t payload;
    std::size_t header;
  };
  for (const auto& [payload, size] : {Row{0, 2}, Row{125, 2}, Row{126, 4}, Row{65535, 4}, Row{65536, 10}})
    EXPECT_EQ(frame_header(Opcode::binary, true, payload).size, size) << payload;
  EXPECT_EQ(close_frame(1000, "bye"), std::string("\x88\x05\x03\xE8") + "bye");
  EXPECT_EQ(close_frame(1005, "ignored"), std::string("\x88\0", 2));
}

TEST(FrameWriting, CutsACloseReasonAtACharactersEdge) {
  std::string reason(122, 'x');
  reason += "\xE2\x82\xAC";
  const auto made = close_frame(1011, reason);
  EXPECT_EQ(made.size(), 2U + 2U + 122U);
}

}  // namespace
}  // namespace edge
