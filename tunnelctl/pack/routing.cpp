#include "tunnelctl/pack/routing.h"

#include <algorithm>
#include <regex>

namespace tunnelctl::pack {
namespace {

bool fits(const std::string& pattern, const std::string& value) {
  std::string body = pattern;
  auto flags = std::regex::ECMAScript;
  // The one flag that people write; the others have no counterpart.
  if (body.starts_with("(?i)")) {
    body.erase(0, 4);
    flags |= std::regex::icase;
  }
  try {
    return std::regex_match(value, std::regex(body, flags));
  } catch (const std::regex_error&) {
    return false;
  }
}

void walk(const Route& route, const Texts& labels, std::vector<const Route*> path, std::string receiver,
          std::vector<Taken>& out) {
  path.push_back(&route);
  if (!route.receiver.empty()) receiver = route.receiver;
  const std::size_t before = out.size();
  for (const Route& child : route.routes) {
    if (!matches(child.matchers, labels)) continue;
    walk(child, labels, path, receiver, out);
    if (!child.go_on) break;
  }
  if (out.size() == before) out.push_back({std::move(path), std::move(receiver)});
}

}  // namespace

bool matches(const std::vector<Matcher>& matchers, const Texts& labels) {
  return std::all_of(matchers.begin(), matchers.end(), [&](const Matcher& matcher) {
    const auto found = labels.find(matcher.label);
    const std::string value = found == labels.end() ? std::string() : found->second;
    if (matcher.op == "=") return value == matcher.value;
    if (matcher.op == "!=") return value != matcher.value;
    return fits(matcher.value, value) == (matcher.op == "=~");
  });
}

std::vector<Taken> routes_for(const Alertmanager& alertmanager, const Texts& labels) {
  std::vector<Taken> result;
  walk(alertmanager.root, labels, {}, "", result);
  return result;
}

}  // namespace tunnelctl::pack
