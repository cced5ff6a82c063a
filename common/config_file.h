#pragma once

#include <algorithm>
#include <any>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "common/config_values.h"
#include "common/result.h"
#include "common/secret.h"

/// One schema for everything a configuration needs: loading, checking, environment names, the
/// reference page, the effective values and what a reload would change.
///
///     Options options;                              // plain structs hold the defaults
///     config::Schema schema("TUNNELD");
///     schema.add("ssh.max_channels", &options.ssh.max_channels,
///                {.help = "Channels per SSH session.", .example = "10", .range = {1, 100}});
///     auto warnings = schema.load(sources);         // file < environment < overrides < changes
///
/// A schema points into the options it was built for: keep them where they are while it lives.
/// To reload, build fresh options with a fresh schema, load that, and compare with `diff`.
/// Not thread-safe. Keys are lower case words joined by dots; a dot is a level of the file.
namespace config {

/// An environment name from older versions or other programs: works, and warns.
struct OldName {
  std::string name{};  // in full, no prefix is added
  std::string unit{};  // appended to a bare number, for names that implied a unit: "ms"
};

/// Says what is wrong with a text ("must start with /"), or nothing when it is good.
using Check = std::function<std::string(std::string_view)>;

struct Docs {
  std::string help{};
  std::string example{};
  Range range{};     // integers, bytes: {1, 100}; durations: {1s, 10min}
  bool hot = false;  // takes effect on reload; others need a restart
  bool required = false;
  bool secret = false;  // never shown, not accepted as an override; <NAME>_FILE works. Implied by Secret
  Check check{};        // for text, paths and each entry of a list of texts
  std::vector<OldName> old_names{};
};

struct ListDocs {
  std::string help{};
  bool hot = false;
  bool required = false;  // at least one item
  std::string unique{};   // the item's key that must differ between items
  std::size_t max_items = 1000;
};

/// A value given while the program runs, over all other sources.
struct Change {
  std::string key{};
  std::vector<std::string> texts{};  // one, or the entries of a list of texts; see Schema::texts_of
};

/// What `load` reads. Reading the world is the caller's (see below), so loading is pure but for
/// the secrets named by <NAME>_FILE.
struct Sources {
  std::optional<std::string> file_name{};  // for messages; unset: no file was given
  std::string file_text{};
  std::vector<std::pair<std::string, std::string>> environment{};
  std::vector<std::string> overrides{};  // "key=value"; a later one wins over an earlier one
  std::vector<Change> changes{};         // these win over everything; told as from "admin"
};

inline constexpr std::size_t kMaxFile = 1024 * 1024;
/// The text of a regular file of at most `limit` bytes. Errors: not_found, denied, bad_input.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit = kMaxFile);
/// This process's environment.
std::vector<std::pair<std::string, std::string>> process_environment();

/// Keys whose values differ, in the order of the schema. A list of items counts as one key.
struct Diff {
  std::vector<std::string> hot{};
  std::vector<std::string> cold{};  // take effect only after a restart
};

/// What kind of key it is, for those that change single ones.
struct KeyFacts {
  bool hot = false;
  bool list = false;  // of sections; cannot be changed alone
  bool secret = false;
};

class Schema {
 public:
  /// `env_prefix` without the underscore. Schemas of list items have none.
  explicit Schema(std::string env_prefix = "") : env_prefix_(std::move(env_prefix)) {}

  // Each `add` throws std::logic_error for a key that is malformed or taken: a bug, not bad input.

  void add(std::string key, bool* field, Docs docs);
  void add(std::string key, std::string* field, Docs docs);
  void add(std::string key, Secret* field, Docs docs);
  /// Empty means none. Whether the file exists is found out by whoever opens it.
  void add(std::string key, std::filesystem::path* field, Docs docs);
  void add(std::string key, std::optional<std::filesystem::path>* field, Docs docs);
  /// In the environment and in overrides: separated by commas.
  void add(std::string key, std::vector<std::string>* field, Docs docs);

  template <std::integral T>
    requires(!std::same_as<T, bool>)
  void add(std::string key, T* field, Docs docs) {
    add_number(std::move(key), Numeric::integer, number(field), limits<T>(), std::move(docs));
  }

