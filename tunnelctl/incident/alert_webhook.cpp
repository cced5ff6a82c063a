#include "tunnelctl/incident/alert_webhook.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/http_access.h"
#include "common/sha256.h"
#include "common/strict_json.h"

namespace tunnelctl::incident {
namespace {

constexpr std::size_t kMostDepth = 16;
constexpr std::size_t kMostLabels = 40;
constexpr std::size_t kLongestValue = 1000;
constexpr std::size_t kLongestName = 200;
constexpr std::size_t kLongestKey = 16 * 1024;
constexpr std::size_t kLongestUrl = 2000;
constexpr std::size_t kMostAlerts = 10'000;
constexpr std::chrono::minutes kSignatureLasts{5};

tl::unexpected<Error> wrong(const std::string& member, const char* what) {
  return fail(Error::Kind::bad_input, "\"" + member + "\" " + what);
}

const Json* find(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

Result<std::string> text(const Json& json, const std::string& where, const char* name) {
  const auto* found = find(json, name);
  if (found == nullptr) return std::string();
  if (!found->is_string()) return wrong(where + name, "is no text");
  return found->get<std::string>();
}

/// Labels and annotations: an object of texts.
Result<std::vector<Label>> labels(const Json& json, const std::string& where, const char* name) {
  std::vector<Label> all;
  const auto* found = find(json, name);
  if (found == nullptr) return all;
  if (!found->is_object()) return wrong(where + name, "is no object");
  for (const auto& [key, value] : found->items()) {
    if (!value.is_string()) return wrong(where + name, "has a value that is no text");
    // Items come sorted by key, so that the same ones are kept each time.
    if (all.size() < kMostLabels)
      all.push_back({http::one_line(key, kLongestName),
                     http::one_line(value.get_ref<const std::string&>(), kLongestValue)});
  }
  return all;
}

/// Only what a browser may be sent to.
std::string address(std::string url) {
  const bool web = url.starts_with("https://") || url.starts_with("http://");
  const bool clean = std::all_of(url.begin(), url.end(), [](char c) { return c > ' ' && c < '\x7F'; });
  return web && clean && url.size() <= kLongestUrl ? std::move(url) : std::string();
}

std::string id_of_labels(const std::vector<Label>& all) {
  std::string whole;
  for (const auto& [key, value] : all) whole += key + "\n" + value + "\n";
  constexpr std::size_t kDigits = 16;
  return to_hex(sha256(whole)).substr(0, kDigits);
}

Result<bool> is_firing(const Json& json, const std::string& where) {
  const auto status = text(json, where, "status");
  if (!status) return tl::unexpected(status.error());
  if (*status == "firing") return true;
  if (*status == "resolved") return false;
  return wrong(where + "status", "is neither firing nor resolved");
}

Result<Alert> parse_alert(const Json& json, const std::string& where) {
  if (!json.is_object()) return fail(Error::Kind::bad_input, "\"" + where + "\" is no object");
  const auto inside = where + ".";
  Alert alert;
  const auto firing = is_firing(json, inside);
  if (!firing) return tl::unexpected(firing.error());
  alert.firing = *firing;
  auto named = labels(json, inside, "labels");
  if (!named) return tl::unexpected(named.error());
  alert.labels = std::move(*named);
  auto annotations = labels(json, inside, "annotations");
  if (!annotations) return tl::unexpected(annotations.error());
  alert.annotations = std::move(*annotations);
  const auto id = text(json, inside, "fingerprint");
  if (!id) return tl::unexpected(id.error());
  alert.id = http::one_line(*id, kLongestName);
  if (alert.id.empty()) alert.id = id_of_labels(alert.labels);
  const auto starts = text(json, inside, "startsAt");
  if (!starts) return tl::unexpected(starts.error());
  // The year 1 is Go's way to say nothing; what cannot be read says nothing either.
  if (const auto when = times::moment(*starts, Time()); !starts->empty() && when) alert.starts = *when;
  for (const char* name : {"panelURL", "dashboardURL", "generatorURL"}) {
    auto url = text(json, inside, name);
    if (!url) return tl::unexpected(url.error());
    if (alert.url.empty()) alert.url = address(std::move(*url));
  }
  return alert;
}

bool equal(std::string_view left, std::string_view right) {
  return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace

Result<AlertGroup> parse_alerts(std::string_view origin, std::string_view body) {
  if (body.size() > kMaxWebhook)
    return fail(Error::Kind::bad_input, "the body is larger than " + std::to_string(kMaxWebhook) + " bytes");
  const auto json = parse_strict_json(body, kMaxWebhook, kMostDepth);
  if (!json) return fail(Error::Kind::bad_input, "the body is no JSON: " + json.error().message);
  if (!json->is_object()) return fail(Error::Kind::bad_input, "the body is no JSON object");
  AlertGroup group;
  group.origin = origin;
  const auto firing = is_firing(*json, "");
  if (!firing) return tl::unexpected(firing.error());
  group.firing = *firing;
  const auto key = text(*json, "", "groupKey");
  if (!key) return tl::unexpected(key.error());
  if (key->size() > kLongestKey) return wrong("groupKey", "is too long");
  group.key = *key;
  const auto grouped = labels(*json, "", "groupLabels");
  if (!grouped) return tl::unexpected(grouped.error());
  group.name = value_of(*grouped, "alertname");
  auto common = labels(*json, "", "commonLabels");
  if (!common) return tl::unexpected(common.error());
  group.labels = std::move(*common);
  auto annotations = labels(*json, "", "commonAnnotations");
  if (!annotations) return tl::unexpected(annotations.error());
  group.annotations = std::move(*annotations);
  auto url = text(*json, "", "externalURL");
  if (!url) return tl::unexpected(url.error());
  group.url = address(std::move(*url));
  if (const auto* truncated = find(*json, "truncatedAlerts")) {
    if (!truncated->is_number_unsigned()) return wrong("truncatedAlerts", "is no count");
    group.truncated = truncated->get<std::size_t>();
  }
  const auto* alerts = find(*json, "alerts");
  if (alerts == nullptr || !alerts->is_array()) return wrong("alerts", "is missing, or no list");
  if (alerts->size() > kMostAlerts) return wrong("alerts", "has too many; set max_alerts");
  if (alerts->empty() && group.key.empty()) return wrong("alerts", "is empty");
  for (std::size_t at = 0; at < alerts->size(); ++at) {
    auto alert = parse_alert((*alerts)[at], "alerts[" + std::to_string(at) + "]");
    if (!alert) return tl::unexpected(alert.error());
    group.alerts.push_back(std::move(*alert));
  }
  return group;
}

const std::string& value_of(const std::vector<Label>& labels, std::string_view key) {
  static const std::string kNone;
  const auto found =
      std::find_if(labels.begin(), labels.end(), [&](const Label& label) { return label.key == key; });
  return found == labels.end() ? kNone : found->value;
}

bool is_signed(std::string_view body, std::string_view signature, std::string_view timestamp,
               const Secret& secret, Time now) {
  if (secret.empty()) return false;
  if (!timestamp.empty()) {
    std::int64_t seconds = 0;
    const auto [end, error] = std::from_chars(timestamp.data(), timestamp.data() + timestamp.size(), seconds);
    constexpr std::int64_t kFarFuture = 100'000'000'000;
    if (error != std::errc() || end != timestamp.data() + timestamp.size() || seconds < 0 ||
        seconds > kFarFuture)
      return false;
    const auto off = now - Time(std::chrono::seconds(seconds));
    if (off > kSignatureLasts || off < -kSignatureLasts) return false;
  }
  std::string whole(timestamp);
  if (!timestamp.empty()) whole += ':';
  whole += body;
  const auto key = secret.reveal();
  Sha256 digest{};
  unsigned size = 0;
  const auto* made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(whole.data()), whole.size(), digest.data(), &size);
  if (made == nullptr || size != digest.size()) return false;
  return equal(signature, to_hex(digest));
}

}  // namespace tunnelctl::incident
