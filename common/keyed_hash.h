#pragma once

#include <cstdint>

/// A hash of 128 bits under a key that this process drew at random, so that nobody outside can choose
/// addresses that meet in one chain of a table. Not for what is written down or compared between
/// processes. Any thread.
std::uint64_t keyed_hash(std::uint64_t low, std::uint64_t high);