  /// A number of bytes, written "64KiB" or plain.
  template <std::integral T>
  void add_bytes(std::string key, T* field, Docs docs) {
    docs.range.min = std::max<std::int64_t>(docs.range.min, 0);
    add_number(std::move(key), Numeric::bytes, number(field), limits<T>(), std::move(docs));
  }

  /// Written with its unit: "500ms". The field may have any resolution; finer values are refused.
  template <std::integral Rep, class Period>
    requires(sizeof(Rep) == 8)
  void add(std::string key, std::chrono::duration<Rep, Period>* field, Docs docs) {
    using Field = std::chrono::duration<Rep, Period>;
    using std::chrono::nanoseconds;
    docs.range.min = std::max<std::int64_t>(docs.range.min, 0);
    add_duration(
        std::move(key),
        {[field] { return nanoseconds(*field).count(); },
         [field](std::int64_t value) { *field = std::chrono::duration_cast<Field>(nanoseconds(value)); }},
        std::chrono::ceil<nanoseconds>(Field(1)), std::move(docs));
  }

  template <class E>
  void add_enum(std::string key, E* field, std::type_identity_t<std::vector<std::pair<std::string, E>>> names,
                Docs docs) {
    std::vector<std::string> words;
    std::vector<E> values;
    for (auto& [name, value] : names) {
      words.push_back(std::move(name));
      values.push_back(value);
    }
    auto get = [field, values] {
      std::int64_t index = 0;
      while (static_cast<std::size_t>(index) + 1 < values.size() &&
             values[static_cast<std::size_t>(index)] != *field) {
        ++index;
      }
      return index;
    };
    auto set = [field, values](std::int64_t index) { *field = values[static_cast<std::size_t>(index)]; };
    add_choice(std::move(key), std::move(words), {std::move(get), std::move(set)}, std::move(docs));
  }

  /// A list of maps, only in the file. `bind` adds an item's keys to the item's own schema; it is
  /// called for every item of the file, and for one that only serves the reference.
  template <class T>
  void add_list(std::string key, std::vector<T>* field,
                std::type_identity_t<std::function<void(Schema&, T&)>> bind, ListDocs docs) {
    Items items;
    items.stage = [field, bind](std::size_t count, const EachItem& fill) -> Commit {
      auto staged = std::make_shared<std::vector<T>>(count);
      for (std::size_t i = 0; i < count; ++i) {
        Schema item;
        bind(item, (*staged)[i]);
        fill(i, item);
      }
      return [field, staged] { *field = std::move(*staged); };
    };
    items.visit = [field, bind](const EachItem& see) {
      for (std::size_t i = 0; i < field->size(); ++i) {
        Schema item;
        bind(item, (*field)[i]);
        see(i, item);
      }
    };
    items.sample = [bind](const EachItem& see) {
      T sample{};
      Schema item;
      bind(item, sample);
      see(0, item);
    };
    add_items(std::move(key), std::move(items), std::move(docs));
  }

  /// An environment variable with our prefix that others read (in full: "TUNNELD_CONFIG").
  void allow_variable(std::string name) { foreign_variables_.push_back(std::move(name)); }

  /// Reads all sources and, when nothing is wrong, assigns the fields; otherwise leaves every one
  /// as it was. Returns warnings. Fails with bad_input; the message has one line for each error:
  /// "file:line: key: what is wrong; allowed: ...", "environment NAME: ...", "--set key: ...".
  /// Secret values are never quoted. Keys that no source names keep the value they have, so load
  /// once into fresh options.
  Result<std::vector<std::string>> load(const Sources& sources);

  /// Nullopt for a key that there is not.
  std::optional<KeyFacts> facts(std::string_view key) const;
  std::vector<std::string> keys() const;
  /// A JSON value as a source would write it, to be a Change: texts, whole numbers, true and false, and
  /// lists of texts where the key is one. Whether the value is good is found out by `load`.
  Parsed<std::vector<std::string>> texts_of(std::string_view key, const nlohmann::json& value) const;
  /// Gives the field of that key the value it has in `from`, a schema of the same keys. Throws
  /// std::logic_error for an unknown key and for a list of sections.
  void take(const Schema& from, std::string_view key);

