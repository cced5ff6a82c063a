#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tunnelctl/grafana/server.h"
#include "tunnelctl/times/moment.h"

/// Annotations: marks on the time axis of dashboards, such as deployments and incidents.
namespace tunnelctl::grafana {

struct Annotation {
  std::int64_t id = 0;
  times::Time time{}, end{};  // the same for a moment
  std::string text{};
  std::vector<std::string> tags{};
  std::string dashboard_uid{};  // "": of the organisation
  std::int64_t panel = 0;       // 0: of the whole dashboard
  std::string by{};
  std::string alert{}, previous{}, current{};  // of a change of an alert's state
};

struct AnnotationFilter {
  std::optional<times::Range> range{};
  std::string dashboard_uid{};
  std::int64_t panel = 0;
  std::vector<std::string> tags{};
  bool any_tag = false;     // one of the tags will do
  std::string type{};       // alert, annotation; "": both
  std::size_t limit = 100;  // 0: all that the server gives
};

struct Annotations {
  std::vector<Annotation> items{};  // the newest first
  bool more = false;
};
/// Fails with not_found when the dashboard does not exist: the server says nothing then.
Result<Annotations> list_annotations(Server& server, const AnnotationFilter& filter);

/// `id` is left out of account. Fails with bad_input when the text is empty or the end before the start,
/// which the server takes or refuses without a reason. Returns the new id.
Result<std::int64_t> create_annotation(Server& server, const Annotation& annotation);

/// What is set replaces what is there.
struct AnnotationChange {
  std::optional<std::string> text{};
  std::optional<std::vector<std::string>> tags{};
  std::optional<times::Time> time{}, end{};
};
Result<Annotation> read_annotation(Server& server, std::int64_t id);
Result<void> change_annotation(Server& server, const Annotation& present, const AnnotationChange& change);
/// Fails with not_found when there is none: the server says 200.
Result<void> delete_annotation(Server& server, std::int64_t id);

struct TagCount {
  std::string tag{};
  std::int64_t count = 0;
};
/// In use, by name; `part` filters, "" does not.
Result<std::vector<TagCount>> annotation_tags(Server& server, const std::string& part);

}  // namespace tunnelctl::grafana
