#include "tunnelctl/prometheus/answer.h"

#include <chrono>
#include <cstdlib>

#include "common/http_access.h"
#include "common/http_url.h"
#include "common/json_text.h"

namespace tunnelctl::prometheus {
namespace {

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_page(const Raw& raw) {
  if (raw.content_type.find("html") != std::string::npos) return true;
  const auto first = raw.body.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return false;
  const auto start = raw.body.substr(first, 10);
  return start.starts_with("<!DOCTYPE") || start.starts_with("<!doctype") || start.starts_with("<html");
}

}  // namespace

std::string message_of(const Raw& raw, std::string_view server) {
  const Json own = raw.parsed != nullptr ? Json() : parse_json(raw.body);
  const Json& json = raw.parsed != nullptr ? *raw.parsed : own;
  if (json.is_object()) {
    if (const auto error = text_of(json, "error"); !error.empty()) {
      const auto type = text_of(json, "errorType");
      return http::one_line(type.empty() ? error : type + ": " + error);
    }
    if (const auto message = text_of(json, "message"); !message.empty()) return http::one_line(message);
  }
  if (is_page(raw)) {
    const auto type = http::one_line(raw.content_type, 60);
    return "answered with a web page" + (type.empty() ? "" : ", " + type) + ": is this a " +
           std::string(server) + "?";
  }
  return http::one_line(raw.body);
}

Result<Json> read_answer(std::string_view where, const Raw& raw, std::string_view server) {
  const auto failed = [&](Error::Kind kind) {
    std::string text = std::string(where) + ": " + std::to_string(raw.status);
    if (!raw.location.empty())
      text += ", a redirect to " + http::shown_url(raw.location) + " (perhaps a proxy that asks to sign in)";
    if (const auto said = message_of(raw, server); !said.empty()) text += ": " + said;
    return fail(kind, std::move(text));
  };
  if (raw.status == 401 || raw.status == 403) return failed(Error::Kind::denied);
  if (raw.status == 404) return failed(Error::Kind::not_found);
  if (raw.status == 400 || raw.status == 422) return failed(Error::Kind::bad_input);
  if (raw.status < 200 || raw.status >= 300) return failed(Error::Kind::unavailable);
  Json json = raw.parsed != nullptr ? std::move(*raw.parsed) : parse_json(raw.body);
  if (!json.is_object()) {
    const auto said = message_of(raw, server);
    return fail(Error::Kind::unavailable,
                std::string(where) + ": " +
                    (is_page(raw) ? said
                                  : "the answer is no JSON: is this a " + std::string(server) + "?" +
                                        (said.empty() ? "" : " It says: " + said)));
  }
  // Some proxies turn every status into 200.
  if (text_of(json, "status") == "error") return failed(Error::Kind::bad_input);
  return json;
}

Result<std::vector<std::string>> read_names(const Json& answer) {
  const auto data = answer.is_object() ? answer.find("data") : answer.end();
  // Loki leaves an empty list out.
  if (answer.is_object() && (data == answer.end() || data->is_null()) &&
      text_of(answer, "status") == "success")
    return std::vector<std::string>();
  if (data == answer.end() || !data->is_array())
    return fail(Error::Kind::unavailable,
                "the answer has no list as Prometheus and Loki send it; is the URL the API's?");
  std::vector<std::string> result;
  for (const Json& one : *data)
    if (one.is_string()) result.push_back(one.get<std::string>());
  return result;
}

Error without_answer(Error error, std::string_view server) {
  if (error.message.find(kTooLarge) != std::string::npos)
    error.message += server == "Loki" ? "; ask for a shorter time, fewer streams, or a lower --limit"
                                      : "; ask for a shorter time, a longer --step, or fewer series: narrow "
                                        "the selector, or put them together, as sum by (job) (...)";
  return error;
}

std::string encoded(const Parameters& parameters) {
  std::string result;
  for (const auto& [name, value] : parameters) {
    if (!result.empty()) result += '&';
    result += http::percent_encode(name) + "=" + http::percent_encode(value);
  }
  return result;
}

std::string seconds(std::chrono::milliseconds value) {
  const auto count = value.count();
  std::string part = std::to_string(std::abs(count % 1000));
  part.insert(0, 3 - part.size(), '0');
  return (count < 0 ? "-" : "") + std::to_string(std::abs(count / 1000)) + "." + part;
}

}  // namespace tunnelctl::prometheus
