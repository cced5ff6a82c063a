#include "tunnelctl/grafana/silences.h"

#include <algorithm>
#include <cctype>

#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::grafana {
namespace {

constexpr const char* kForm =
    "; a matcher reads NAME=VALUE, NAME!=VALUE, NAME=~EXPRESSION or NAME!~EXPRESSION, e.g. severity=critical";

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  return text;
}

struct Unquoted {
  std::string text{};
  std::string_view rest{};  // what stands behind the quotes
};

/// What stands between the quotes of `text`, which begins with one; nullopt when they are not closed.
std::optional<Unquoted> unquoted(std::string_view text) {
  std::string value;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') return Unquoted{.text = value, .rest = text.substr(i + 1)};
    if (text[i] != '\\') {
      value += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    if (text[i] == 'n')
      value += '\n';
    else if (text[i] == '"' || text[i] == '\\')
      value += text[i];
    else  // the rest is for the expression: "\."
      value.append({'\\', text[i]});
  }
  return std::nullopt;
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result + '"';
}

/// A name that may stand there without quotes; Alertmanager takes others, too, since 0.27.
bool is_plain_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
  };
  return !name.empty() && letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

times::Time time_of(const Json& object, const char* key) {
  const auto read = times::moment(text_of(object, key), times::Time{});
  return read ? *read : times::Time{};
}

Silence silence_of(const Json& json) {
  Silence silence{.id = text_of(json, "id"),
                  .state = text_of(member(json, "status"), "state"),
                  .starts = time_of(json, "startsAt"),
                  .ends = time_of(json, "endsAt"),
                  .updated = time_of(json, "updatedAt"),
                  .created_by = text_of(json, "createdBy"),
                  .comment = text_of(json, "comment")};
  for (const auto& one : member(json, "matchers"))
    silence.matchers.push_back({.name = text_of(one, "name"),
                                .value = text_of(one, "value"),
                                // Before Alertmanager 0.22 there was no inequality.
                                .is_equal = member(one, "isEqual").is_null() || flag_of(one, "isEqual"),
                                .is_regex = flag_of(one, "isRegex")});
  return silence;
}

std::string filters(const std::vector<Matcher>& matchers) {
  std::string query;
  for (const auto& one : matchers) query += (query.empty() ? "?filter=" : "&filter=") + escape(text(one));
  return query;
}

}  // namespace

Result<Matcher> matcher(std::string_view text) {
  const auto failed = [&](const std::string& why) {
    return fail(Error::Kind::bad_input, "matcher \"" + std::string(text) + "\": " + why + kForm);
  };
  auto rest = trimmed(text);
  std::optional<Unquoted> name;
  if (rest.starts_with('"')) {
    name = unquoted(rest);
    if (!name) return failed("its quotes are not closed");
    rest = trimmed(name->rest);
  }
  const auto sign = rest.find_first_of("=!");
  if (sign == std::string_view::npos) return failed("has no =, !=, =~ or !~");
  const auto two = rest.substr(sign, 2);
  const bool long_sign = two == "=~" || two == "!=" || two == "!~";
  if (!long_sign && rest[sign] == '!') return failed("a lone ! is no comparison");
  if (two == "==") return failed("== is no comparison");
  const auto before = trimmed(rest.substr(0, sign));
  Matcher result{.name = name ? name->text : std::string(before),
                 .is_equal = rest[sign] == '=',
                 .is_regex = long_sign && two[1] == '~'};
  if (name && !before.empty()) return failed("something stands between its label and the comparison");
  if (result.name.empty()) return failed("names no label");
  if (!name && before.find_first_of("{}\"~, \t") != std::string::npos)
    return failed("\"" + result.name + "\" is no label's name without quotes");
  const auto value = trimmed(rest.substr(sign + (long_sign ? 2 : 1)));
  if (value.starts_with('"')) {
    auto read = unquoted(value);
    if (!read || !read->rest.empty()) return failed("its quotes are not closed at its end");
    result.value = std::move(read->text);
  } else {
    result.value = value;
  }
  return result;
}

std::string text(const Matcher& matcher) {
  return (is_plain_name(matcher.name) ? matcher.name : in_quotes(matcher.name)) +
         (matcher.is_equal ? (matcher.is_regex ? "=~" : "=") : (matcher.is_regex ? "!~" : "!=")) +
         in_quotes(matcher.value);
}

std::string Silence::rule_uid() const {
  for (const auto& one : matchers)
    if (one.name == kRuleLabel && one.is_equal && !one.is_regex) return one.value;
  return {};
}

