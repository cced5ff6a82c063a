#include "tunnel/http1.h"

#include <gtest/gtest.h>

#include "tests/tunnel/http1_corpus.h"

namespace {

using namespace tunnel;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(RequestHead, TheCorpusIsAcceptedOrRefusedForTheRightReason) {
  const auto cases = corpus::requests();
  EXPECT_GE(cases.size(), 300u);
  for (const auto& row : cases) {
    SCOPED_TRACE(row.name);
    const auto head = parse_request_head(row.head, {});
    EXPECT_EQ(head ? "" : std::string(head.error().reason), row.reason);
    if (!head) {
      EXPECT_EQ(head.error().status, row.status);
    }
  }
}

TEST(RequestHead, FindsTheEndAtTheSamePlaceHoweverTheBytesArrive) {
  for (const auto& row : corpus::requests()) {
    if (row.head.size() > 2000) continue;
    SCOPED_TRACE(row.name);
    std::size_t scanned = 0;
    const auto whole = find_head_end(bytes_of(row.head), scanned);
    for (std::size_t first = 0; first <= row.head.size(); ++first) {
      std::size_t seen = 0;
      auto split = find_head_end(bytes_of(std::string_view(row.head).substr(0, first)), seen);
      if (split) {
        EXPECT_LE(*split, first);
      } else {
        EXPECT_EQ(seen, first);
        split = find_head_end(bytes_of(row.head), seen);
      }
      ASSERT_EQ(split, whole) << "split at " << first;
    }
  }
}

TEST(RequestHead, SaysWhatTheCallerWants) {
  const auto parse = [](std::string_view text) { return parse_request_head(text, {}).value(); };
  const auto plain = parse("GET /a?b HTTP/1.1\r\nHost: h:1\r\nx-a:  1 2\t\r\n\r\n");
  EXPECT_EQ(plain.method, "GET");
  EXPECT_EQ(plain.target, "/a?b");
  EXPECT_EQ(plain.minor_version, 1);
  ASSERT_NE(plain.find("X-A"), nullptr);
  EXPECT_EQ(*plain.find("X-A"), "1 2");
  EXPECT_EQ(plain.find("X"), nullptr);
  EXPECT_TRUE(std::holds_alternative<NoBody>(plain.body));
  EXPECT_TRUE(plain.keep_alive);

  struct Row {
    const char* fields;
    bool keep_alive, expects, upgrade;
  };
  const Row rows[] = {
      {"Connection: close\r\n", false, false, false},
      {"Connection: Keep-Alive\r\n", true, false, false},
      {"Connection: keep-alive, CLOSE\r\n", false, false, false},
      {"Expect: 100-continue\r\nContent-Length: 3\r\n", true, true, false},
      {"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true, true, false},
      {"Expect: 100-continue\r\n", true, false, false},  // nothing to hold back
      {"Connection: Upgrade\r\nUpgrade: websocket\r\n", true, false, true},
      {"Upgrade: websocket\r\n", true, false, false},
      {"Connection: upgrade\r\n", true, false, false},
      {"Connection: upgrade\r\nUpgrade:\r\n", true, false, false},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.fields);
    const auto head = parse(std::string("POST / HTTP/1.1\r\nHost: a\r\n") + row.fields + "\r\n");
    EXPECT_EQ(head.keep_alive, row.keep_alive);
    EXPECT_EQ(head.expects_continue, row.expects);
    EXPECT_EQ(head.wants_upgrade, row.upgrade);
  }
  EXPECT_FALSE(parse("GET / HTTP/1.0\r\n\r\n").keep_alive);
  EXPECT_TRUE(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
  EXPECT_FALSE(
      parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expects_continue);
  EXPECT_FALSE(parse("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").wants_upgrade);
}

TEST(ResponseHead, IsFramedByMethodStatusAndFields) {
  struct Row {
    const char* head;
    const char* method;
    std::size_t framing;  // 0 none, 1 sized, 2 chunked, 3 until close
    bool keep_alive;
  };
  const Row rows[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 1, true},
      {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 1, true},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", 2, true},
      {"HTTP/1.1 200 OK\r\n\r\n", "GET", 3, false},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 0, true},
      {"HTTP/1.1 200 OK\r\n\r\n", "HEAD", 0, true},
      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", 0, true},
      {"HTTP/1.1 204 No Content\r\n\r\n", "GET", 0, true},
      {"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "GET", 0, true},
      {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "GET", 0, false},
      {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", 0, false},
      {"HTTP/1.1 100 Continue\r\n\r\n", "POST", 0, true},
      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "GET", 0, true},
      {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 1, false},
      {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", "GET", 1, true},
      {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", "GET", 1, false},
      {"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", "GET", 1, true},
      {"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", "GET", 1, true},
      {"HTTP/1.1 599 caf\xc3\xa9 (a \"b\")\r\nContent-Length: 5\r\n\r\n", "GET", 1, true},
      {"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\n", "GET", 1, true},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.head);
    const auto head = parse_response_head(row.head, row.method, {});
    ASSERT_TRUE(head) << head.error().reason;
    EXPECT_EQ(head->body.index(), row.framing);
    EXPECT_EQ(head->keep_alive, row.keep_alive);
  }
}

TEST(ResponseHead, RefusesWhatTwoReadersCouldReadDifferently) {
  const struct {
    const char* head;
    const char* reason;
  } rows[] = {
      {"HTTP/1.1 200 OK\nContent-Length: 5\n\n", "bare_lf"},
      {"HTTP/1.1 200 OK\r\nA: b\n\r\n", "bare_lf"},
      {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "obs_fold"},
      {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "space_before_colon"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "duplicate_content_length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "content_length"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
       "length_and_transfer_encoding"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer_encoding"},
      {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_in_1_0"},
      {"HTTP/1.1 200 O\rK\r\n\r\n", "bare_cr"},
      {"HTTP/1.1 200 O\x01K\r\n\r\n", "control_character"},
      {"HTTP/1.1 99 OK\r\n\r\n", "start_line"},
      {"HTTP/1.1 099 OK\r\n\r\n", "status"},
      {"HTTP/1.1 600 OK\r\n\r\n", "status"},
      {"HTTP/1.1 2000 OK\r\n\r\n", "start_line"},
      {"HTTP/1.1 +20 OK\r\n\r\n", "start_line"},
      {"HTTP/1.1  200 OK\r\n\r\n", "start_line"},
      {"HTTP/1.1\t200 OK\r\n\r\n", "start_line"},
      {"HTTP/1.1\r\n\r\n", "start_line"},
      {"HTTP/2 200\r\n\r\n", "start_line"},
      {"HTTP/2.0 200 OK\r\n\r\n", "version"},
      {"ICY 200 OK\r\n\r\n", "start_line"},
      {"\r\n\r\n", "start_line"},
      {"HTTP/1.1 200 OK\r\n", "incomplete"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.head);
    const auto head = parse_response_head(row.head, "GET", {});
    ASSERT_FALSE(head);
    EXPECT_EQ(head.error().reason, row.reason);
  }
}

/// Everything a body decodes to, fed in pieces that end at the given places.
std::string decode(std::string_view body, std::vector<std::size_t> cuts, HeadLimits limits = {}) {
  ChunkDecoder decoder(limits);
  std::string out;
  std::size_t begin = 0;
  cuts.push_back(body.size());
  for (const auto cut : cuts) {
    auto piece = body.substr(begin, cut - begin);
    begin = cut;
    for (;;) {
      const auto step = decoder.decode(bytes_of(piece));
      if (!step) return "!" + std::string(step.error().reason);
      out.append(reinterpret_cast<const char*>(step->data.data()), step->data.size());
      piece.remove_prefix(step->consumed);
      if (step->done) {
        out += "|";
        for (const auto& field : decoder.trailers()) out += field.name + "=" + field.value + ";";
        return out + "|" + std::to_string(body.size() - (begin - piece.size()));
      }
      if (step->consumed == 0) break;
    }
  }
  return out + "...";
}

TEST(ChunkDecoder, DecodesAndRefusesAtEverySplit) {
  const struct {
    std::string body;
    std::string decoded;  // payload|trailers|bytes left over; "!" a refusal; "..." more is needed
  } rows[] = {
      {"0\r\n\r\n", "||0"},
      {"5\r\nhello\r\n0\r\n\r\n", "hello||0"},
      {"5\r\nhello\r\n3\r\n ab\r\n0\r\n\r\nGET", "hello ab||3"},
      {"A\r\n0123456789\r\n00\r\n\r\n", "0123456789||0"},
      {"0000000000000005\r\nhello\r\n0\r\n\r\n", "hello||0"},
      {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n||0"},
      {"5;name=value;x=\"y\"\r\nhello\r\n0;last\r\n\r\n", "hello||0"},
      {"0\r\nA: b\r\nC:d\r\n\r\n", "|A=b;C=d;|0"},
      {"0\r\nX: 1\r\nCookie: a\r\nauthorization: b\r\nTrailer: x\r\n\r\n", "|X=1;|0"},  // dropped
      {"5\r\nhel", "hel..."},
      {"5\r\nhello\r\n0\r\n\r", "hello..."},
      {"5\nhello\r\n0\r\n\r\n", "!bare_lf"},
      {"\r\n", "!chunk_size"},
      {";x\r\n", "!chunk_size"},
      {"-5\r\nhello", "!chunk_size"},
      {"+5\r\nhello", "!chunk_size"},
      {"0x5\r\nhello", "!chunk_size"},
      {" 5\r\nhello", "!chunk_size"},
      {"5 \r\nhello", "!chunk_size"},
      {"5 ;x\r\nhello", "!chunk_size"},
      {"5\t\r\nhello", "!chunk_size"},
      {"g\r\n", "!chunk_size"},
      {"5_\r\nhello", "!chunk_size"},
      {"00000000000000005\r\n", "!chunk_size"},
      {"fffffffffffffffff\r\n", "!chunk_size"},
      {"5;\x01\r\nhello", "!chunk_extension"},
      {std::string("5;a\0b\r\nhello", 12), "!chunk_extension"},
      {"0\r\nA: b\nC: d\r\n\r\n", "!bare_lf"},
      {"0\r\n A: b\r\n\r\n", "!obs_fold"},
      {"0\r\nA : b\r\n\r\n", "!space_before_colon"},
      {"0\r\nno colon\r\n\r\n", "!field_name"},
      {"0\r\nContent-Length: 5\r\n\r\n", "!forbidden_trailer"},
      {"0\r\ntransfer-encoding: chunked\r\n\r\n", "!forbidden_trailer"},
      {"0\r\nHOST: x\r\n\r\n", "!forbidden_trailer"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(testing::PrintToString(row.body));
    EXPECT_EQ(decode(row.body, {}), row.decoded);
    for (std::size_t cut = 0; cut <= row.body.size(); ++cut)
      EXPECT_EQ(decode(row.body, {cut}), row.decoded) << cut;
    std::vector<std::size_t> every;
    for (std::size_t cut = 1; cut < row.body.size(); ++cut) every.push_back(cut);
    EXPECT_EQ(decode(row.body, every), row.decoded) << "byte by byte";
  }
  // Here the reason depends on which fault is met first, the refusal does not.
  for (const char* body : {"5\rhello\r\n", "5\r\r\nhello", "5\r\nhello\n", "5\r\nhelloX\r\n", "5\r\nhello\rX",
                           "5;a\rb\r\nhello", "0\r\nA: b\rc\r\n\r\n", "0\r\n\rX", "5\r\nhello0\r\n\r\n"})
    for (std::size_t cut = 0; cut <= std::string_view(body).size(); ++cut)
      EXPECT_EQ(decode(body, {cut}).find('!') != std::string::npos, true)
          << testing::PrintToString(body) << cut;
}

TEST(ChunkDecoder, BoundsWhatComesBesideTheData) {
  std::string tiny;
  for (int count = 0; count < 1000; ++count) tiny += "1;" + std::string(200, 'x') + "\r\na\r\n";
  EXPECT_EQ(decode(tiny, {}), "!chunk_extension") << "extensions must not outweigh the data";
  std::string modest;
  for (int count = 0; count < 1000; ++count) modest += "1;n=v\r\na\r\n";
  EXPECT_EQ(decode(modest + "0\r\n\r\n", {}), std::string(1000, 'a') + "||0");
  EXPECT_EQ(decode("5;" + std::string(300, 'x') + "\r\nhello", {}), "!chunk_size");
  EXPECT_EQ(decode(std::string(300, '0'), {}), "!chunk_size") << "refused before the line ends";

  std::string trailers = "0\r\n";
  for (int count = 0; count < 101; ++count) trailers += "Cookie: dropped ones count too\r\n";
  EXPECT_EQ(decode(trailers + "\r\n", {}), "!trailer_count");
  EXPECT_EQ(decode("0\r\nA: " + std::string(9000, 'x'), {}), "!trailer_size");
  HeadLimits limits;
  limits.max_total_bytes = 20;
  EXPECT_EQ(decode("0\r\nA: 234567\r\nB: 234567\r\n\r\n", {}, limits), "!trailer_size");
}

TEST(Serialized, HeadsReadBackAsTheyWere) {
  RequestHead request;
  request.method = "POST";
  request.target = "/x";
  request.fields = {{"Host", "a"}, {"X", "y"}};
  request.body = SizedBody{5};
  EXPECT_EQ(serialize(request), "POST /x HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\n\r\n");
  request.body = ChunkedBody{};
  EXPECT_EQ(serialize(request), "POST /x HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n");
  request.body = NoBody{};
  EXPECT_EQ(serialize(request), "POST /x HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n");

  ResponseHead answer;
  answer.status = 404;
  answer.reason = "Not Found";
  EXPECT_EQ(serialize(answer), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  for (const unsigned status : {101u, 204u, 304u}) {
    answer.status = status;
    EXPECT_EQ(serialize(answer).find("Content-Length"), std::string::npos) << status;
  }
  answer.status = 200;
  answer.body = UntilCloseBody{};
  EXPECT_EQ(serialize(answer), "HTTP/1.1 200 Not Found\r\n\r\n");
  EXPECT_EQ(chunk_prefix(0xabcdef), "abcdef\r\n");
  EXPECT_EQ(chunk_end({}), "0\r\n\r\n");
  EXPECT_EQ(chunk_end({{"A", "b"}}), "0\r\nA: b\r\n\r\n");
}

}  // namespace
