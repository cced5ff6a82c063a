#include "tunneld/tracing/otlp.h"

#include <protozero/exception.hpp>
#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>

#include <algorithm>

#include "common/utf8.h"

namespace tunneld::tracing {
namespace {

using protozero::pbf_writer;

// Messages and their fields, as in opentelemetry/proto/{collector/trace,trace,resource,common}/v1.
namespace request {
constexpr protozero::pbf_tag_type kResourceSpans = 1;
}
namespace resource_spans {
constexpr protozero::pbf_tag_type kResource = 1;
constexpr protozero::pbf_tag_type kScopeSpans = 2;
}  // namespace resource_spans
namespace resource_fields {
constexpr protozero::pbf_tag_type kAttributes = 1;
}
namespace scope_spans {
constexpr protozero::pbf_tag_type kScope = 1;
constexpr protozero::pbf_tag_type kSpans = 2;
}  // namespace scope_spans
namespace scope {
constexpr protozero::pbf_tag_type kName = 1;
constexpr protozero::pbf_tag_type kVersion = 2;
}  // namespace scope
namespace span_fields {
constexpr protozero::pbf_tag_type kTraceId = 1;
constexpr protozero::pbf_tag_type kSpanId = 2;
constexpr protozero::pbf_tag_type kParentSpanId = 4;
constexpr protozero::pbf_tag_type kName = 5;
constexpr protozero::pbf_tag_type kKind = 6;
constexpr protozero::pbf_tag_type kStart = 7;
constexpr protozero::pbf_tag_type kEnd = 8;
constexpr protozero::pbf_tag_type kAttributes = 9;
constexpr protozero::pbf_tag_type kStatus = 15;
constexpr protozero::pbf_tag_type kFlags = 16;
}  // namespace span_fields
namespace status_fields {
constexpr protozero::pbf_tag_type kMessage = 2;
constexpr protozero::pbf_tag_type kCode = 3;
constexpr std::int32_t kError = 2;
}  // namespace status_fields
namespace key_value {
constexpr protozero::pbf_tag_type kKey = 1;
constexpr protozero::pbf_tag_type kValue = 2;
}  // namespace key_value
namespace any_value {
constexpr protozero::pbf_tag_type kString = 1;
constexpr protozero::pbf_tag_type kInt = 3;
}  // namespace any_value

// Span.flags: the trace's, and whether the parent is elsewhere.
constexpr std::uint32_t kFlagSampled = 0x001;
constexpr std::uint32_t kFlagHasIsRemote = 0x100;
constexpr std::uint32_t kFlagIsRemote = 0x200;

/// UTF-8 of at most kMaxTextBytes, with U+FFFD for what is none.
std::string mended(std::string_view text) {
  std::string good;
  good.reserve(std::min(text.size(), kMaxTextBytes) + 3);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8::character_at(text, at);
    const auto character = length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(at, length);
    if (good.size() + character.size() > kMaxTextBytes) break;
    good.append(character);
    at += std::max<std::size_t>(length, 1);
  }
  return good;
}

void add_text(pbf_writer& message, protozero::pbf_tag_type field, std::string_view text) {
  if (text.size() > kMaxTextBytes || !utf8::valid(text)) {
    message.add_string(field, mended(text));
  } else {
    message.add_string(field, text.data(), text.size());
  }
}

void add_attribute(pbf_writer& to, protozero::pbf_tag_type field, std::string_view key,
                   std::string_view text) {
  pbf_writer attribute(to, field);
  add_text(attribute, key_value::kKey, key);
  pbf_writer value(attribute, key_value::kValue);
  add_text(value, any_value::kString, text);
}

void add_attribute(pbf_writer& to, protozero::pbf_tag_type field, std::string_view key, std::int64_t number) {
  pbf_writer attribute(to, field);
  add_text(attribute, key_value::kKey, key);
  pbf_writer value(attribute, key_value::kValue);
  value.add_int64(any_value::kInt, number);
}

template <std::size_t Size>
void add_id(pbf_writer& span, protozero::pbf_tag_type field, const std::array<std::uint8_t, Size>& id) {
  span.add_bytes(field, reinterpret_cast<const char*>(id.data()), id.size());
}

bool any_set(const std::array<std::uint8_t, 8>& id) {
  return std::any_of(id.begin(), id.end(), [](std::uint8_t byte) { return byte != 0; });
}

std::uint64_t unix_nanoseconds(std::chrono::system_clock::time_point time) {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(since, 0));
}

