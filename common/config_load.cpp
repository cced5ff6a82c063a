#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>

#include "common/config_file.h"
#include "common/config_yaml.h"

extern char** environ;

namespace config {
namespace {

Result<std::string> read_at_most(const std::filesystem::path& path, std::size_t limit) {
  // O_NONBLOCK so that naming a FIFO is an error instead of a start that hangs.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const auto refuse = [&](int code) {
    const auto kind = code == ENOENT || code == ENOTDIR ? Error::Kind::not_found
                      : code == EACCES || code == EPERM ? Error::Kind::denied
                                                        : Error::Kind::bad_input;
    return fail(kind, path.string() + ": cannot be read: " + std::generic_category().message(code));
  };
  if (file < 0) return refuse(errno);
  std::string text;
  int error = 0;
  struct stat status {};
  if (::fstat(file, &status) != 0) {
    error = errno;
  } else if (!S_ISREG(status.st_mode)) {
    error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
  }
  std::size_t used = 0;
  while (error == 0 && used <= limit) {
    if (used == text.size())
      text.resize(std::min(limit + 1, std::max(used * 2, static_cast<std::size_t>(status.st_size) + 1)));
    const ssize_t got = ::read(file, text.data() + used, text.size() - used);
    if (got == 0) break;
    if (got > 0) {
      used += static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  ::close(file);
  if (error != 0) return refuse(error);
  if (used > limit) {
    return fail(Error::Kind::bad_input,
                path.string() + ": is larger than " + write_bytes(static_cast<std::int64_t>(limit)));
  }
  text.resize(used);
  return text;
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    std::string_view part = rest.substr(0, end);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    out.emplace_back(part);
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
    if (rest.empty()) out.emplace_back();  // a trailing comma is an empty entry, and an error
  }
  return out;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Kubernetes gives every pod variables for the services of its namespace; a service named like
/// our prefix would otherwise stop us from starting (enableServiceLinks).
bool is_service_link(std::string_view name, std::string_view value) {
  if (name == "SERVICE_HOST" || name.starts_with("SERVICE_PORT")) return true;
  const bool address =
      value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
  if (name == "PORT") return address;
  return name.starts_with("PORT_") && name.size() > 5 && name[5] >= '0' && name[5] <= '9' &&
         (name.find("_TCP") != std::string_view::npos || name.find("_UDP") != std::string_view::npos);
}

}  // namespace

Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
  return read_at_most(path, limit);
}

std::vector<std::pair<std::string, std::string>> process_environment() {
  std::vector<std::pair<std::string, std::string>> out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view line(*entry);
    const std::size_t equals = line.find('=');
    if (equals != std::string_view::npos) out.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
  return out;
}

/// Collects what the sources say and everything that is wrong with it; assigns nothing to the
/// caller's options until all of it is known to be good.
class Loader {
 public:
  explicit Loader(const Schema& schema) : schema_(schema) {}

  void file(const std::string& name, const std::string& text) {
    file_ = name;
    auto root = yaml::parse(text, name);
    if (!root) {
      error(root.error().message);
      unreadable_ = true;
      return;
    }
    if (root->kind != yaml::Node::Kind::null && root->kind != yaml::Node::Kind::map) {
      error(at(root->line) + "the file must be a map of keys, such as \"log:\"");
      return;
    }
    Level level{schema_, "", {}, {}};
    walk(*root, "", level);
    for (auto& [key, commit] : level.commits) commits_[key] = std::move(commit);
  }

  void environment(const std::vector<std::pair<std::string, std::string>>& variables) {
    if (schema_.env_prefix_.empty()) return;
    std::map<std::string, std::string> present(variables.begin(), variables.end());
    std::set<std::string> known(schema_.foreign_variables_.begin(), schema_.foreign_variables_.end());
    std::vector<std::string> names;
    for (const auto& entry : schema_.entries_) {
      if (entry.env_name.empty()) continue;
      names.push_back(entry.env_name);
      known.insert(entry.env_name);
    }
    for (const auto& entry : schema_.entries_) {
      if (entry.env_name.empty()) continue;
      const std::string by_file = entry.env_name + "_FILE";
      const bool reads_file = entry.docs.secret && !known.contains(by_file);
      const auto own = present.find(entry.env_name);
      const auto own_file = reads_file ? present.find(by_file) : present.end();
      if (reads_file) names.push_back(by_file);
      if (own != present.end() && own_file != present.end()) {
        error("environment " + by_file + ": " + entry.env_name + " is set too; set one of them");
      } else if (own != present.end()) {
        from_text(entry, own->second, "environment " + own->first);
      } else if (own_file != present.end()) {
        from_secret_file(entry, own_file->second, "environment " + by_file);
      }
      bool set = own != present.end() || own_file != present.end();
      for (const OldName& old : entry.docs.old_names) {
        const auto found = present.find(old.name);
        known.insert(old.name);
        if (found == present.end()) continue;
        if (set) {
          warnings_.push_back("environment " + old.name + ": ignored, because " + entry.env_name +
                              " or another of its names is set");
          continue;
        }
        set = true;
        warnings_.push_back("environment " + old.name + ": is an old name; use " + entry.env_name);
        const bool bare = !old.unit.empty() && all_digits(found->second);
        from_text(entry, bare ? found->second + old.unit : found->second, "environment " + old.name);
      }
      if (reads_file) known.insert(by_file);
    }
    for (const auto& [name, value] : present) {
      if (!name.starts_with(schema_.env_prefix_ + "_") || known.contains(name)) continue;
      unknown_variable(name, value, names);
    }
  }

