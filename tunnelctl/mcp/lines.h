#pragma once

#include <cstddef>
#include <functional>
#include <stop_token>
#include <string>

#include "common/file_descriptor.h"

namespace tunnelctl::mcp {

/// Lines of a descriptor, one after the other, in bounded memory. For one thread.
class Lines {
 public:
  enum class Got {
    line,
    too_long,  // it was passed over up to its end
    end,       // or an error: nothing more will come
    stopped,
  };

  /// Reads from `file`, which stays the caller's. A requested stop ends a wait at once.
  Lines(int file, std::size_t longest, std::stop_token stop);

  /// The next line without its end ("\n" or "\r\n"). What stands after the last end of line is one, too.
  Got next(std::string& line);

 private:
  enum class Read { some, end, stopped };
  Read more();
  void wake() const;

  int file_;
  std::size_t longest_;
  std::stop_token stop_;
  FileDescriptor woken_;
  std::stop_callback<std::function<void()>> on_stop_;
  std::string pending_{};
  std::size_t searched_ = 0;  // of pending_: no end of line up to there
  bool skipping_ = false;     // the rest of a line that was too long
  bool ended_ = false;
};

}  // namespace tunnelctl::mcp