std::uint32_t flags_of(const Span& span) {
  // Only callers' spans come from elsewhere, and only our server spans have them as parents.
  const bool remote = span.kind == SpanKind::server && any_set(span.parent);
  return (span.context.sampled ? kFlagSampled : 0U) | kFlagHasIsRemote | (remote ? kFlagIsRemote : 0U);
}

void add_span(pbf_writer& to, const Span& span) {
  pbf_writer message(to, scope_spans::kSpans);
  add_id(message, span_fields::kTraceId, span.context.trace_id);
  add_id(message, span_fields::kSpanId, span.context.span_id);
  if (any_set(span.parent)) add_id(message, span_fields::kParentSpanId, span.parent);
  add_text(message, span_fields::kName, span.name);
  message.add_enum(span_fields::kKind, static_cast<std::int32_t>(span.kind));
  const std::uint64_t start = unix_nanoseconds(span.start);
  message.add_fixed64(span_fields::kStart, start);
  message.add_fixed64(span_fields::kEnd,
                      start + static_cast<std::uint64_t>(std::max<std::int64_t>(span.took.count(), 0)));
  for (const auto& [key, text] : span.texts) add_attribute(message, span_fields::kAttributes, key, text);
  for (const auto& [key, number] : span.numbers)
    add_attribute(message, span_fields::kAttributes, key, number);
  if (span.error) {
    pbf_writer status(message, span_fields::kStatus);
    if (!span.error_text.empty()) add_text(status, status_fields::kMessage, span.error_text);
    status.add_enum(status_fields::kCode, status_fields::kError);
  }
  message.add_fixed32(span_fields::kFlags, flags_of(span));
}

std::string text_of(const protozero::data_view& view) {
  return mended({view.data(), view.size()});
}

Partial read_partial(protozero::pbf_reader message) {
  Partial partial;
  while (message.next()) {
    if (message.tag_and_type() == protozero::tag_and_type(1, protozero::pbf_wire_type::varint)) {
      partial.rejected = static_cast<std::uint64_t>(std::max<std::int64_t>(message.get_int64(), 0));
    } else if (message.tag_and_type() ==
               protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited)) {
      partial.message = text_of(message.get_view());
    } else {
      message.skip();
    }
  }
  return partial;
}

}  // namespace

std::string encode_export(std::string_view service_name, const Tracer::Resource& resource,
                          std::span<const Span> spans) {
  std::string body;
  body.reserve(512 + 512 * spans.size());
  pbf_writer message(body);
  pbf_writer of_resource(message, request::kResourceSpans);
  {
    pbf_writer about(of_resource, resource_spans::kResource);
    add_attribute(about, resource_fields::kAttributes, "service.name", service_name);
    add_attribute(about, resource_fields::kAttributes, "service.version", resource.service_version);
    add_attribute(about, resource_fields::kAttributes, "service.instance.id", resource.instance_id);
  }
  pbf_writer of_scope(of_resource, resource_spans::kScopeSpans);
  {
    pbf_writer about(of_scope, scope_spans::kScope);
    add_text(about, scope::kName, "tunneld");
    add_text(about, scope::kVersion, resource.service_version);
  }
  for (const Span& span : spans) add_span(of_scope, span);
  of_scope.commit();
  of_resource.commit();
  return body;
}

Result<Partial> decode_export_answer(std::string_view body) {
  try {
    Partial partial;
    protozero::pbf_reader message(body.data(), body.size());
    while (message.next()) {
      if (message.tag_and_type() == protozero::tag_and_type(1, protozero::pbf_wire_type::length_delimited))
        partial = read_partial(message.get_message());
      else
        message.skip();
    }
    return partial;
  } catch (const protozero::exception& wrong) {
    return fail(Error::Kind::bad_input, std::string("the answer is no protobuf message: ") + wrong.what());
  }
}

std::string decode_status_message(std::string_view body) {
  try {
    std::string text;
    protozero::pbf_reader message(body.data(), body.size());
    while (message.next()) {
      if (message.tag_and_type() == protozero::tag_and_type(2, protozero::pbf_wire_type::length_delimited))
        text = text_of(message.get_view());
      else
        message.skip();
    }
    return text;
  } catch (const protozero::exception&) {
    return {};
  }
}

}  // namespace tunneld::tracing