  void overrides(const std::vector<std::string>& settings) {
    const auto keys = schema_.keys();
    for (const std::string& setting : settings) {
      const std::size_t equals = setting.find('=');
      if (equals == std::string::npos || equals == 0) {
        error("--set " + quote(setting) + ": is not key=value");
        continue;
      }
      const std::string key = setting.substr(0, equals);
      const Schema::Entry* entry = schema_.find(key);
      if (entry == nullptr) {
        error("--set " + printable(key) + ": unknown key" + suggestion(key, keys));
      } else if (entry->shape == Schema::Shape::items) {
        error("--set " + key + ": is a list of sections; it can be set only in the file");
      } else if (entry->docs.secret) {
        error("--set " + key + ": is secret, and a command line is visible to every user; set " +
              (entry->env_name.empty() ? "it in the file" : entry->env_name + "_FILE"));
      } else {
        from_text(*entry, setting.substr(equals + 1), "--set " + key, "--set");
      }
    }
  }

  void changes(const std::vector<Change>& changes) {
    for (const Change& change : changes) {
      const Schema::Entry* entry = schema_.find(change.key);
      if (entry == nullptr) {
        error(printable(change.key) + ": unknown key" + suggestion(change.key, schema_.keys()));
      } else if (entry->shape == Schema::Shape::items || entry->docs.secret) {
        error(change.key + ": cannot be changed here; it can be set only before the start");
      } else if (entry->shape != Schema::Shape::texts && change.texts.size() != 1) {
        error(change.key + ": is a list" + Schema::expected(*entry));
      } else {
        from_texts(*entry, change.texts, change.key, "admin");
      }
    }
  }

  void required() {
    if (unreadable_) return;  // what is missing may stand in the part that could not be read
    for (const auto& entry : schema_.entries_) {
      if (!entry.docs.required || mentioned_.contains(entry.key)) continue;
      error((file_.empty() ? "configuration: " : file_ + ": ") + missing(entry));
    }
  }

  Result<std::vector<std::string>> finish(std::map<std::string, std::string>& origins) {
    if (error_count_ > 0) {
      if (error_count_ > kMaxErrors) {
        errors_ += "\nand " + std::to_string(error_count_ - kMaxErrors) + " more errors";
      }
      return fail(Error::Kind::bad_input, std::move(errors_));
    }
    for (auto& [key, commit] : commits_) commit();
    for (auto& [key, origin] : origins_) origins[key] = std::move(origin);
    return std::move(warnings_);
  }

 private:
  /// One schema being filled from one map of the file: the top, or an item of a list.
  struct Level {
    const Schema& schema;
    std::string path;  // printed before keys: "" or "upstreams[0]."
    std::map<std::string, Schema::Commit> commits;
    std::map<std::string, int> lines;  // keys the map names -> line
  };
  static constexpr std::size_t kMaxErrors = 50;

  void error(std::string text) {
    if (++error_count_ > kMaxErrors) return;
    errors_ += (errors_.empty() ? "" : "\n") + std::move(text);
  }
  /// Suggestions cost time; a hostile file does not get more of them than are printed.
  bool full() const { return error_count_ >= kMaxErrors; }

  std::string at(int line) const { return file_ + ":" + std::to_string(line) + ": "; }

  /// A key as it was written; quoted only when it could garble the message.
  static std::string printable(const std::string& key) {
    std::string quoted = quote(key);
    return !key.empty() && quoted == '"' + key + '"' ? key : quoted;
  }

  static std::string missing(const Schema::Entry& entry) {
    std::string out = entry.key + ": is required and not set; set it in the file";
    if (!entry.env_name.empty()) out += " or as " + entry.env_name + (entry.docs.secret ? "_FILE" : "");
    return out;
  }

