#include "common/strict_json.h"

#include <cmath>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;

/// Builds the document and stops at the first thing refused, so a hostile text costs no more than
/// its accepted part.
class Builder : public nlohmann::json_sax<json> {
 public:
  explicit Builder(std::size_t max_depth) : max_depth_(max_depth) {}

  json document;
  const char* refused = "is not JSON";

  bool null() override { return place(nullptr); }
  bool boolean(bool value) override { return place(value); }
  bool number_integer(number_integer_t value) override { return place(value); }
  bool number_unsigned(number_unsigned_t value) override { return place(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    // The lexer falls back to floating point when an integer overflows 64 bits.
    if (text.find_first_of(".eE") == string_t::npos || !std::isfinite(value))
      return refuse("holds a number out of range");
    return place(value);
  }
  bool string(string_t& value) override { return place(std::move(value)); }
  bool binary(binary_t&) override { return refuse("is not JSON"); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (open_.back()->contains(name)) return refuse("holds a name twice in one object");
    slot_ = &(*open_.back())[name];
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  bool refuse(const char* why) {
    refused = why;
    return false;
  }
  json* put(json value) {
    if (open_.empty()) {
      document = std::move(value);
      return &document;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool place(json value) {
    put(std::move(value));
    return true;
  }
  bool open(json container) {
    if (open_.size() == max_depth_) return refuse("is nested too deeply");
    open_.push_back(put(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::size_t max_depth_;
  // Pointers stay valid: only the innermost container grows while it is on the stack, and an
  // array's elements that moved were already closed.
  std::vector<json*> open_;
  json* slot_ = nullptr;
};

}  // namespace

Result<json> parse_strict_json(std::string_view text, std::size_t max_bytes, std::size_t max_depth) {
  if (text.size() > max_bytes)
    return fail(Error::Kind::bad_input, "is larger than " + std::to_string(max_bytes) + " bytes");
  if (text.starts_with("\xef\xbb\xbf")) return fail(Error::Kind::bad_input, "begins with a byte order mark");
  Builder builder(max_depth);
  if (!json::sax_parse(text.begin(), text.end(), &builder))
    return fail(Error::Kind::bad_input, builder.refused);
  return std::move(builder.document);
}
