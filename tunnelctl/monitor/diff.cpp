#include "tunnelctl/monitor/diff.h"

#include <algorithm>

#include "tunnelctl/terminal/table.h"

namespace tunnelctl::monitor {
namespace {

using terminal::Colour;
using terminal::paint;

constexpr std::size_t kShownDifferences = 8;
constexpr std::size_t kShownWidth = 100;

struct Sign {
  char letter;
  Colour colour;
};
Sign sign(Action action) {
  switch (action) {
    case Action::create: return {'+', Colour::green};
    case Action::remove: return {'-', Colour::red};
    default: return {'~', Colour::yellow};
  }
}

std::string value(const Json& json) {
  return terminal::shortened(terminal::harmless(json.dump(-1, ' ', false, Json::error_handler_t::replace)),
                             kShownWidth);
}

/// Long texts that begin alike are shown from a little before the place where they part.
std::pair<std::string, std::string> both(const Json& before, const Json& after) {
  std::string a = terminal::harmless(before.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::string b = terminal::harmless(after.dump(-1, ' ', false, Json::error_handler_t::replace));
  const auto parts =
      static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  constexpr std::size_t kBefore = 30;
  if (parts > kBefore && std::max(a.size(), b.size()) > kShownWidth) {
    std::size_t cut = parts - kBefore;
    while (cut > 0 && (static_cast<unsigned char>(a[cut]) & 0xC0U) == 0x80U) --cut;  // not inside a character
    a = "..." + a.substr(cut);
    b = "..." + b.substr(std::min(cut, b.size()));
  }
  return {terminal::shortened(a, kShownWidth), terminal::shortened(b, kShownWidth)};
}

void add_differences(const Change& change, const DiffOptions& options, std::string& out) {
  std::size_t shown = 0;
  for (const auto& one : change.differences) {
    if (!options.full && shown++ == kShownDifferences) {
      out += "      " + std::to_string(change.differences.size() - kShownDifferences) +
             " more differences (--full shows them)\n";
      return;
    }
    const std::string path = one.path.empty() ? "/" : one.path;
    if (one.before.is_null())
      out += "      " + paint("+ " + path + ": " + value(one.after), Colour::green, options.coloured) + "\n";
    else if (one.after.is_null())
      out += "      " + paint("- " + path + ": " + value(one.before), Colour::red, options.coloured) + "\n";
    else {
      const auto [from, to] = both(one.before, one.after);
      out +=
          "      " + paint("~ " + path + ": " + from + " -> " + to, Colour::yellow, options.coloured) + "\n";
    }
  }
}

}  // namespace

std::string text(const Plan& plan, const DiffOptions& options) {
  std::string out;
  for (const auto& change : plan.changes) {
    const auto [letter, colour] = sign(change.action);
    const std::string line = std::string(1, letter) + " " + std::string(name(change.wanted.key.kind)) + " " +
                             terminal::harmless(change.wanted.title) + " (" +
                             terminal::harmless(change.wanted.key.id) + ")";
    out += "  " + paint(line, colour, options.coloured) + "\n";
    if (!change.conflict.empty())
      out += "      " +
             paint("conflict: " + terminal::harmless(change.conflict), Colour::red, options.coloured) + "\n";
    if (change.action == Action::update) add_differences(change, options, out);
    if (change.action == Action::update && change.differences.empty())
      out += "      secrets are sent again\n";
  }
  if (!plan.changes.empty()) out += "\n";
  if (plan.changes.empty())
    out += "Nothing to do: " + std::to_string(plan.unchanged) + " objects are as the packs want them.\n";
  else
    out += std::to_string(plan.count(Action::create)) + " to create, " +
           std::to_string(plan.count(Action::update)) + " to update, " +
           std::to_string(plan.count(Action::remove)) + " to delete, " + std::to_string(plan.unchanged) +
           " unchanged" +
           (plan.conflicts() > 0 ? ", " + std::to_string(plan.conflicts()) + " in conflict" : "") + ".\n";
  return out;
}

Json to_json(const Plan& plan) {
  Json changes = Json::array();
  for (const auto& change : plan.changes) {
    Json one{{"action", name(change.action)},
             {"kind", name(change.wanted.key.kind)},
             {"id", change.wanted.key.id},
             {"title", change.wanted.title},
             {"pack", change.wanted.pack}};
    if (!change.conflict.empty()) one["conflict"] = change.conflict;
    Json differences = Json::array();
    for (const auto& difference : change.differences)
      differences.push_back(
          {{"path", difference.path}, {"before", difference.before}, {"after", difference.after}});
    one["differences"] = std::move(differences);
    changes.push_back(std::move(one));
  }
  return {{"changes", std::move(changes)},
          {"unchanged", plan.unchanged},
          {"missing_permissions", plan.missing_permissions},
          {"missing_secrets", plan.missing_secrets},
          {"notes", plan.notes}};
}

}  // namespace tunnelctl::monitor
