#include "tunneld/farewell.h"

namespace tunneld {

using tunnel::Code;
using tunnel::RelayEnd;

std::string close_reason(Code code, bool soon) {
  std::string text = R"({"code":")";
  text += tunnel::facts(code).name;
  text += soon ? R"(","retryAfterMs":1000})" : R"("})";
  return text;
}

Farewell farewell_after(const RelayEnd& end) {
  return farewell_after(end.how);
}

Farewell farewell_after(RelayEnd::How how) {
  switch (how) {
    case RelayEnd::How::finished: return {1000, ""};
    case RelayEnd::How::caller_failed: return {1002, ""};
    case RelayEnd::How::service_failed: return {1011, close_reason(Code::ssh_error)};
    case RelayEnd::How::idle: return {4408, close_reason(Code::timed_out)};
    case RelayEnd::How::expired: return {4401, close_reason(Code::token_expired)};
    case RelayEnd::How::revoked: return {4401, close_reason(Code::token_invalid)};
    case RelayEnd::How::closed_by_admin: return {1008, close_reason(Code::forbidden)};
    case RelayEnd::How::draining:
    case RelayEnd::How::cancelled: return {1012, close_reason(Code::unavailable, true)};
  }
  return {1011, ""};
}

}  // namespace tunneld
