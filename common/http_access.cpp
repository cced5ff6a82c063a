#include "common/http_access.h"

#include <openssl/evp.h>

#include "common/config_file.h"
#include "common/utf8.h"

namespace http {
namespace {

constexpr std::size_t kLongestToken = 64 * 1024;

std::string_view trimmed(std::string_view text) {
  constexpr const char* kSpace = " \r\n\t";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

}  // namespace

std::string basic_authorization(std::string_view user, const Secret& password) {
  const std::string plain = std::string(user) + ":" + std::string(password.reveal());
  std::string encoded(4 * ((plain.size() + 2) / 3) + 1, '\0');
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                      reinterpret_cast<const unsigned char*>(plain.data()), static_cast<int>(plain.size()));
  encoded.resize(static_cast<std::size_t>(length));
  return "Basic " + encoded;
}

Result<Secret> read_token(const std::filesystem::path& path, std::string_view setting) {
  const auto text = config::read_file(path, kLongestToken);
  if (!text) return fail(Error::Kind::bad_input, std::string(setting) + ": " + text.error().message);
  const auto token = trimmed(std::string_view(*text).substr(0, text->find('\n')));
  if (token.empty())
    return fail(Error::Kind::bad_input, std::string(setting) + ": " + path.string() + ": holds no token");
  return Secret(std::string(token));
}

std::string one_line(std::string_view text, std::size_t longest) {
  text = trimmed(text);
  std::string result;
  for (std::size_t at = 0; at < text.size() && result.size() < longest;) {
    const std::size_t length = utf8::character_at(text, at);
    const auto byte = static_cast<unsigned char>(text[at]);
    if (length == 0 || byte < 0x20 || byte == 0x7F)
      result += length == 0 ? '?' : ' ';
    else
      result += text.substr(at, length);
    at += length == 0 ? 1 : length;
  }
  return result.size() < longest ? result : result + "...";
}

}  // namespace http