  /// All keys and all sections above them.
  static std::vector<std::string> known_paths(const Schema& schema) {
    std::vector<std::string> out;
    for (const auto& entry : schema.entries_) {
      for (std::size_t dot = entry.key.find('.'); dot != std::string::npos;
           dot = entry.key.find('.', dot + 1)) {
        const std::string section = entry.key.substr(0, dot);
        if (std::find(out.begin(), out.end(), section) == out.end()) out.push_back(section);
      }
      out.push_back(entry.key);
    }
    return out;
  }

  std::string suggestion(const std::string& key, const std::vector<std::string>& candidates) const {
    if (full()) return "";
    // First the right word in the wrong section, then the wrong letters.
    const std::string word = key.substr(key.rfind('.') == std::string::npos ? 0 : key.rfind('.') + 1);
    for (const std::string& candidate : candidates) {
      if (candidate != key && candidate.ends_with("." + word)) return "; did you mean " + candidate + "?";
      if (candidate == word && candidate != key) return "; did you mean " + candidate + "?";
    }
    const std::string found = nearest(key, candidates);
    return found.empty() ? "" : "; did you mean " + found + "?";
  }

  /// `section` is the dotted path of this map inside the level's schema, "" at its top.
  void walk(const yaml::Node& map, const std::string& section, Level& level) {
    std::map<std::string_view, int> seen;
    for (const auto& member : map.members) {
      const std::string key = section.empty() ? member.key : section + "." + member.key;
      const std::string shown = level.path + printable(key);
      const auto [first, fresh] = seen.emplace(member.key, member.line);
      if (!fresh) {
        error(at(member.line) + shown + ": is set twice, first in line " + std::to_string(first->second));
        continue;
      }
      if (member.key.find('.') != std::string::npos) {
        error(at(member.line) + shown + ": unknown key; write sections as nested maps, not with dots");
        continue;
      }
      if (const Schema::Entry* entry = level.schema.find(key)) {
        level.lines[key] = member.line;
        if (level.path.empty()) mentioned_.insert(key);
        value(*entry, member, shown, level);
      } else if (is_section(level.schema, key)) {
        if (member.value.kind == yaml::Node::Kind::map) {
          walk(member.value, key, level);
        } else if (member.value.kind != yaml::Node::Kind::null) {
          error(at(member.line) + shown + ": is " + name(member.value) + "; expected a section with keys");
        }
      } else {
        error(at(member.line) + shown + ": unknown key" +
              (full() ? "" : suggestion(key, known_paths(level.schema))));
      }
    }
  }

  static bool is_section(const Schema& schema, const std::string& key) {
    return std::any_of(schema.entries_.begin(), schema.entries_.end(),
                       [&](const auto& entry) { return entry.key.starts_with(key + "."); });
  }

  static std::string name(const yaml::Node& node) {
    switch (node.kind) {
      case yaml::Node::Kind::null: return "empty";
      case yaml::Node::Kind::scalar: return "a single value";
      case yaml::Node::Kind::list: return "a list";
      case yaml::Node::Kind::map: break;
    }
    return "a section";
  }

  void value(const Schema::Entry& entry, const yaml::Node::Member& member, const std::string& shown,
             Level& level) {
    using Kind = yaml::Node::Kind;
    const yaml::Node& node = member.value;
    if (entry.shape == Schema::Shape::items) {
      items(entry, member, shown, level);
      return;
    }
    const bool texts = entry.shape == Schema::Shape::texts;
    // One text may stand for a list of one: `address: host:22`.
    if (node.kind != Kind::scalar && !(texts && node.kind == Kind::list)) {
      error(at(member.line) + shown + ": is " + name(node) + Schema::expected(entry));
      return;
    }
    std::vector<std::string> values;
    if (node.kind == Kind::scalar) values.push_back(node.text);
    for (const yaml::Node& item : node.items) {
      if (item.kind != Kind::scalar) {
        error(at(item.line) + shown + ": has an entry that is " + name(item) + "; expected text");
        return;
      }
      values.push_back(item.text);
    }
    auto commit = entry.parse(values);
    if (!commit) {
      error(at(texts ? member.line : node.line) + shown + ": " + commit.error());
      return;
    }
    level.commits[entry.key] = std::move(*commit);
    origins_[level.path + entry.key] = file_ + ":" + std::to_string(member.line);
  }

  void items(const Schema::Entry& entry, const yaml::Node::Member& member, const std::string& shown,
             Level& level) {
    const yaml::Node& node = member.value;
    const ListDocs& docs = entry.items.docs;
    if (node.kind != yaml::Node::Kind::list) {
      error(at(member.line) + shown + ": is " + name(node) + Schema::expected(entry));
      return;
    }
    if (node.items.size() > docs.max_items) {
      error(at(member.line) + shown + ": has " + std::to_string(node.items.size()) +
            " items; allowed: " + std::to_string(docs.max_items) + " or less");
      return;
    }
    if (docs.required && node.items.empty()) {
      error(at(member.line) + shown + ": is an empty list; at least one item is required");
    }
    std::map<std::string, int> taken;
    level.commits[entry.key] = entry.items.stage(node.items.size(), [&](std::size_t index, Schema& schema) {
      item(node.items[index], schema, level.path + entry.key + "[" + std::to_string(index) + "]", docs,
           taken);
    });
  }

