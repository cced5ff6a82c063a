#pragma once

/// Whether this is a build for the tests under AddressSanitizer or ThreadSanitizer: they keep freed memory
/// and books of their own, and look into the process when it ends. g++ says so by a macro, clang by a
/// feature.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TUNNEL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TUNNEL_SANITIZED 1
#endif
#endif

namespace sanitizer {
#ifdef TUNNEL_SANITIZED
inline constexpr bool kUsed = true;
#else
inline constexpr bool kUsed = false;
#endif
}  // namespace sanitizer
