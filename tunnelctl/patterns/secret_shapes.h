#pragma once

#include <cstddef>
#include <string_view>

namespace tunnelctl::patterns {

/// Secrets that are known by their form wherever they stand. Each function says how many bytes from `at` on
/// are one, 0: none. `at` is the beginning of a word.

/// A JWT, or a token with the prefix of those who give them out: Grafana, GitHub, GitLab, Slack, AWS, Google,
/// Stripe, SendGrid, npm, PyPI, Vault, DigitalOcean, Docker, Hugging Face, OpenAI, PagerDuty, Telegram; a
/// private key that is base64 once more ...
/// `hopeless` is the caller's, 0 at first: before it no token of a form that is searched for far ahead
/// begins, which keeps a text of many false beginnings linear.
std::size_t token_at(std::string_view text, std::size_t at, std::size_t& hopeless);
/// From "-----BEGIN" of a private key to its end line. Where that is missing, as far as what follows looks
/// like a key, 16 KiB at most. Line ends may be written as \n.
std::size_t private_key_at(std::string_view text, std::size_t at);
/// What follows "Bearer" and a blank and looks like no word of prose.
std::size_t bearer_at(std::string_view text, std::size_t at);
/// What follows "Basic" and a blank and is "user:password" in base64.
std::size_t basic_at(std::string_view text, std::size_t at);
/// The rest of a line that is nothing but `least` or more characters of base64, as the inside of a key is
/// whose lines came one by one. The line may end with a quote, or with \n.
std::size_t key_line_at(std::string_view text, std::size_t at, std::size_t least);

}  // namespace tunnelctl::patterns
