#include "tunnelctl/render/render.h"

#include <algorithm>
#include <array>

#include "tunnelctl/render/parts.h"

namespace tunnelctl::render {
namespace {

struct Known {
  Format format;
  std::string_view name;
  Result<void> (*write)(Work&);
};
constexpr std::array<Known, kFormats> kKnown{
    {{Format::grafana_files, "grafana-files", grafana_files},
     {Format::prometheus, "prometheus", prometheus},
     {Format::alertmanager, "alertmanager", alertmanager},
     {Format::kubernetes, "kubernetes", kubernetes},
     {Format::grafana_operator, "grafana-operator", grafana_operator},
     {Format::terraform, "terraform", terraform}}};

const Known& known(Format format) {
  return *std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& one) { return one.format == format; });
}

}  // namespace

std::string_view name(Format format) {
  return known(format).name;
}

Result<Format> format(std::string_view name) {
  const auto found =
      std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& one) { return one.name == name; });
  if (found != kKnown.end()) return found->format;
  std::string all;
  for (const Known& one : kKnown) all += (all.empty() ? "" : ", ") + std::string(one.name);
  return fail(Error::Kind::bad_input, "no format is called \"" + std::string(name) + "\"; there are " + all);
}

std::vector<Format> all_formats() {
  std::vector<Format> all;
  for (const Known& one : kKnown) all.push_back(one.format);
  return all;
}

Result<std::vector<File>> render(const pack::Pack& pack, const RenderOptions& options,
                                 std::vector<std::string>* notes) {
  std::vector<std::string> told;
  Work work(pack, options, told);
  if (!work.compiled.problems.empty()) {
    std::string text;
    for (const auto& problem : work.compiled.problems)
      text += (text.empty() ? "" : "\n") + pack::text(problem);
    return fail(Error::Kind::bad_input, text);
  }
  for (const Format format : options.formats.empty() ? all_formats() : options.formats)
    if (auto done = known(format).write(work); !done) return tl::unexpected(done.error());
  std::sort(work.files.begin(), work.files.end(),
            [](const File& a, const File& b) { return a.path < b.path; });
  // A format that is asked for twice is written once.
  work.files.erase(std::unique(work.files.begin(), work.files.end(),
                               [](const File& a, const File& b) { return a.path == b.path; }),
                   work.files.end());
  if (notes != nullptr) notes->insert(notes->end(), told.begin(), told.end());
  return std::move(work.files);
}

}  // namespace tunnelctl::render
