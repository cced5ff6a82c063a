#pragma once

#include <openssl/crypto.h>

#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>

/// A token, key or password that must not reach logs, metrics, URLs or error texts.
/// It has no conversion, no stream or format operator and no JSON form, so printing one does not
/// compile; `reveal()` is the one way out and easy to search for. The bytes are wiped when the
/// value dies, is assigned to, or is moved from.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(text) { wipe(text); }  // wipes its argument's copy
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept { take(other); }
  Secret& operator=(const Secret& other) {
    if (this != &other) {
      Secret copy(other);
      take(copy);
    }
    return *this;
  }
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) take(other);
    return *this;
  }
  ~Secret() { wipe(text_); }

  /// The view lives as long as this value. Do not copy it into anything that is logged.
  std::string_view reveal() const { return text_; }
  bool empty() const { return text_.empty(); }

  /// Takes the same time wherever the first difference is; only the length can be learned.
  friend bool operator==(const Secret& a, const Secret& b) {
    return a.text_.size() == b.text_.size() &&
           CRYPTO_memcmp(a.text_.data(), b.text_.data(), a.text_.size()) == 0;
  }

  template <class Char, class Traits>
  friend std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>&,
                                                      const Secret&) = delete;
  template <class Json>
  friend void to_json(Json&, const Secret&) = delete;

 private:
  static void wipe(std::string& text) {
    // capacity(), not size(): a shorter value assigned later would leave the old tail behind.
    text.resize(text.capacity());
    OPENSSL_cleanse(text.data(), text.size());
    text.clear();
  }
  void take(Secret& other) noexcept {
    wipe(text_);
    text_.swap(other.text_);
    wipe(other.text_);  // swap copies a short string and leaves its bytes where they were
  }

  std::string text_;
};
