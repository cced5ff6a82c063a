#include <algorithm>

#include "tunnelctl/pack/load_parts.h"

namespace tunnelctl::pack {

void load_runbooks(const std::filesystem::path& folder, Pack& pack, Problems& problems) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    problems.push_back({{folder.string()}, "runbooks", "is no folder"});
    return;
  }
  for (const auto& path : files_of(folder, "*.md")) {
    if (path.filename() == "README.md") continue;
    const auto content = read(path, problems);
    if (!content) continue;
    Runbook runbook{
        .path = path, .name = path.stem().string(), .title = path.stem().string(), .text = *content};
    if (content->starts_with("# ")) runbook.title = content->substr(2, content->find('\n') - 2);
    pack.runbooks.push_back(std::move(runbook));
  }
}

}  // namespace tunnelctl::pack
