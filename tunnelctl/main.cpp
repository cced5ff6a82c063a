#include <exception>
#include <iostream>

#include "tunnelctl/cli.h"

int main(int argc, char** argv) {
  try {
    return static_cast<int>(tunnelctl::run(argc, argv, std::cout, std::cerr));
  } catch (const std::exception& error) {
    std::cerr << "tunnelctl: a bug: " << error.what() << '\n';
    return static_cast<int>(tunnelctl::ExitStatus::failure);
  }
}
