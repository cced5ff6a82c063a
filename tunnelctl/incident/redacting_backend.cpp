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

  Result<Opened> open(const Opening& opening) override {
    Opening clean = opening;
    clean.dedup_key = key(opening.dedup_key);
    clean.title = redaction_.apply(opening.title);
    clean.summary = redaction_.apply(opening.summary);
    clean.labels = labels(opening.labels);
    for (auto& one : clean.attachments)
      one = {.url = redaction_.apply(one.url), .caption = redaction_.apply(one.caption)};
    return backend_->open(clean);
  }

  Result<Listed> list(const Filter& filter) override {
    Filter clean = filter;
    clean.dedup_key = key(filter.dedup_key);
    clean.labels = labels(filter.labels);
    return backend_->list(clean);
  }

  Result<Incident> read(const std::string& id) override { return backend_->read(key(id)); }

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
    for (auto& label : labels) label.value = redaction_.apply(label.value);
    return labels;
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
