#include "tunnelctl/incident/webhook_backend.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <chrono>

#include "common/sha256.h"
#include "tunnelctl/grafana/json_members.h"

namespace tunnelctl::incident {
namespace {

constexpr const char* kCannotAsk =
    "a webhook only tells: ask whoever receives it, or choose a backend that keeps incidents (--backend "
    "local)";

Json shown(const Note& note) {
  return {{"key", note.key}, {"at", times::text(note.at)}, {"body", note.body}, {"kind", note.kind}};
}

std::string once(const std::string& text) {
  return to_hex(sha256(text));
}

}  // namespace

std::string webhook_signature(const Secret& secret, std::string_view timestamp, std::string_view body) {
  std::string text(timestamp);
  text.append(".").append(body);
  Sha256 digest{};
  unsigned size = 0;
  const auto key = secret.reveal();
  ::HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), &size);
  return "sha256=" + to_hex(digest);
}

Result<std::unique_ptr<WebhookBackend>> WebhookBackend::make(WebhookOptions options) {
  if (options.secret.empty())
    return fail(Error::Kind::bad_input,
                "no secret for the webhook: set incident.webhook.secret_file, or "
                "TUNNELCTL_INCIDENT_WEBHOOK_SECRET; without it the receiver cannot know who calls");
  if (!options.now)
    options.now = [] {
      return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
    };
  auto& remote = options.remote;
  remote.service = "webhook";
  remote.setting = "incident.webhook.url";
  remote.url = options.url;
  auto made = Remote::make(remote);
  if (!made) return tl::unexpected(made.error());
  return std::unique_ptr<WebhookBackend>(new WebhookBackend(std::move(options), std::move(*made)));
}

std::string WebhookBackend::place() const {
  return http::shown_url(remote_.url());
}

Result<Json> WebhookBackend::send(const std::string& key, const Json& body) {
  RemoteCall call{.method = "POST", .repeatable = true};
  call.text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options_.now().time_since_epoch());
  const auto timestamp = std::to_string(seconds.count());
  call.headers = {{"X-Tunnel-Timestamp", timestamp},
                  {"X-Tunnel-Signature", webhook_signature(options_.secret, timestamp, call.text)},
                  {"Idempotency-Key", key}};
  auto answer = remote_.call(call);
  if (!answer) return tl::unexpected(answer.error());
  const bool page = answer->response.content_type.find("html") != std::string::npos;
  if (answer->ok() && !page) return std::move(answer->json);
  auto error = remote_.error(call, *answer);
  // It is the address that is not there, for as long as its receiver is being changed: no incident is
  // missing.
  if (error.kind == Error::Kind::not_found) error.kind = Error::Kind::unavailable;
  return tl::unexpected(std::move(error));
}

Result<Opened> WebhookBackend::open(const Opening& opening) {
  if (opening.dedup_key.empty()) return fail(Error::Kind::bug, "an incident needs a dedup key");
  Opened opened{.incident = incident_of(opening)};
  opened.incident.id = opening.dedup_key;
  opened.incident.backend = name();
  auto shown = to_json(opened.incident);
  shown.erase("notes");
  const auto answer = send(once("opened\n" + opening.dedup_key + "\n" + times::text(opening.at)),
                           {{"event", "opened"},
                            {"id", opening.dedup_key},
                            {"at", times::text(opening.at)},
                            {"incident", std::move(shown)}});
  if (!answer) return tl::unexpected(answer.error());
  if (const auto id = grafana::text_of(*answer, "id"); !id.empty()) opened.incident.id = id;
  opened.incident.url = grafana::text_of(*answer, "url");
  return opened;
}

Result<Listed> WebhookBackend::list(const Filter& /*filter*/) {
  return fail(Error::Kind::bug, kCannotAsk);
}

Result<Incident> WebhookBackend::read(const std::string& /*id*/) {
  return fail(Error::Kind::bug, kCannotAsk);
}

Result<void> WebhookBackend::note(const std::string& id, const Note& note) {
  // With its time: of a later incident of that key a note of the same name is another one.
  const auto key = times::text(note.at) + "\n" + (note.key.empty() ? note.body : note.key);
  const auto answer =
      send(once("note\n" + id + "\n" + key),
           {{"event", "note"}, {"id", id}, {"at", times::text(note.at)}, {"note", shown(note)}});
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

Result<Incident> WebhookBackend::change(const std::string& id, const Changes& changes) {
  Json what = Json::object();
  Incident incident;
  incident.id = id;
  incident.backend = name();
  incident.opened = changes.at;
  if (changes.title) what["title"] = incident.title = *changes.title;
  if (changes.severity) {
    incident.severity = *changes.severity;
    what["severity"] = name_of(*changes.severity);
  }
  if (changes.status) {
    incident.status = *changes.status;
    what["status"] = name_of(*changes.status);
  }
  if (!changes.add_labels.empty()) what["add_labels"] = to_json(changes.add_labels);
  if (!changes.remove_labels.empty()) what["remove_labels"] = changes.remove_labels;
  incident.labels = changes.add_labels;
  const auto answer =
      send(once("changed\n" + id + "\n" + times::text(changes.at) + "\n" +
                what.dump(-1, ' ', false, Json::error_handler_t::replace)),
           {{"event", "changed"}, {"id", id}, {"at", times::text(changes.at)}, {"changes", what}});
  if (!answer) return tl::unexpected(answer.error());
  return incident;
}

Result<Incident> WebhookBackend::resolve(const std::string& id, const Note& note) {
  const auto key = times::text(note.at) + "\n" + note.key;
  const auto answer =
      send(once("resolved\n" + id + "\n" + key),
           {{"event", "resolved"}, {"id", id}, {"at", times::text(note.at)}, {"note", shown(note)}});
  if (!answer) return tl::unexpected(answer.error());
  Incident incident;
  incident.id = id;
  incident.backend = name();
  incident.status = Status::resolved;
  incident.opened = note.at;
  incident.resolved = note.at;
  if (!note.body.empty()) incident.notes.push_back(note);
  return incident;
}

}  // namespace tunnelctl::incident
