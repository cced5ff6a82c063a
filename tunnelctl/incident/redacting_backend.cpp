#include "tunnelctl/incident/redacting_backend.h"

#include <string>
#include <utility>

#include "common/sha256.h"

namespace tunnelctl::incident {
namespace {

class Redacting final : public Backend {
 public:
  Redacting(std::unique_ptr<Backend> backend, patterns::RedactionOptions options)
      : backend_(std::move(backend)), redaction_(options) {}

  std::string name() const override { return backend_->name(); }
  std::string place() const override { return backend_->place(); }

  Result<Opened> open(const Opening& opening) override { return backend_->open(clean(opening)); }

  Result<Listed> list(const Filter& filter) override {
    Filter clean = filter;
    clean.dedup_key = key(filter.dedup_key);
    clean.labels = labels(filter.labels);
    return backend_->list(clean);
  }

  Result<Incident> read(const std::string& id) override { return backend_->read(key(id)); }

  void knows(const std::string& id, const Opening& opening) override {
    backend_->knows(key(id), clean(opening));
  }

  Result<void> note(const std::string& id, const Note& note) override {
    return backend_->note(key(id), clean(note));
  }

  Result<Incident> change(const std::string& id, const Changes& changes) override {
    Changes clean = changes;
    if (clean.title) clean.title = redaction_.apply(*clean.title);
    clean.add_labels = labels(changes.add_labels);
    return backend_->change(key(id), clean);
  }

  Result<Incident> resolve(const std::string& id, const Note& note) override {
    return backend_->resolve(key(id), clean(note));
  }

 private:
  /// Of ids too: some backends' are the dedup key.
  std::string key(const std::string& text) const {
    auto clean = redaction_.apply(text);
    if (clean != text) clean += "-" + to_hex(sha256(text)).substr(0, 16);
    return clean;
  }

  std::vector<Label> labels(std::vector<Label> labels) const {
    for (auto& label : labels) {
      // With its key, which may say that it is one: password=hunter2.
      const auto key = label.key + "=";
      auto whole = redaction_.apply(key + label.value);
      if (whole.starts_with(key)) label.value = whole.substr(key.size());
      label.value = redaction_.apply(label.value);
    }
    return labels;
  }

  Opening clean(const Opening& opening) const {
    Opening made = opening;
    made.dedup_key = key(opening.dedup_key);
    made.title = redaction_.apply(opening.title);
    made.summary = redaction_.apply(opening.summary);
    made.labels = labels(opening.labels);
    made.room_prefix = redaction_.apply(opening.room_prefix);
    for (auto& one : made.attachments)
      one = {.url = redaction_.apply(one.url), .caption = redaction_.apply(one.caption)};
    return made;
  }

  Note clean(Note note) const {
    note.body = redaction_.apply(note.body);
    return note;
  }

  std::unique_ptr<Backend> backend_;
  patterns::Redaction redaction_;
};

}  // namespace

std::unique_ptr<Backend> redacting(std::unique_ptr<Backend> backend, patterns::RedactionOptions options) {
  return std::make_unique<Redacting>(std::move(backend), options);
}

}  // namespace tunnelctl::incident