Alertmanager Alertmanager::of(Server& server) {
  return {nullptr, &server, "/api/alertmanager/grafana/api/v2"};
}

Result<Alertmanager> Alertmanager::straight(Connection connection, std::stop_token stop) {
  connection.wording = {
      .url = "Alertmanager's address (--alertmanager-url, ALERTMANAGER_URL)",
      .token_file = "the token file (--alertmanager-token-file, ALERTMANAGER_TOKEN_FILE)",
      .without_credentials = "say --alertmanager-token-file, or set ALERTMANAGER_TOKEN_FILE",
      .wrong_credentials = "check the token (--alertmanager-token-file, ALERTMANAGER_TOKEN_FILE)",
      .too_few_rights = "whoever guards that Alertmanager must let this token do it"};
  auto server = Server::make(std::move(connection), std::move(stop));
  if (!server) return tl::unexpected(server.error());
  auto own = std::make_unique<Server>(std::move(*server));
  auto* raw = own.get();
  return Alertmanager(std::move(own), raw, "/api/v2");
}

Result<Json> Alertmanager::list(const std::string& path) const {
  auto answer = server_->get(root_ + path);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->is_array())
    return fail(Error::Kind::unavailable,
                "GET " + server_->url() + root_ + path.substr(0, path.find('?')) + ": the answer is no list");
  return answer;
}

Result<std::vector<Silence>> Alertmanager::silences(const std::vector<Matcher>& filter) const {
  const auto answer = list("/silences" + filters(filter));
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Silence> result;
  for (const auto& one : *answer) result.push_back(silence_of(one));
  return result;
}

Result<Silence> Alertmanager::silence(const std::string& id) const {
  const Call call{.path = root_ + "/silence/" + escape(id)};
  const auto answer = server_->call(call);
  if (!answer) return tl::unexpected(answer.error());
  // Alertmanager says 422 of what is no UUID, and nothing at all of one that it does not know.
  if (answer->status == 404 || answer->status == 422)
    return fail(Error::Kind::not_found, "no silence has the id \"" + id + "\" at " + server_->url() +
                                            "; see: tunnelctl alert silence list --state all");
  if (!answer->ok()) return tl::unexpected(server_->error(call, *answer));
  if (!answer->json.is_object())
    return fail(Error::Kind::unavailable,
                "GET " + server_->url() + call.path + ": the answer is no silence: " + message_of(*answer));
  return silence_of(answer->json);
}

Result<std::string> Alertmanager::save(const Silence& silence) const {
  Json matchers = Json::array();
  for (const auto& one : silence.matchers)
    matchers.push_back(
        {{"name", one.name}, {"value", one.value}, {"isEqual", one.is_equal}, {"isRegex", one.is_regex}});
  Call call{.method = "POST",
            .path = root_ + "/silences",
            .body = {{"matchers", std::move(matchers)},
                     {"startsAt", times::text(silence.starts)},
                     {"endsAt", times::text(silence.ends)},
                     {"createdBy", silence.created_by},
                     {"comment", silence.comment}}};
  if (!silence.id.empty()) call.body["id"] = silence.id;
  const auto answer = server_->call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server_->error(call, *answer));
  auto id = text_of(answer->json, "silenceID");
  if (id.empty())
    return fail(Error::Kind::unavailable, "POST " + server_->url() + call.path +
                                              ": the answer names no silence: " + message_of(*answer));
  return id;
}

Result<void> Alertmanager::expire(const std::string& id) const {
  const Call call{.method = "DELETE", .path = root_ + "/silence/" + escape(id)};
  const auto answer = server_->call(call);
  if (!answer) return tl::unexpected(answer.error());
  if (!answer->ok()) return tl::unexpected(server_->error(call, *answer));
  return {};
}

Result<std::vector<Alert>> Alertmanager::alerts(const std::vector<Matcher>& filter) const {
  const auto answer = list("/alerts" + filters(filter));
  if (!answer) return tl::unexpected(answer.error());
  std::vector<Alert> result;
  for (const auto& one : *answer) {
    Alert alert{.state = text_of(member(one, "status"), "state"), .starts = time_of(one, "startsAt")};
    if (member(one, "labels").is_object()) alert.labels = one["labels"];
    for (const auto& id : member(member(one, "status"), "silencedBy"))
      if (id.is_string()) alert.silenced_by.push_back(id.get<std::string>());
    result.push_back(std::move(alert));
  }
  return result;
}

}  // namespace tunnelctl::grafana
