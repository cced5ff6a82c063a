#include "tunneld/tracing/otlp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <limits>

#include "tests/tunneld/tracing/tracing_lab.h"

namespace {

using namespace tunneld::tracing;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

/// What protoc makes of the bytes by the official definitions. Fields that these do not know have numbers in
/// place of names.
class Otlp : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v protoc >/dev/null") != 0) GTEST_SKIP() << "protoc is not installed";
  }

  std::string decoded(const std::string& bytes) {
    const auto protos = tracing_lab::repository() / "tests/support/otlp_collector/proto";
    const std::string command =
        "protoc --decode=opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest -I '" +
        protos.string() + "' opentelemetry/proto/collector/trace/v1/trace_service.proto < '" +
        folder_.file("body", bytes).string() + "'";
    std::FILE* pipe = ::popen(command.c_str(), "r");
    std::string text;
    char piece[4096];
    for (std::size_t got = 0; (got = std::fread(piece, 1, sizeof piece, pipe)) > 0;) text.append(piece, got);
    EXPECT_EQ(::pclose(pipe), 0) << "protoc refuses the bytes";
    return text;
  }
  std::string decoded(const Span& span) {
    return decoded(encode_export("tunneld", {"0.1.0", "host-1"}, {&span, 1}));
  }

  tracing_lab::Folder folder_;
};