  void item(const yaml::Node& node, const Schema& schema, const std::string& path, const ListDocs& docs,
            std::map<std::string, int>& taken) {
    if (node.kind != yaml::Node::Kind::map) {
      error(at(node.line) + path + ": is " + name(node) + "; expected a section with keys");
      return;
    }
    Level level{schema, path + ".", {}, {}};
    walk(node, "", level);
    for (const auto& entry : schema.entries_) {
      if (entry.docs.required && !level.lines.contains(entry.key)) {
        error(at(node.line) + path + "." + missing(entry));
      }
    }
    // The item is part of a staged list, so filling it shows nothing to the caller yet.
    for (auto& [key, commit] : level.commits) commit();
    const Schema::Entry* unique = schema.find(docs.unique);
    if (unique == nullptr || !level.commits.contains(docs.unique)) return;
    const int line = level.lines[docs.unique];
    const auto [first, fresh] = taken.emplace(Schema::plain_value(*unique).dump(), line);
    if (!fresh) {
      error(at(line) + path + "." + docs.unique + ": is the same as in line " +
            std::to_string(first->second) + "; each item needs its own");
    }
  }

  void from_text(const Schema::Entry& entry, const std::string& text, const std::string& where,
                 const std::string& origin = "") {
    from_texts(entry,
               entry.shape == Schema::Shape::texts ? split_at_commas(text) : std::vector<std::string>{text},
               where, origin);
  }

  void from_texts(const Schema::Entry& entry, const std::vector<std::string>& texts, const std::string& where,
                  const std::string& origin) {
    mentioned_.insert(entry.key);
    auto commit = entry.parse(texts);
    if (!commit) {
      error(where + ": " + commit.error());
      return;
    }
    commits_[entry.key] = std::move(*commit);
    origins_[entry.key] = origin.empty() ? where : origin;
  }

  void from_secret_file(const Schema::Entry& entry, const std::string& path, const std::string& where) {
    constexpr std::size_t kMaxSecret = 64 * 1024;
    mentioned_.insert(entry.key);
    auto text = read_at_most(path, kMaxSecret);
    if (!text) {
      error(where + ": " + text.error().message);
      return;
    }
    // Editors and `echo` end a file with a line end that is no part of the secret.
    if (text->ends_with('\n')) text->pop_back();
    if (text->ends_with('\r')) text->pop_back();
    if (text->empty()) {
      error(where + ": " + path + ": is empty");
      return;
    }
    from_text(entry, *text, where);
  }

  void unknown_variable(const std::string& name, const std::string& value,
                        const std::vector<std::string>& names) {
    const std::string_view rest = std::string_view(name).substr(schema_.env_prefix_.size() + 1);
    for (const auto& entry : schema_.entries_) {
      std::string upper = entry.key;
      std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
        return c == '.' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c);
      });
      if (entry.shape == Schema::Shape::items && rest == upper) {
        error("environment " + name + ": " + entry.key +
              " is a list of sections; it can be set only in the file");
        return;
      }
      if (!entry.docs.secret && rest == upper + "_FILE") {
        error("environment " + name + ": " + entry.key + " is not secret; set " + entry.env_name);
        return;
      }
    }
    if (is_service_link(rest, value)) {
      warnings_.push_back("environment " + name + ": ignored, a Kubernetes service link");
      return;
    }
    const std::string near = full() ? "" : nearest(name, names);
    error("environment " + printable(name) + ": unknown variable" +
          (near.empty() ? "" : "; did you mean " + near + "?"));
  }

  const Schema& schema_;
  std::string file_;
  bool unreadable_ = false;
  std::map<std::string, Schema::Commit> commits_;
  std::map<std::string, std::string> origins_;
  std::set<std::string> mentioned_;  // keys that some source names, rightly or wrongly
  std::string errors_;
  std::size_t error_count_ = 0;
  std::vector<std::string> warnings_;
};

Result<std::vector<std::string>> Schema::load(const Sources& sources) {
  Loader loader(*this);
  if (sources.file_name) loader.file(*sources.file_name, sources.file_text);
  loader.environment(sources.environment);
  loader.overrides(sources.overrides);
  loader.changes(sources.changes);
  loader.required();
  return loader.finish(origins_);
}

}  // namespace config
