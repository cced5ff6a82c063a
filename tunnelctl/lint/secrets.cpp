#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "tunnelctl/lint/parts.h"

namespace tunnelctl::lint {
namespace {

bool is_token_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '+' || c == '/' ||
         c == '=' || c == '.';
}

/// Texts that stand for a secret instead of being one.
bool is_placeholder(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.empty() || lower.find_first_of("<>{}$*…") != std::string::npos) return true;
  for (const std::string_view word : {"example", "redacted", "xxxx", "changeme", "your", "dummy", "secret",
                                      "password", "token", "replace", "placeholder", "0000000", "none"})
    if (lower.find(word) != std::string::npos) return true;
  return std::all_of(lower.begin(), lower.end(), [&](char c) { return c == lower.front(); });
}

/// Bits for each character: text about 4, random base64 near 6, random hex 4.
double entropy(std::string_view text) {
  std::array<int, 256> counts{};
  for (const char c : text) ++counts[static_cast<unsigned char>(c)];
  double bits = 0;
  for (const int count : counts) {
    if (count == 0) continue;
    const double share = static_cast<double>(count) / static_cast<double>(text.size());
    bits -= share * std::log2(share);
  }
  return bits;
}

struct Shape {
  std::string_view prefix;
  std::size_t least;  // characters behind it
  std::string_view what;
};
/// What providers begin their tokens with, so that scanners find them.
constexpr std::array kShapes{
    Shape{"glsa_", 20, "a Grafana service account token"},
    Shape{"glc_", 20, "a Grafana Cloud token"},
    Shape{"eyJrIjoi", 20, "a Grafana API key"},
    Shape{"xoxb-", 10, "a Slack token"},
    Shape{"xoxp-", 10, "a Slack token"},
    Shape{"xoxa-", 10, "a Slack token"},
    Shape{"xapp-", 10, "a Slack token"},
    Shape{"hooks.slack.com/services/", 20, "a Slack webhook's address, which is its secret"},
    Shape{"discord.com/api/webhooks/", 20, "a Discord webhook's address, which is its secret"},
    Shape{"ghp_", 20, "a GitHub token"},
    Shape{"gho_", 20, "a GitHub token"},
    Shape{"github_pat_", 20, "a GitHub token"},
    Shape{"glpat-", 15, "a GitLab token"},
    Shape{"AKIA", 16, "an AWS access key"},
    Shape{"AIza", 30, "a Google API key"},
    Shape{"sk_live_", 10, "a Stripe key"}};

/// The first token at `at`.
std::string_view token_at(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && is_token_character(text[end])) ++end;
  return text.substr(at, end - at);
}

/// Names of settings whose value is a secret.
bool is_secret_key(std::string key) {
  std::transform(key.begin(), key.end(), key.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string_view end : {"_file", "file", "name", "id", "url"})
    if (key.ends_with(end)) return false;
  for (const std::string_view part : {"password", "secret", "api_key", "apikey", "token", "routing_key",
                                      "service_key", "integrationkey", "credentials", "bearer"})
    if (key.find(part) != std::string::npos) return true;
  return false;
}

/// What it is, for a text that holds a secret; empty for any other. Never the secret itself.
std::string secret_in(std::string_view text) {
  for (const auto& shape : kShapes) {
    for (std::size_t at = text.find(shape.prefix); at != std::string_view::npos;
         at = text.find(shape.prefix, at + 1)) {
      // In the middle of a word it is one by accident.
      if (at > 0 && is_token_character(text[at - 1]) && text[at - 1] != '/' && text[at - 1] != '=') continue;
      const auto token = token_at(text, at + shape.prefix.size());
      if (token.size() >= shape.least && !is_placeholder(token)) return std::string(shape.what);
    }
  }
  if (text.find("-----BEGIN ") != std::string_view::npos &&
      text.find("PRIVATE KEY-----") != std::string_view::npos)
    return "a private key";
  if (const auto at = text.find("eyJ"); at != std::string_view::npos) {
    const auto token = token_at(text, at);
    if (token.size() > 60 && std::count(token.begin(), token.end(), '.') == 2) return "a JSON web token";
  }
  if (const auto at = text.find("Bearer "); at != std::string_view::npos) {
    const auto token = token_at(text, at + 7);
    if (token.size() >= 20 && !is_placeholder(token)) return "a bearer token";
  }
  if (const auto at = text.find("://"); at != std::string_view::npos) {
    const auto authority = text.substr(at + 3, text.find_first_of("/ \"'", at + 3) - at - 3);
    const auto colon = authority.find(':'), host = authority.rfind('@');
    if (colon != std::string_view::npos && host != std::string_view::npos && colon < host &&
        !is_placeholder(authority.substr(colon + 1, host - colon - 1)))
      return "a password in an address";
  }
  return {};
}

