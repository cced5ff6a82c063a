// What strangers post as alerts: nothing crashes, what is accepted is bounded, and the desk takes it calmly:
// never more than one open incident of a key, and none is left when all is resolved.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string_view>

#include "tunnelctl/incident/alert_webhook.h"
#include "tunnelctl/incident/desk.h"

using namespace tunnelctl::incident;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// Follows what the backend would be told.
struct Told {
  std::map<std::int64_t, bool> open;
  std::map<std::string, std::int64_t> keys;

  void take(const Desk::Intents& intents) {
    for (const auto& one : intents) {
      if (one.kind == Intent::Kind::open) {
        require(!one.opening.dedup_key.empty() && one.opening.dedup_key.size() <= 200);
        require(!open.contains(one.episode));
        if (const auto before = keys.find(one.opening.dedup_key); before != keys.end())
          require(!open[before->second]);
        keys[one.opening.dedup_key] = one.episode;
        open[one.episode] = true;
        continue;
      }
      require(open.contains(one.episode));
      if (one.kind == Intent::Kind::resolve) {
        require(open[one.episode]);
        open[one.episode] = false;
      } else if (one.kind == Intent::Kind::reopen) {
        require(!open[one.episode]);
        open[one.episode] = true;
      } else {
        require(open[one.episode]);
      }
    }
  }
};

}  // namespace

/// The first byte chooses the sender.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  auto group = parse_alerts(data[0] % 2 == 0 ? "alertmanager" : "grafana", body);
  if (!group) {
    require(group.error().kind == Error::Kind::bad_input && group.error().message.size() < 1000);
    return 0;
  }
  for (const auto& alert : group->alerts) {
    require(!alert.id.empty());
    require(alert.labels.size() <= 40 && alert.annotations.size() <= 40);
  }
  Desk desk({});
  Told told;
  const Time begin(std::chrono::seconds(1'767'348'000));
  for (int round = 0; round < 8; ++round) {
    group->firing = round % 2 == 0 && group->firing;
    const auto intents = desk.alerts(*group, begin + std::chrono::seconds(round));
    require(intents.has_value());
    told.take(*intents);
    std::map<std::string, std::string> file;
    for (const auto& [name, value] : desk.take_changes())
      if (value) file[name] = *value;
  }
  group->firing = false;
  told.take(*desk.alerts(*group, begin + std::chrono::seconds(9)));
  told.take(desk.tick(begin + std::chrono::hours(1)));
  for (const auto& [episode, open] : told.open) require(!open);
  return 0;
}
