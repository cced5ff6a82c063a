#include "tunnelctl/client/opening.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/http_access.h"
#include "common/strict_json.h"

namespace tunnelctl::client {
namespace {

using Json = nlohmann::json;

tunnel::Served<void> parse_answer(std::string_view line) {
  const auto broken = [] {
    return tunnel::refuse(tunnel::Code::websocket_error,
                          "the server answered the opening of a stream with something that is no answer");
  };
  const auto json = parse_strict_json(line, OpeningAnswer::kLongest, 8);
  if (!json || !json->is_object()) return broken();
  if (const auto ok = json->find("ok"); ok != json->end() && ok->is_boolean() && ok->get<bool>()) return {};
  const auto error = json->find("error");
  if (error == json->end() || !error->is_object()) return broken();
  const auto text = [&](const char* name) {
    const auto found = error->find(name);
    return found != error->end() && found->is_string() ? http::one_line(found->get_ref<const std::string&>())
                                                       : std::string();
  };
  const auto code = code_named(text("code"));
  if (!code) return broken();
  tunnel::Refusal refusal{*code, text("message")};
  const auto after = error->find("retryAfter");
  if (after != error->end() && after->is_number_unsigned()) {
    constexpr std::uint64_t kDay = 86'400;
    refusal.retry_after = std::chrono::seconds(std::min(after->get<std::uint64_t>(), kDay));
  }
  return tl::unexpected<tunnel::Refusal>(std::move(refusal));
}

}  // namespace

std::string opening_line(std::string_view service, tunnel::Priority priority) {
  Json line{{"service", std::string(service)}};
  if (priority != tunnel::Priority::normal) line["priority"] = tunnel::to_string(priority);
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::size_t OpeningAnswer::feed(std::string_view bytes) {
  const auto end = bytes.find('\n');
  const auto part = bytes.substr(0, end);
  too_long_ = line_.size() + part.size() > kLongest;
  complete_ = too_long_ || end != std::string_view::npos;
  if (!too_long_) line_ += part;
  return end == std::string_view::npos ? bytes.size() : end + 1;
}

tunnel::Served<void> OpeningAnswer::result() const {
  return parse_answer(too_long_ ? std::string_view() : std::string_view(line_));
}

std::optional<tunnel::Code> code_named(std::string_view name) {
  for (auto number = 1; number <= static_cast<int>(tunnel::Code::no_agent); ++number) {
    const auto code = static_cast<tunnel::Code>(number);
    if (tunnel::facts(code).name == name) return code;
  }
  return std::nullopt;
}

std::string told(const tunnel::Refusal& refusal) {
  const auto& facts = tunnel::facts(refusal.code);
  std::string text =
      refusal.message.empty() ? std::string(facts.user_message) : http::one_line(refusal.message);
  text += " (" + std::string(facts.name) + "); ";
  const auto from = text.size();
  text += facts.suggestion;
  // The suggestion goes on with our sentence.
  if (text[from] >= 'A' && text[from] <= 'Z') text[from] = static_cast<char>(text[from] - 'A' + 'a');
  if (text.ends_with('.')) text.pop_back();
  return text;
}

}  // namespace tunnelctl::client
