#include "tunnelctl/grafana/json_patch.h"

#include <algorithm>
#include <map>

#include "tunnelctl/grafana/json_text.h"

namespace tunnelctl::grafana {
namespace {

std::string shown(const Operation& operation, std::size_t index) {
  return "operation " + std::to_string(index + 1) + " (" + operation.op + " " + operation.path + "): ";
}

/// "panel 4 \"Latency\"": what a place holds, so that a wrong index is seen.
std::string described(const Json& value) {
  if (value.is_object()) {
    std::string text;
    for (const char* key : {"id", "refId", "name", "uid"})
      if (const auto found = value.find(key); found != value.end() && !found->is_null() && text.empty())
        text = std::string(key) + " " + found->dump();
    if (const auto title = value.find("title"); title != value.end() && title->is_string())
      text += (text.empty() ? "" : ", ") + title->dump();
    return text.empty() ? "an object" : text;
  }
  if (value.is_array()) return "a list of " + std::to_string(value.size());
  const auto text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

bool is_inside(const Location& inner, const Location& outer) {
  return inner.size() >= outer.size() && std::equal(outer.begin(), outer.end(), inner.begin());
}

class Patching {
 public:
  Patching(Json document, const std::vector<Operation>& operations, const PatchOptions& options)
      : document_(std::move(document)), operations_(operations), options_(options) {}

  Result<Patched> run() {
    for (std::size_t i = 0; i < operations_.size();) {
      const auto& operation = operations_[i];
      Result<void> done;
      std::size_t next = i + 1;
      if (operation.op == "remove") {
        while (next < operations_.size() && operations_[next].op == "remove") ++next;
        done = remove(i, next);
      } else if (operation.op != "replace" && operation.op != "add") {
        done = wrong(i, "there is no such operation; there are replace, add and remove");
      } else if (!operation.value) {
        done = wrong(i, "needs a value; an explicit nothing is null");
      } else {
        done = operation.op == "add" ? add(i) : replace(i);
      }
      if (!done) return tl::unexpected(done.error());
      i = next;
    }
    return Patched{std::move(document_), std::move(done_)};
  }

 private:
  tl::unexpected<Error> wrong(std::size_t index, const std::string& what) const {
    return fail(Error::Kind::bad_input, shown(operations_[index], index) + what);
  }

  Result<JsonPath> read(std::string_view path) const {
    if (path.starts_with('/')) return JsonPath::of_pointer(path.substr(1));
    return JsonPath::parse(path);
  }

  /// The one place a path means now.
  Result<Location> resolve(std::size_t index, const JsonPath& path) const {
    auto found = path.select(document_);
    // [0,0] means one place twice.
    if (found.empty()) return wrong(index, path.why_nothing(document_));
    if (found.size() > 1) {
      std::string places;
      for (std::size_t i = 0; i < found.size() && i < 3; ++i)
        places += (i == 0 ? "" : ", ") + written(found[i].location);
      return wrong(index, "means " + std::to_string(found.size()) + " places (" + places +
                              (found.size() > 3 ? ", ..." : "") + "); one is needed");
    }
    if (path.definite())
      if (auto fine = unmoved(index, found.front().location); !fine) return tl::unexpected(fine.error());
    return std::move(found.front().location);
  }

  Result<void> unmoved(std::size_t index, const Location& location) const {
    Location holder;
    for (const auto& step : location) {
      if (const auto* item = std::get_if<std::size_t>(&step))
        if (const auto gap = gaps_.find(written(holder)); gap != gaps_.end() && *item >= gap->second)
          return wrong(
              index,
              "an operation before it removed an item of " + written(holder) + ", so [" +
                  std::to_string(*item) +
                  "] may mean another one now; put removals last, or name the item, e.g. [?(@.id==4)]");
      holder.push_back(step);
    }
    return {};
  }

  Result<void> may_change(std::size_t index, const Location& location) const {
    if (location.empty()) {
      if (operations_[index].op == "replace" && options_.root_may_be_replaced) return {};
      return wrong(index, options_.root_is_kept);
    }
    const auto* name = std::get_if<std::string>(&location.front());
    if (name != nullptr &&
        std::find(options_.kept.begin(), options_.kept.end(), *name) != options_.kept.end())
      return wrong(index, "\"" + *name + "\" belongs to the server and cannot be changed");
    return {};
  }

  Result<void> replace(std::size_t index) {
    const auto& operation = operations_[index];
    const auto path = read(operation.path);
    if (!path) return wrong(index, path.error().message);
    const auto location = resolve(index, *path);
    if (!location)
      return fail(location.error().kind,
                  location.error().message + (appends(operation.path) ? "" : hint(*path)));
    if (auto fine = may_change(index, *location); !fine) return fine;
    Json& place = *at(document_, *location);
    done_.push_back("replaced " + written(*location) + ": " + described(place) + " -> " +
                    described(*operation.value));
    place = *operation.value;
    return {};
  }

  /// A replace of what is not there is often meant as an add.
  static std::string hint(const JsonPath& path) {
    return path.definite() ? " (new members are added by add)" : "";
  }

  static bool appends(std::string_view path) { return path.ends_with("/-") || path.ends_with("[-]"); }

  Result<void> add(std::size_t index) {
    const auto& operation = operations_[index];
    std::string_view text = operation.path;
    const bool append = appends(text);
    if (append) text.remove_suffix(text.ends_with("/-") ? 2 : 3);
    const bool to_root = append && text.empty();
    auto path = to_root ? Result<JsonPath>(JsonPath::of_pointer("")) : read(text);
    if (!path) return wrong(index, path.error().message);
    if (append) {
      const auto location = resolve(index, *path);
      if (!location) return tl::unexpected(location.error());
      Json& list = *at(document_, *location);
      if (!list.is_array())
        return wrong(index, written(*location) + " is no list, nothing can be appended to it");
      list.push_back(*operation.value);
      done_.push_back("added " + written(*location) + "[" + std::to_string(list.size() - 1) +
                      "]: " + described(*operation.value));
      return {};
    }
    const auto last = path->last();
    if (!last) {
      if (path->select(document_).size() == 1 && path->select(document_).front().location.empty())
        return wrong(index, options_.root_is_kept);
      return wrong(index, "must end with the name of the new member, an index, or /-");
    }
    const auto holder = resolve(index, path->parent());
    if (!holder) return tl::unexpected(holder.error());
    return put(index, *holder, *last);
  }

  Result<void> put(std::size_t index, const Location& holder,
                   const std::variant<std::string, std::int64_t>& last) {
    const Json& value = *operations_[index].value;
    Json& place = *at(document_, holder);
    auto location = holder;
    const auto* number = std::get_if<std::int64_t>(&last);
    if (place.is_array()) {
      if (number == nullptr)
        return wrong(index, written(holder) + " is a list: give an index, or /- to append");
      if (*number < 0 || *number > static_cast<std::int64_t>(place.size()))
        return wrong(index, written(holder) + " has " + std::to_string(place.size()) +
                                " items; nothing can be inserted at [" + std::to_string(*number) + "]");
      location.emplace_back(static_cast<std::size_t>(*number));
      if (auto fine = unmoved(index, location); !fine) return fine;
      place.insert(place.begin() + *number, value);
      done_.push_back("inserted " + written(location) + ": " + described(value));
      return {};
    }
    if (!place.is_object()) return wrong(index, written(holder) + " is neither an object nor a list");
    const bool by_index = number != nullptr && operations_[index].path.ends_with(']');
    if (by_index) return wrong(index, written(holder) + " is no list");
    location.emplace_back(number != nullptr ? std::to_string(*number) : std::get<std::string>(last));
    if (auto fine = may_change(index, location); !fine) return fine;
    const auto& name = std::get<std::string>(location.back());
    const auto there = place.find(name);
    done_.push_back((there == place.end() ? "added " : "set ") + written(location) + ": " +
                    (there == place.end() ? "" : described(*there) + " -> ") + described(value));
    place[name] = value;
    return {};
  }

  /// Operations [first, end): found in the document as it is, then taken away from the back.
  Result<void> remove(std::size_t first, std::size_t end) {
    std::vector<std::pair<Location, std::size_t>> places;
    for (std::size_t i = first; i < end; ++i) {
      if (operations_[i].value) return wrong(i, "takes no value");
      const auto path = read(operations_[i].path);
      if (!path) return wrong(i, path.error().message);
      auto location = resolve(i, *path);
      if (!location) return tl::unexpected(location.error());
      if (auto fine = may_change(i, *location); !fine) return fine;
      for (const auto& [other, by] : places)
        if (is_inside(*location, other) || is_inside(other, *location))
          return wrong(
              i, written(*location) + " goes away or is taken apart by operation " + std::to_string(by + 1) +
                     "; the indices of removals that follow each other mean the document before them");
      done_.push_back("removed " + written(*location) + ": " + described(*at(document_, *location)));
      places.emplace_back(std::move(*location), i);
    }
    std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [location, by] : places) {
      const Location holder(location.begin(), location.end() - 1);
      Json& place = *at(document_, holder);
      if (const auto* name = std::get_if<std::string>(&location.back())) {
        place.erase(*name);
        continue;
      }
      const auto item = std::get<std::size_t>(location.back());
      place.erase(place.begin() + static_cast<std::ptrdiff_t>(item));
      const auto [gap, fresh] = gaps_.emplace(written(holder), item);
      if (!fresh) gap->second = std::min(gap->second, item);
    }
    return {};
  }

  Json document_;
  const std::vector<Operation>& operations_;
  const PatchOptions& options_;
  std::vector<std::string> done_{};
  std::map<std::string, std::size_t> gaps_{};  // list -> the first index that a removal moved
};

}  // namespace

Result<Patched> patch(Json document, const std::vector<Operation>& operations, const PatchOptions& options) {
  if (operations.empty()) return fail(Error::Kind::bad_input, "the patch has no operations");
  return Patching(std::move(document), operations, options).run();
}

Result<std::vector<Operation>> operations_of(const Json& list) {
  if (!list.is_array())
    return fail(Error::Kind::bad_input,
                "a patch must be a list: [{\"op\": ..., \"path\": ..., \"value\": ...}]");
  std::vector<Operation> result;
  for (const auto& item : list) {
    const auto number = "operation " + std::to_string(result.size() + 1) + ": ";
    if (!item.is_object()) return fail(Error::Kind::bad_input, number + "must be an object");
    Operation operation;
    for (const auto& [key, value] : item.items()) {
      if (key == "value") {
        operation.value = value;
      } else if ((key == "op" || key == "path") && value.is_string()) {
        (key == "op" ? operation.op : operation.path) = value.get<std::string>();
      } else {
        return fail(Error::Kind::bad_input,
                    number + "\"" + key + "\" is unknown here or no text; there are op, path and value");
      }
    }
    if (operation.op.empty() || !item.contains("path"))
      return fail(Error::Kind::bad_input, number + "needs op and path");
    result.push_back(std::move(operation));
  }
  return result;
}

Result<Json> typed_value(std::string_view text) {
  auto value = Json::parse(text, nullptr, false);
  if (!value.is_discarded()) return value;
  if (text.starts_with('{') || text.starts_with('[') || text.starts_with('"')) {
    auto complaint = parse_json(text, "the value");
    return fail(Error::Kind::bad_input,
                complaint ? "the value is not valid JSON" : complaint.error().message);
  }
  return Json(std::string(text));
}

}  // namespace tunnelctl::grafana
