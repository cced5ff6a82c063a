#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tunneld/tracing/tracer.h"

namespace {

using namespace tunneld::tracing;

// The example of the standard.
constexpr const char* kExample = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const std::string kTrace = "0af7651916cd43dd8448eb211c80319c";
const std::string kParent = "b7ad6b7169203331";

TEST(Traceparent, IsReadAndWrittenTheSame) {
  const auto context = parse_traceparent(kExample);
  ASSERT_TRUE(context);
  EXPECT_EQ(context->trace_id_text(), kTrace);
  EXPECT_EQ(context->span_id[0], 0xB7);
  EXPECT_EQ(context->span_id[7], 0x31);
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(context->traceparent(), kExample);
  const auto text = context->traceparent_text();
  EXPECT_EQ(std::string_view(text.data(), text.size()), kExample);
}

TEST(Traceparent, SaysWhetherTheTraceIsSampledInTheLastBitOfTheFlags) {
  struct Row {
    const char* flags;
    bool sampled;
  };
  for (const Row& row : {Row{"00", false}, Row{"01", true}, Row{"02", false}, Row{"03", true},
                         Row{"fe", false}, Row{"ff", true}}) {
    SCOPED_TRACE(row.flags);
    const auto context = parse_traceparent("00-" + kTrace + "-" + kParent + "-" + row.flags);
    ASSERT_TRUE(context);
    EXPECT_EQ(context->sampled, row.sampled);
    EXPECT_EQ(context->traceparent(), "00-" + kTrace + "-" + kParent + (row.sampled ? "-01" : "-00"))
        << "flags that we do not know are not passed on";
  }
}

TEST(Traceparent, OfALaterVersionIsReadAsFarAsItIsKnown) {
  for (const char* text :
       {"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what the future brings"}) {
    const auto context = parse_traceparent(text);
    ASSERT_TRUE(context) << text;
    EXPECT_EQ(context->traceparent(), kExample) << "sent on as the version that we speak";
  }
}

TEST(Traceparent, OfAnyOtherShapeIsRefused) {
  const std::string rows[] = {
      "",
      "00",
      "00-",
      "ff-" + kTrace + "-" + kParent + "-01",                    // version ff
      "ff-" + kTrace + "-" + kParent + "-01-x",                  //
      "00-" + kTrace + "-" + kParent + "-01-",                   // version 00 has no more
      "00-" + kTrace + "-" + kParent + "-01-x",                  //
      "00-" + kTrace + "-" + kParent + "-011",                   //
      "01-" + kTrace + "-" + kParent + "-011",                   // a later one goes on with a dash
      "01-" + kTrace + "-" + kParent + "-01.x",                  //
      "00-" + std::string(32, '0') + "-" + kParent + "-01",      // no trace
      "00-" + kTrace + "-" + std::string(16, '0') + "-01",       // no parent
      "00-0AF7651916CD43DD8448EB211C80319C-" + kParent + "-01",  // capitals
      "00-" + kTrace + "-B7AD6B7169203331-01",                   //
      "0A-" + kTrace + "-" + kParent + "-01",                    //
      "00-" + kTrace + "-" + kParent + "-0A",                    //
      "00-" + kTrace + "-" + kParent + "-0",                     // short
      "00-" + kTrace + "-" + kParent + "-",                      //
      "00-" + kTrace + "-" + kParent.substr(1) + "-01",          //
      "00-" + kTrace.substr(1) + "-" + kParent + "-01",          //
      "0-" + kTrace + "-" + kParent + "-01",                     //
      "00_" + kTrace + "-" + kParent + "-01",                    // other separators
      "00-" + kTrace + "_" + kParent + "-01",                    //
      "00-" + kTrace + "-" + kParent + "_01",                    //
      "0x-" + kTrace + "-" + kParent + "-01",                    // no hexadecimal digits
      "00-" + kTrace.substr(1) + "g-" + kParent + "-01",         //
      "00-" + kTrace.substr(1) + " -" + kParent + "-01",         //
      " 00-" + kTrace + "-" + kParent + "-01",                   // white space around it
      "00-" + kTrace + "-" + kParent + "-01 ",                   //
      std::string(kExample) + "," + kExample,                    // two in one field
      std::string(55, '-'),
      std::string("00-") + std::string(52, '\0'),
  };
  for (const auto& row : rows) EXPECT_FALSE(parse_traceparent(row)) << row;
}

TEST(Traceparent, IsRefusedHoweverItIsCut) {
  const std::string_view whole = kExample;
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(parse_traceparent(whole.substr(0, size))) << size;
}

TEST(Traceparent, WithAnyOneByteChangedIsReadRightOrNotAtAll) {
  for (std::size_t at = 0; at < std::string_view(kExample).size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string text = kExample;
      text[at] = static_cast<char>(byte);
      const auto context = parse_traceparent(text);
      if (!context) continue;
      EXPECT_EQ(context->traceparent().substr(3, 49), text.substr(3, 49)) << text;
    }
  }
}

TEST(ChildContext, StaysInTheTraceWithAnIdOfItsOwn) {
  for (const char* text : {kExample, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}) {
    const auto parent = parse_traceparent(text).value();
    const auto child = Tracer::child_of(parent);
    EXPECT_EQ(child.trace_id, parent.trace_id);
    EXPECT_EQ(child.sampled, parent.sampled);
    EXPECT_NE(child.span_id, parent.span_id);
    EXPECT_NE(child.span_id, Tracer::child_of(parent).span_id);
  }
}

}  // namespace
