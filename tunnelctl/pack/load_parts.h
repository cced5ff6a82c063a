#pragma once

#include "tunnelctl/pack/pack.h"

/// The loader's parts, one a kind of file. Each adds to the pack what it could read.
namespace tunnelctl::pack {

/// The text of a file of at most 64 MiB, or a problem.
std::optional<std::string> read(const std::filesystem::path& path, Problems& problems);
/// The files that a pattern of the manifest means, sorted: `*` stands for any part of a file's name.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& base, const std::string& pattern);

void load_dashboard(const std::filesystem::path& path, Pack& pack, Problems& problems);
void load_rules(const std::filesystem::path& path, Pack& pack, Problems& problems);
void load_alertmanager(const std::filesystem::path& path, Pack& pack, Problems& problems);
void load_runbooks(const std::filesystem::path& folder, Pack& pack, Problems& problems);
void load_contract(const std::string& named, const std::filesystem::path& base, Pack& pack,
                   Problems& problems);

/// What no file can know alone: uids, names and links of the whole pack.
void check(const Pack& pack, Problems& problems);

}  // namespace tunnelctl::pack
