#include <algorithm>

#include "tunnelctl/incident/desk.h"
#include "tunnelctl/incident/desk_text.h"

/// What the senders of alerts say, as troubles and their ends.
namespace tunnelctl::incident {

Result<Desk::Intents> Desk::alerts(const AlertGroup& group, Time now) {
  const auto case_of = [&](const Alert* alert) {
    const bool apart = group.key.empty();
    const auto& name = apart ? value_of(alert->labels, "alertname") : group.name;
    return "alert/" + plain(name.empty() ? "group" : name, 60) + "/" +
           short_hash(group.origin + "\n" + (apart ? alert->id : group.key));
  };
  std::map<std::string, std::vector<std::string>> firing;  // by case
  if (!group.key.empty()) firing[case_of(nullptr)];
  for (const auto& alert : group.alerts) {
    auto& members = firing[case_of(&alert)];
    if (group.firing && alert.firing) members.push_back(alert.id);
  }
  std::size_t more = 0;
  for (const auto& [key, members] : firing) more += !members.empty() && !cases_.contains(key) ? 1 : 0;
  if (more > 0 && cases_.size() + more > options_.max_cases)
    return fail(Error::Kind::unavailable, "there are " + std::to_string(cases_.size()) +
                                              " problems already; resolve some, or send fewer groups");
  Intents out = tick(now);
  for (const auto& alert : group.alerts)
    if (group.firing && alert.firing) bad(trouble_of(group, alert, case_of(&alert), now), out);
  // What is no longer among them is over, told or not: each body says how its whole group stands.
  for (const auto& [key, members] : firing) {
    const auto found = cases_.find(key);
    if (found == cases_.end()) continue;
    std::vector<std::string> gone;
    for (const auto& [member, since] : found->second.members) {
      const bool fires = std::find(members.begin(), members.end(), member) != members.end();
      const bool named = std::any_of(group.alerts.begin(), group.alerts.end(),
                                     [&, id = member](const Alert& alert) { return alert.id == id; });
      // But for one that may be among those that were left out.
      if (!fires && (named || !group.firing || group.truncated == 0)) gone.push_back(member);
    }
    const std::string who = group.origin == "grafana" ? "Grafana" : "Alertmanager";
    for (const auto& member : gone) good(key, member, who + " says that it no longer fires.", now, out);
  }
  return out;
}

Desk::Trouble Desk::trouble_of(const AlertGroup& group, const Alert& alert, const std::string& key,
                               Time now) {
  const auto& name = value_of(alert.labels, "alertname");
  const auto& said = value_of(alert.annotations, "summary");
  const auto& more = value_of(alert.annotations, "description");
  std::string whose;
  for (const auto& label : alert.labels)
    if (std::find(group.labels.begin(), group.labels.end(), label) == group.labels.end())
      whose += (whose.empty() ? "" : ", ") + code(label.key + "=" + label.value, 100);
  Trouble trouble{.key = key, .kind = "alert", .member = alert.id};
  trouble.title = plain(name.empty() ? "Alert" : name, 80) + (said.empty() ? "" : ": " + plain(said, 120));
  trouble.summary = "Alert " + code(name.empty() ? alert.id : name) + " fires" +
                    (said.empty() ? "" : ": " + code(said, 300)) +
                    (more.empty() || more == said ? "." : "\n\n" + code(more, 1000));
  if (!whose.empty()) trouble.summary += "\n\n" + whose;
  trouble.joins = "Also fires" + (whose.empty() ? " " + code(alert.id) : ": " + whose) + ".";
  const auto severity = severity_of(value_of(alert.labels, "severity"));
  trouble.severity = severity ? *severity : Severity::error;
  for (const auto& label : alert.labels)
    trouble.labels.push_back({plain(label.key, 60), plain(label.value, 120)});
  trouble.labels.push_back({"origin", group.origin});
  for (const auto& annotation : alert.annotations) trouble.facts[annotation.key] = annotation.value;
  if (!alert.url.empty()) trouble.facts["url"] = alert.url;
  if (!group.url.empty()) trouble.facts["sender_url"] = group.url;
  trouble.at = alert.starts == Time() || alert.starts > now ? now : alert.starts;
  return trouble;
}

}  // namespace tunnelctl::incident
