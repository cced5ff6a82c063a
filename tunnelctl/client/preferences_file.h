#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

/// Preferences are lines of the configuration file that people write by hand too: changing one leaves all the
/// others as they are, comments included.
namespace tunnelctl::client {

/// The section of the file that holds them.
inline constexpr std::string_view kPreferences = "client";

/// The text with `client.<key>` set, or without it for nullopt. Fails with bad_input where the section is not
/// written as lines of its own (`client: {queue: 20}`): that is left to whoever wrote it.
/// `value` has no character that YAML would need quotes for.
Result<std::string> with_preference(std::string_view text, std::string_view key,
                                    std::optional<std::string_view> value);

/// The text of a file that only its owner can have written. not_found, denied (with the remedy) if others may
/// write it or it belongs to neither us nor root, bad_input if it is no regular file or too large.
Result<std::string> read_own_file(const std::filesystem::path& path);

/// Changes the file, which need not exist, nor its folders (made with mode 0700): `change` gets its text and
/// says the new one, or why not. What is written has mode 0600, and is there whole or not at all. Others that
/// change it at the same time wait for their turn (a lock on ".<name>.lock" beside it), so that no change is
/// lost. A symbolic link stays one. Blocks.
/// Fails as read_own_file does, timed_out when the lock is not to be had in time, unavailable when the
/// disk does not take it (the old text is in place then), or with `change`'s error.
Result<void> change_own_file(const std::filesystem::path& path,
                             const std::function<Result<std::string>(const std::string& text)>& change,
                             std::chrono::milliseconds patience = std::chrono::seconds(10));

}  // namespace tunnelctl::client