TEST_F(Otlp, SaysWhoWeAreAndWhatHappenedInOneRequest) {
  Span span;
  span.name = "tunnel.request";
  for (std::uint8_t at = 0; at < 16; ++at) span.context.trace_id[at] = static_cast<std::uint8_t>('A' + at);
  span.context.span_id = {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'};
  span.context.sampled = true;
  span.parent = {'s', 't', 'u', 'v', 'w', 'x', 'y', 'z'};
  span.kind = SpanKind::server;
  span.start = std::chrono::system_clock::time_point(1'800'000'000s + 123us);
  span.took = 1'500'000'001ns;
  span.error = true;
  span.error_text = "no such service";
  span.texts = {{"http.request.method", "GET"}, {"error.type", "TUNNEL_012"}};
  span.numbers = {{"http.response.status_code", 404}, {"balance", -1}};
  EXPECT_EQ(decoded(span), R"(resource_spans {
  resource {
    attributes {
      key: "service.name"
      value {
        string_value: "tunneld"
      }
    }
    attributes {
      key: "service.version"
      value {
        string_value: "0.1.0"
      }
    }
    attributes {
      key: "service.instance.id"
      value {
        string_value: "host-1"
      }
    }
  }
  scope_spans {
    scope {
      name: "tunneld"
      version: "0.1.0"
    }
    spans {
      trace_id: "ABCDEFGHIJKLMNOP"
      span_id: "abcdefgh"
      parent_span_id: "stuvwxyz"
      name: "tunnel.request"
      kind: SPAN_KIND_SERVER
      start_time_unix_nano: 1800000000000123000
      end_time_unix_nano: 1800000001500123001
      attributes {
        key: "http.request.method"
        value {
          string_value: "GET"
        }
      }
      attributes {
        key: "error.type"
        value {
          string_value: "TUNNEL_012"
        }
      }
      attributes {
        key: "http.response.status_code"
        value {
          int_value: 404
        }
      }
      attributes {
        key: "balance"
        value {
          int_value: -1
        }
      }
      status {
        message: "no such service"
        code: STATUS_CODE_ERROR
      }
      flags: 769
    }
  }
}
)");
}

TEST_F(Otlp, LeavesOutWhatThereIsNot) {
  const auto text = decoded(tracing_lab::plain_span());
  EXPECT_THAT(text, Not(HasSubstr("parent_span_id"))) << "of a root it must be empty";
  EXPECT_THAT(text, Not(HasSubstr("status")));
  EXPECT_THAT(text, HasSubstr("kind: SPAN_KIND_INTERNAL"));
}

TEST_F(Otlp, SaysThatOnlyAServerSpansParentIsElsewhere) {
  auto span = tracing_lab::plain_span();
  struct Row {
    SpanKind kind;
    bool parent;
    const char* name;
    const char* flags;
  };
  for (const Row& row : {Row{SpanKind::server, true, "SERVER", "flags: 769"},   // 0x301: remote, sampled
                         Row{SpanKind::server, false, "SERVER", "flags: 257"},  // 0x101
                         Row{SpanKind::client, true, "CLIENT", "flags: 257"},
                         Row{SpanKind::internal, true, "INTERNAL", "flags: 257"}}) {
    SCOPED_TRACE(testing::Message() << row.name << (row.parent ? " with a parent" : ""));
    span.kind = row.kind;
    span.parent.fill(row.parent ? 7 : 0);
    const auto text = decoded(span);
    EXPECT_THAT(text, HasSubstr(std::string("kind: SPAN_KIND_") + row.name));
    EXPECT_THAT(text, HasSubstr(row.flags));
  }
}

TEST_F(Otlp, PutsManySpansUnderOneScope) {
  std::vector<Span> spans(300, tracing_lab::plain_span());
  const auto text = decoded(encode_export("tunneld", {"0.1.0", "host-1"}, spans));
  std::size_t found = 0;
  for (auto at = text.find("    spans {"); at != std::string::npos; at = text.find("    spans {", at + 1))
    ++found;
  EXPECT_EQ(found, 300U);
  EXPECT_EQ(text.find("scope_spans"), text.rfind("scope_spans"));
}

TEST_F(Otlp, EndsNoSpanBeforeItBegan) {
  auto span = tracing_lab::plain_span();
  span.took = -1ns;
  const auto text = decoded(span);
  EXPECT_THAT(text, HasSubstr("start_time_unix_nano: 1800000000000000000"));
  EXPECT_THAT(text, HasSubstr("end_time_unix_nano: 1800000000000000000"));
  span.start = std::chrono::system_clock::time_point(-5s);  // a clock that was never set
  EXPECT_THAT(decoded(span), Not(HasSubstr("18446744")));
}

TEST_F(Otlp, MendsTextsThatAreNoUtf8) {
  struct Row {
    std::string given;
    const char* sent;  // as protoc writes it, in octal
  };
  const Row rows[] = {
      {"caf\xC3\xA9", R"("caf\303\251")"},
      {"a\xFFz", R"("a\357\277\275z")"},
      {"cut \xE2\x82", R"("cut \357\277\275\357\277\275")"},
      {std::string("nul\0nul", 7), R"("nul\000nul")"},
  };
  for (const auto& row : rows) {
    auto span = tracing_lab::plain_span();
    span.texts = {{"text", row.given}};
    span.error = true;
    span.error_text = row.given;
    const auto text = decoded(span);
    EXPECT_THAT(text, HasSubstr(std::string("string_value: ") + row.sent));
    EXPECT_THAT(text, HasSubstr(std::string("message: ") + row.sent));
  }
}

TEST_F(Otlp, CutsLongTextsBetweenCharacters) {
  for (const char* character : {"x", "\xC3\xA9", "\xE2\x82\xAC"}) {
    auto span = tracing_lab::plain_span();
    std::string text;
    while (text.size() < 3000) text += character;
    span.texts = {{"text", text}};
    const auto body = encode_export("tunneld", {"0.1.0", "host-1"}, {&span, 1});
    EXPECT_LT(body.size(), kMaxTextBytes + 400);
    EXPECT_GT(body.size(), kMaxTextBytes);
    EXPECT_THAT(decoded(body), Not(HasSubstr(R"(\357\277\275)"))) << "no half character at the end";
  }
}

TEST(OtlpAnswer, SaysWhatWasNotTaken) {
  EXPECT_EQ(decode_export_answer("")->rejected, 0U);
  EXPECT_EQ(decode_export_answer(tracing_lab::partial_success(3, "too old"))->rejected, 3U);
  EXPECT_EQ(decode_export_answer(tracing_lab::partial_success(3, "too old"))->message, "too old");
  const auto warned = decode_export_answer(tracing_lab::partial_success(0, "old SDK"));
  EXPECT_EQ(warned->rejected, 0U);
  EXPECT_EQ(warned->message, "old SDK");
  EXPECT_EQ(decode_export_answer(std::string("\x0A\x00", 2))->rejected, 0U) << "the same as none";
  // -1, and fields of later versions
  EXPECT_EQ(decode_export_answer("\x0A\x0B\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01")->rejected, 0U);
  EXPECT_EQ(decode_export_answer(std::string("\x12\x01x\x18\x05\x0A\x04\x18\x01\x08\x02", 11))->rejected, 2U);
}

TEST(OtlpAnswer, IsRefusedWhenItIsNoMessage) {
  for (const std::string& body :
       {std::string("\x0A\x05"), std::string("\x0A\x02\x08"), std::string("<html>"), std::string(20, '\xFF'),
        std::string("\x0A\xFF\xFF\xFF\xFF\x0F"), std::string("\x07"), std::string("\0", 1)}) {
    const auto answer = decode_export_answer(body);
    ASSERT_FALSE(answer) << testing::PrintToString(body);
    EXPECT_EQ(answer.error().kind, Error::Kind::bad_input);
  }
}

TEST(OtlpAnswer, OfAnErrorExplainsItself) {
  EXPECT_EQ(decode_status_message(tracing_lab::status_body("bad id")), "bad id");
  EXPECT_EQ(decode_status_message("\x08\x03" + tracing_lab::status_body("bad id")), "bad id");
  EXPECT_EQ(decode_status_message(""), "");
  EXPECT_EQ(decode_status_message("<html>"), "");
  EXPECT_EQ(decode_status_message("\x12\x7F"
                                  "short"),
            "");
}

}  // namespace
