#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "common/secret.h"
#include "tunnelctl/incident/incident.h"

/// What Alertmanager and Grafana post about alerts, read from strangers' bytes.
namespace tunnelctl::incident {

struct Alert {
  std::string id{};  // its fingerprint; of its labels when it has none
  bool firing = true;
  std::vector<Label> labels{}, annotations{};  // sorted by key
  Time starts{};                               // 0: not said
  std::string url{};                           // where its rule or its panel is seen
};

struct AlertGroup {
  std::string origin{};  // alertmanager, grafana
  std::string key{};     // the sender's groupKey; empty: each alert is for itself
  std::string name{};    // alertname, where alerts are grouped by it
  bool firing = true;
  std::size_t truncated = 0;                   // alerts that the sender left out
  std::vector<Label> labels{}, annotations{};  // common to all
  std::string url{};                           // the sender's own page
  std::vector<Alert> alerts{};
};

inline constexpr std::size_t kMaxWebhook = 1024 * 1024;

/// A body of Alertmanager's webhook receiver ("version": "4") or of Grafana's webhook contact point, which
/// differ by members that are passed over. At most 40 labels and annotations of a thing are kept, each cut at
/// 1000 bytes; addresses are kept only when they are http or https. Fails with bad_input, saying what is
/// wrong with which member, without quoting the text.
/// Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
Result<AlertGroup> parse_alerts(std::string_view origin, std::string_view body);

/// The value of a label or annotation; "" when there is none.
const std::string& value_of(const std::vector<Label>& labels, std::string_view key);

/// Grafana's signature over a body: HMAC-SHA256 in hexadecimal digits, of "<timestamp>:<body>" where the
/// contact point names a header for the timestamp (seconds since 1970), else of the body alone. False when it
/// is another, or when the timestamp is more than five minutes off `now`. Constant time in the secret.
/// Source: Grafana's manual, "Configure webhook notifications", HMAC signature.
bool is_signed(std::string_view body, std::string_view signature, std::string_view timestamp,
               const Secret& secret, Time now);

}  // namespace tunnelctl::incident
