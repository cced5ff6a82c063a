#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tunnelctl/render/render.h"
#include "tunnelctl/render/yaml.h"

/// What the formats share.
namespace tunnelctl::render {

using monitor::Kind;
using monitor::Object;
using pack::Texts;

/// A setting that holds a secret, and where its value is found.
struct SecretSetting {
  std::string key{};          // of the contact point's settings
  std::string environment{};  // TUNNEL_SLACK_API_URL; made up from the file's name when pack.yaml has none
  std::string file{};         // as alertmanager.yaml names it
};

/// What Grafana shows as one contact point.
struct ContactPoint {
  std::string name{};
  std::vector<const Object*> integrations{};
};

/// A pack on its way into files.
class Work {
 public:
  Work(const pack::Pack& pack, const RenderOptions& options, std::vector<std::string>& notes);

  const pack::Pack& pack;
  const RenderOptions& options;
  std::vector<std::string>& notes;
  monitor::CompileOptions compile_options{};
  monitor::Compiled compiled{};

  std::vector<const Object*> objects(Kind kind) const;
  std::vector<ContactPoint> contact_points() const;
  /// In the order of the keys; empty where it has none.
  std::vector<SecretSetting> secrets(const Object& contact_point) const;
  /// Of all contact points, by environment, each once.
  std::vector<SecretSetting> secrets() const;
  /// "prometheus (variable datasource)", ... for comments.
  std::string datasources_text() const;

  void add(Format format, const std::string& path, std::string text);
  std::vector<File> files{};

 private:
  std::vector<pack::SecretSource> sources_{};  // what the markers of `compiled` count
};

/// The rule as it is sent to Grafana's API again: what normalise() left out as meaning nothing is written
/// out.
Json whole_rule(Json rule);

/// Prometheus' group with the annotations made whole. Labels of the group stand on its rules: only
/// Prometheus 3 knows them on groups.
Json prometheus_group(const Work& work, const pack::RuleGroup& group);

/// A name for Kubernetes: small letters, digits, dashes and dots, at most 63; the same for the same text,
/// another for another.
std::string kubernetes_name(std::string_view text);
/// "x" -> "<pack>-x", unless it begins so already.
std::string own_name(const pack::Pack& pack, std::string_view text);
/// apiVersion, kind and metadata with the options' namespace and labels.
Json kubernetes_object(const Work& work, const std::string& api, const std::string& kind,
                       const std::string& name);
/// Readable while it is small enough for `kubectl apply`, which keeps a copy in an annotation of 256 KiB.
std::string dashboard_text(const Json& dashboard);
/// The Secret's name, and the key in it of a `*_file` setting: the file's own name.
std::string kubernetes_secret(const Work& work);
std::string secret_key(const std::string& file);

/// Each on a line of its own, indented: a list inside a comment.
std::string lines_of(const std::vector<std::string>& items);

Result<void> grafana_files(Work& work);
Result<void> prometheus(Work& work);
Result<void> alertmanager(Work& work);
Result<void> kubernetes(Work& work);
Result<void> grafana_operator(Work& work);
Result<void> terraform(Work& work);

}  // namespace tunnelctl::render