/// A long word as only machines write it. Digests are hexadecimal, and common in texts: those pass.
bool is_random(std::string_view text) {
  constexpr std::size_t kLeast = 32, kMost = 200;
  constexpr double kBits = 4.5;
  if (text.size() < kLeast || text.size() > kMost || is_placeholder(text)) return false;
  const auto has = [&](auto is) {
    return std::any_of(text.begin(), text.end(), [&](unsigned char c) { return is(c) != 0; });
  };
  const bool words =
      text.find_first_of("/.") != std::string_view::npos && std::count(text.begin(), text.end(), '-') > 1;
  return !words && std::all_of(text.begin(), text.end(), is_token_character) &&
         has([](int c) { return std::isupper(c); }) && has([](int c) { return std::islower(c); }) &&
         has([](int c) { return std::isdigit(c); }) && entropy(text) > kBits;
}

class SecretFinder {
 public:
  SecretFinder(Context& context, pack::Place place, std::string object)
      : context_(context), place_(std::move(place)), object_(std::move(object)) {}

  /// JSON, with what each value is called.
  void json(const Json& value, const std::string& key = {}) {
    if (value.is_object()) {
      for (const auto& item : value.items()) json(item.value(), item.key());
    } else if (value.is_array()) {
      for (const Json& item : value) json(item, key);
    } else if (value.is_string()) {
      const std::string& text = value.get_ref<const std::string&>();
      std::string what = secret_in(text);
      if (what.empty() && is_secret_key(key) && text.size() >= 8 && !is_placeholder(text)) what = "a secret";
      if (what.empty() && is_random(text)) what = "what looks like a key";
      if (!what.empty()) tell(what, place_, key.empty() ? "" : key + " holds ");
    }
  }
  /// Texts for people, by line.
  void text(const std::string& text) {
    int line = 1;
    for (std::size_t at = 0; at < text.size(); ++line) {
      const auto end = std::min(text.find('\n', at), text.size());
      const auto what = secret_in(std::string_view(text).substr(at, end - at));
      if (!what.empty()) tell(what, {place_.file, line}, "holds ");
      at = end + 1;
    }
  }

 private:
  void tell(const std::string& what, const pack::Place& place, const std::string& prefix) {
    context_.report.add("secret-in-file", place, object_,
                        prefix + what +
                            ": everybody who reads the repository has it. Take it away there (and "
                            "change it), and name a file: *_file");
  }
  Context& context_;
  const pack::Place place_;
  const std::string object_;
};

}  // namespace

void lint_secrets(Context& context) {
  const auto& pack = context.pack;
  for (const auto& dashboard : pack.dashboards)
    SecretFinder(context, dashboard.place, dashboard.uid).json(dashboard.json);
  each_rule(pack, [&](const pack::RuleGroup&, const pack::Rule& rule) {
    SecretFinder finder(context, rule.place, "rule/" + rule.name());
    for (const auto& texts : {rule.labels, rule.annotations})
      for (const auto& [key, text] : texts) finder.json(text, key);
  });
  if (pack.alertmanager) {
    SecretFinder(context, {pack.alertmanager->path.string()}, "alertmanager/file")
        .json(pack.alertmanager->document);
    for (const auto& one : pack.alertmanager->templates)
      SecretFinder(context, {one.path.string()}, "alertmanager/template/" + one.name).text(one.text);
  }
  for (const auto& runbook : pack.runbooks)
    SecretFinder(context, {runbook.path.string()}, "runbook/" + runbook.name).text(runbook.text);
}

}  // namespace tunnelctl::lint
