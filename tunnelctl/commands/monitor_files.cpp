#include <memory>
#include <ostream>
#include <set>

#include <CLI/CLI.hpp>

#include "tunnelctl/commands/monitor.h"
#include "tunnelctl/export/export.h"
#include "tunnelctl/monitor/guide.h"
#include "tunnelctl/render/render.h"
#include "tunnelctl/terminal/table.h"

namespace tunnelctl {
namespace {

struct Render {
  std::vector<std::string> packs{"tunnel"};
  std::vector<std::string> formats{};
  std::string out = "rendered";
  std::vector<std::string> datasources{};
  std::string grafana_url{}, runbook_url{};
  bool record_in_grafana = false;
  std::string name_space{};
  std::vector<std::string> labels{};
  std::string provisioning_path{};
};

struct Guide : PackOptions {
  std::string file{};
};

struct Export {
  std::vector<std::string> folders{};
  std::string name{};
  std::string title{};
  std::string out{};
  bool no_notifications = false;
};

template <class Files>
Result<void> write_all(const Files& files, const std::filesystem::path& out) {
  for (const auto& file : files) {
    const auto path = out / file.path;
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    if (error)
      return fail(Error::Kind::bad_input,
                  path.parent_path().string() + ": cannot be made: " + error.message());
    if (auto written = write_file(path, file.text); !written) return written;
  }
  return {};
}

Result<ExitStatus> run(const Render& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  render::RenderOptions render;
  for (const auto& name : options.formats) {
    auto format = render::format(name);
    if (!format) return tl::unexpected(format.error());
    render.formats.push_back(*format);
  }
  render.format_folders = options.formats.size() != 1;
  auto uids = assignments(options.datasources, "--datasource");
  if (!uids) return tl::unexpected(uids.error());
  render.datasource_uids = std::move(*uids);
  auto labels = assignments(options.labels, "--label");
  if (!labels) return tl::unexpected(labels.error());
  render.kubernetes.labels = std::move(*labels);
  render.kubernetes.name_space = options.name_space;
  render.compile.grafana_url = options.grafana_url;
  render.compile.runbook_url = options.runbook_url;
  render.compile.record_in_grafana = options.record_in_grafana;
  if (!options.provisioning_path.empty()) render.provisioning_path = options.provisioning_path;
  std::size_t count = 0;
  for (const auto& pack : loaded.packs) {
    std::vector<std::string> notes;
    auto files = render::render(pack, render, &notes);
    if (!files) return tl::unexpected(files.error());
    for (const auto& note : notes) session.say("note: " + terminal::harmless(note));
    if (auto written = write_all(*files, options.out); !written) return tl::unexpected(written.error());
    for (const auto& file : *files)
      session.out << (std::filesystem::path(options.out) / file.path).string() << '\n';
    count += files->size();
  }
  session.say(std::to_string(count) + " files written.");
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Guide& options, Session& session) {
  auto loaded = load_packs(options.packs, session);
  if (loaded.failed) return *loaded.failed;
  monitor::GuideOptions guide{.runbook_url = options.runbook_url};
  if (session.names_grafana()) {
    auto server = session.grafana();
    if (!server) return tl::unexpected(server.error());
    guide.grafana_url = server->public_url();
    guide.grafana_version = server->version();
    guide.org = session.globals.org;
    for (const auto& pack : loaded.packs) {
      auto compile = compile_options(pack, options, session, *server);
      if (!compile) return tl::unexpected(compile.error());
      guide.datasources.merge(compile->datasources);
      guide.runbook_url = compile->runbook_url;
    }
  } else {
    session.say("note: no Grafana is named, so links begin with / (set GRAFANA_URL for whole ones)");
  }
  auto text = monitor::guide(loaded.packs, guide);
  if (!text) return tl::unexpected(text.error());
  if (options.file.empty()) {
    session.out << *text;
    return ExitStatus::ok;
  }
  if (auto written = write_file(options.file, *text); !written) return tl::unexpected(written.error());
  return ExitStatus::ok;
}

Result<ExitStatus> run(const Export& options, Session& session) {
  auto server = session.grafana();
  if (!server) return tl::unexpected(server.error());
  auto exported = exporting::export_pack(*server, {.folders = options.folders,
                                                   .notifications = !options.no_notifications,
                                                   .name = options.name,
                                                   .title = options.title});
  if (!exported) return tl::unexpected(exported.error());
  const std::filesystem::path out = options.out.empty() ? options.name : options.out;
  for (const auto& file : exported->files) {
    std::error_code error;
    // Somebody's pack may stand there, edited since.
    if (std::filesystem::exists(out / file.path, error))
      return fail(Error::Kind::bad_input,
                  (out / file.path).string() + ": exists; choose another folder with --out");
  }
  if (auto written = write_all(exported->files, out); !written) return tl::unexpected(written.error());
  for (const auto& note : exported->notes) session.say("note: " + terminal::harmless(note));
  for (const auto& file : exported->files) session.out << (out / file.path).string() << '\n';
  return ExitStatus::ok;
}

}  // namespace

void add_monitor_files(CLI::App& group, Chosen& chosen) {
  auto render = std::make_shared<Render>();
  auto& verb =
      add_verb(group, chosen, "render", "Writes packs as files for other tools, without any server",
               "  tunnelctl monitor render --format prometheus --out /etc/prometheus/tunnel\n"
               "  tunnelctl monitor render tunnel --format kubernetes --label release=kube-prometheus-stack",
               render);
  verb.add_option("PACK", render->packs, "names of shipped packs, or folders with pack.yaml")
      ->capture_default_str();
  std::set<std::string> names;
  for (const auto format : render::all_formats()) names.emplace(render::name(format));
  verb.add_option("--format", render->formats, "which; again for more; default: all")
      ->check(CLI::IsMember(names));
  verb.add_option("--out", render->out, "folder to write into")->type_name("DIR")->capture_default_str();
  verb.add_option("--datasource", render->datasources, "uid of a data source on the server")
      ->type_name("VARIABLE=UID");
  verb.add_option("--public-url", render->grafana_url, "Grafana's address, for links")->type_name("URL");
  verb.add_option("--runbook-url", render->runbook_url,
                  "where the runbooks are served; default: a dashboard of their own")
      ->type_name("URL");
  verb.add_flag("--record-in-grafana", render->record_in_grafana, "make recording rules Grafana's, too");
  verb.add_option("--namespace", render->name_space, "of Kubernetes objects")->type_name("NAME");
  verb.add_option("--label", render->labels, "on Kubernetes objects; again for more")
      ->type_name("NAME=VALUE");
  verb.add_option("--provisioning-path", render->provisioning_path,
                  "Grafana's provisioning folder on its machine")
      ->type_name("DIR");

  auto guide = std::make_shared<Guide>();
  auto& write = add_verb(group, chosen, "guide", "Writes the monitoring guide, with working links",
                         "  tunnelctl monitor guide > MONITORING.md\n  tunnelctl monitor guide tunnel --file "
                         "docs/monitoring-guide.md",
                         guide);
  add_pack_options(write, *guide);
  write.add_option("--file", guide->file, "write it there instead of stdout")->type_name("FILE");

  auto back = std::make_shared<Export>();
  auto& fetch =
      add_verb(group, chosen, "export", "Brings dashboards, rules and routes of a folder back as a pack",
               "  tunnelctl monitor export --folder ops --name ops\n"
               "  tunnelctl monitor export --folder ops --folder ops-db --name ops --out packs/ops",
               back);
  fetch.add_option("--folder", back->folders, "uid of a folder; again for more, the first is the pack's")
      ->required()
      ->type_name("UID");
  fetch.add_option("--name", back->name, "of the pack")->required()->type_name("NAME");
  fetch.add_option("--title", back->title, "of the pack; default: the folder's")->type_name("TEXT");
  fetch.add_option("--out", back->out, "folder to write into; default: the name")->type_name("DIR");
  fetch.add_flag("--no-notifications", back->no_notifications, "leave contact points and routes out");
}

}  // namespace tunnelctl
