#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/secret.h"
#include "tunnelctl/pack/pack.h"

/// Packs on a server: compile -> observe -> plan -> apply -> verify. Only apply writes.
namespace tunnelctl::monitor {

using pack::Json;
using pack::Texts;

/// In the order in which they can be made; they are removed in the opposite one.
enum class Kind { folder, template_group, mute_timing, contact_point, routes, rule_group, dashboard };
/// "folder", "notification template", "contact point", ...
std::string_view name(Kind kind);

/// What identifies an object on a server. `id` is
/// - folder, dashboard: the uid
/// - template_group, mute_timing: the name
/// - contact_point: the uid of one integration; several of one name make up what Grafana shows as one
/// - routes: the name of the pack whose subtree of the notification policies this is
/// - rule_group: "<folder uid>/<group>"
struct Key {
  Kind kind = Kind::folder;
  std::string id{};
  auto operator<=>(const Key&) const = default;
};

/// Something a pack wants to exist.
struct Object {
  Key key{};
  std::string pack{};    // the pack that wants it
  std::string title{};   // for people
  std::string folder{};  // of dashboards: the uid of the folder it belongs into
  /// As Grafana's API takes and shows it, normalised (normalise.h), secrets as "[REDACTED]".
  Json content{};
  /// Setting -> value, of a contact point; merged in when it is written, never shown.
  std::map<std::string, Secret> secrets{};
  /// Secrets without a value here: "receiver critical: set TUNNEL_... or make ... readable".
  std::vector<std::string> missing{};
  pack::Place place{};
};

/// The marks by which tunnelctl knows its own objects again.
inline constexpr std::string_view kPackLabel = "tunnelctl_pack";  // on rules, and the matcher of the routes
std::string pack_tag(std::string_view pack);                      // on dashboards: "tunnelctl:<pack>"
std::string own_prefix(
    std::string_view pack);  // of uids and names: "tctl-<pack>--"; no pack's begins another's

/// A uid of at most 40 characters for any text, the same on every run.
std::string uid_of(std::string_view text);

inline constexpr std::string_view kRedacted = "[REDACTED]";

}  // namespace tunnelctl::monitor