  /// Markdown: every key with type, default (the field's value when it was added), range, whether
  /// a reload suffices, environment name, help and example.
  std::string reference() const;

  /// {"ssh.max_channels": {"value": 10, "from": "tunneld.yaml:3"}, "upstreams": [{...}]}.
  /// `from` is "default", "<file>:<line>", "environment <NAME>", "--set" or "admin". Secrets are "***".
  nlohmann::ordered_json effective() const;
  /// Where the value of `path` ("ssh.max_channels", "upstreams[0].address") came from, e.g. "f.yaml:7";
  /// for a key that nothing set, where the section around it came from. Empty if nothing did.
  std::string origin(std::string path) const;

  friend Diff diff(const Schema& before, const Schema& after);

 private:
  friend class Loader;

  using Commit = std::function<void()>;
  using EachItem = std::function<void(std::size_t index, Schema& item)>;
  enum class Shape { scalar, texts, items };
  enum class Numeric { integer, bytes };

  struct Number {
    std::function<std::int64_t()> get;
    std::function<void(std::int64_t)> set;
  };
  struct Items {
    std::function<Commit(std::size_t count, const EachItem& fill)> stage;
    std::function<void(const EachItem& see)> visit;
    std::function<void(const EachItem& see)> sample;
    ListDocs docs;
  };
  struct Entry {
    std::string key{};
    std::string env_name{};  // empty when it cannot be set from the environment
    Docs docs{};
    std::string type{};
    std::string allowed{};  // for the reference; empty when the type says it all
    Shape shape = Shape::scalar;
    /// Checks a value and hands back its assignment, or the error.
    std::function<Parsed<Commit>(const std::vector<std::string>& texts)> parse{};
    std::function<nlohmann::ordered_json()> value{};
    /// The field's value as it is, to carry it to the same key of another schema.
    std::function<std::any()> get{};
    std::function<void(const std::any&)> set{};
    std::string default_text{};
    Items items{};  // when shape is items
  };

  template <std::integral T>
  static constexpr Range limits() {
    // Unsigned 64-bit fields stop at the signed maximum, 8 EiB.
    return {std::is_signed_v<T> ? static_cast<std::int64_t>(std::numeric_limits<T>::min()) : 0,
            sizeof(T) < 8 || std::is_signed_v<T> ? static_cast<std::int64_t>(std::numeric_limits<T>::max())
                                                 : std::numeric_limits<std::int64_t>::max()};
  }
  template <std::integral T>
  static Number number(T* field) {
    return {[field] { return static_cast<std::int64_t>(*field); },
            [field](std::int64_t value) { *field = static_cast<T>(value); }};
  }

  static void carry(Entry& entry, const Number& number);
  static std::string expected(const Entry& entry);
  void add_number(std::string key, Numeric kind, Number number, Range limits, Docs docs);
  void add_duration(std::string key, Number number, std::chrono::nanoseconds unit, Docs docs);
  void add_choice(std::string key, std::vector<std::string> names, Number index, Docs docs);
  void add_items(std::string key, Items items, ListDocs docs);
  void add_text(std::string key, std::string type, std::function<std::string()> get,
                std::function<void(std::string)> set, Docs docs);
  void insert(Entry entry);
  const Entry* find(std::string_view key) const;
  /// `hot`: a list above is, and takes its items' keys with it.
  void write_reference(std::string& out, const std::string& path, bool hot) const;
  nlohmann::ordered_json effective_at(const std::string& path,
                                      const std::map<std::string, std::string>& origins) const;
  nlohmann::ordered_json plain_values() const;
  static nlohmann::ordered_json plain_value(const Entry& entry);

  std::string env_prefix_;
  std::vector<Entry> entries_;
  std::vector<std::string> foreign_variables_;
  std::map<std::string, std::string> origins_;  // full path of a key that a source set -> which
};

Diff diff(const Schema& before, const Schema& after);

}  // namespace config
