#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "tunnelctl/monitor/compile.h"

/// A pack as files for the tools that bring it to a server by themselves. Knows no server and no secret; the
/// same pack and options give the same bytes. Rules, dashboards and contact points come from
/// monitor::compile(), so that they are those of `tunnelctl monitor setup`.
namespace tunnelctl::render {

enum class Format { grafana_files, prometheus, alertmanager, kubernetes, grafana_operator, terraform };
inline constexpr int kFormats = 6;
/// "grafana-files", "prometheus", "alertmanager", "kubernetes", "grafana-operator", "terraform"
std::string_view name(Format format);
/// Fails with bad_input, naming the formats there are.
Result<Format> format(std::string_view name);
std::vector<Format> all_formats();

/// One text file. `path` is relative, with '/' between its parts.
struct File {
  std::string path{};
  std::string text{};
};

struct Kubernetes {
  /// Empty: none is written, and `kubectl --namespace` decides.
  std::string name_space{};
  /// On every object: what the selectors of the operators ask for, as `release: kube-prometheus-stack`.
  std::map<std::string, std::string> labels{};
  /// By which the ServiceMonitor finds the service; empty: `app.kubernetes.io/name: <job>`.
  std::map<std::string, std::string> service_labels{};
  /// By which the Grafana operator's objects find their Grafana. The default is that of its documentation.
  std::map<std::string, std::string> instance_labels{{"dashboards", "grafana"}};
  /// The Secret whose keys are the file names of alertmanager.yaml's `*_file` settings; empty:
  /// `<pack>-notifications`.
  std::string secret{};
};

struct RenderOptions {
  /// Empty: all.
  std::vector<Format> formats{};
  /// Paths begin with the name of the format.
  bool format_folders = true;
  /// The datasources' uids on the server, by the dashboards' variable. One that is not named has the uid of
  /// pack.yaml, or else its type's name: `prometheus`, `loki`.
  std::map<std::string, std::string> datasource_uids{};
  /// target, record_in_grafana, grafana_url and runbook_url count; render sets the others itself.
  monitor::CompileOptions compile{};
  /// Where Grafana's files will lie on its machine (`[paths] provisioning`); Grafana needs absolute paths.
  std::string provisioning_path = "/etc/grafana/provisioning";
  int org = 1;
  Kubernetes kubernetes{};
};

/// The files in the order of their paths. Packs that are rendered into one folder do not meet, except in
/// `terraform/versions.tf.json`, which is the same text for all. `notes` get what the person should know:
/// what was rounded, what the format has no place for. Fails with bad_input when the pack cannot be
/// expressed: what compile() says, or an object larger than its server takes.
Result<std::vector<File>> render(const pack::Pack& pack, const RenderOptions& options,
                                 std::vector<std::string>* notes = nullptr);

}  // namespace tunnelctl::render
