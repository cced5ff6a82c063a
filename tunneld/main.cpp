#include <exception>
#include <iostream>

#include "common/allocator.h"
#include "tunneld/cli.h"

int main(int argc, char** argv) {
  try {
    keep_freed_pages();
    return static_cast<int>(tunneld::run(argc, argv, std::cout, std::cerr));
  } catch (const std::exception& error) {
    std::cerr << "tunneld: a bug: " << error.what() << '\n';
    return static_cast<int>(tunneld::ExitStatus::failure);
  }
}
