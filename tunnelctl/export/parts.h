#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "tunnelctl/export/export.h"

/// The exporter's parts, one a kind of object.
namespace tunnelctl::exporting {

/// A variable of the dashboards that stands for a data source.
struct Source {
  std::string variable{};
  std::string type{};
  std::string name{};  // the server's, where it had been tied to one
};
struct Secret {
  std::string file{}, environment{};
};

struct Export {
  const Snapshot& seen;
  const ExportOptions& options;
  Exported out{};
  std::vector<Source> sources{};
  std::map<std::string, std::string> variables{};  // by uid of the data source
  std::vector<Secret> secrets{};
  std::map<std::string, std::string> runbooks{};  // by panel id of the runbook dashboard: the runbook's name
  std::set<std::string> dashboards{};             // "<uid>" and "<uid>/<panel>" of what is exported
  bool alertmanager = false;
  void note(std::string text) { out.notes.push_back(std::move(text)); }
  void file(std::string path, std::string text) { out.files.push_back({std::move(path), std::move(text)}); }
};

std::string text_of(const Json& object, const char* key);
const Json& member(const Json& object, const char* key);
/// Letters, digits, - and _; what else there is becomes "-".
std::string file_name(const std::string& title);

/// The variable that stands for a data source; makes one for uids that are tied. Empty for types that packs
/// do not know.
std::string variable_for(Export& work, const std::string& uid, const std::string& type);
/// A link to the pack's runbook dashboard is one to the runbook's file again.
std::string runbook_link(const Export& work, const std::string& url);

void export_runbooks(Export& work);
void export_dashboards(Export& work);
void export_rules(Export& work);
void export_notifications(Export& work);

}  // namespace tunnelctl::exporting
